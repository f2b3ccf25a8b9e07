#include "core/search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/range_text.h"

namespace ivfremote {
namespace {

// Makes a heap (std::push_heap and friends keep the largest first) give the nearest first.
struct Farther {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.distance != b.distance ? a.distance > b.distance : b.tid() < a.tid();
  }
};

// Not a number would break the order; such a row comes last.
double Ordered(double distance) { return std::isnan(distance) ? std::numeric_limits<double>::infinity() : distance; }

}  // namespace

Search::Search(Metric metric, const float* query, uint32_t dimensions, const FetchPlanOptions& plan_options)
    : query_(query, query + dimensions),
      scorer_(metric, query_.data(), dimensions),
      plan_options_(plan_options),
      aligned_row_(dimensions) {}

uint16_t Search::AddSegment(const SegmentEntry& segment, std::vector<BlockEntry> blocks) {
  std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  FetchPlanOptions options = plan_options_;
  options.part_bytes = segment.part_bytes;
  // A page more costs more than a range more.
  if (segment.place == SegmentPlace::kPages) options.max_gap_bytes = 0;
  std::vector<PlannedRange> ranges = PlanRanges(blocks, options);
  segments_.push_back({segment, std::move(blocks), std::move(ranges)});
  return static_cast<uint16_t>(segments_.size() - 1);
}

void Search::ListRequests() {
  for (uint16_t number = 0; number < segments_.size(); ++number) {
    const Segment& segment = segments_[number];
    if (segment.entry.place != SegmentPlace::kObject) continue;
    for (uint32_t i = 0; i < segment.ranges.size(); ++i) {
      const PlannedRange& range = segment.ranges[i];
      const uint64_t part_bytes = segment.entry.part_bytes;
      const uint64_t part = part_bytes == 0 ? 0 : range.offset / part_bytes;
      requests_.push_back({number, i, false,
                           {FormatObjectKey({segment.entry.name, static_cast<uint32_t>(part)}),
                            range.offset - part * part_bytes, range.length}});
    }
  }
}

Status Search::StartWave(ObjectStore* store, size_t max_concurrent) {
  if (requests_.empty()) ListRequests();
  std::vector<RangeRequest> send;
  in_wave_.clear();
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i].done) continue;
    in_wave_.push_back(i);
    send.push_back(requests_[i].sent);
  }
  outstanding_ = send.size();
  failed_ = 0;
  if (send.empty()) return Status::Ok();
  ++statistics_.waves;
  return store->GetRanges(std::move(send), max_concurrent, &wave_);
}

Status Search::StepWave(Clock::time_point deadline) {
  completions_.clear();
  IVFREMOTE_RETURN_IF_ERROR(wave_->Step(deadline, &completions_));
  Status failure;
  for (RangeCompletion& completion : completions_) {
    --outstanding_;
    ++statistics_.requests;
    Request& request = requests_[in_wave_[completion.request]];
    trace_.push_back({request.sent.key, request.sent.offset, request.sent.length,
                      static_cast<uint32_t>(statistics_.waves), completion.started, completion.finished});
    if (!completion.status.ok()) {
      ++failed_;
      failure = completion.status;
      continue;
    }
    IVFREMOTE_RETURN_IF_ERROR(Deliver(request.segment, request.range, completion.buffer.bytes()));
    request.done = true;
    completion.buffer = RangeBuffer();
  }
  if (outstanding_ == 0) wave_.reset();
  return failure;
}

std::string Search::Describe(const Segment& segment, const BlockEntry& block) const {
  if (segment.entry.place == SegmentPlace::kPages)
    return "segment " + std::to_string(segment.entry.id) + " bytes " + std::to_string(block.offset) + "-" +
           std::to_string(block.offset + block.length - 1);
  const uint64_t part_bytes = segment.entry.part_bytes;
  const uint64_t part = part_bytes == 0 ? 0 : block.offset / part_bytes;
  return RangeText(FormatObjectKey({segment.entry.name, static_cast<uint32_t>(part)}),
                   block.offset - part * part_bytes, block.length);
}

Status Search::Deliver(uint16_t number, size_t range_number, Bytes bytes) {
  const Clock::time_point start = Clock::now();
  const Segment& segment = segments_[number];
  const PlannedRange& range = segment.ranges[range_number];
  statistics_.bytes_fetched += bytes.size();
  for (uint32_t i = range.first_block; i < range.first_block + range.block_count; ++i) {
    const BlockEntry& entry = segment.blocks[i];
    BlockView block;
    Status status = DecodeBlock(bytes.subspan(entry.offset - range.offset, entry.length),
                                static_cast<uint32_t>(query_.size()), entry, &block);
    if (!status.ok()) return Status(status.code(), status.message() + " in " + Describe(segment, entry));
    ScoreBlock(number, block);
    statistics_.bytes_used += entry.length;
    ++statistics_.blocks;
  }
  statistics_.score_time += Clock::now() - start;
  return Status::Ok();
}

void Search::ScoreBlock(uint16_t segment, const BlockView& block) {
  for (uint32_t i = 0; i < block.rows(); ++i)
    Add(Ordered(scorer_.Distance(block.row(i))), block.tid(i), segment);
  statistics_.rows_scored += block.rows();
}

void Search::ScorePending(Tid tid, const std::byte* row) {
  std::memcpy(aligned_row_.data(), row, aligned_row_.size() * sizeof(float));
  Add(Ordered(scorer_.Distance(aligned_row_.data())), tid, Candidate::kPending);
  ++statistics_.rows_scored;
  ++statistics_.pending_rows_scored;
}

void Search::StartOrder() { std::make_heap(candidates_.begin(), candidates_.end(), Farther()); }

bool Search::Next(Candidate* candidate) {
  if (candidates_.empty()) return false;
  std::pop_heap(candidates_.begin(), candidates_.end(), Farther());
  *candidate = candidates_.back();
  candidates_.pop_back();
  return true;
}

}  // namespace ivfremote
