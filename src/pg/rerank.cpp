#include "pg/rerank.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "pg/pending.h"

extern "C" {
#include "access/tableam.h"
#include "catalog/pg_am_d.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/spccache.h"
}

namespace ivfremote {
namespace {

// A row whose exact distance is known.
struct Row {
  double distance;
  Tid tid;
};

// Makes a heap (std::push_heap and friends keep the largest first) give the nearest first, ties by TID.
bool Farther(const Row& a, const Row& b) {
  return a.distance != b.distance ? a.distance > b.distance : b.tid < a.tid;
}

constexpr uint32_t kMaxAhead = 16;

}  // namespace

struct Rerank {
  IndexScanDesc scan;
  bool strict;
  NextCandidate next;
  void* argument;

  // The table.
  IndexFetchTableData* fetch;
  TupleTableSlot* slot;
  IndexInfo* index_info;  // of an expression, else null
  EState* executor;
  MemoryContext row_context;
  uint64 fetched;
  uint64 left_out;

  // Candidates to come, a ring: their heap blocks are being read ahead.
  Candidate ahead[kMaxAhead];
  uint32_t ahead_wanted;
  uint32_t ahead_first;
  uint32_t ahead_count;
  bool exhausted;

  // Rows looked up and not returned yet: a heap.
  Row* rows;
  size_t count;
  size_t capacity;
  double returned;  // the distance of the last one returned
};

Rerank* StartRerank(IndexScanDesc scan, bool strict, NextCandidate next, void* argument) {
  auto* rerank = static_cast<Rerank*>(palloc0(sizeof(Rerank)));
  Relation heap = scan->heapRelation;
  rerank->scan = scan;
  rerank->strict = strict;
  rerank->next = next;
  rerank->argument = argument;
  rerank->fetch = table_index_fetch_begin(heap);
  rerank->slot = table_slot_create(heap, nullptr);
  rerank->row_context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote rerank row", ALLOCSET_DEFAULT_SIZES);
  if (scan->indexRelation->rd_index->indkey.values[0] == 0) {
    rerank->index_info = BuildIndexInfo(scan->indexRelation);
    rerank->executor = CreateExecutorState();
    GetPerTupleExprContext(rerank->executor)->ecxt_scantuple = rerank->slot;
  }
  // effective_io_concurrency, or its tablespace's: 0 is no prefetching. Other table access methods' TIDs name no blocks.
  const bool prefetch = heap->rd_rel->relam == HEAP_TABLE_AM_OID &&
                        get_tablespace_io_concurrency(heap->rd_rel->reltablespace) > 0;
  rerank->ahead_wanted = prefetch ? kMaxAhead : 1;
  rerank->capacity = 64;
  rerank->returned = -std::numeric_limits<double>::infinity();
  rerank->rows = static_cast<Row*>(palloc(rerank->capacity * sizeof(Row)));
  return rerank;
}

// The indexed value of the row in the slot.
static Datum IndexedValue(Rerank* rerank, bool* isnull) {
  const AttrNumber column = rerank->scan->indexRelation->rd_index->indkey.values[0];
  if (column != 0) return slot_getattr(rerank->slot, column, isnull);
  Datum values[INDEX_MAX_KEYS];
  bool nulls[INDEX_MAX_KEYS];
  FormIndexDatum(rerank->index_info, rerank->slot, rerank->executor, values, nulls);
  *isnull = nulls[0];
  return values[0];
}

// Looks up a candidate's row and keeps it if the scan's snapshot sees it.
static void Fetch(Rerank* rerank, const Candidate& candidate) {
  CHECK_FOR_INTERRUPTS();
  // Overwritten by the TID of the visible member of a HOT chain; the index knows the chain by its root.
  ItemPointerData pointer;
  SetItemPointer(&pointer, candidate.tid());
  bool call_again = false;
  bool all_dead = false;
  ++rerank->fetched;
  if (!table_index_fetch_tuple(rerank->fetch, &pointer, rerank->scan->xs_snapshot, rerank->slot, &call_again,
                               &all_dead))
    return;
  MemoryContext old = MemoryContextSwitchTo(rerank->row_context);
  ScanKey key = rerank->scan->orderByData;
  bool isnull;
  const Datum value = IndexedValue(rerank, &isnull);
  double distance = std::numeric_limits<double>::infinity();
  if (!isnull) distance = DatumGetFloat8(FunctionCall2Coll(&key->sk_func, key->sk_collation, value, key->sk_argument));
  // Not a number would break the order; such a row comes last.
  if (std::isnan(distance)) distance = std::numeric_limits<double>::infinity();
  MemoryContextSwitchTo(old);
  MemoryContextReset(rerank->row_context);
  if (rerank->executor != nullptr) ResetPerTupleExprContext(rerank->executor);
  if (isnull) return;
  // Nearer than a row that is returned already: its bound was wrong or its list came late, its place is behind us. It is lost,
  // as it would have been to a LIMIT there.
  if (rerank->strict && distance < rerank->returned) {
    ++rerank->left_out;
    return;
  }
  if (rerank->count == rerank->capacity) {
    rerank->capacity *= 2;
    rerank->rows = static_cast<Row*>(repalloc_huge(rerank->rows, rerank->capacity * sizeof(Row)));
  }
  rerank->rows[rerank->count++] = {distance, candidate.tid()};
  std::push_heap(rerank->rows, rerank->rows + rerank->count, Farther);
}

// Fills the ring and asks for the heap blocks of what comes in.
static void ReadAhead(Rerank* rerank) {
  while (!rerank->exhausted && rerank->ahead_count < rerank->ahead_wanted) {
    Candidate* candidate = &rerank->ahead[(rerank->ahead_first + rerank->ahead_count) % kMaxAhead];
    if (!rerank->next(rerank->argument, candidate)) {
      rerank->exhausted = true;
      return;
    }
    ++rerank->ahead_count;
    if (rerank->ahead_wanted > 1) PrefetchBuffer(rerank->scan->heapRelation, MAIN_FORKNUM, candidate->tid_block);
  }
}

// The next candidate of the ring.
static Candidate TakeAhead(Rerank* rerank) {
  const Candidate candidate = rerank->ahead[rerank->ahead_first];
  rerank->ahead_first = (rerank->ahead_first + 1) % kMaxAhead;
  --rerank->ahead_count;
  return candidate;
}

void AwaitCandidates(Rerank* rerank) {
  while (rerank->ahead_count > 0) Fetch(rerank, TakeAhead(rerank));
  ExecClearTuple(rerank->slot);
  table_index_fetch_reset(rerank->fetch);
  rerank->exhausted = false;
}

bool RerankNext(Rerank* rerank, Tid* tid) {
  bool found = false;
  for (;;) {
    ReadAhead(rerank);
    const bool more = rerank->ahead_count > 0;
    if (rerank->count > 0 &&
        (!more || rerank->rows[0].distance <= rerank->ahead[rerank->ahead_first].distance)) {
      *tid = rerank->rows[0].tid;
      rerank->returned = rerank->rows[0].distance;
      std::pop_heap(rerank->rows, rerank->rows + rerank->count, Farther);
      --rerank->count;
      found = true;
      break;
    }
    if (!more) break;
    Fetch(rerank, TakeAhead(rerank));
  }
  ExecClearTuple(rerank->slot);
  table_index_fetch_reset(rerank->fetch);
  return found;
}

uint64 RowsFetched(const Rerank* rerank) { return rerank->fetched; }

uint64 RowsLeftOut(const Rerank* rerank) { return rerank->left_out; }

void EndRerank(Rerank* rerank) {
  ExecDropSingleTupleTableSlot(rerank->slot);
  table_index_fetch_end(rerank->fetch);
  if (rerank->executor != nullptr) FreeExecutorState(rerank->executor);
}

}  // namespace ivfremote
