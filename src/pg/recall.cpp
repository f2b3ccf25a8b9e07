// ivfremote_recall(index, queries, k, store) and ivfremote_recall_curve(index).
#include "pg/recall.h"

#include <algorithm>
#include <cmath>

#include "core/distance.h"
#include "pg/open_index.h"
#include "pg/probes.h"
#include "pg/stream.h"
#include "pg/vectors.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;
// The longest the core works before we look for interrupts.
constexpr milliseconds kStep{100};
constexpr int kMaxK = 10000;
constexpr uint32_t kSampledQueries = 200;
// The curve of a build rests on as many at least.
constexpr uint32_t kSampledQueriesToStore = 400;
// Fewer leave an error of the mean of several percent.
constexpr uint32_t kMinQueriesToStore = 50;
constexpr const char* kTargets[] = {"0.80", "0.90", "0.95", "0.98", "0.99", "0.999"};

// --------------------------------------------------------------------------------------------------------------------
// Arguments

struct Arguments {
  Oid index;
  ArrayType* queries;  // null: sample the table
  int k;
  bool store;
};

Arguments ArgumentsOf(FunctionCallInfo fcinfo) {
  constexpr const char* kNames[] = {"index", "queries", "k", "store"};
  for (const int i : {0, 2, 3})
    if (PG_ARGISNULL(i))
      ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", kNames[i])));
  Arguments arguments;
  arguments.index = PG_GETARG_OID(0);
  arguments.queries = PG_ARGISNULL(1) ? nullptr : PG_GETARG_ARRAYTYPE_P(1);
  arguments.k = PG_GETARG_INT32(2);
  arguments.store = PG_GETARG_BOOL(3);
  if (arguments.k < 1 || arguments.k > kMaxK)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("k must be between 1 and %d", kMaxK)));
  return arguments;
}

void NameQuery(void* argument) { errcontext("query %u", *static_cast<uint32_t*>(argument) + 1); }

// Copies the user's queries, checked.
void TakeQueries(RecallRun* run, ArrayType* array) {
  if (ARR_NDIM(array) != 2)
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("queries must be a two-dimensional array"),
                    errdetail("The array has %d dimensions.", ARR_NDIM(array)),
                    errhint("Each row of it is one query, as array_agg(embedding::real[]) gives them.")));
  if (ARR_HASNULL(array) && array_contains_nulls(array))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("vector must not contain nulls")));
  const auto n = static_cast<uint32_t>(ARR_DIMS(array)[0]);
  const auto d = static_cast<uint32_t>(ARR_DIMS(array)[1]);
  if (d != run->meta->dimensions) ThrowDimensionMismatch(run->meta->dimensions, d);
  if (n > kMaxRecallQueries)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("cannot measure recall with more than %u queries", kMaxRecallQueries),
                    errdetail("The array has %u queries.", n), errhint("Take a random sample of them.")));
  const auto* values = reinterpret_cast<const float*>(ARR_DATA_PTR(array));
  uint32_t query = 0;
  ErrorContextCallback context;
  context.callback = NameQuery;
  context.arg = &query;
  context.previous = error_context_stack;
  error_context_stack = &context;
  for (; query < n; ++query) {
    const float* given = values + size_t{query} * d;
    CheckFinite(given, d);
    MemoryContext old = MemoryContextSwitchTo(run->row_context);
    // Searches are made with values of the index's type, which may round.
    const Vector vector = VectorFrom(run->value_type, DatumFrom(run->value_type, {given, d}));
    CallCore([&] {
      std::vector<float>& queries = (*run->queries)->values;
      queries.insert(queries.end(), vector.values, vector.values + d);
      return Status::Ok();
    });
    if (run->meta->metric == Metric::kCosine && SquaredNorm(vector.values, d) == 0)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                      errmsg("zero vector not allowed as a query under cosine distance")));
    MemoryContextSwitchTo(old);
    MemoryContextReset(run->row_context);
  }
  error_context_stack = context.previous;
  run->query_count = n;
}

[[noreturn]] void ThrowNoRows(Relation index) {
  ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                  errmsg("found no rows of index \"%s\" to measure recall with", RelationGetRelationName(index))));
  pg_unreachable();
}

// Given or sampled.
void GetQueries(RecallRun* run, const Arguments& arguments) {
  run->queries = Hold<RecallQueries>(run->context, [] { return new RecallQueries(); });
  if (arguments.queries != nullptr)
    TakeQueries(run, arguments.queries);
  else
    SampleQueries(run, arguments.store ? kSampledQueriesToStore : kSampledQueries);
  if (run->query_count == 0) ThrowNoRows(run->index);
  if (arguments.store && run->query_count < kMinQueriesToStore)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("cannot store a recall curve found with %u queries", run->query_count),
                    errhint("Give at least %u queries, better several hundred.", kMinQueriesToStore)));
}

// --------------------------------------------------------------------------------------------------------------------
// Storing a curve

// The curve has an owner of its own, so that the old one's pages are nobody's afterwards.
void WriteCurve(Relation index, MetaPage* meta, Bytes encoded) {
  meta->recall_curve_id = TakeIds(index, 1);
  meta->recall_curve = WriteStream(index, meta->recall_curve_id, encoded);
  PublishMeta(index, meta);
}

