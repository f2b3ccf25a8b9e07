// The assigning and writing phases of a build.
#include <algorithm>
#include <cstring>

#include "core/assignment.h"
#include "core/segment_writer.h"
#include "pg/build.h"
#include "pg/incarnation.h"
#include "pg/pending.h"
#include "pg/server.h"
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
// Output that gathers before it is sent on.
constexpr size_t kDrainRows = 256;

// ---------------------------------------------------------------------------------------------------------------------
// Assigning: rows in table order -> (list, tid, row) in the sort, and the tid map's pages.

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

int64 PackTid(Tid tid) { return static_cast<int64>(tid.block) << 16 | tid.offset; }
Tid UnpackTid(int64 packed) { return {static_cast<uint32_t>(packed >> 16), static_cast<uint16_t>(packed & 0xffff)}; }

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

// ---------------------------------------------------------------------------------------------------------------------
// Writing: sorted rows -> the segment's bytes -> an object, or pages.

struct Writing {
  Build* build;
  Held<SegmentWriter>* writer;
  // Into a store
  Held<ObjectStore>* store;
  Held<SegmentUpload>* upload;
  // Into pages
  StreamWriter pages;
  Held<std::vector<SegmentWriter::Chunk>>* chunks;  // being written
};

bool ToStore(const Writing* state) { return state->upload != nullptr; }

[[noreturn]] void ThrowWriteError(const Writing* state, const CoreError& error) {
  CHECK_FOR_INTERRUPTS();
  ereport(ERROR, (errcode(error.sqlstate),
                  errmsg("could not write index \"%s\" to server \"%s\"",
                         RelationGetRelationName(state->build->index), state->build->server),
                  errdetail_internal("%s", error.message)));
  pg_unreachable();
}

Writing* StartWriting(Build* build) {
  auto* state = static_cast<Writing*>(palloc0(sizeof(Writing)));
  state->build = build;
  SegmentEntry* segment = &build->segment;
  SegmentHeader header;
  if (build->server[0] != '\0') {
    segment->place = SegmentPlace::kObject;
    segment->part_bytes = kDefaultPartBytes;
#ifdef IVFREMOTE_TEST_FAULTS
    if (settings.test_part_bytes > 0) segment->part_bytes = static_cast<uint64_t>(settings.test_part_bytes) & ~(kBlockAlignment - 1);
#endif
    segment->name.incarnation = GetIncarnation();
    segment->name.mint_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
    if (!pg_strong_random(&segment->name.random, sizeof segment->name.random))
      ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
    state->store = OpenStore(build->server, build->index->rd_rel->relowner);
    state->upload = Hold<SegmentUpload>(build->context, [&] {
      return new SegmentUpload(state->store->object, segment->name, segment->part_bytes);
    });
  } else {
    segment->place = SegmentPlace::kPages;
    StreamWriterInit(&state->pages, build->index, build->segment_id);
    state->chunks = Hold<std::vector<SegmentWriter::Chunk>>(
        build->context, [] { return new std::vector<SegmentWriter::Chunk>(); });
  }
  header.dimensions = build->dimensions;
  header.metric = build->metric;
  header.name = segment->name;
  header.part_bytes = segment->part_bytes;
  header.code_kind = build->format.kind;
  header.bits = static_cast<uint8_t>(build->format.bits);
  header.rotation_seed = build->rotation_seed;
  state->writer = Hold<SegmentWriter>(build->context, [&] {
    header.list_count = (*build->routing)->list_count();
    return new SegmentWriter(header, build->routing->object);
  });
  return state;
}

// Waits, interruptibly, until `step` (which sets its argument) says it is done.
template <typename Step>
void StepUntilDone(const Writing* state, Step step) {
  for (bool done = false; !done;) {
    const CoreError error = RunCore([&] { return step(Clock::now() + kStep, &done); });
    if (error.sqlstate != 0) ThrowWriteError(state, error);
    CHECK_FOR_INTERRUPTS();
  }
}

void DrainToPages(Writing* state) {
  CallCore([&] {
    **state->chunks = (*state->writer)->TakeOutput();
    return Status::Ok();
  });
  for (size_t i = 0; i < (**state->chunks).size(); ++i) {
    const SegmentWriter::Chunk& chunk = (**state->chunks)[i];
    StreamWriterAppendZeros(&state->pages, chunk.offset - state->pages.bytes);
    StreamWriterAppend(&state->pages, chunk.bytes);
  }
}

void DrainOutput(Writing* state) {
  if (!ToStore(state)) return DrainToPages(state);
  SegmentUpload* upload = state->upload->object;
  CallCore([&] {
    upload->Add((*state->writer)->TakeOutput());
    return Status::Ok();
  });
  StepUntilDone(state, [upload](Clock::time_point deadline, bool* done) { return upload->Step(deadline, done); });
}

void WriteRows(Writing* state, Tuplesortstate* sort, TupleDesc descriptor) {
  TupleTableSlot* slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
  int64 written = 0;
  while (tuplesort_gettupleslot(sort, true, false, slot, nullptr)) {
    CHECK_FOR_INTERRUPTS();
    bool isnull;
    const auto list = static_cast<uint32_t>(DatumGetInt32(slot_getattr(slot, 1, &isnull)));
    const Tid tid = UnpackTid(DatumGetInt64(slot_getattr(slot, 2, &isnull)));
    auto* bytes = reinterpret_cast<struct varlena*>(DatumGetPointer(slot_getattr(slot, 3, &isnull)));
    const auto* row = reinterpret_cast<const std::byte*>(VARDATA_ANY(bytes));
    CallCore([&] { return (*state->writer)->Add(list, tid, row); });
    if (++written % kDrainRows == 0) {
      DrainOutput(state);
      pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, written);
    }
  }
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, written);
  ExecDropSingleTupleTableSlot(slot);
}

void FinishWriting(Writing* state) {
  Build* build = state->build;
  SegmentEntry* segment = &build->segment;
  CallCore([&] { return (*state->writer)->Finish(static_cast<uint64_t>(build->indexed_rows)); });
  DrainOutput(state);
  if (ToStore(state)) {
    SegmentUpload* upload = state->upload->object;
    StepUntilDone(state,
                  [upload](Clock::time_point deadline, bool* done) { return upload->Finish(deadline, done); });
    ReportNotice(build->server, state->store->object);
  } else {
    segment->data = StreamWriterFinish(&state->pages);
  }
  segment->id = build->segment_id;
  segment->rows = static_cast<uint64_t>(build->indexed_rows);
  if (build->spill) segment->flags |= SegmentEntry::kSpilled;
  segment->bytes = (*state->writer)->bytes();
  Held<std::vector<std::byte>>* directory = Hold<std::vector<std::byte>>(build->context, [&] {
    segment->list_count = static_cast<uint32_t>((*state->writer)->directory().lists.size());
    return new std::vector<std::byte>(EncodeDirectory((*state->writer)->directory()));
  });
  segment->directory = WriteStream(build->index, build->segment_id, **directory);
  Drop(directory);
  Drop(state->writer);
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

  StartBuildPhase(BuildPhase::kWriting);
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(build->indexed_rows));
  Writing* writing = StartWriting(build);
  WriteRows(writing, assigning->sort, descriptor);
  FinishWriting(writing);
  tuplesort_end(assigning->sort);
  ExecDropSingleTupleTableSlot(assigning->slot);
}

}  // namespace ivfremote
