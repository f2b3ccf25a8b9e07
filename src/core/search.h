// One search of one index: takes blocks and pending rows as they come, and gives rows back in the order of their distances
// (rows stored as floats or bits) or of lower bounds of these (codes), for the caller to look at the rows themselves.
//
// It reads nothing itself. Blocks of a segment in an object store are fetched by a wave it drives step by step; blocks
// of an embedded segment are delivered by the caller, range by range.
//
// A search may go on: with other lists, in another wave, while rows of the waves before are given. What comes in meanwhile
// is scored and waits until it is put into order with the others.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/bound_queue.h"
#include "core/coding.h"
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

  // In the operator's unit: the row's distance where the search is exact, else a lower bound of it.
  double distance;
  uint32_t tid_block;
  uint16_t tid_offset;
  uint16_t segment;  // number of the search's segment, or kPending

  Tid tid() const { return {tid_block, tid_offset}; }
};
static_assert(sizeof(Candidate) == 16);

// The lists probed, ascending, and what codes of each need. Plain arrays, so that the caller may own them.
struct ProbedLists {
  uint32_t count = 0;
  const uint32_t* numbers = nullptr;
  // Their centroids less the mean, [count x dimensions], one way or the other; neither where rows are exact.
  const float* floats = nullptr;
  const uint16_t* halves = nullptr;  // float16, to be multiplied with
  float scale = 1;

  // The position of `list` among the numbers, or count.
  uint32_t Find(uint32_t list) const;
};

struct SearchOptions {
  Metric metric = Metric::kL2;
  CodeFormat format;
  uint64_t rotation_seed = 0;
  double epsilon = 0;                   // how far bounds stay below estimates, in standard errors
  const float* routing_mean = nullptr;  // coded only
  // The operator sums in float32, so its distances are a little off: lower bounds allow for it, and rows as floats come
  // with such bounds, too.
  bool float32_operator = false;
  FetchPlanOptions plan;
};

class Search {
 public:
  // `query` is copied; `options.routing_mean` need not outlive the call.
  Search(const SearchOptions& options, const float* query);

  // Of each wave, before its blocks or coded rows come. What it points to must live until the wave is in order. No list is
  // probed in two waves.
  void SetLists(const ProbedLists& lists);

  // Whether candidates come with the operator's distances, in their order; else with lower bounds, in the order of these.
  bool exact() const { return !coded() && !options_.float32_operator; }

  // Adds the blocks to read from one segment; returns its number. Blocks may come in any order.
  uint16_t AddSegment(const SegmentEntry& segment, std::vector<BlockEntry> blocks);
  // Of a segment that is there: those to read in this wave.
  void SetBlocks(uint16_t number, std::vector<BlockEntry> blocks);
  // Requests for what has been added since rows were put into order. None of it has been sent.
  size_t requests_planned() const;

  // Rows that came to a probed list from another one keep codes of that one's centroid (decision 0011), which must be there
  // before they come. MissingCentroids: the lists, ascending, whose centroids blocks refer to and nobody has added.
  std::vector<uint32_t> MissingCentroids() const;
  bool HasCentroid(uint32_t list) const { return PositionOf(list) != kNowhere; }
  // Copies the centroid of a list that is not probed, less the mean. After SetLists.
  void AddCentroid(uint32_t list, const float* centroid);

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

  // Pages: the ranges the caller delivers for segment `number`. Their bytes go into the buffer first.
  const std::vector<PlannedRange>& RangesOf(uint16_t number) const { return segments_[number].ranges; }
  std::byte* BufferFor(uint16_t number, size_t range);
  Status Deliver(uint16_t number, size_t range);

  // A pending row of a probed list (any, if rows are floats or bits), as its generation's format has it; unaligned bytes
  // are welcome. `centroid`: the list whose centroid its code refers to. Coded rows are scored by ScorePending, once,
  // after the last of them.
  Status AddPending(Tid tid, uint32_t centroid, const std::byte* row);
  void ScorePending();

  // A pending row as floats, [dimensions], of any list: also among codes.
  void AddPendingFloats(Tid tid, const std::byte* row);

  // A live row whose distance does not matter (a NULL query).
  void AddUnordered(Tid tid);

  // Puts what was scored into order, with what is left of earlier waves, and ends the wave; then Next gives the candidates,
  // nearest first, each row of a segment once. False at the end.
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
  // Coded rows scored together: numbers from first_row on.
  struct ScoredRows {
    uint32_t first_row;
    uint16_t segment;
  };
  // The coded rows of one wave.
  struct CodedRowsOfWave {
    std::vector<ScoredRows> scored;
    std::vector<float> bounds;    // by row number; in the queue, once that is started
    std::vector<std::byte> tids;  // the same, kTidBytes each
    BoundQueue queue;
    bool has_next = false;  // of the queue, taken already
    Candidate next{};
  };
  // Coded pending rows of one centroid.
  struct PendingRows {
    std::vector<std::byte> rows;
    std::vector<std::byte> tids;
  };

  static constexpr uint32_t kNowhere = UINT32_MAX;

  // Of a list's centroid: its position in lists_, or beyond these in others_.
  uint32_t PositionOf(uint32_t list) const;
  const float* CentroidAt(uint32_t position);
  void ListRequests();
  Status TakeRange(uint16_t number, size_t range, const RangeBuffer& buffer);
  Status ScoreBlock(uint16_t segment, uint32_t centroid, const BlockView& block);
  void ScoreCoded(uint32_t position, const CodedRows& rows, uint16_t segment, const std::byte* tids);
  bool coded() const { return options_.format.coded(); }
  void AddFloats(const float* row, Tid tid, uint16_t segment);
  void AddCandidate(double distance, Tid tid, uint16_t segment) {
    arrived_.push_back({distance, tid.block, tid.offset, segment});
  }
  double InOperatorUnit(float bound) const;
  // Looks for the next row of a wave.
  void FillNext(CodedRowsOfWave* rows);
  bool NextOfAll(Candidate* candidate);

  SearchOptions options_;
  std::vector<float> query_;
  Scorer scorer_;
  ProbedLists lists_;

  std::vector<Segment> segments_;
  std::unique_ptr<RangeWave> wave_;
  std::vector<Request> requests_;
  std::vector<size_t> in_wave_;  // numbers of requests, by their number in the wave
  std::vector<RangeCompletion> completions_;
  size_t outstanding_ = 0;
  size_t failed_ = 0;
  RangeBuffer page_buffer_;

  // Exact rows, which a coded search may have too: the pending ones of an index that was not trained then
  std::vector<Candidate> candidates_;  // in order: a heap
  std::vector<Candidate> arrived_;     // not yet
  std::vector<float> aligned_row_;
  std::vector<std::byte> query_bits_;  // bits only
  std::vector<uint32_t> distances_;    // scratch

  // Coded
  std::unique_ptr<QueryCoder> coder_;
  std::unique_ptr<CodeScorer> code_scorer_;
  std::vector<float> centroid_;   // scratch
  std::unordered_map<uint32_t, uint32_t> others_;  // by list that is not probed: position of its centroid
  std::vector<float> other_centroids_;
  std::vector<float> residual_;
  std::vector<PendingRows> pending_;  // by position of the centroid
  CodedRowsOfWave arriving_;
  std::vector<CodedRowsOfWave> ordered_;

  // Rows of spilled segments given already: the second copy is left out.
  bool spilled_ = false;
  std::unordered_set<uint64_t> given_;

  SearchStatistics statistics_;
  std::vector<RequestTrace> trace_;
};

}  // namespace ivfremote