void StoreCurve(RecallRun* run) {
  for (bool done = false; !done;) {
    CallCore([&] { return (*run->calibration)->Step(Clock::now() + kStep, &done); });
    CHECK_FOR_INTERRUPTS();
  }
  bool known = false;
  Held<std::vector<std::byte>>* encoded = Hold<std::vector<std::byte>>(run->context, [&] {
    RecallCurve curve = (*run->calibration)->TakeCurve();
    known = curve.queries > 0;
    curve.from_queries = (*run->queries)->tids.empty();
    return new std::vector<std::byte>(curve.Encode());
  });
  if (!known)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("cannot store a recall curve of index \"%s\"", RelationGetRelationName(run->index)),
                    errdetail("No query has a neighbor: the table is empty, or distances are too large for real.")));
  WriteCurve(run->index, run->meta, **encoded);
  Drop(encoded);
}

// --------------------------------------------------------------------------------------------------------------------
// Measuring

// 0.95, not the nearest float32 to it.
double AsWritten(float recall) { return std::round(recall * 1e6) / 1e6; }

void PutRow(ReturnSetInfo* result, RecallRun* run, double recall_target) {
  const MeasuredRecall measured = MeasureRecall(run);
  Datum values[6] = {Float8GetDatum(recall_target),
                     Float8GetDatum(measured.recall),
                     Float8GetDatum(measured.lists),
                     Float8GetDatum(measured.rows_scored),
                     Float8GetDatum(measured.table_rows_read),
                     Float8GetDatum(measured.bytes)};
  bool nulls[6] = {recall_target == 0, !measured.known};
  tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

void SetLocally(const char* name, const char* value) {
  (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

// The settings of the session, then each target for this k. An error restores the settings, as it does a function's.
void PutRows(ReturnSetInfo* result, RecallRun* run) {
  PutRow(result, run, ProbeWishOf(run->index).recall);
  for (const char* target : kTargets) {
    const int level = NewGUCNestLevel();
    char k[16];
    snprintf(k, sizeof k, "%u", run->k);
    SetLocally("ivfremote.probes", "-1");
    SetLocally("ivfremote.recall_target", target);
    SetLocally("ivfremote.recall_k", k);
    PutRow(result, run, ProbeWishOf(run->index).recall);
    AtEOXact_GUC(true, level);
  }
}

RecallRun* StartRun(const IndexAndTable& opened, const Arguments& arguments) {
  auto* run = static_cast<RecallRun*>(palloc0(sizeof(RecallRun)));
  run->heap = opened.heap;
  run->index = opened.index;
  run->snapshot = GetActiveSnapshot();
  run->value_type = GetOpclassInfo(run->index)->value_type;
  run->k = static_cast<uint32_t>(arguments.k);
  run->meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(run->index, run->meta);
  if (!run->meta->trained())
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("index \"%s\" has no lists yet", RelationGetRelationName(run->index)),
                    errdetail("It was built with fewer rows than its flush_threshold, so every search looks at all rows."),
                    errhint("Run VACUUM once the table has more rows.")));
  run->context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote recall", ALLOCSET_DEFAULT_SIZES);
  run->row_context = AllocSetContextCreate(run->context, "ivfremote recall row", ALLOCSET_DEFAULT_SIZES);
  return run;
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_recall);
Datum ivfremote_recall(PG_FUNCTION_ARGS) {
  const Arguments arguments = ArgumentsOf(fcinfo);
  if (arguments.store) {
    PreventCommandIfReadOnly("ivfremote_recall() with store");
    PreventCommandDuringRecovery("ivfremote_recall() with store");
  }
  const LOCKMODE lock = arguments.store ? ShareUpdateExclusiveLock : AccessShareLock;
  const IndexAndTable opened = OpenIndexForMaintenance(arguments.index, lock);
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);

  const CallersRights callers = ActAsOwner(opened.heap);
  RecallRun* run = StartRun(opened, arguments);
  MemoryContext old = MemoryContextSwitchTo(run->context);
  StartReadingRows(run);
  GetQueries(run, arguments);
  FindTruth(run);
  if (run->rows == 0) ThrowNoRows(run->index);
  // Before measuring: the rows are about the new curve then.
  if (arguments.store) StoreCurve(run);
  PutRows(result, run);
  EndReadingRows(run);
  MemoryContextSwitchTo(old);
  MemoryContextDelete(run->context);
  ActAsCaller(callers);
  // As every maintenance, it keeps a stronger lock to the end of the transaction.
  CloseIndexAndTable(opened, arguments.store ? NoLock : lock);
  return Datum{0};
}

PG_FUNCTION_INFO_V1(ivfremote_recall_curve);
Datum ivfremote_recall_curve(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 7;
  Relation index = OpenIndexForInfo(PG_GETARG_OID(0));
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  if (meta->recall_curve.bytes > 0) {
    const Bytes bytes = ReadWholeStream(index, meta->curve_owner(), meta->recall_curve);
    Held<RecallCurve>* curve = Hold<RecallCurve>(CurrentMemoryContext, [] { return new RecallCurve(); });
    CheckContent(index, meta->recall_curve.root, RunCore([&] { return DecodeRecallCurve(bytes, curve->object); }));
    for (size_t i = 0; i < (*curve)->points.size(); ++i) {
      const CurvePoint& point = (*curve)->points[i];
      Datum values[kColumns] = {Int32GetDatum(static_cast<int32>(point.k)),
                                Float8GetDatum(AsWritten(point.recall)),
                                Float8GetDatum(point.lists),
                                Float8GetDatum(point.rows),
                                Float8GetDatum(point.bytes),
                                BoolGetDatum((*curve)->from_queries),
                                Int32GetDatum(static_cast<int32>((*curve)->queries))};
      bool nulls[kColumns] = {};
      tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    Drop(curve);
  }
  relation_close(index, AccessShareLock);
  return Datum{0};
}

}  // extern "C"
