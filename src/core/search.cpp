#include "core/search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/half.h"

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

uint32_t ProbedLists::Find(uint32_t list) const {
  const uint32_t* at = std::lower_bound(numbers, numbers + count, list);
  return at != numbers + count && *at == list ? static_cast<uint32_t>(at - numbers) : count;
}

Search::Search(const SearchOptions& options, const float* query)
    : options_(options),
      query_(query, query + options.format.dimensions),
      scorer_(options.metric, query_.data(), query_.size()),
      aligned_row_(query_.size()) {
  if (options.format.kind == CodeKind::kBits) {
    query_bits_.resize(options.format.RowBytes());
    PackBits(query, options.format.dimensions, query_bits_.data());
  }
  if (!coded()) return;
  const uint32_t padded = options.format.padded();
  coder_ = std::make_unique<QueryCoder>(options.metric, options.format, query, options.rotation_seed,
                                        options.routing_mean);
  code_scorer_ = std::make_unique<CodeScorer>(options.metric, padded, options.format.bits, options.epsilon);
  centroid_.resize(options.format.dimensions);
  residual_.resize(padded);
}

void Search::SetLists(const ProbedLists& lists) {
  lists_ = lists;
  others_.clear();
  other_centroids_.clear();
  pending_.clear();
  if (coded()) pending_.resize(lists.count);
}

uint32_t Search::PositionOf(uint32_t list) const {
  const uint32_t position = lists_.Find(list);
  if (position != lists_.count) return position;
  const auto other = others_.find(list);
  return other == others_.end() ? kNowhere : other->second;
}

const float* Search::CentroidAt(uint32_t position) {
  const size_t d = query_.size();
  if (position >= lists_.count) return &other_centroids_[(position - lists_.count) * d];
  if (lists_.floats != nullptr) return lists_.floats + position * d;
  FromHalves(lists_.halves + position * d, d, lists_.scale, centroid_.data());
  return centroid_.data();
}

std::vector<uint32_t> Search::MissingCentroids() const {
  std::vector<uint32_t> missing;
  if (!coded()) return missing;
  for (const Segment& segment : segments_)
    for (const BlockEntry& block : segment.blocks)
      if (block.centroid != block.list && !HasCentroid(block.centroid)) missing.push_back(block.centroid);
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  return missing;
}

void Search::AddCentroid(uint32_t list, const float* centroid) {
  if (HasCentroid(list)) return;
  others_[list] = static_cast<uint32_t>(lists_.count + others_.size());
  other_centroids_.insert(other_centroids_.end(), centroid, centroid + query_.size());
  pending_.emplace_back();
}

uint16_t Search::AddSegment(const SegmentEntry& segment, std::vector<BlockEntry> blocks) {
  spilled_ |= (segment.flags & SegmentEntry::kSpilled) != 0;
  segments_.push_back({segment, {}, {}});
  const auto number = static_cast<uint16_t>(segments_.size() - 1);
  SetBlocks(number, std::move(blocks));
  return number;
}

void Search::SetBlocks(uint16_t number, std::vector<BlockEntry> blocks) {
  Segment& segment = segments_[number];
  std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  FetchPlanOptions options = options_.plan;
  options.part_bytes = segment.entry.part_bytes;
  // A page more costs more than a range more.
  if (segment.entry.place == SegmentPlace::kPages) options.max_gap_bytes = options.whole_bytes = 0;
  segment.ranges = PlanRanges(blocks, options);
  segment.blocks = std::move(blocks);
}

size_t Search::requests_planned() const {
  size_t requests = 0;
  for (const Segment& segment : segments_)
    if (segment.entry.place == SegmentPlace::kObject) requests += segment.ranges.size();
  return requests;
}

