// All blocks of one segment, for who makes another segment of its rows: in the order of their offsets, read in large pieces.
//
// Like Search it reads no pages: objects are fetched by waves it drives step by step, pieces of an embedded segment
// are delivered by the caller. It holds the pieces of one wave, at most kRangesInWave * 8 MiB.
#pragma once

#include <memory>
#include <vector>

#include "core/fetch_plan.h"
#include "core/object_store.h"
#include "core/page_format.h"

namespace ivfremote {

class SegmentReader {
 public:
  static constexpr size_t kRangesInWave = 3;

  // `blocks`: those to read, of the segment's directory, in any order.
  SegmentReader(const SegmentEntry& segment, const CodeFormat& format, std::vector<BlockEntry> blocks);

  // Whether nothing is left to be read. What has been read may still hold blocks.
  bool all_read() const { return next_range_ == ranges_.size(); }
  uint64_t bytes_to_read() const;

  // Reads on, when NextBlock has found none. Objects: a wave; after an error it may be started again, with another store.
  Status StartWave(ObjectStore* store);
  Status StepWave(Clock::time_point deadline, bool* done);
  size_t requests_in_wave() const { return in_wave_.size(); }
  size_t requests_failed() const { return failed_; }

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
  std::vector<RangeBuffer> buffers_;  // of the last wave's ranges, [first_range_, next_range_)
  size_t first_range_ = 0;
  size_t next_range_ = 0;
  size_t next_block_ = 0;
  BlockView block_;

  std::unique_ptr<RangeWave> wave_;
  std::vector<size_t> in_wave_;  // of buffers_, by their number in the wave
  size_t outstanding_ = 0;
  size_t failed_ = 0;
};

}  // namespace ivfremote
