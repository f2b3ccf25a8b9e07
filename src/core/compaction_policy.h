// Which segments of an index to make one of: size-tiered, so that there are O(log rows) of them and each row is rewritten
// O(log rows) times.
#pragma once

#include <cstdint>
#include <vector>

namespace ivfremote {

struct CompactionCandidate {
  uint64_t live_rows = 0;
  uint64_t rows = 0;  // dead ones included
  uint64_t bytes = 0;
};

struct CompactionLimits {
  // What a round may read and write together; 0 for nothing, which still allows to drop what is empty.
  uint64_t bytes = UINT64_MAX;
  uint32_t max_segments = 40;
  // Rows alive in lists more than twice as long as they should be.
  uint64_t rows_in_large_lists = 0;
};

// Ascending numbers of segments; none: all is well. One number: to be rewritten without its dead rows. In this order:
// - segments without rows, which only go away
// - all, if more than a quarter of the rows are in lists too large, so that these are split: unless it was for nothing (rows
//   that are all equal), which shows in that nearly all of them are in one segment
// - all of a tier that has four, or the smallest of it if the limit does not allow all. A tier is a power of four of live rows
// - one with more than half of its rows dead
// - the two smallest if the table is nearly full, whatever the limit
std::vector<uint32_t> ChooseCompaction(const std::vector<CompactionCandidate>& segments, const CompactionLimits& limits);

}  // namespace ivfremote
