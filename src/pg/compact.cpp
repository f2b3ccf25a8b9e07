// Compaction: docs/architecture.md "Concurrency" step 7.
#include "pg/compact.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/even_part.h"
#include "pg/compact_lists.h"
#include "pg/pending.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

extern "C" {
#include "utils/snapmgr.h"
}

namespace ivfremote {
namespace {

void CountTid(void* argument, Tid) { ++*static_cast<uint64_t*>(argument); }

// --------------------------------------------------------------------------------------------------------------------
// Live rows -> sorts

// Rows on their way when no list work is done; else as many as the assigner takes.
constexpr size_t kBatchRows = 256;

RowBatch* NewBatch(const Compaction* compaction) {
  const Build* build = compaction->build;
  auto* batch = static_cast<RowBatch*>(palloc0(sizeof(RowBatch)));
  batch->capacity = kBatchRows;
  if (compaction->work != nullptr) {
    batch->capacity = compaction->work->batch_rows;
    batch->centred = static_cast<float*>(palloc_extended(batch->capacity * build->dimensions * sizeof(float), MCXT_ALLOC_HUGE));
    batch->excess = static_cast<float*>(palloc(batch->capacity * sizeof(float)));
  }
  batch->tids = static_cast<Tid*>(palloc(batch->capacity * sizeof(Tid)));
  batch->lists = static_cast<uint32_t*>(palloc(batch->capacity * sizeof(uint32_t)));
  batch->codes =
      static_cast<std::byte*>(palloc_extended(batch->capacity * build->format.RowBytes(), MCXT_ALLOC_HUGE));
  return batch;
}

void PutTid(void* argument, Tid tid) { PutSortTid(&static_cast<Compaction*>(argument)->sorts, tid); }

// The batch's rows, of `list` so far, go into the sort.
void PutBatch(Compaction* compaction, uint32_t list, uint32_t centroid) {
  RowBatch* batch = compaction->batch;
  if (batch->filled == 0) return;
  const size_t row_bytes = compaction->build->format.RowBytes();
  std::fill_n(batch->lists, batch->filled, list);
  if (compaction->work != nullptr) WorkOnBatch(compaction, batch, list, centroid);
  // Rows as they are have no code centroid: a list's need not be in separate blocks.
  const bool coded = compaction->build->format.coded();
  for (size_t i = 0; i < batch->filled; ++i)
    PutSortRow(&compaction->sorts, batch->lists[i], coded ? centroid : batch->lists[i], batch->tids[i],
               batch->codes + i * row_bytes, row_bytes);
  batch->filled = 0;
}

// The block's live rows; returns how many.
uint64_t PutBlock(Compaction* compaction, const SegmentBlocks* blocks, TreeReader* tid_map) {
  const Build* build = compaction->build;
  RowBatch* batch = compaction->batch;
  const BlockEntry& entry = blocks->entry();
  const BlockView& block = blocks->block();
  const uint32_t lists = (*build->routing)->list_count();
  if (entry.list >= lists || entry.centroid >= lists)
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("a block of index \"%s\" is of a list that there is not", RelationGetRelationName(build->index))));
  uint64_t put = 0;
  for (uint32_t i = 0; i < block.rows(); ++i) {
    const Tid tid = block.tid(i);
    if (!TidMapHas(tid_map, tid)) continue;
    CallCore([&] {
      block.TakeRow(build->format, i, batch->codes + batch->filled * build->format.RowBytes());
      return Status::Ok();
    });
    batch->tids[batch->filled++] = tid;
    ++put;
    if (batch->filled == batch->capacity) PutBatch(compaction, entry.list, entry.centroid);
  }
  PutBatch(compaction, entry.list, entry.centroid);
  return put;
}

// False if the store has failed.
bool PutSegment(Compaction* compaction, uint32_t input) {
  Maintenance* maintenance = compaction->maintenance;
  const SegmentEntry& segment = compaction->input(input);
  TreeReader tid_map;
  TreeReaderInit(&tid_map, maintenance->index, segment.id, segment.tid_map);
  SegmentBlocks* blocks = OpenSegment(maintenance, &segment, nullptr);
  uint64_t copies = 0;
  while (NextBlock(blocks)) copies += PutBlock(compaction, blocks, &tid_map);
  CloseSegment(blocks);
  if (StoreFailed(maintenance)) return false;
  // A row that its blocks lack would be lost for good.
  const uint64_t rows = compaction->input_rows[input];
  const bool spilled = (segment.flags & SegmentEntry::kSpilled) != 0;
  if (copies < rows || copies > (spilled ? 2 * rows : rows))
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("segment %llu of index \"%s\" does not have the rows of its tid map",
                           static_cast<unsigned long long>(segment.id), RelationGetRelationName(maintenance->index)),
                    errdetail("%llu rows are alive, and %llu copies of them found.", static_cast<unsigned long long>(rows),
                              static_cast<unsigned long long>(copies)),
                    errhint("Please REINDEX it.")));
  VisitLiveTids(maintenance->index, segment.id, segment.tid_map, PutTid, compaction);
  return true;
}

