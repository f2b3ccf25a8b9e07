// All blocks of one segment, for who makes another segment of its rows: in the order of their offsets, read in large pieces.
//
// Like Search it reads no pages: the caller runs its waves, or delivers pieces of an embedded segment. It
// holds what was read last, at most kRangesInWave * 8 MiB.
#pragma once

#include <memory>
#include <vector>

#include "core/fetch_plan.h"
#include "core/page_format.h"
#include "core/range_fetch.h"

namespace ivfremote {

class SegmentReader {
 public:
  static constexpr size_t kRangesInWave = 3;

  // `blocks`: those to read, of the segment's directory, in any order.
  SegmentReader(const SegmentEntry& segment, const CodeFormat& format, std::vector<BlockEntry> blocks);

  // Whether nothing is left to be read. What has been read may still hold blocks.
  bool all_read() const { return next_range_ == ranges_.size(); }
  uint64_t bytes_to_read() const;

  // Objects: what to read next, when NextBlock has found none. The caller runs it to its end; it is the reader's.
  RangeFetch* NextWave();

  // Pages: where the next piece of the segment goes, which the caller reads before it calls NextBlock.
  std::byte* StartPiece(uint64_t* offset, uint32_t* length);

  // The next block of what has been read, its bytes checked. It lasts until the next call; false at the end.
  Status NextBlock(bool* found);
  const BlockEntry& entry() const { return blocks_[next_block_ - 1]; }
  const BlockView& block() const { return block_; }

 private:
  SegmentEntry segment_;
  CodeFormat format_;
  std::vector<BlockEntry> blocks_;    // by offset
  std::vector<PlannedRange> ranges_;
  size_t first_range_ = 0;            // of those read last
  size_t next_range_ = 0;
  size_t next_block_ = 0;
  std::unique_ptr<RangeFetch> wave_;  // objects
  RangeBuffer piece_;                 // pages
  BlockView block_;
};

}  // namespace ivfremote
