#include "pg/server.h"

#include <cmath>
#include <cstring>

#include "core/fault_store.h"
#include "core/file_store.h"
#include "pg/compat.h"
#include "pg/settings.h"

extern "C" {
#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/acl.h"
#include "utils/varlena.h"
}

namespace ivfremote {
namespace {

constexpr char kWrapper[] = "ivfremote";

// What a server can be told. Secrets belong to user mappings: server options are readable by everyone.
constexpr const char* kServerOptions[] = {"url", "request_latency"};
constexpr const char* kUserMappingOptions[] = {"access_key_id", "secret_access_key", "session_token"};

template <size_t N>
bool Contains(const char* const (&names)[N], const char* name) {
  for (const char* candidate : names)
    if (std::strcmp(candidate, name) == 0) return true;
  return false;
}

template <size_t N>
[[noreturn]] void ThrowInvalidOption(const char* name, const char* const (&valid)[N]) {
  StringInfoData list;
  initStringInfo(&list);
  for (const char* candidate : valid) appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", candidate);
  ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", name),
                  errhint("Valid options in this context are: %s.", list.data)));
  pg_unreachable();
}

bool BelowLocalRoots(const char* path) {
  if (settings.local_roots == nullptr || settings.local_roots[0] == '\0') return false;
  List* roots = NIL;
  SplitDirectoriesString(pstrdup(settings.local_roots), ',', &roots);
  ListCell* cell;
  foreach (cell, roots) {
    const char* root = static_cast<char*>(lfirst(cell));
    if (path_is_prefix_of_path(root, path)) return true;
  }
  return false;
}

// The directory of a file:// url; errors otherwise. `owner` is whose rights count.
char* DirectoryOfUrl(const char* url, Oid owner) {
  constexpr char kScheme[] = "file://";
  if (std::strncmp(url, kScheme, std::strlen(kScheme)) != 0)
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("unsupported url \"%s\"", url),
                    errhint("This version stores segments below a directory: file:///absolute/path.")));
  char* path = pstrdup(url + std::strlen(kScheme));
  canonicalize_path(path);
  if (!is_absolute_path(path) || path_contains_parent_reference(path) || std::strcmp(path, "/") == 0)
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errmsg("invalid url \"%s\"", url),
                    errhint("A file url is file:// and an absolute path without \"..\".")));
  if (!superuser_arg(owner) && !BelowLocalRoots(path))
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for url \"%s\"", url),
                    errdetail("Only superusers may use directories that are not below ivfremote.local_roots.")));
  return path;
}

double ParseMilliseconds(DefElem* option) {
  const char* text = defGetString(option);
  char* end;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !std::isfinite(value) || value < 0)
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                    errmsg("invalid value for option \"%s\": \"%s\"", option->defname, text),
                    errhint("It is a number of milliseconds.")));
  return value;
}

const char* FindOption(List* options, const char* name) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (std::strcmp(option->defname, name) == 0) return defGetString(option);
  }
  return nullptr;
}

void ValidateServerOptions(List* options) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (Contains(kUserMappingOptions, option->defname))
      ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
                      errmsg("option \"%s\" belongs to a user mapping", option->defname),
                      errdetail("Server options are readable by everyone."),
                      errhint("Use CREATE USER MAPPING FOR owner_of_the_index SERVER server OPTIONS (%s '...').",
                              option->defname)));
    if (!Contains(kServerOptions, option->defname)) ThrowInvalidOption(option->defname, kServerOptions);
    if (std::strcmp(option->defname, "request_latency") == 0) ParseMilliseconds(option);
  }
  const char* url = FindOption(options, "url");
  if (url == nullptr)
    ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("option \"url\" is required")));
  DirectoryOfUrl(url, GetUserId());
}

void ValidateUserMappingOptions(List* options) {
  ListCell* cell;
  foreach (cell, options) {
    auto* option = static_cast<DefElem*>(lfirst(cell));
    if (!Contains(kUserMappingOptions, option->defname)) ThrowInvalidOption(option->defname, kUserMappingOptions);
    // The value is a secret: not in the message.
    if (defGetString(option)[0] == '\0')
      ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                      errmsg("option \"%s\" must not be empty", option->defname)));
  }
}

ForeignServer* GetOurServer(const char* name) {
  ForeignServer* server = GetForeignServerByName(name, false);
  if (std::strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, kWrapper) != 0)
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("server \"%s\" does not use foreign-data wrapper \"%s\"", name, kWrapper)));
  return server;
}

}  // namespace

const char* ServerNameForBuild(Relation index) {
  if (index->rd_rel->relpersistence == RELPERSISTENCE_TEMP) return "";
  const char* option = GetIndexOptions(index)->server();
  if (option[0] != '\0') return option;
  return settings.default_server == nullptr ? "" : settings.default_server;
}

const char* ServerNameOf(Relation index, const MetaPage& meta) {
  const char* option = GetIndexOptions(index)->server();
  return option[0] != '\0' ? option : meta.server;
}

Oid LookUpServer(const char* name) { return GetOurServer(name)->serverid; }

void CheckServerUsage(Oid server) {
#if PG_VERSION_NUM >= 160000
  const AclResult result = object_aclcheck(ForeignServerRelationId, server, GetUserId(), ACL_USAGE);
#else
  const AclResult result = pg_foreign_server_aclcheck(server, GetUserId(), ACL_USAGE);
#endif
  if (result != ACLCHECK_OK) aclcheck_error(result, OBJECT_FOREIGN_SERVER, GetForeignServer(server)->servername);
}

Held<ObjectStore>* OpenStore(const char* server_name) {
  ForeignServer* server = GetOurServer(server_name);
  const char* url = FindOption(server->options, "url");
  if (url == nullptr)
    ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
                    errmsg("server \"%s\" has no option \"url\"", server_name)));
  const char* directory = DirectoryOfUrl(url, server->owner);
  return Hold<ObjectStore>(CurrentMemoryContext, [&]() -> ObjectStore* {
    std::unique_ptr<ObjectStore> store = std::make_unique<FileStore>(directory);
#ifdef IVFREMOTE_TEST_FAULTS
    const Fault fault = ParseFault(settings.test_fault).value_or(Fault::kNone);
    if (fault != Fault::kNone) store = MakeFaultStore(std::move(store), fault);
#endif
    return store.release();
  });
}

double ServerRequestLatencyMs(const char* server_name) {
  ForeignServer* server = GetForeignServerByName(server_name, true);
  const char* text = server == nullptr ? nullptr : FindOption(server->options, "request_latency");
  return text == nullptr ? 0 : strtod(text, nullptr);
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_fdw_validator);
Datum ivfremote_fdw_validator(PG_FUNCTION_ARGS) {
  List* options = untransformRelOptions(PG_GETARG_DATUM(0));
  const Oid catalog = PG_GETARG_OID(1);
  if (catalog == ForeignServerRelationId) {
    ValidateServerOptions(options);
  } else if (catalog == UserMappingRelationId) {
    ValidateUserMappingOptions(options);
  } else if (options != NIL) {
    ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                    errmsg("invalid option \"%s\"", static_cast<DefElem*>(linitial(options))->defname),
                    errhint("Options belong to servers and user mappings.")));
  }
  PG_RETURN_VOID();
}

}  // extern "C"
