// amrescan, amgettuple, amendscan: the first tuple asked for runs the whole search, later ones drain it.
#include <algorithm>
#include <cstring>

#include "core/distance.h"
#include "pg/access_method.h"
#include "pg/pending.h"
#include "pg/rerank.h"
#include "pg/search_index.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/tid_map.h"
#include "pg/vectors.h"

namespace ivfremote {
namespace {

// The scan's opaque: plain data, in the scan's memory context; what one search needs is in `context`.
struct Scan {
  MemoryContext context;  // reset at every rescan
  bool searched;
  IndexSearch search;
  TreeReader* tid_maps;  // by segment number
  Rerank* rerank;        // null: candidates come in the order they are returned in
};

void CheckScan(IndexScanDesc scan) {
  if (scan->numberOfOrderBys != 1)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot scan ivfremote index without order")));
  // A TID in a segment may have been reused since: only an MVCC snapshot tells.
  if (!IsMVCCSnapshot(scan->xs_snapshot))
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("non-MVCC snapshots are not supported with ivfremote")));
}

// Through the wall: ordering the next candidates takes memory, and there may be none.
bool NextOf(Search* search, Candidate* candidate) {
  bool found = false;
  CallCore([&] {
    found = search->Next(candidate);
    return Status::Ok();
  });
  return found;
}

// The next candidate that has not died since its segment was written.
bool NextLive(void* argument, Candidate* candidate) {
  auto* state = static_cast<Scan*>(argument);
  Search* search = state->search.search->object;
  while (NextOf(search, candidate)) {
    if (candidate->segment == Candidate::kPending || TidMapHas(&state->tid_maps[candidate->segment], candidate->tid()))
      return true;
    // There may be many dead ones in a row.
    CHECK_FOR_INTERRUPTS();
  }
  return false;
}

// Releases what the search holds besides memory.
void EndSearch(Scan* state) {
  if (state->rerank != nullptr) EndRerank(state->rerank);
  state->rerank = nullptr;
  MemoryContextReset(state->context);
  state->searched = false;
}

void StartSearch(IndexScanDesc scan, Scan* state) {
  Relation index = scan->indexRelation;
  pgstat_count_index_scan(index);
  IndexSearch* search = &state->search;
  std::memset(search, 0, sizeof *search);
  search->index = index;
  search->meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, search->meta);
  const MetaPage& meta = *search->meta;

  const bool null_query = (scan->orderByData->sk_flags & SK_ISNULL) != 0;
  Vector query{nullptr, meta.dimensions};
  const ScanKeyData& key = *scan->orderByData;
  if (!null_query) query = VectorFrom(QueryTypeOf(index, key), key.sk_argument);
  if (meta.dimensions != 0 && query.dimensions != meta.dimensions)
    ThrowDimensionMismatch(meta.dimensions, query.dimensions);
  ScanRecord record;
  std::memset(&record, 0, sizeof record);
  record.index = RelationGetRelid(index);
  record.scans = 1;
  const bool ordered =
      !null_query && (meta.metric != Metric::kCosine || SquaredNorm(query.values, query.dimensions) > 0);
  if (meta.dimensions == 0 || !ordered)
    AddAllRows(search);
  else
    SearchLists(search, query.values, &record);
  AddToStatement(record);
  elog(DEBUG1,
       "ivfremote: index \"%s\": %llu of %llu lists, %llu waves, %llu requests, %llu bytes fetched, %llu used, "
       "%llu rows scored, quantizer %.3f ms, fetch %.3f ms, scoring %.3f ms",
       RelationGetRelationName(index), static_cast<unsigned long long>(record.lists_probed),
       static_cast<unsigned long long>(record.lists), static_cast<unsigned long long>(record.waves),
       static_cast<unsigned long long>(record.requests), static_cast<unsigned long long>(record.bytes_fetched),
       static_cast<unsigned long long>(record.bytes_used), static_cast<unsigned long long>(record.rows_scored),
       record.quantizer_ms, record.fetch_ms, record.score_ms);

  const uint32_t segments = (*search->search)->segment_count();
  state->tid_maps = static_cast<TreeReader*>(palloc(std::max(segments, 1u) * sizeof(TreeReader)));
  for (uint32_t i = 0; i < segments; ++i)
    TreeReaderInit(&state->tid_maps[i], index, search->segments[i]->id, search->segments[i]->tid_map);
  CallCore([&] {
    (*search->search)->StartOrder();
    return Status::Ok();
  });
  if (!search->exact && settings.rerank) state->rerank = StartRerank(scan, NextLive, state);
}

}  // namespace

IndexScanDesc AmBeginScan(Relation index, int key_count, int order_by_count) {
  IndexScanDesc scan = RelationGetIndexScan(index, key_count, order_by_count);
  auto* state = static_cast<Scan*>(palloc0(sizeof(Scan)));
  state->context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote scan", ALLOCSET_DEFAULT_SIZES);
  scan->opaque = state;
  return scan;
}

void AmRescan(IndexScanDesc scan, ScanKey keys, int, ScanKey order_bys, int) {
  auto* state = static_cast<Scan*>(scan->opaque);
  EndSearch(state);
  if (keys != nullptr && scan->numberOfKeys > 0)
    std::memmove(scan->keyData, keys, static_cast<size_t>(scan->numberOfKeys) * sizeof(ScanKeyData));
  if (order_bys != nullptr && scan->numberOfOrderBys > 0)
    std::memmove(scan->orderByData, order_bys, static_cast<size_t>(scan->numberOfOrderBys) * sizeof(ScanKeyData));
}

bool AmGetTuple(IndexScanDesc scan, ScanDirection) {
  auto* state = static_cast<Scan*>(scan->opaque);
  MemoryContext old = MemoryContextSwitchTo(state->context);
  if (!state->searched) {
    CheckScan(scan);
    StartSearch(scan, state);
    state->searched = true;
  }
  bool found;
  Tid tid;
  if (state->rerank != nullptr) {
    const uint64 fetched = RowsFetched(state->rerank);
    found = RerankNext(state->rerank, &tid);
    CountTableRows(RelationGetRelid(scan->indexRelation), RowsFetched(state->rerank) - fetched);
  } else {
    Candidate candidate;
    found = NextLive(state, &candidate);
    if (found) tid = candidate.tid();
  }
  MemoryContextSwitchTo(old);
  if (!found) return false;
  SetItemPointer(&scan->xs_heaptid, tid);
  scan->xs_recheck = false;
  scan->xs_recheckorderby = false;
  CountReturnedRow(RelationGetRelid(scan->indexRelation));
  return true;
}

void AmEndScan(IndexScanDesc scan) {
  auto* state = static_cast<Scan*>(scan->opaque);
  EndSearch(state);
  MemoryContextDelete(state->context);
  pfree(state);
  scan->opaque = nullptr;
}

}  // namespace ivfremote