// --------------------------------------------------------------------------------------------------------------------
// Samples -> a sample

// Adds an even part of `from`, whose rows are of an input, without those that are dead in it.
void TakeSample(Compaction* compaction, uint32_t input, const SampleRows& from) {
  const SegmentEntry& segment = compaction->input(input);
  const size_t d = compaction->build->dimensions;
  const size_t count = from.tids.size();
  TreeReader tid_map;
  TreeReaderInit(&tid_map, compaction->maintenance->index, segment.id, segment.tid_map);
  auto* alive = static_cast<uint32_t*>(palloc(std::max<size_t>(count, 1) * sizeof(uint32_t)));
  uint32_t alive_count = 0;
  for (uint32_t i = 0; i < count; ++i)
    if (TidMapHas(&tid_map, from.tids[i])) alive[alive_count++] = i;
  // As large a share of the sample as of the rows.
  const double share = static_cast<double>(compaction->input_rows[input]) / static_cast<double>(compaction->rows);
  CallCore([&] {
    const double all = CalibrationQueries(static_cast<double>(compaction->rows), compaction->build->dimensions);
    const auto wanted = std::min(static_cast<uint32_t>(std::ceil(all * share)), alive_count);
    SampleRows& sample = **compaction->sample;
    for (uint32_t k = 0; k < alive_count; ++k) {
      if (!IsOneOf(wanted, k, alive_count)) continue;
      const float* row = &from.rows[alive[k] * d];
      sample.tids.push_back(from.tids[alive[k]]);
      sample.rows.insert(sample.rows.end(), row, row + d);
    }
    return Status::Ok();
  });
  pfree(alive);
}

// False if the store has failed.
bool ReadSampleOf(Compaction* compaction, uint32_t input) {
  Maintenance* maintenance = compaction->maintenance;
  const SegmentEntry& segment = compaction->input(input);
  std::byte end[SegmentTrailer::kBytes];
  if (!ReadSegmentBytes(maintenance, segment, segment.bytes - sizeof end, sizeof end, end)) return false;
  SegmentSection section;
  CheckSegmentBytes(maintenance, segment, RunCore([&] {
    SegmentTrailer trailer;
    IVFREMOTE_RETURN_IF_ERROR(AddPlace(DecodeSegmentTrailer(end, segment.bytes, &trailer), segment,
                                       segment.bytes - sizeof end, sizeof end));
    section = trailer.sample;
    return Status::Ok();
  }));
  if (StoreFailed(maintenance) || section.bytes == 0) return !StoreFailed(maintenance);
  auto* bytes = static_cast<std::byte*>(palloc_extended(section.bytes, MCXT_ALLOC_HUGE));
  if (!ReadSegmentBytes(maintenance, segment, section.offset, section.bytes, bytes)) return false;
  Held<SampleRows>* sample = Hold<SampleRows>(CurrentMemoryContext, [] { return new SampleRows(); });
  CheckSegmentBytes(maintenance, segment, RunCore([&] {
    IVFREMOTE_RETURN_IF_ERROR(AddPlace(DecodeSampleRows({bytes, section.bytes}, section, sample->object), segment,
                                       section.offset, section.bytes));
    if ((*sample)->dimensions != compaction->build->dimensions)
      return Status::Corrupt("sample is of other vectors than the index");
    return Status::Ok();
  }));
  pfree(bytes);
  if (!StoreFailed(maintenance)) TakeSample(compaction, input, **sample);
  Drop(sample);
  return !StoreFailed(maintenance);
}

// False if the store has failed.
bool ReadSample(Compaction* compaction) {
  compaction->sample = Hold<SampleRows>(compaction->build->context, [] { return new SampleRows(); });
  (*compaction->sample)->dimensions = compaction->build->dimensions;
  for (uint32_t i = 0; i < compaction->input_count; ++i)
    if (compaction->input_rows[i] > 0 && !ReadSampleOf(compaction, i)) return false;
  return true;
}

// --------------------------------------------------------------------------------------------------------------------
// Sorts -> a segment

// False if the store has failed.
bool WriteOutput(Compaction* compaction) {
  Build* build = compaction->build;
  build->indexed_rows = static_cast<double>(compaction->rows);
  for (uint32_t i = 0; i < compaction->input_count; ++i)
    build->spill |= (compaction->input(i).flags & SegmentEntry::kSpilled) != 0;
  InvalidateCatalogSnapshot();
  AssignedRows rows = FinishSorts(build, &compaction->sorts);
  build->sample = compaction->sample;
  TestPoint("compact.pages");
  const bool written = WriteSegment(build, rows);
  EndAssignedRows(&rows);
  if (written) TestPoint("compact.uploaded");
  return written;
}

// --------------------------------------------------------------------------------------------------------------------

bool IsInput(const Compaction* compaction, uint32_t segment) {
  return std::binary_search(compaction->inputs, compaction->inputs + compaction->input_count, segment);
}