void Search::ListRequests() {
  for (uint16_t number = 0; number < segments_.size(); ++number) {
    const Segment& segment = segments_[number];
    if (segment.entry.place != SegmentPlace::kObject) continue;
    for (uint32_t i = 0; i < segment.ranges.size(); ++i) {
      requests_.push_back({number, i, false, RequestFor(segment.entry, segment.ranges[i])});
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
    IVFREMOTE_RETURN_IF_ERROR(TakeRange(request.segment, request.range, completion.buffer));
    completion.buffer = RangeBuffer();
    request.done = true;
  }
  if (outstanding_ == 0) wave_.reset();
  return failure;
}

std::byte* Search::BufferFor(uint16_t number, size_t range) {
  page_buffer_ = RangeBuffer(segments_[number].ranges[range].length);
  return page_buffer_.data();
}

Status Search::Deliver(uint16_t number, size_t range) { return TakeRange(number, range, page_buffer_); }

Status Search::TakeRange(uint16_t number, size_t range_number, const RangeBuffer& buffer) {
  const Clock::time_point start = Clock::now();
  const Segment& segment = segments_[number];
  const PlannedRange& range = segment.ranges[range_number];
  const Bytes bytes = buffer.bytes();
  statistics_.bytes_fetched += bytes.size();
  for (uint32_t i = range.first_block; i < range.first_block + range.block_count; ++i) {
    const BlockEntry& entry = segment.blocks[i];
    BlockView block;
    Status status = DecodeBlock(bytes.subspan(entry.offset - range.offset, entry.length), options_.format, entry, &block);
    if (status.ok()) status = ScoreBlock(number, entry.centroid, block);
    IVFREMOTE_RETURN_IF_ERROR(AddPlace(status, segment.entry, entry.offset, entry.length));
    statistics_.bytes_used += entry.length;
    ++statistics_.blocks;
  }
  statistics_.score_time += Clock::now() - start;
  return Status::Ok();
}

Status Search::ScoreBlock(uint16_t segment, uint32_t centroid, const BlockView& block) {
  statistics_.rows_scored += block.rows();
  if (options_.format.kind == CodeKind::kBits) {
    distances_.resize(block.rows());
    HammingDistances(query_bits_.data(), block.bits(), query_bits_.size(), block.rows(), distances_.data());
    for (uint32_t i = 0; i < block.rows(); ++i) AddCandidate(distances_[i], block.tid(i), segment);
    return Status::Ok();
  }
  if (!coded()) {
    for (uint32_t i = 0; i < block.rows(); ++i)
      AddFloats(block.row(i), block.tid(i), segment);
    return Status::Ok();
  }
  const uint32_t position = PositionOf(centroid);
  if (position == kNowhere) return Status::Corrupt("a block's codes refer to a list without a centroid");
  ScoreCoded(position, block.coded(), segment, block.tids());
  return Status::Ok();
}

void Search::ScoreCoded(uint32_t position, const CodedRows& rows, uint16_t segment, const std::byte* tids) {
  code_scorer_->SetQuery(coder_->Residual(CentroidAt(position), residual_.data()));
  const size_t first = arriving_.bounds.size();
  arriving_.bounds.resize(first + rows.rows);
  code_scorer_->Score(rows, arriving_.bounds.data() + first);
  arriving_.tids.insert(arriving_.tids.end(), tids, tids + size_t{rows.rows} * kTidBytes);
  arriving_.scored.push_back({static_cast<uint32_t>(first), segment});
}

Status Search::AddPending(Tid tid, uint32_t centroid, const std::byte* row) {
  if (options_.format.kind == CodeKind::kFloat32) {
    AddPendingFloats(tid, row);
    return Status::Ok();
  }
  ++statistics_.rows_scored;
  ++statistics_.pending_rows_scored;
  if (options_.format.kind == CodeKind::kBits) {
    uint32_t distance;
    HammingDistances(query_bits_.data(), row, query_bits_.size(), 1, &distance);
    AddCandidate(distance, tid, Candidate::kPending);
    return Status::Ok();
  }
  const uint32_t position = PositionOf(centroid);
  if (position == kNowhere) return Status::Internal("a pending row's code refers to a list without a centroid");
  PendingRows& rows = pending_[position];
  rows.rows.insert(rows.rows.end(), row, row + options_.format.RowBytes());
  rows.tids.resize(rows.tids.size() + kTidBytes);
  StoreTid(rows.tids.data() + rows.tids.size() - kTidBytes, tid);
  return Status::Ok();
}

void Search::AddPendingFloats(Tid tid, const std::byte* row) {
  ++statistics_.rows_scored;
  ++statistics_.pending_rows_scored;
  std::memcpy(aligned_row_.data(), row, aligned_row_.size() * sizeof(float));
  AddFloats(aligned_row_.data(), tid, Candidate::kPending);
}

void Search::ScorePending() {
  const Clock::time_point start = Clock::now();
  for (uint32_t position = 0; position < pending_.size(); ++position) {
    const PendingRows pending = std::exchange(pending_[position], {});
    const auto count = static_cast<uint32_t>(pending.tids.size() / kTidBytes);
    if (count == 0) continue;
    RangeBuffer rows(CodedRowsBytes(options_.format, count));
    PutCodedRows(options_.format, pending.rows.data(), count, rows.data());
    ScoreCoded(position, ViewCodedRows(rows.data(), count), Candidate::kPending, pending.tids.data());
  }
  statistics_.score_time += Clock::now() - start;
}

void Search::AddFloats(const float* row, Tid tid, uint16_t segment) {
  double distance = scorer_.Distance(row);
  if (options_.float32_operator) distance = scorer_.LeastInFloat32(distance, row);
  AddCandidate(Ordered(distance), tid, segment);
}

void Search::AddUnordered(Tid tid) { AddCandidate(0.0, tid, Candidate::kPending); }

double Search::InOperatorUnit(float bound) const {
  double distance = bound;
  if (options_.metric == Metric::kL2) distance = std::sqrt(std::max(0.0, distance));
  if (options_.metric == Metric::kCosine) distance = std::max(0.0, distance / 2.0);
  return options_.float32_operator ? scorer_.LeastInFloat32(distance, nullptr) : distance;
}

void Search::StartOrder() {
  candidates_.insert(candidates_.end(), arrived_.begin(), arrived_.end());
  std::make_heap(candidates_.begin(), candidates_.end(), Farther());
  arrived_.clear();
  if (!arriving_.bounds.empty()) {
    arriving_.queue.Start(std::move(arriving_.bounds));
    ordered_.push_back(std::move(arriving_));
    arriving_ = {};
  }
  for (Segment& segment : segments_) segment.blocks.clear(), segment.ranges.clear();
  requests_.clear();
}

bool Search::Next(Candidate* candidate) {
  while (NextOfAll(candidate)) {
    if (!spilled_ || candidate->segment == Candidate::kPending ||
        (segments_[candidate->segment].entry.flags & SegmentEntry::kSpilled) == 0)
      return true;
    const uint64_t key = uint64_t{candidate->segment} << 48 | uint64_t{candidate->tid_block} << 16 | candidate->tid_offset;
    if (given_.insert(key).second) return true;
  }
  return false;
}

void Search::FillNext(CodedRowsOfWave* rows) {
  uint32_t row;
  float bound;
  if (rows->has_next || !rows->queue.Next(&row, &bound)) return;
  const auto after = std::upper_bound(rows->scored.begin(), rows->scored.end(), row,
                                      [](uint32_t value, const ScoredRows& part) { return value < part.first_row; });
  const Tid tid = LoadTid(&rows->tids[size_t{row} * kTidBytes]);
  rows->next = {InOperatorUnit(bound), tid.block, tid.offset, (after - 1)->segment};
  rows->has_next = true;
}

bool Search::NextOfAll(Candidate* candidate) {
  CodedRowsOfWave* nearest = nullptr;
  for (CodedRowsOfWave& rows : ordered_) {
    FillNext(&rows);
    if (rows.has_next && (nearest == nullptr || Farther()(nearest->next, rows.next))) nearest = &rows;
  }
  if (!candidates_.empty() && (nearest == nullptr || Farther()(nearest->next, candidates_.front()))) {
    std::pop_heap(candidates_.begin(), candidates_.end(), Farther());
    *candidate = candidates_.back();
    candidates_.pop_back();
    return true;
  }
  if (nearest == nullptr) return false;
  *candidate = nearest->next;
  nearest->has_next = false;
  return true;
}

}  // namespace ivfremote
