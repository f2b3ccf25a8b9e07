// Which ranges of a segment to read for a set of blocks.
#pragma once

#include <string>
#include <vector>

#include "core/object_store.h"
#include "core/page_format.h"
#include "core/segment_format.h"
#include "core/types.h"

namespace ivfremote {

struct FetchPlanOptions {
  // Two blocks are read together if at most this many bytes lie between them: another request costs more.
  uint64_t max_gap_bytes = 128 << 10;
  // All blocks are read as one range if no more bytes than this lie between the first and the last: of a small segment.
  uint64_t whole_bytes = 0;
  // A range is not extended beyond this: one stream is slower than several.
  uint64_t max_range_bytes = 8 << 20;
  uint64_t part_bytes = 0;  // no range crosses a part; 0: there are no parts
};

struct PlannedRange {
  uint64_t offset = 0;  // logical
  uint32_t length = 0;
  uint32_t first_block = 0;  // among the blocks planned for
  uint32_t block_count = 0;
};

// `blocks` are sorted by offset. Every block lies in exactly one range, as a whole; they should not overlap, but a damaged
// directory's may.
std::vector<PlannedRange> PlanRanges(const std::vector<BlockEntry>& blocks, const FetchPlanOptions& options);

// The range of a segment in a store, which lies in one of its parts.
RangeRequest RequestFor(const SegmentEntry& segment, const PlannedRange& range);
// Any bytes, which may go on in the next part.
std::vector<RangeRequest> RequestsFor(const SegmentEntry& segment, uint64_t offset, uint64_t length);

// A failure to decode bytes of a segment, with where they are.
Status AddPlace(const Status& status, const SegmentEntry& segment, uint64_t offset, uint64_t length);

}  // namespace ivfremote
