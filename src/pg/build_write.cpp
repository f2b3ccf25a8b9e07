// The writing phase of a build: sorted rows -> the segment's bytes -> objects of a server, or pages.
#include "core/segment_writer.h"
#include "pg/build.h"
#include "pg/server_upload.h"
#include "pg/stream.h"

extern "C" {
#include "executor/tuptable.h"
#include "utils/snapmgr.h"
}

namespace ivfremote {
namespace {

// Output is sent on after so many rows, or bytes.
constexpr int64 kDrainRows = 256;
constexpr uint64_t kDrainBytes = 1 << 20;

struct Writing {
  Build* build;
  Held<SegmentWriter>* writer;
  uint64_t expected_bytes;
  uint64_t drained;      // of the segment's bytes
  ServerUpload* upload;  // null: into pages
  StreamWriter pages;
  Held<std::vector<SegmentWriter::Chunk>>* chunks;  // being written to pages
};

bool ToServer(const Writing* state) { return state->upload != nullptr; }

// With spill, nearly all have a second list.
double ExpectedRows(const Build* build) { return build->indexed_rows * (build->spill ? 2 : 1); }

// More or less: blocks, centroids, directory.
uint64_t ExpectedBytes(const Build* build) {
  const double row_bytes = static_cast<double>(build->format.RowBytes() + kTidBytes);
  const double list_bytes = static_cast<double>(build->dimensions * sizeof(uint16_t) + sizeof(ListEntry) + sizeof(BlockEntry));
  return static_cast<uint64_t>(ExpectedRows(build) * row_bytes + (*build->routing)->list_count() * list_bytes);
}

bool StartServerUpload(Writing* state) {
  SegmentEntry* segment = &state->build->segment;
  segment->place = SegmentPlace::kObject;
  segment->part_bytes = kDefaultPartBytes;
#ifdef IVFREMOTE_TEST_FAULTS
  if (settings.test_part_bytes > 0)
    segment->part_bytes = static_cast<uint64_t>(settings.test_part_bytes) & ~(kBlockAlignment - 1);
#endif
  state->upload = StartUpload(state->build->index, state->build->server, segment->part_bytes, state->expected_bytes,
                              state->build->limit, &segment->name);
  return state->upload != nullptr;
}

// Null if the limit of the store ends it.
Writing* StartWriting(Build* build) {
  auto* state = static_cast<Writing*>(palloc0(sizeof(Writing)));
  state->build = build;
  state->expected_bytes = ExpectedBytes(build);
  SegmentEntry* segment = &build->segment;
  SegmentHeader header;
  if (build->server[0] != '\0') {
    if (!StartServerUpload(state)) return nullptr;
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
  ReportBytesWritten(state->pages.bytes, state->expected_bytes);
}

bool DrainOutput(Writing* state) {
  // Of whatever has been looked up: maintenance of hours must not hold back VACUUM.
  InvalidateCatalogSnapshot();
  if (!ToServer(state))
    DrainToPages(state);
  else if (!UploadOutput(state->upload, state->writer->object))
    return false;
  state->drained = (*state->writer)->bytes();
  return true;
}

bool WriteRows(Writing* state, const AssignedRows& rows) {
  TupleTableSlot* slot = MakeSingleTupleTableSlot(rows.descriptor, &TTSOpsMinimalTuple);
  int64 written = 0;
  bool stored = true;
  while (stored && tuplesort_gettupleslot(rows.sort, true, false, slot, nullptr)) {
    CHECK_FOR_INTERRUPTS();
    bool isnull;
    const auto list = static_cast<uint32_t>(DatumGetInt32(slot_getattr(slot, 1, &isnull)));
    const auto centroid = static_cast<uint32_t>(DatumGetInt32(slot_getattr(slot, 2, &isnull)));
    const Tid tid = UnpackTid(DatumGetInt64(slot_getattr(slot, 3, &isnull)));
    auto* bytes = reinterpret_cast<struct varlena*>(DatumGetPointer(slot_getattr(slot, 4, &isnull)));
    const auto* row = reinterpret_cast<const std::byte*>(VARDATA_ANY(bytes));
    CallCore([&] { return (*state->writer)->Add(list, centroid, tid, row); });
    if (++written % kDrainRows == 0 || (*state->writer)->bytes() - state->drained >= kDrainBytes) {
      stored = DrainOutput(state);
      ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, written);
    }
  }
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, written);
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, written);
  ExecDropSingleTupleTableSlot(slot);
  return stored;
}

bool FinishWriting(Writing* state) {
  Build* build = state->build;
  SegmentEntry* segment = &build->segment;
  CallCore([&] {
    if (build->sample != nullptr) (*state->writer)->SetSample(std::move(**build->sample));
    return (*state->writer)->Finish(static_cast<uint64_t>(build->indexed_rows));
  });
  segment->bytes = state->expected_bytes = (*state->writer)->bytes();
  if (!DrainOutput(state)) return false;
  if (!ToServer(state))
    segment->data = StreamWriterFinish(&state->pages);
  else if (!FinishUpload(state->upload, segment->bytes))
    return false;
  segment->id = build->segment_id;
  segment->rows = static_cast<uint64_t>(build->indexed_rows);
  if (build->spill) segment->flags |= SegmentEntry::kSpilled;
  Held<std::vector<std::byte>>* directory = Hold<std::vector<std::byte>>(build->context, [&] {
    segment->list_count = static_cast<uint32_t>((*state->writer)->directory().lists.size());
    return new std::vector<std::byte>(EncodeDirectory((*state->writer)->directory()));
  });
  segment->directory = WriteStream(build->index, build->segment_id, **directory);
  Drop(directory);
  Drop(state->writer);
  return true;
}

}  // namespace

bool WriteSegment(Build* build, const AssignedRows& rows) {
  StartBuildPhase(BuildPhase::kWriting);
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(ExpectedRows(build)));
  Writing* writing = StartWriting(build);
  if (writing == nullptr) return false;
  return WriteRows(writing, rows) && FinishWriting(writing);
}

}  // namespace ivfremote
