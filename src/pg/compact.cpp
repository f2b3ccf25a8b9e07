// Compaction: docs/architecture.md "Concurrency" step 7.
#include "pg/compact.h"

#include <algorithm>
#include <cstring>

#include "pg/build_assign.h"
#include "pg/segment_blocks.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

namespace ivfremote {
namespace {

struct Compaction {
  Maintenance* maintenance;
  Build* build;
  const uint32_t* inputs;
  uint32_t input_count;
  uint64_t live_rows;  // of all inputs, each once

  RowSorts sorts;
  std::byte* row;  // being put into the sort
};

const SegmentEntry& InputOf(const Compaction* compaction, uint32_t i) {
  return compaction->maintenance->meta->segments[compaction->inputs[i]];
}

void CountTid(void* argument, Tid) { ++*static_cast<uint64_t*>(argument); }

// --------------------------------------------------------------------------------------------------------------------
// Live rows -> sorts

void PutTid(void* argument, Tid tid) { PutSortTid(&static_cast<Compaction*>(argument)->sorts, tid); }

// Puts the block's live rows into the sort; returns how many.
uint64_t PutBlock(Compaction* compaction, const SegmentBlocks* blocks, TreeReader* tid_map) {
  const Build* build = compaction->build;
  const BlockEntry& entry = blocks->entry();
  const BlockView& block = blocks->block();
  uint64_t put = 0;
  for (uint32_t i = 0; i < block.rows(); ++i) {
    const Tid tid = block.tid(i);
    if (!TidMapHas(tid_map, tid)) continue;
    CallCore([&] {
      block.TakeRow(build->format, i, compaction->row);
      return Status::Ok();
    });
    PutSortRow(&compaction->sorts, entry.list, entry.centroid, tid, compaction->row, build->format.RowBytes());
    ++put;
  }
  return put;
}

// False if the store has failed.
bool PutSegment(Compaction* compaction, const SegmentEntry& segment) {
  Maintenance* maintenance = compaction->maintenance;
  TreeReader tid_map;
  TreeReaderInit(&tid_map, maintenance->index, segment.id, segment.tid_map);
  SegmentBlocks* blocks = OpenSegment(maintenance, &segment, nullptr);
  uint64_t copies = 0;
  while (NextBlock(blocks)) copies += PutBlock(compaction, blocks, &tid_map);
  CloseSegment(blocks);
  if (maintenance->gave_up) return false;
  // A row that its blocks lack would be lost for good.
  const uint64_t live = CountLiveRows(maintenance->index, segment);
  const bool spilled = (segment.flags & SegmentEntry::kSpilled) != 0;
  if (copies < live || copies > (spilled ? 2 * live : live))
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("segment %llu of index \"%s\" does not have the rows of its tid map",
                           static_cast<unsigned long long>(segment.id), RelationGetRelationName(maintenance->index)),
                    errdetail("%llu rows are alive, and %llu copies of them found.", static_cast<unsigned long long>(live),
                              static_cast<unsigned long long>(copies)),
                    errhint("Please REINDEX it.")));
  VisitLiveTids(maintenance->index, segment.id, segment.tid_map, PutTid, compaction);
  return true;
}

// --------------------------------------------------------------------------------------------------------------------
// Sorts -> a segment

// False if the store has failed.
bool WriteOutput(Compaction* compaction) {
  Build* build = compaction->build;
  build->indexed_rows = static_cast<double>(compaction->live_rows);
  for (uint32_t i = 0; i < compaction->input_count; ++i)
    build->spill |= (InputOf(compaction, i).flags & SegmentEntry::kSpilled) != 0;
  AssignedRows rows = FinishSorts(build, &compaction->sorts);
  TestPoint("compact.pages");
  const bool written = WriteSegment(build, rows);
  EndAssignedRows(&rows);
  TestPoint("compact.uploaded");
  if (!written) GiveUpCompaction(compaction->maintenance, build->limit->sqlstate, build->limit->why);
  return written;
}

// --------------------------------------------------------------------------------------------------------------------

bool IsInput(const Compaction* compaction, uint32_t segment) {
  return std::binary_search(compaction->inputs, compaction->inputs + compaction->input_count, segment);
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
  PublishMeta(maintenance->index, meta);
  maintenance->published = true;
  TestPoint("compact.published");
}

void TakeBytes(Maintenance* maintenance, const SegmentEntry& segment) {
  if (segment.place == SegmentPlace::kObject)
    maintenance->bytes_left -= std::min(maintenance->bytes_left, segment.bytes);
}

// False if the store has failed.
bool Merge(Compaction* compaction) {
  Maintenance* maintenance = compaction->maintenance;
  compaction->build = NewSegmentBuild(maintenance);
  compaction->sorts = StartSorts(SortKilobytes(1), nullptr, nullptr);
  compaction->row = static_cast<std::byte*>(palloc(compaction->build->format.RowBytes()));
  for (uint32_t i = 0; i < compaction->input_count; ++i) {
    if (!PutSegment(compaction, InputOf(compaction, i))) {
      DropSorts(&compaction->sorts);
      return false;
    }
    TakeBytes(maintenance, InputOf(compaction, i));
  }
  if (!WriteOutput(compaction)) return false;
  TakeBytes(maintenance, compaction->build->segment);
  return true;
}

}  // namespace

uint64_t CountLiveRows(Relation index, const SegmentEntry& segment) {
  uint64_t rows = 0;
  VisitLiveTids(index, segment.id, segment.tid_map, CountTid, &rows);
  return rows;
}

void GiveUpCompaction(Maintenance* maintenance, int sqlstate, const char* why) {
  maintenance->gave_up = true;
  ereport(WARNING, (errcode(sqlstate),
                    errmsg("could not compact index \"%s\"", RelationGetRelationName(maintenance->index)),
                    errdetail_internal("%s", why), errhint("Its segments stay as they are, and VACUUM will try again.")));
}

bool CompactSegments(Maintenance* maintenance, const uint32_t* inputs, uint32_t count) {
  MemoryContext context = AllocSetContextCreate(maintenance->context, "ivfremote compaction", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  auto* compaction = static_cast<Compaction*>(palloc0(sizeof(Compaction)));
  compaction->maintenance = maintenance;
  compaction->inputs = inputs;
  compaction->input_count = count;
  for (uint32_t i = 0; i < count; ++i)
    compaction->live_rows += CountLiveRows(maintenance->index, InputOf(compaction, i));
  const bool made = compaction->live_rows == 0 || Merge(compaction);
  if (made) Publish(compaction);
  MemoryContextSwitchTo(old);
  if (compaction->build != nullptr) MemoryContextDelete(compaction->build->context);
  MemoryContextDelete(context);
  return made;
}

}  // namespace ivfremote
