#include "core/segment_reader.h"

#include <algorithm>

namespace ivfremote {
namespace {

// Pages of an embedded segment are read so many bytes at a time.
constexpr uint64_t kPageRangeBytes = 1 << 20;

FetchPlanOptions PlanFor(const SegmentEntry& segment) {
  FetchPlanOptions options;
  options.part_bytes = segment.part_bytes;
  if (segment.place == SegmentPlace::kPages) {
    options.max_gap_bytes = kBlockAlignment;
    options.max_range_bytes = kPageRangeBytes;
  }
  return options;
}

}  // namespace

SegmentReader::SegmentReader(const SegmentEntry& segment, const CodeFormat& format, std::vector<BlockEntry> blocks)
    : segment_(segment), format_(format), blocks_(std::move(blocks)) {
  std::sort(blocks_.begin(), blocks_.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  ranges_ = PlanRanges(blocks_, PlanFor(segment));
}

uint64_t SegmentReader::bytes_to_read() const {
  uint64_t bytes = 0;
  for (size_t i = next_range_; i < ranges_.size(); ++i) bytes += ranges_[i].length;
  return bytes;
}

RangeFetch* SegmentReader::NextWave() {
  first_range_ = next_range_;
  next_range_ = std::min(first_range_ + kRangesInWave, ranges_.size());
  std::vector<RangeRequest> requests;
  for (size_t i = first_range_; i < next_range_; ++i) requests.push_back(RequestFor(segment_, ranges_[i]));
  wave_.reset();  // before its successor takes memory
  wave_ = std::make_unique<RangeFetch>(std::move(requests));
  return wave_.get();
}

std::byte* SegmentReader::StartPiece(uint64_t* offset, uint32_t* length) {
  first_range_ = next_range_++;
  const PlannedRange& range = ranges_[first_range_];
  piece_ = RangeBuffer();
  piece_ = RangeBuffer(range.length);
  *offset = range.offset;
  *length = range.length;
  return piece_.data();
}

Status SegmentReader::NextBlock(bool* found) {
  *found = false;
  if (next_range_ == 0) return Status::Ok();
  const PlannedRange& last = ranges_[next_range_ - 1];
  if (next_block_ == last.first_block + last.block_count) return Status::Ok();
  size_t range = first_range_;
  while (next_block_ >= ranges_[range].first_block + ranges_[range].block_count) ++range;
  const BlockEntry& entry = blocks_[next_block_++];
  const Bytes bytes = wave_ == nullptr ? piece_.bytes() : wave_->bytes(range - first_range_);
  const Status status =
      DecodeBlock(bytes.subspan(entry.offset - ranges_[range].offset, entry.length), format_, entry, &block_);
  IVFREMOTE_RETURN_IF_ERROR(AddPlace(status, segment_, entry.offset, entry.length));
  *found = true;
  return Status::Ok();
}

}  // namespace ivfremote
