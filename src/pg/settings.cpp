#include "pg/settings.h"

#include <algorithm>
#include <climits>
#include <cstddef>

#include "core/code.h"
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

relopt_enum_elt_def quantization_values[] = {{const_cast<char*>("rabitq"), static_cast<int>(Quantization::kRabitq)},
                                             {const_cast<char*>("none"), static_cast<int>(Quantization::kNone)},
                                             {nullptr, 0}};

const config_enum_entry iterative_scan_values[] = {
    {"off", static_cast<int>(IterativeScan::kOff), false},
    {"relaxed_order", static_cast<int>(IterativeScan::kRelaxedOrder), false},
    {"strict_order", static_cast<int>(IterativeScan::kStrictOrder), false},
    {nullptr, 0, false}};

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

bool CheckRecallTarget(double* value, void**, GucSource) {
  if (*value == -1 || *value > 0) return true;
  GUC_check_errdetail("It is -1, or above 0 and at most 1.");
  return false;
}

bool CheckEpsilon(double* value, void**, GucSource) {
  if (*value == -1 || *value >= 0) return true;
  GUC_check_errdetail("It is -1, or at least 0.");
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
  DefineCustomRealVariable("ivfremote.recall_target", "Sets the recall that scans probe enough lists for.",
                           "-1 uses the index's options, or 0.95.", &settings.recall_target, -1, -1, 1, PGC_USERSET, 0,
                           CheckRecallTarget, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.recall_k", "Sets the number of neighbors that the recall target is about.",
                          "Use the LIMIT of the query: an index is not told of it.", &settings.recall_k, 10, 1, 1000000,
                          PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomRealVariable("ivfremote.epsilon",
                           "Sets how many standard errors below its estimate a row's distance is assumed.",
                           "Larger values read more rows of the table and lose fewer neighbors. -1 is 1.9 for codes of "
                           "1 bit, else 2.5.",
                           &settings.epsilon, -1, -1, 100, PGC_USERSET, 0, CheckEpsilon, nullptr, nullptr);
  DefineCustomBoolVariable("ivfremote.rerank", "Orders the rows a scan returns by their exact distances.",
                           "Without it rows come in the order of distances estimated from their codes.",
                           &settings.rerank, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomEnumVariable("ivfremote.iterative_scan",
                           "Sets whether a scan reads more lists as long as it is asked for rows.",
                           "In strict_order rows that are nearer than one already returned are left out; in relaxed_order they "
                           "are returned late.",
                           &settings.iterative_scan, static_cast<int>(IterativeScan::kStrictOrder), iterative_scan_values,
                           PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.max_probes", "Sets the maximum number of lists a scan reads that goes on.",
                          "-1 is 8 times the lists it starts with, which it always reads.", &settings.max_probes, -1, -1,
                          static_cast<int>(kMaxLists), PGC_USERSET, 0, CheckProbes, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.max_scan_requests",
                          "Sets the maximum number of requests of a scan that goes on.",
                          "The first requests of a scan are sent whatever their number. 0 sets no limit.",
                          &settings.max_scan_requests, 0, 0, INT_MAX, PGC_USERSET, 0, nullptr, nullptr, nullptr);
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
  DefineCustomIntVariable("ivfremote.write_timeout",
                          "Sets how long a build goes on trying a request that its server fails to answer.",
                          "0 tries without limit.", &settings.write_timeout_ms, 300000, 0, INT_MAX, PGC_USERSET,
                          GUC_UNIT_MS, nullptr, nullptr, nullptr);
#ifdef IVFREMOTE_TEST_FAULTS
  DefineCustomStringVariable("ivfremote.test_fault", "Makes object stores misbehave.", nullptr,
                             &settings.test_fault, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, CheckTestFault, nullptr,
                             nullptr);
  DefineCustomStringVariable("ivfremote.test_point", "Fails, crashes or waits at a step of the protocol.", nullptr,
                             &settings.test_point, "", PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
  DefineCustomIntVariable("ivfremote.test_part_bytes", "Sets the size of the parts of new segments.", nullptr,
                          &settings.test_part_bytes, 0, 0, INT_MAX, PGC_USERSET, GUC_NOT_IN_SAMPLE | GUC_UNIT_BYTE,
                          nullptr, nullptr, nullptr);
  DefineCustomBoolVariable("ivfremote.test_hypothetical", "Estimates every index as a hypothetical one.", nullptr,
                           &settings.test_hypothetical, false, PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
                           nullptr);
  DefineCustomBoolVariable("ivfremote.test_stream_routing", "Reads centroids from their pages at each scan.", nullptr,
                           &settings.test_stream_routing, false, PGC_USERSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr,
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
  add_real_reloption(option_kind, "recall_target", "Recall that a scan probes enough lists for", -1, 0, 1, scan_only);
  add_enum_reloption(option_kind, "quantization", "How rows are coded", quantization_values,
                     static_cast<int>(Quantization::kAutomatic), "Valid values are \"rabitq\" and \"none\".",
                     AccessExclusiveLock);
  add_int_reloption(option_kind, "bits", "Bits of a coded dimension; unset is automatic", 0, 1, 8, AccessExclusiveLock);
  add_bool_reloption(option_kind, "spill", "Stores each row in a second list too", false, AccessExclusiveLock);
  add_int_reloption(option_kind, "flush_threshold",
                    "Rows from which an index is trained, and VACUUM makes a segment of pending ones; -1 is automatic", -1,
                    -1, INT_MAX, scan_only);
}

static void CheckOptionsTogether(const IndexOptions& options) {
  if (options.probes > 0 && options.recall_target >= 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("options \"probes\" and \"recall_target\" exclude each other"),
                    errhint("Use ALTER INDEX ... RESET for one of them.")));
  if (options.recall_target == 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("value %s out of bounds for option \"%s\"", "0", "recall_target"),
                    errdetail("It is above 0 and at most 1.")));
  if (options.bits != 0 && !IsCodeWidth(static_cast<uint32_t>(options.bits)))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("invalid value for option \"bits\": %d", options.bits),
                    errdetail("Valid values are 1, 2, 4 and 8.")));
  if (options.bits != 0 && options.quantization == static_cast<int>(Quantization::kNone))
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("option \"bits\" needs option \"quantization\" to be \"rabitq\""),
                    errdetail("Rows that are not quantized have no codes.")));
}

