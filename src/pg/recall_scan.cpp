// The searches of ivfremote_recall(): through the access method, as any query's.
#include <algorithm>
#include <cstring>

#include "core/distance.h"
#include "pg/access_method.h"
#include "pg/compat.h"
#include "pg/last_scan.h"
#include "pg/pending.h"
#include "pg/recall.h"
#include "pg/vectors.h"

extern "C" {
#include "executor/tuptable.h"
}

namespace ivfremote {
namespace {

// What a search's rows are compared with the truth by: squared L2 in routing space, or the negative product.
double TrueDistance(Metric metric, const float* query, const float* row, uint32_t dimensions, float* scratch) {
  if (metric == Metric::kInnerProduct) return -InnerProduct(query, row, dimensions);
  if (metric == Metric::kL2 || metric == Metric::kHamming) return SquaredL2(query, row, dimensions);
  double distance = 0;
  CallCore([&] {
    ToRoutingSpace(metric, query, dimensions, scratch);
    ToRoutingSpace(metric, row, dimensions, scratch + dimensions);
    distance = SquaredL2(scratch, scratch + dimensions, dimensions);
    return Status::Ok();
  });
  return distance;
}

// The order-by key of a search: the operator of the index's own type.
void InitOrderBy(Relation index, ScanKey key) {
  const Oid type = index->rd_opcintype[0];
  const Oid op = get_opfamily_member(index->rd_opfamily[0], type, type, 1);
  if (!OidIsValid(op))
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("operator class of index \"%s\" has no operator for queries of type %s",
                           RelationGetRelationName(index), format_type_be(type))));
  ScanKeyEntryInitialize(key, SK_ORDER_BY, 1, 1, type, index->rd_indcollation[0], get_opcode(op), Datum{0});
}

// How many of the first k rows that the scan returns for a query, itself left out, are true neighbours.
uint32_t CountHits(RecallRun* run, IndexScanDesc scan, uint32_t query, const TrueNeighbours& truth, float* scratch) {
  const MetaPage& meta = *run->meta;
  const std::vector<Tid>& tids = (*run->queries)->tids;
  uint32_t hits = 0;
  for (uint32_t returned = 0; returned < run->k && index_getnext_slot(scan, ForwardScanDirection, run->slot);) {
    if (!tids.empty() && tids[query] == TidOf(&run->slot->tts_tid)) continue;
    ++returned;
    Vector vector;
    if (!IndexedVector(run, &vector)) continue;
    // False for what is not a number.
    if (TrueDistance(meta.metric, run->query(query), vector.values, meta.dimensions, scratch) <= truth.limit) ++hits;
  }
  ExecClearTuple(run->slot);
  return std::min(hits, truth.count);
}

}  // namespace

MeasuredRecall MeasureRecall(RecallRun* run) {
  MemoryContext query_context =
      AllocSetContextCreate(run->context, "ivfremote recall query", ALLOCSET_DEFAULT_SIZES);
  auto* scratch = static_cast<float*>(palloc(2 * sizeof(float) * run->meta->dimensions));
  const Oid oid = RelationGetRelid(run->index);
  const ScanRecord before = StatementSoFar(oid);
  double recall = 0;
  uint32_t known = 0;
  ScanKeyData key;
  InitOrderBy(run->index, &key);
  IndexScanDesc scan = IVFREMOTE_BEGIN_SCAN(run->heap, run->index, run->snapshot, 0, 1);
  // A query from the table finds itself.
  if (!(*run->queries)->tids.empty()) IgnoreRows(scan, 1);
  for (uint32_t i = 0; i < run->query_count; ++i) {
    CHECK_FOR_INTERRUPTS();
    TrueNeighbours truth{};
    CallCore([&] {
      truth = (*run->calibration)->NearestOf(i, run->k);
      return Status::Ok();
    });
    MemoryContext old = MemoryContextSwitchTo(query_context);
    key.sk_argument = DatumFrom(run->value_type, {run->query(i), run->meta->dimensions});
    index_rescan(scan, nullptr, 0, &key, 1);
    const uint32_t hits = CountHits(run, scan, i, truth, scratch);
    MemoryContextSwitchTo(old);
    MemoryContextReset(query_context);
    if (truth.count == 0) continue;
    recall += static_cast<double>(hits) / truth.count;
    ++known;
  }
  index_endscan(scan);
  pfree(scratch);
  MemoryContextDelete(query_context);

  const ScanRecord after = StatementSoFar(oid);
  const double n = run->query_count;
  return {known > 0,
          recall / std::max(known, 1u),
          static_cast<double>(after.lists_probed - before.lists_probed) / n,
          static_cast<double>(after.rows_scored - before.rows_scored) / n,
          static_cast<double>(after.table_rows_read - before.table_rows_read) / n,
          static_cast<double>(after.bytes_fetched - before.bytes_fetched) / n};
}

}  // namespace ivfremote
