// amrescan, amgettuple, amendscan: the first tuple asked for runs the search, later ones drain it; and where that doesn't
// fill the executor's LIMIT, the search goes on in further waves.
#include <algorithm>
#include <cstring>
#include <limits>

#include "core/distance.h"
#include "pg/access_method.h"
#include "pg/compat.h"
#include "pg/pending.h"
#include "pg/rerank.h"
#include "pg/search_index.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/tid_map.h"
#include "pg/vectors.h"

namespace ivfremote {
namespace {

// The next wave starts when so much of the rows that the lists so far are for has been returned: late enough that few scans
// end before they need it, early enough that a part of it is there by then.
constexpr double kPrefetchShare = 0.75;

// The scan's opaque: plain data, in the scan's memory context; what one search needs is in `context`.
struct Scan {
  MemoryContext context;  // reset at every rescan
  bool searched;
  uint32_t not_counted;   // rows returned that the caller has no use for
  IndexSearch search;
  TreeReader* tid_maps;   // by segment number
  uint32_t tid_map_count;
  Rerank* rerank;         // null: candidates come in the order they are returned in
  bool strict;
  double returned;        // rows
  double last_distance;   // of the row returned last, without a rerank
  uint64 fetched;         // rows of the table, and rows left out, that the statement's record has
  uint64 left_out;
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

ScanRecord NewRecord(const IndexSearch& search) {
  ScanRecord record;
  std::memset(&record, 0, sizeof record);
  record.index = RelationGetRelid(search.index);
  return record;
}

// After a wave, or a part of one.
void AddRecord(const IndexSearch& search, const ScanRecord& record) {
  AddToStatement(record);
  elog(DEBUG1,
       "ivfremote: index \"%s\": %llu of %llu lists, %llu waves, %llu requests, %llu bytes fetched, %llu used, "
       "%llu rows scored, quantizer %.3f ms, fetch %.3f ms, scoring %.3f ms",
       RelationGetRelationName(search.index), static_cast<unsigned long long>(record.lists_probed),
       static_cast<unsigned long long>(record.lists), static_cast<unsigned long long>(record.waves),
       static_cast<unsigned long long>(record.requests), static_cast<unsigned long long>(record.bytes_fetched),
       static_cast<unsigned long long>(record.bytes_used), static_cast<unsigned long long>(record.rows_scored),
       record.quantizer_ms, record.fetch_ms, record.score_ms);
}

// A wave may be the first that has blocks of a segment.
void ReadTidMaps(Scan* state) {
  const IndexSearch& search = state->search;
  for (uint32_t& i = state->tid_map_count; i < (*search.search)->segment_count(); ++i)
    TreeReaderInit(&state->tid_maps[i], search.index, search.segments[i]->id, search.segments[i]->tid_map);
}

void StartSearch(IndexScanDesc scan, Scan* state) {
  Relation index = scan->indexRelation;
  pgstat_count_index_scan(index);
  IndexSearch* search = &state->search;
  InitSearch(search, index);
  const MetaPage& meta = *search->meta;

  const bool null_query = (scan->orderByData->sk_flags & SK_ISNULL) != 0;
  Vector query{nullptr, meta.dimensions};
  const ScanKeyData& key = *scan->orderByData;
  const ValueType query_type = QueryTypeOf(index, key);
  if (!null_query) query = VectorFrom(query_type, key.sk_argument);
  if (meta.dimensions != 0 && query.dimensions != meta.dimensions)
    ThrowDifferentDimensions(query_type, meta.dimensions, query.dimensions);
  search->float32_operator = query_type == ValueType::kVector || query_type == ValueType::kHalfvec;
  ScanRecord record = NewRecord(*search);
  record.scans = 1;
  const bool ordered =
      !null_query && (meta.metric != Metric::kCosine || SquaredNorm(query.values, query.dimensions) > 0);
  if (meta.dimensions == 0 || !ordered)
    AddAllRows(search);
  else
    SearchLists(search, query.values, &record);
  AddRecord(*search, record);
  state->tid_maps = static_cast<TreeReader*>(palloc(MetaPage::kMaxSegments * sizeof(TreeReader)));
  state->tid_map_count = 0;
  ReadTidMaps(state);
  state->returned = 0;
  state->fetched = state->left_out = 0;
  state->last_distance = -std::numeric_limits<double>::infinity();
  state->strict = settings.iterative_scan != static_cast<int>(IterativeScan::kRelaxedOrder);
  if (!search->exact && settings.rerank) state->rerank = StartRerank(scan, state->strict, NextLive, state);
}

// Starts the next wave unless one is under way; false if there is none.
bool StartWaveOf(Scan* state) {
  if (state->search.under_way) return true;
  if (state->search.lists.end != ScanEnd::kNone) return false;
  ScanRecord record = NewRecord(state->search);
  const bool started = StartNextWave(&state->search, &record);
  AddToStatement(record);
  return started;
}

// What the rerank has done since the last time.
void CountReranked(Scan* state) {
  const Oid index = RelationGetRelid(state->search.index);
  CountTableRows(index, RowsFetched(state->rerank) - state->fetched);
  if (RowsLeftOut(state->rerank) > state->left_out) CountLeftOutRows(index, RowsLeftOut(state->rerank) - state->left_out);
  state->fetched = RowsFetched(state->rerank);
  state->left_out = RowsLeftOut(state->rerank);
}

// Reads the lists of the next wave; false if there are none.
bool NextWave(Scan* state) {
  if (!StartWaveOf(state)) return false;
  if (state->rerank != nullptr) {
    AwaitCandidates(state->rerank);
    CountReranked(state);
  }
  ScanRecord record = NewRecord(state->search);
  FinishNextWave(&state->search, &record);
  AddRecord(state->search, record);
  ReadTidMaps(state);
  return true;
}

// Before a row is returned that is beyond those that the lists so far are for, the lists it takes are read: one of them may
// hold a nearer row.
void ReadAheadOf(Scan* state, double row) {
  IndexSearch* search = &state->search;
  while (row > search->rows_covered && NextWave(state)) {
  }
  if (search->under_way)
    LookAhead(search);
  else if (search->waves > 1 && row > search->rows_covered * kPrefetchShare)
    StartWaveOf(state);
}

// The next row of the lists read so far.
bool NextRow(Scan* state, Tid* tid) {
  if (state->rerank != nullptr) {
    const bool found = RerankNext(state->rerank, tid);
    CountReranked(state);
    return found;
  }
  for (Candidate candidate; NextLive(state, &candidate);) {
    if (state->strict && candidate.distance < state->last_distance) {
      CountLeftOutRows(RelationGetRelid(state->search.index), 1);
      continue;
    }
    state->last_distance = candidate.distance;
    *tid = candidate.tid();
    return true;
  }
  return false;
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
  ReadAheadOf(state, state->returned + 1 - state->not_counted);
  Tid tid;
  bool found = NextRow(state, &tid);
  while (!found && NextWave(state)) found = NextRow(state, &tid);
  MemoryContextSwitchTo(old);
  // After the rows have been looked at: those that VACUUM took out too early for this snapshot are missing.
  IVFREMOTE_TEST_OLD_SNAPSHOT(scan->xs_snapshot, scan->indexRelation);
  if (!found) {
    RecordEnd(RelationGetRelid(scan->indexRelation), ScanEndName(state->search.lists.end));
    return false;
  }
  ++state->returned;
  SetItemPointer(&scan->xs_heaptid, tid);
  scan->xs_recheck = false;
  scan->xs_recheckorderby = false;
  CountReturnedRow(RelationGetRelid(scan->indexRelation));
  return true;
}

void IgnoreRows(IndexScanDesc scan, uint32_t rows) { static_cast<Scan*>(scan->opaque)->not_counted = rows; }

void AmEndScan(IndexScanDesc scan) {
  auto* state = static_cast<Scan*>(scan->opaque);
  EndSearch(state);
  MemoryContextDelete(state->context);
  pfree(state);
  scan->opaque = nullptr;
}

}  // namespace ivfremote