bytea* ParseIndexOptions(Datum reloptions, bool validate) {
  static const relopt_parse_elt fields[] = {
      {"server", RELOPT_TYPE_STRING, offsetof(IndexOptions, server_offset)},
      {"lists", RELOPT_TYPE_INT, offsetof(IndexOptions, lists)},
      {"probes", RELOPT_TYPE_INT, offsetof(IndexOptions, probes)},
      {"recall_target", RELOPT_TYPE_REAL, offsetof(IndexOptions, recall_target)},
      {"quantization", RELOPT_TYPE_ENUM, offsetof(IndexOptions, quantization)},
      {"bits", RELOPT_TYPE_INT, offsetof(IndexOptions, bits)},
      {"spill", RELOPT_TYPE_BOOL, offsetof(IndexOptions, spill)},
      {"flush_threshold", RELOPT_TYPE_INT, offsetof(IndexOptions, flush_threshold)},
  };
  auto* options = static_cast<bytea*>(
      build_reloptions(reloptions, validate, option_kind, sizeof(IndexOptions), fields, lengthof(fields)));
  if (validate && options != nullptr) CheckOptionsTogether(*reinterpret_cast<IndexOptions*>(options));
  return options;
}

const IndexOptions* GetIndexOptions(Relation index) {
  static const IndexOptions defaults{0, 0, 0, -1, -1, static_cast<int>(Quantization::kAutomatic), 0, false, -1};
  if (index->rd_options == nullptr) return &defaults;
  return reinterpret_cast<const IndexOptions*>(index->rd_options);
}

double FlushThreshold(Relation index, double rows) {
  constexpr double kMinFlushThreshold = 10000;
  constexpr double kFlushedShare = 0.02;
  const int option = GetIndexOptions(index)->flush_threshold;
  return option >= 0 ? option : std::max(kMinFlushThreshold, kFlushedShare * rows);
}

}  // namespace ivfremote
