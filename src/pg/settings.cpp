#include "pg/settings.h"

#include <climits>
#include <cstddef>

#include "core/fault_store.h"
#include "core/types.h"
#include "pg/wall.h"

extern "C" {
#include "foreign/foreign.h"
#include "utils/varlena.h"
}

namespace ivfremote {

Settings settings;

namespace {

relopt_kind option_kind;

relopt_enum_elt_def quantization_values[] = {{const_cast<char*>("none"), static_cast<int>(Quantization::kNone)},
                                             {nullptr, 0}};

bool CheckLocalRoots(char** value, void**, GucSource) {
  if (*value == nullptr || **value == '\0') return true;
  char* copy = pstrdup(*value);
  List* roots = NIL;
  if (!SplitDirectoriesString(copy, ',', &roots)) {
    GUC_check_errdetail("List syntax is invalid.");
    return false;
  }
  ListCell* cell;
  foreach (cell, roots) {
    if (!is_absolute_path(static_cast<char*>(lfirst(cell)))) {
      GUC_check_errdetail("\"%s\" is not an absolute path.", static_cast<char*>(lfirst(cell)));
      return false;
    }
  }
  return true;
}

bool CheckProbes(int* value, void**, GucSource) {
  if (*value != 0) return true;
  GUC_check_errdetail("It is -1, or at least 1.");
  return false;
}

bool CheckDefaultServer(char** value, void**, GucSource source) {
  // Outside a transaction, as when the server starts, nothing can be looked up.
  if (*value == nullptr || **value == '\0' || !IsTransactionState() || !OidIsValid(MyDatabaseId)) return true;
  if (GetForeignServerByName(*value, true) != nullptr) return true;
  if (source == PGC_S_TEST) {
    ereport(NOTICE, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("server \"%s\" does not exist", *value)));
    return true;
  }
  GUC_check_errdetail("Server \"%s\" does not exist.", *value);
  return false;
}

#ifdef IVFREMOTE_TEST_FAULTS
bool CheckTestFault(char** value, void**, GucSource) {
  bool known = false;
  RunCore([&] {
    known = ParseFault(*value == nullptr ? "" : *value).has_value();
    return Status::Ok();
  });
  return known;
}
#endif

}  // namespace

void DefineSettings() {
  DefineCustomIntVariable("ivfremote.probes", "Sets the number of lists a scan probes.",
                          "-1 uses the index's probes option, or the default.", &settings.probes, -1, -1,
                          static_cast<int>(kMaxLists), PGC_USERSET, 0, CheckProbes, nullptr, nullptr);
  DefineCustomBoolVariable("ivfremote.enable_scan", "Enables the planner's use of ivfremote indexes.", nullptr,
                           &settings.enable_scan, true, PGC_USERSET, GUC_EXPLAIN, nullptr, nullptr, nullptr);
  DefineCustomStringVariable("ivfremote.default_server",
                             "Sets the server that new indexes without a server option store their segments in.",
                             "An empty string keeps segments in the index itself.", &settings.default_server, "",
                             PGC_USERSET, 0, CheckDefaultServer, nullptr, nullptr);
  DefineCustomStringVariable("ivfremote.local_roots",
                             "Lists the directories below which servers of users without superuser rights may be.",
                             "Directories are separated by commas.", &settings.local_roots, "", PGC_SIGHUP,
                             GUC_SUPERUSER_ONLY | GUC_LIST_INPUT, CheckLocalRoots, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.max_concurrent_requests",
                          "Sets the maximum number of requests a scan has in flight.", nullptr,
                          &settings.max_concurrent_requests, 64, 1, 1024, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.scan_timeout",
                          "Sets the maximum time a scan waits for its server.", "0 waits without limit.",
                          &settings.scan_timeout_ms, 30000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr,
                          nullptr);
  DefineCustomIntVariable("ivfremote.connect_timeout", "Sets the maximum time to connect to a server.", nullptr,
                          &settings.connect_timeout_ms, 3000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr,
                          nullptr);
  DefineCustomIntVariable("ivfremote.request_timeout",
                          "Sets the time without progress after which a request has failed.", nullptr,
                          &settings.request_timeout_ms, 10000, 1, INT_MAX, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr,
                          nullptr);
#ifdef IVFREMOTE_TEST_FAULTS
  DefineCustomStringVariable("ivfremote.test_fault", "Makes object stores misbehave.", nullptr,
                             &settings.test_fault, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, CheckTestFault, nullptr,
                             nullptr);
  DefineCustomIntVariable("ivfremote.test_part_bytes", "Sets the size of the parts of new segments.", nullptr,
                          &settings.test_part_bytes, 0, 0, INT_MAX, PGC_USERSET, GUC_NOT_IN_SAMPLE | GUC_UNIT_BYTE,
                          nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("ivfremote.test_hypothetical", "Estimates every index as a hypothetical one.", nullptr,
                           &settings.test_hypothetical, false, PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                           nullptr);
#endif
  MarkGUCPrefixReserved("ivfremote");
}

void DefineIndexOptions() {
  const LOCKMODE scan_only = ShareUpdateExclusiveLock;
  option_kind = add_reloption_kind();
  add_string_reloption(option_kind, "server", "Server that holds the index's segments", nullptr, nullptr, scan_only);
  add_int_reloption(option_kind, "lists", "Number of lists; unset is automatic", 0, 1, kMaxLists,
                    AccessExclusiveLock);
  add_int_reloption(option_kind, "probes", "Number of lists a scan probes", -1, 1, kMaxLists, scan_only);
  add_enum_reloption(option_kind, "quantization", "How rows are coded", quantization_values,
                     static_cast<int>(Quantization::kNone), "Valid values are \"none\".", AccessExclusiveLock);
  add_int_reloption(option_kind, "flush_threshold", "Rows from which an index is trained; -1 is automatic", -1, -1,
                    INT_MAX, scan_only);
}

bytea* ParseIndexOptions(Datum reloptions, bool validate) {
  static const relopt_parse_elt fields[] = {
      {"server", RELOPT_TYPE_STRING, offsetof(IndexOptions, server_offset)},
      {"lists", RELOPT_TYPE_INT, offsetof(IndexOptions, lists)},
      {"probes", RELOPT_TYPE_INT, offsetof(IndexOptions, probes)},
      {"quantization", RELOPT_TYPE_ENUM, offsetof(IndexOptions, quantization)},
      {"flush_threshold", RELOPT_TYPE_INT, offsetof(IndexOptions, flush_threshold)},
  };
  return static_cast<bytea*>(
      build_reloptions(reloptions, validate, option_kind, sizeof(IndexOptions), fields, lengthof(fields)));
}

const IndexOptions* GetIndexOptions(Relation index) {
  static const IndexOptions defaults{0, 0, 0, -1, static_cast<int>(Quantization::kNone), -1};
  if (index->rd_options == nullptr) return &defaults;
  return reinterpret_cast<const IndexOptions*>(index->rd_options);
}

}  // namespace ivfremote
