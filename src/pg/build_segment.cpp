// The calibrating and writing phases of a build.
#include "core/segment_writer.h"
#include "pg/build.h"
#include "pg/build_assign.h"
#include "pg/incarnation.h"
#include "pg/pending.h"
#include "pg/server.h"
#include "pg/stream.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;
// The longest the core works or waits before we look for interrupts.
constexpr milliseconds kStep{100};
// Output that gathers before it is sent on.
constexpr size_t kDrainRows = 256;

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

void WriteRows(Writing* state, const AssignedRows& rows) {
  TupleTableSlot* slot = MakeSingleTupleTableSlot(rows.descriptor, &TTSOpsMinimalTuple);
  int64 written = 0;
  while (tuplesort_gettupleslot(rows.sort, true, false, slot, nullptr)) {
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
  CallCore([&] { return (*state->writer)->Finish(); });
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
  AssignedRows rows = AssignRows(build);
  StartBuildPhase(BuildPhase::kCalibrating);
  Calibrate(build);

  StartBuildPhase(BuildPhase::kWriting);
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(build->indexed_rows));
  Writing* writing = StartWriting(build);
  WriteRows(writing, rows);
  FinishWriting(writing);
  EndAssignedRows(&rows);
}

}  // namespace ivfremote
