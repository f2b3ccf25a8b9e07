// The assigning phase of a build.
#include <algorithm>
#include <cstring>

#include "core/assignment.h"
#include "pg/build.h"
#include "pg/pending.h"
#include "pg/stream.h"

extern "C" {
#include "catalog/pg_operator_d.h"
#include "executor/tuptable.h"
}

namespace ivfremote {
namespace {

using std::chrono::milliseconds;
// The longest the core works or waits before we look for interrupts.
constexpr milliseconds kStep{100};
// Rows compared with all queries of the calibration between two looks for interrupts.
constexpr size_t kComparedRows = 128;

// Rows in table order -> (list, tid, row) in the sort, and the tid map's pages.
struct Assigning {
  Build* build;
  Held<Assigner>* assigner;
  Held<TidMapBuilder>* tid_map;
  TreeWriter tid_map_tree;
  std::byte* tid_map_page;  // [kPayloadBytes]
  Tuplesortstate* sort;
  TupleTableSlot* slot;

  // The batch being filled.
  size_t capacity;
  size_t filled;
  float* rows;    // as they are
  float* routed;  // in routing space; after they are assigned less the mean
  Tid* tids;
  uint32_t* lists;
  uint32_t* second_lists;  // spill only
  std::byte* codes;  // RowBytes each
};

// (list int4, tid int8, row bytea); sorted by the first two.
constexpr int kSortColumns = 3;

TupleDesc SortDescriptor() {
  TupleDesc descriptor = CreateTemplateTupleDesc(kSortColumns);
  TupleDescInitEntry(descriptor, 1, "list", INT4OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "tid", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 3, "row", BYTEAOID, -1, 0);
  return descriptor;
}

Tuplesortstate* StartSort(TupleDesc descriptor) {
  AttrNumber columns[] = {1, 2};
  Oid operators[] = {Int4LessOperator, Int8LessOperator};
  Oid collations[] = {InvalidOid, InvalidOid};
  bool nulls_first[] = {false, false};
  return tuplesort_begin_heap(descriptor, 2, columns, operators, collations, nulls_first, maintenance_work_mem,
                              nullptr, TUPLESORT_NONE);
}

Assigning* StartAssigning(Build* build, TupleDesc descriptor) {
  auto* state = static_cast<Assigning*>(palloc0(sizeof(Assigning)));
  state->build = build;
  state->assigner =
      Hold<Assigner>(build->context, [&] { return new Assigner(build->routing->object); });
  state->tid_map = Hold<TidMapBuilder>(build->context, [] { return new TidMapBuilder(); });
  TreeWriterInit(&state->tid_map_tree, build->index, build->segment_id);
  state->tid_map_page = static_cast<std::byte*>(palloc(kPayloadBytes));
  state->sort = StartSort(descriptor);
  state->slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsVirtual);
  state->capacity = (*state->assigner)->batch_rows();
  const size_t row_bytes = build->dimensions * sizeof(float);
  state->rows = static_cast<float*>(palloc_extended(state->capacity * row_bytes, MCXT_ALLOC_HUGE));
  state->routed = static_cast<float*>(palloc_extended(state->capacity * row_bytes, MCXT_ALLOC_HUGE));
  state->tids = static_cast<Tid*>(palloc(state->capacity * sizeof(Tid)));
  state->lists = static_cast<uint32_t*>(palloc(state->capacity * sizeof(uint32_t)));
  if (build->spill) state->second_lists = static_cast<uint32_t*>(palloc(state->capacity * sizeof(uint32_t)));
  state->codes = static_cast<std::byte*>(palloc_extended(state->capacity * build->format.RowBytes(), MCXT_ALLOC_HUGE));
  return state;
}

void WriteTidMapPage(Assigning* state) {
  uint32_t first_block = 0;
  uint32_t entries = 0;
  CallCore([&] {
    const TidMapBuilder::Page page = (*state->tid_map)->TakePage();
    std::memcpy(state->tid_map_page, page.payload.data(), kPayloadBytes);
    first_block = page.first_block;
    entries = page.entries;
    return Status::Ok();
  });
  TreeWriterAddLeaf(&state->tid_map_tree, PageKind::kTidMap, first_block, entries,
                    {state->tid_map_page, kPayloadBytes});
}

// Hands a row to the sort: its list, TID and code.
void PutRow(Assigning* state, bytea* row, const float* values, Tid tid, uint32_t list) {
  Build* build = state->build;
  CallCore([&] {
    (*build->coder)
        ->Encode(values, &(*build->routing)->centroids[size_t{list} * build->dimensions],
                 reinterpret_cast<std::byte*>(VARDATA(row)));
    return Status::Ok();
  });
  ExecClearTuple(state->slot);
  state->slot->tts_values[0] = Int32GetDatum(static_cast<int32>(list));
  state->slot->tts_values[1] = Int64GetDatum(PackTid(tid));
  state->slot->tts_values[2] = PointerGetDatum(row);
  std::fill_n(state->slot->tts_isnull, kSortColumns, false);
  ExecStoreVirtualTuple(state->slot);
  tuplesort_puttupleslot(state->sort, state->slot);
}

void AssignBatch(Assigning* state) {
  Build* build = state->build;
  CallCore([&] {
    if (build->spill)
      (*state->assigner)->AssignTwo(state->routed, state->filled, state->lists, state->second_lists);
    else
      (*state->assigner)->Assign(state->routed, state->filled, state->lists);
    return Status::Ok();
  });
  CHECK_FOR_INTERRUPTS();
  const size_t d = build->dimensions;
  const size_t row_bytes = build->format.RowBytes();
  MemoryContext old = MemoryContextSwitchTo(build->row_context);
  auto* row = static_cast<bytea*>(palloc(VARHDRSZ + row_bytes));
  SET_VARSIZE(row, VARHDRSZ + row_bytes);
  for (size_t i = 0; i < state->filled; ++i) {
    const float* values = state->rows + i * d;
    PutRow(state, row, values, state->tids[i], state->lists[i]);
    std::memcpy(state->codes + i * row_bytes, VARDATA(row), row_bytes);
    if (build->spill && state->second_lists[i] != state->lists[i])
      PutRow(state, row, values, state->tids[i], state->second_lists[i]);
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(build->row_context);
  for (size_t first = 0; first < state->filled; first += kComparedRows) {
    CHECK_FOR_INTERRUPTS();
    CallCore([&] {
      (*build->calibration)
          ->Add(state->routed + first * d, std::min(kComparedRows, state->filled - first), state->lists + first,
                build->spill ? state->second_lists + first : nullptr, state->tids + first,
                state->codes + first * row_bytes);
      return Status::Ok();
    });
  }
  build->indexed_rows += static_cast<double>(state->filled);
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(build->indexed_rows));
  state->filled = 0;
}

void AssignRow(Relation, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* state = static_cast<Assigning*>(argument);
  Build* build = state->build;
  MemoryContext old = MemoryContextSwitchTo(build->row_context);
  Vector vector;
  if (BuildVector(build, values, isnull, alive, &vector)) {
    const size_t d = build->dimensions;
    std::memcpy(state->rows + state->filled * d, vector.values, d * sizeof(float));
    const Tid id = TidOf(tid);
    bool page_full = false;
    CallCore([&] {
      ToRoutingSpace(build->metric, vector.values, d, state->routed + state->filled * d);
      return (*state->tid_map)->Add(id, &page_full);
    });
    if (page_full) WriteTidMapPage(state);
    state->tids[state->filled++] = id;
    if (state->filled == state->capacity) AssignBatch(state);
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(build->row_context);
}

// Ends the phase: the last batch, the radii, the tid map.
void FinishAssigning(Assigning* state) {
  Build* build = state->build;
  if (state->filled > 0) AssignBatch(state);
  for (bool more = true; more;) {
    CallCore([&] {
      more = (*state->tid_map)->Finish();
      return Status::Ok();
    });
    if (more) WriteTidMapPage(state);
  }
  build->segment.tid_map = TreeWriterFinish(&state->tid_map_tree, state->tid_map_tree.leaves);
  CallCore([&] {
    (*build->routing)->radii = (*state->assigner)->Radii();
    return Status::Ok();
  });
  Drop(state->assigner);
  Drop(build->coder);
  pfree(state->codes);
  pfree(state->rows);
  pfree(state->routed);
}

void Calibrate(Build* build) {
  for (bool done = false; !done;) {
    CallCore([&] { return (*build->calibration)->Step(Clock::now() + kStep, &done); });
    CHECK_FOR_INTERRUPTS();
  }
  build->curve =
      Hold<RecallCurve>(build->context, [&] { return new RecallCurve((*build->calibration)->TakeCurve()); });
  Drop(build->calibration);
}

}  // namespace

void BuildSegment(Build* build) {
  StartBuildPhase(BuildPhase::kAssigning);
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(build->estimated_rows));
  TupleDesc descriptor = SortDescriptor();
  Assigning* assigning = StartAssigning(build, descriptor);
  // In table order: the tid map is written as the rows come.
  build->heap_rows =
      table_index_build_scan(build->heap, build->index, build->info, false, true, AssignRow, assigning, nullptr);
  FinishAssigning(assigning);
  StartBuildPhase(BuildPhase::kCalibrating);
  Calibrate(build);
  tuplesort_performsort(assigning->sort);

  WriteSegment(build, assigning->sort, descriptor);
  tuplesort_end(assigning->sort);
  ExecDropSingleTupleTableSlot(assigning->slot);
}

}  // namespace ivfremote
