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

Status SegmentReader::StartWave(ObjectStore* store) {
  if (outstanding_ == 0) {
    first_range_ = next_range_;
    next_range_ = std::min(first_range_ + kRangesInWave, ranges_.size());
    buffers_.clear();
    buffers_.resize(next_range_ - first_range_);
  }
  std::vector<RangeRequest> send;
  in_wave_.clear();
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (buffers_[i].data() != nullptr) continue;
    in_wave_.push_back(i);
    send.push_back(RequestFor(segment_, ranges_[first_range_ + i]));
  }
  outstanding_ = send.size();
  failed_ = 0;
  return store->GetRanges(std::move(send), kRangesInWave, &wave_);
}

Status SegmentReader::StepWave(Clock::time_point deadline, bool* done) {
  std::vector<RangeCompletion> completions;
  IVFREMOTE_RETURN_IF_ERROR(wave_->Step(deadline, &completions));
  Status failure;
  for (RangeCompletion& completion : completions) {
    if (!completion.status.ok()) {
      failure = completion.status;
      ++failed_;
      continue;
    }
    --outstanding_;
    buffers_[in_wave_[completion.request]] = std::move(completion.buffer);
  }
  *done = outstanding_ == 0;
  if (*done || !failure.ok()) wave_.reset();
  return failure;
}

std::byte* SegmentReader::StartPiece(uint64_t* offset, uint32_t* length) {
  first_range_ = next_range_++;
  const PlannedRange& range = ranges_[first_range_];
  buffers_.clear();
  buffers_.emplace_back(range.length);
  *offset = range.offset;
  *length = range.length;
  return buffers_[0].data();
}

Status SegmentReader::NextBlock(bool* found) {
  *found = false;
  if (next_range_ == 0) return Status::Ok();
  const PlannedRange& last = ranges_[next_range_ - 1];
  if (next_block_ == last.first_block + last.block_count) return Status::Ok();
  size_t range = first_range_;
  while (next_block_ >= ranges_[range].first_block + ranges_[range].block_count) ++range;
  const BlockEntry& entry = blocks_[next_block_++];
  const Bytes bytes = buffers_[range - first_range_].bytes();
  const Status status =
      DecodeBlock(bytes.subspan(entry.offset - ranges_[range].offset, entry.length), format_, entry, &block_);
  if (!status.ok()) return Status(status.code(), status.message() + " in " + BlockText(segment_, entry));
  *found = true;
  return Status::Ok();
}

}  // namespace ivfremote
