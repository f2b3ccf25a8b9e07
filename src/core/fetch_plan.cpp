#include "core/fetch_plan.h"

#include <algorithm>

#include "core/range_text.h"

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
      // A damaged directory may have blocks that overlap: the range never shrinks below those it has.
      const uint64_t joined = std::max(end, block.offset + block.length) - last.offset;
      const bool same_part =
          options.part_bytes == 0 || last.offset / options.part_bytes == block.offset / options.part_bytes;
      if (same_part && (whole || block.offset <= end + options.max_gap_bytes) && joined <= options.max_range_bytes) {
        last.length = static_cast<uint32_t>(joined);
        ++last.block_count;
        continue;
      }
    }
    ranges.push_back({block.offset, block.length, i, 1});
  }
  return ranges;
}

RangeRequest RequestFor(const SegmentEntry& segment, const PlannedRange& range) {
  const uint64_t part = segment.part_bytes == 0 ? 0 : range.offset / segment.part_bytes;
  return {FormatObjectKey({segment.name, static_cast<uint32_t>(part)}), range.offset - part * segment.part_bytes,
          range.length};
}

std::vector<RangeRequest> RequestsFor(const SegmentEntry& segment, uint64_t offset, uint64_t length) {
  constexpr uint64_t kMostBytes = 8 << 20;
  std::vector<RangeRequest> requests;
  while (length > 0) {
    uint64_t piece = std::min(length, kMostBytes);
    if (segment.part_bytes != 0) piece = std::min(piece, segment.part_bytes - offset % segment.part_bytes);
    requests.push_back(RequestFor(segment, {offset, static_cast<uint32_t>(piece), 0, 0}));
    offset += piece;
    length -= piece;
  }
  return requests;
}

Status AddPlace(const Status& status, const SegmentEntry& segment, uint64_t offset, uint64_t length) {
  if (status.ok()) return status;
  std::string place;
  if (segment.place == SegmentPlace::kPages) {
    place = "segment " + std::to_string(segment.id) + " bytes " + std::to_string(offset) + "-" +
            std::to_string(offset + length - 1);
  } else {
    const RangeRequest request = RequestFor(segment, {offset, static_cast<uint32_t>(length), 0, 1});
    place = RangeText(request.key, request.offset, length);
  }
  return Status(status.code(), status.message() + " in " + place);
}

}  // namespace ivfremote
