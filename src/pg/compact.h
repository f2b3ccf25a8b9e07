// Compaction: live rows of some segments become one. maintenance.h has CompactSegments.
#pragma once

#include "pg/build_assign.h"
#include "pg/maintenance.h"

namespace ivfremote {

struct ListWork;
struct RowBatch;

// One compaction under way, in a memory context of its own.
struct Compaction {
  Maintenance* maintenance;
  Build* build;  // null until there are rows to write
  const uint32_t* inputs;  // numbers in the segment table, ascending
  uint32_t input_count;
  uint64_t input_rows[MetaPage::kMaxSegments];  // alive, of each input
  uint64_t rows;                                // of all of them

  RowSorts sorts;
  RowBatch* batch;
  Held<SampleRows>* sample;  // of the inputs, alive
  ListWork* work;  // null: rows stay in their lists, and the curve stays
  bool only_to_split;  // there is nothing to do if no list is split

  const SegmentEntry& input(uint32_t i) const { return maintenance->meta->segments[inputs[i]]; }
  bool of_all() const { return input_count == maintenance->meta->segment_count; }
};

uint64_t CountLiveRows(Relation index, const SegmentEntry& segment);

// How many rows a list should have, of `rows` alive in all segments: what a build would give it.
double TargetRows(const MetaPage& meta, uint64_t rows);
// Whether a compaction of all segments, with `rows` alive, also works on lists and curve: not where rows are in two lists
// each, and in VACUUM not of more rows than it should decode.
bool MayWorkOnLists(const Maintenance* maintenance, uint64_t rows);
// Of every list, about how many rows are alive in all segments; `live_rows`: of each segment.
Held<std::vector<uint64_t>>* RowsOfLists(Relation index, const MetaPage& meta, const uint64_t* live_rows);

// A compaction of all segments, but only if there are lists to split.
void SplitLargeLists(Maintenance* maintenance);

// What VACUUM compacts, as far as its limits allow.
void CompactAsDue(Maintenance* maintenance);

// In VACUUM, whose maintenance->limit has been met: what was being made is not wanted any more.
inline bool StoreFailed(const Maintenance* maintenance) {
  return maintenance->limit != nullptr && maintenance->limit->failed;
}

}  // namespace ivfremote
