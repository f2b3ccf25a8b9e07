// What VACUUM compacts: core/compaction_policy.h, with what this index is like.
#include <algorithm>

#include "core/compaction_policy.h"
#include "core/training.h"
#include "pg/compact.h"
#include "pg/stream.h"

namespace ivfremote {
namespace {

// Lists are made for so many rows at least, whatever the user asked for.
constexpr double kMinTargetRows = 30;
// Of all rows together, components that VACUUM decodes: more are for ivfremote_compact.
constexpr double kVacuumComponents = 1e9;

struct Figures {
  uint32_t count;
  CompactionCandidate segments[MetaPage::kMaxSegments];
  CompactionLimits limits;
};

uint64_t RowsInLargeLists(Maintenance* maintenance, const uint64_t* live_rows, uint64_t rows) {
  Held<std::vector<uint64_t>>* sizes = RowsOfLists(maintenance->index, *maintenance->meta, live_rows);
  const double target = TargetRows(*maintenance->meta, rows);
  uint64_t large = 0;
  for (const uint64_t size : **sizes)
    if (static_cast<double>(size) > 2 * target) large += size;
  Drop(sizes);
  return large;
}

void TakeFigures(Maintenance* maintenance, Figures* figures) {
  const MetaPage& meta = *maintenance->meta;
  figures->count = meta.segment_count;
  uint64_t live_rows[MetaPage::kMaxSegments];
  uint64_t rows = 0;
  uint64_t largest = 0;
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    const SegmentEntry& segment = meta.segments[i];
    live_rows[i] = CountLiveRows(maintenance->index, segment);
    figures->segments[i] = {live_rows[i], segment.rows, segment.bytes};
    rows += live_rows[i];
    largest = std::max(largest, live_rows[i]);
  }
  CompactionLimits* limits = &figures->limits;
  limits->rows_in_large_lists = 0;
  limits->max_segments = MetaPage::kMaxSegments;
  // Pages are local: no limit.
  limits->bytes = maintenance->server[0] == '\0' ? UINT64_MAX : maintenance->bytes_left;
  if (maintenance->gave_up || Clock::now() >= maintenance->deadline) {
    limits->bytes = 0;
    limits->max_segments = UINT32_MAX;
  }
  // Directories are read only where it may matter.
  if (rows - largest > rows / 8 && MayWorkOnLists(maintenance, rows))
    limits->rows_in_large_lists = RowsInLargeLists(maintenance, live_rows, rows);
}

}  // namespace

double TargetRows(const MetaPage& meta, uint64_t rows) {
  const auto all = static_cast<double>(rows);
  double lists = meta.requested_lists;
  if (lists == 0)
    CallCore([&] {
      lists = AutomaticLists(all, meta.dimensions);
      return Status::Ok();
    });
  return std::max(all / std::max(lists, 1.0), kMinTargetRows);
}

bool MayWorkOnLists(const Maintenance* maintenance, uint64_t rows) {
  const MetaPage& meta = *maintenance->meta;
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    if ((meta.segments[i].flags & SegmentEntry::kSpilled) != 0) return false;
  return !maintenance->in_vacuum || static_cast<double>(rows) * meta.dimensions <= kVacuumComponents;
}

Held<std::vector<uint64_t>>* RowsOfLists(Relation index, const MetaPage& meta, const uint64_t* live_rows) {
  Held<std::vector<uint64_t>>* sizes = Hold<std::vector<uint64_t>>(
      CurrentMemoryContext, [&] { return new std::vector<uint64_t>(meta.list_count); });
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    const SegmentEntry& segment = meta.segments[i];
    const Bytes bytes = ReadWholeStream(index, segment.id, segment.directory);
    const double alive = static_cast<double>(live_rows[i]) / static_cast<double>(std::max<uint64_t>(segment.rows, 1));
    const CoreError error = RunCore([&] {
      Directory directory;
      IVFREMOTE_RETURN_IF_ERROR(DecodeDirectory(bytes, segment.bytes, &directory));
      if (directory.lists.size() > (*sizes)->size()) return Status::Corrupt("directory has more lists than the index");
      for (uint32_t list = 0; list < directory.lists.size(); ++list) {
        uint64_t rows = 0;
        for (uint32_t k = 0; k < directory.lists[list].block_count; ++k)
          rows += directory.blocks[directory.lists[list].first_block + k].rows;
        (**sizes)[list] += static_cast<uint64_t>(static_cast<double>(rows) * alive + 0.5);
      }
      return Status::Ok();
    });
    CheckContent(index, segment.directory.root, error);
    pfree(const_cast<std::byte*>(bytes.data()));
  }
  return sizes;
}

void CompactAsDue(Maintenance* maintenance) {
  for (bool more = true; more;) {
    auto* figures = static_cast<Figures*>(palloc0(sizeof(Figures)));
    TakeFigures(maintenance, figures);
    uint32_t inputs[MetaPage::kMaxSegments];
    uint32_t count = 0;
    CallCore([&] {
      const std::vector<CompactionCandidate> segments(figures->segments, figures->segments + figures->count);
      for (const uint32_t number : ChooseCompaction(segments, figures->limits)) inputs[count++] = number;
      return Status::Ok();
    });
    pfree(figures);
    more = count > 0 && CompactSegments(maintenance, inputs, count);
  }
}

}  // namespace ivfremote
