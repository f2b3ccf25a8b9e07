#include "pg/read_error.h"

#include <cstring>

#include "pg/server.h"

namespace ivfremote {
namespace {

const char* QualifiedName(Relation index) {
  return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(index)), RelationGetRelationName(index));
}

int HintAtCopies(Relation index) {
  return errhint("Restore the object from a copy, or run REINDEX INDEX CONCURRENTLY %s; the table holds all its data.",
                 QualifiedName(index));
}

}  // namespace

void ThrowReadError(Relation index, const FailedRead& read, const CoreError& error) {
  const char* name = RelationGetRelationName(index);
  const char* server = read.server;
  CHECK_FOR_INTERRUPTS();
  switch (error.code) {
    case StatusCode::kNotFound:
      ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE),
                      errmsg("object of index \"%s\" is missing in server \"%s\"", name, server),
                      errdetail_internal("%s", error.message), HintAtCopies(index)));
    case StatusCode::kDenied:
      if (std::strstr(error.message, "RequestTimeTooSkewed") != nullptr)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("server \"%s\" refused access to index \"%s\"", server, name),
                        errdetail_internal("%s", error.message), errhint("Set the clock of this machine.")));
      // A file system's refusal.
      if (std::strstr(error.message, "HTTP ") == nullptr)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("server \"%s\" refused access to index \"%s\"", server, name),
                        errdetail_internal("%s", error.message),
                        errhint("Let the user that runs Postgres read the files below the server's url.")));
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                      errmsg("server \"%s\" refused access to index \"%s\"", server, name),
                      errdetail("%s; with the user mapping of role \"%s\" (owner of the index), else of PUBLIC.",
                                error.message, GetUserNameFromId(index->rd_rel->relowner, false)),
                      errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET ...).",
                              UserMappingOwner(server, index->rd_rel->relowner), quote_identifier(server))));
    case StatusCode::kCorrupt:
      ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                      errmsg("index \"%s\" read wrong bytes from server \"%s\"", name, server),
                      errdetail_internal("%s", error.message), HintAtCopies(index)));
    case StatusCode::kUnsupported:
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("could not read index \"%s\" from server \"%s\"", name, server),
                      errdetail_internal("%s", error.message),
                      errhint("Install the newer library on this server too.")));
    default:
      ereport(ERROR, (errcode(error.sqlstate),
                      errmsg("could not read index \"%s\" from server \"%s\"", name, server),
                      errdetail("%zu of %zu requests failed; last: %s.", read.failed, read.requests, error.message),
                      errhint("%s", read.hint)));
  }
  pg_unreachable();
}

}  // namespace ivfremote
