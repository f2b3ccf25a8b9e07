// One search of one index: takes blocks and pending rows as they come, and gives rows back in distance order.
//
// It reads nothing itself. Blocks of a segment in an object store are fetched by a wave it drives step by step; blocks
// of an embedded segment are delivered by the caller, range by range.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/distance.h"
#include "core/fetch_plan.h"
#include "core/object_key.h"
#include "core/object_store.h"
#include "core/page_format.h"

namespace ivfremote {

struct RequestTrace {
  std::string key;
  uint64_t offset = 0;
  uint32_t bytes = 0;
  uint32_t wave = 0;
  Clock::time_point started;
  Clock::time_point finished;
};

struct SearchStatistics {
  uint64_t waves = 0;
  uint64_t requests = 0;
  uint64_t blocks = 0;
  uint64_t bytes_fetched = 0;
  uint64_t bytes_used = 0;  // of the blocks asked for; the rest were gaps
  uint64_t rows_scored = 0;
  uint64_t pending_rows_scored = 0;
  Clock::duration score_time{};
};

struct Candidate {
  static constexpr uint16_t kPending = 0xffff;

  double distance;  // the operator's value
  uint32_t tid_block;
  uint16_t tid_offset;
  uint16_t segment;  // number of the search's segment, or kPending

  Tid tid() const { return {tid_block, tid_offset}; }
};
static_assert(sizeof(Candidate) == 16);

class Search {
 public:
  // `query` is copied.
  Search(Metric metric, const float* query, uint32_t dimensions, const FetchPlanOptions& plan_options);

  // Adds the blocks to read from one segment; returns its number. Blocks may come in any order.
  uint16_t AddSegment(const SegmentEntry& segment, std::vector<BlockEntry> blocks);

  // Objects: starts one wave over what has not been read of the segments in the store. After an error it may be called
  // again, with another store.
  Status StartWave(ObjectStore* store, size_t max_concurrent);
  uint32_t segment_count() const { return static_cast<uint32_t>(segments_.size()); }
  bool wave_running() const { return wave_ != nullptr && outstanding_ > 0; }
  // Takes what has arrived and scores it.
  Status StepWave(Clock::time_point deadline);
  size_t requests_outstanding() const { return outstanding_; }
  // Of the wave started last.
  size_t requests_failed() const { return failed_; }
  size_t requests_in_wave() const { return in_wave_.size(); }

  // Pages: the ranges the caller delivers for segment `number`, and where their bytes go.
  const std::vector<PlannedRange>& RangesOf(uint16_t number) const { return segments_[number].ranges; }
  Status Deliver(uint16_t number, size_t range, Bytes bytes);

  // A pending row. `row` is float32, unaligned bytes are welcome.
  void ScorePending(Tid tid, const std::byte* row);

  // A live row whose distance does not matter (a NULL query).
  void AddUnordered(Tid tid) { Add(0.0, tid, Candidate::kPending); }

  // Puts what was scored into order; then Next gives the candidates, nearest first, ties by TID. False at the end.
  void StartOrder();
  bool Next(Candidate* candidate);

  const SearchStatistics& statistics() const { return statistics_; }
  const std::vector<RequestTrace>& trace() const { return trace_; }

 private:
  struct Segment {
    SegmentEntry entry;
    std::vector<BlockEntry> blocks;  // by offset
    std::vector<PlannedRange> ranges;
  };
  struct Request {
    uint16_t segment;
    uint32_t range;
    bool done;
    RangeRequest sent;
  };

  void ListRequests();
  std::string Describe(const Segment& segment, const BlockEntry& block) const;
  void ScoreBlock(uint16_t segment, const BlockView& block);
  void Add(double distance, Tid tid, uint16_t segment) {
    candidates_.push_back({distance, tid.block, tid.offset, segment});
  }

  std::vector<float> query_;
  Scorer scorer_;
  FetchPlanOptions plan_options_;
  std::vector<Segment> segments_;
  std::unique_ptr<RangeWave> wave_;
  std::vector<Request> requests_;
  std::vector<size_t> in_wave_;  // numbers of requests, by their number in the wave
  std::vector<RangeCompletion> completions_;
  size_t outstanding_ = 0;
  size_t failed_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<float> aligned_row_;
  SearchStatistics statistics_;
  std::vector<RequestTrace> trace_;
};

}  // namespace ivfremote
