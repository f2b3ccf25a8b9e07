#include "core/fetch_plan.h"

namespace ivfremote {

std::vector<PlannedRange> PlanRanges(const std::vector<BlockEntry>& blocks, const FetchPlanOptions& options) {
  std::vector<PlannedRange> ranges;
  const bool whole = !blocks.empty() &&
                     blocks.back().offset + blocks.back().length - blocks.front().offset <= options.whole_bytes;
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    const BlockEntry& block = blocks[i];
    if (!ranges.empty()) {
      PlannedRange& last = ranges.back();
      const uint64_t end = last.offset + last.length;
      const uint64_t joined = block.offset + block.length - last.offset;
      const bool same_part =
          options.part_bytes == 0 || last.offset / options.part_bytes == block.offset / options.part_bytes;
      // A damaged directory may have blocks that overlap: such a range would end before its longest block.
      const bool after = block.offset >= end;
      const bool near = whole || block.offset - end <= options.max_gap_bytes;
      if (same_part && after && near && joined <= options.max_range_bytes) {
        last.length = static_cast<uint32_t>(joined);
        ++last.block_count;
        continue;
      }
    }
    ranges.push_back({block.offset, block.length, i, 1});
  }
  return ranges;
}

}  // namespace ivfremote