// Lists have been added, and the current generation has no chains for them: their rows would share its last one. If it is empty
// it is sealed, which costs nothing; else the next flush does that. Rows that come meanwhile are in the sealed one, and are flushed.
void AddPendingChains(Compaction* compaction) {
  const Maintenance* maintenance = compaction->maintenance;
  MetaPage* meta = maintenance->meta;
  if (compaction->work == nullptr || compaction->work->splitter == nullptr) return;
  if (meta->sealed.id != 0 || CountPendingRows(maintenance->index, meta->current) > 0) return;
  meta->sealed = meta->current;
  meta->current =
      CreateGeneration(maintenance->index, TakeIds(maintenance->index, 1), meta->list_count, meta->code_kind);
}

// + the new segment, if there is one, - the inputs.
void Publish(Compaction* compaction) {
  Maintenance* maintenance = compaction->maintenance;
  MetaPage* meta = maintenance->meta;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < meta->segment_count; ++i)
    if (!IsInput(compaction, i)) meta->segments[kept++] = meta->segments[i];
  if (compaction->build != nullptr) meta->segments[kept++] = compaction->build->segment;
  std::memset(static_cast<void*>(&meta->segments[kept]), 0, (MetaPage::kMaxSegments - kept) * sizeof(SegmentEntry));
  meta->segment_count = static_cast<uint16_t>(kept);
  AddPendingChains(compaction);
  PublishMeta(maintenance->index, meta);
  TestPoint("compact.published");
  if (meta->sealed.id == 0 || CountPendingRows(maintenance->index, meta->sealed) > 0) return;
  meta->sealed = PendingGeneration();
  PublishMeta(maintenance->index, meta);
}

void TakeBytes(Maintenance* maintenance, const SegmentEntry& segment) {
  if (segment.place == SegmentPlace::kObject)
    maintenance->bytes_left -= std::min(maintenance->bytes_left, segment.bytes);
}

// False if the store has failed, or there is nothing to do.
bool PutRows(Compaction* compaction) {
  if (!ReadSample(compaction) || !StartListWork(compaction)) return false;
  if (compaction->only_to_split && (compaction->work == nullptr || compaction->work->splitter == nullptr)) return false;
  compaction->batch = NewBatch(compaction);
  for (uint32_t i = 0; i < compaction->input_count; ++i) {
    if (!PutSegment(compaction, i)) return false;
    TakeBytes(compaction->maintenance, compaction->input(i));
  }
  if (compaction->work != nullptr) FinishListWork(compaction);
  return true;
}

bool Merge(Compaction* compaction) {
  Maintenance* maintenance = compaction->maintenance;
  compaction->build = NewSegmentBuild(maintenance);
  compaction->sorts = StartSorts(SortKilobytes(1), nullptr, nullptr);
  if (!PutRows(compaction)) {
    DropSorts(&compaction->sorts);
    return false;
  }
  if (!WriteOutput(compaction)) return false;
  TakeBytes(maintenance, compaction->build->segment);
  if (compaction->work != nullptr) WriteListWork(compaction);
  return true;
}

void GiveUp(Maintenance* maintenance) {
  maintenance->gave_up = true;
  ereport(WARNING, (errcode(maintenance->limit->sqlstate),
                    errmsg("could not compact index \"%s\"", RelationGetRelationName(maintenance->index)),
                    errdetail_internal("%s.", maintenance->limit->why),
                    errhint("Its segments stay as they are; VACUUM will try again.")));
}

bool Compact(Maintenance* maintenance, const uint32_t* inputs, uint32_t count, bool only_to_split) {
  MemoryContext context = AllocSetContextCreate(maintenance->context, "ivfremote compaction", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  auto* compaction = static_cast<Compaction*>(palloc0(sizeof(Compaction)));
  compaction->maintenance = maintenance;
  compaction->inputs = inputs;
  compaction->input_count = count;
  compaction->only_to_split = only_to_split;
  for (uint32_t i = 0; i < count; ++i) {
    compaction->input_rows[i] = CountLiveRows(maintenance->index, compaction->input(i));
    compaction->rows += compaction->input_rows[i];
  }
  const bool made = compaction->rows == 0 || (FindServer(maintenance) && Merge(compaction));
  if (made)
    Publish(compaction);
  else if (StoreFailed(maintenance))
    GiveUp(maintenance);
  MemoryContextSwitchTo(old);
  if (compaction->build != nullptr) MemoryContextDelete(compaction->build->context);
  MemoryContextDelete(context);
  return made;
}

}  // namespace

uint64_t CountLiveRows(Relation index, const SegmentEntry& segment) {
  uint64_t rows = 0;
  VisitLiveTids(index, segment.id, segment.tid_map, CountTid, &rows);
  return rows;
}

bool CompactSegments(Maintenance* maintenance, const uint32_t* inputs, uint32_t count) {
  return Compact(maintenance, inputs, count, /*only_to_split=*/false);
}

void SplitLargeLists(Maintenance* maintenance) {
  uint32_t inputs[MetaPage::kMaxSegments];
  const uint32_t count = maintenance->meta->segment_count;
  for (uint32_t i = 0; i < count; ++i) inputs[i] = i;
  if (count > 0) Compact(maintenance, inputs, count, /*only_to_split=*/true);
}

}  // namespace ivfremote
