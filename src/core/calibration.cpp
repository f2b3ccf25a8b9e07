#include "core/calibration.h"

#include <cblas.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/blas.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/even_part.h"
#include "core/little_endian.h"
#include "core/object_store.h"
#include "core/segment_format.h"

namespace ivfremote {
namespace {

constexpr double kMaxOperations = 4e10;  // of all products, if 400 queries allow it
constexpr double kMaxQueryBytes = 8 << 20;
constexpr size_t kLevels = std::size(kCurveNeighbours);
// The neighbours of all queries are kept to the 100th, of some to the last level.
constexpr size_t kManyNeighbours = 100;
constexpr size_t kDeepQueries = 100;
// Of as many neighbours this share more are gathered before the farthest are dropped.
constexpr size_t kSlackShare = 4;
constexpr size_t kLossQueries = 200;
constexpr size_t kLossNeighbours = 10;
constexpr size_t kBatchRows = 256;
// Lists ranked beyond are probed by no threshold but infinity.
constexpr uint32_t kMaxRankedLists = 8192;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What is kept of a query: PartHeader | Neighbour x neighbours | (CodeHeader, the row's bytes) x codes
struct PartHeader {
  uint32_t neighbours;
  uint32_t codes;
};
struct CodeHeader {
  float score;
  uint32_t list;
};

// A mark more is 0.2 % more lists. Stop values of lists that are ranked are at most ln(8192) + 4 x 20, below the last mark.
constexpr float kStopUnit = 1.0f / 512;
constexpr size_t kMarks = 90 * 512;
static_assert(kAdaptiveRule.ratio_weight == 4.0f && kMaxRankedLists == 8192);

float ThresholdAt(size_t mark) { return static_cast<float>(mark) * kStopUnit; }
// The first whose threshold reaches the stop value.
size_t MarkOf(float stop) { return std::min(static_cast<size_t>(std::ceil(stop / kStopUnit)), kMarks - 1); }

}  // namespace

uint32_t CalibrationQueries(double rows, uint32_t dimensions) {
  const double affordable = kMaxQueryBytes / (sizeof(float) * static_cast<double>(dimensions));
  const double wanted = std::clamp(kMaxOperations / (2.0 * rows * dimensions), 400.0, 1000.0);
  return static_cast<uint32_t>(std::min({rows, wanted, affordable}));
}

Calibration::Calibration(const CalibrationOptions& options, const Routing* routing, std::vector<float> queries,
                         std::vector<Tid> tids)
    : options_(options), routing_(routing), raw_(std::move(queries)), centred_(raw_), tids_(std::move(tids)) {
  // A worker's OpenMP would use as many as there are processors.
  UseOneBlasThread();
  const size_t d = routing->dimensions;
  queries_.resize(raw_.size() / d);
  // An infinite score is none.
  thresholds_.assign(queries_.size(), std::numeric_limits<float>::max());
  list_rows_.resize(routing->list_count());
  for (size_t i = 0; i < queries_.size(); ++i) {
    Query& query = queries_[i];
    query.capacity = IsOneOf(kDeepQueries, i, queries_.size()) ? kCurveNeighbours[kLevels - 1] : kManyNeighbours;
    query.capacity = std::max<size_t>(query.capacity, options.k);
    float* vector = &centred_[i * d];
    if (options.metric == Metric::kInnerProduct) {
      query.score_offset = -InnerProduct(vector, routing->mean.data(), d);
    } else {
      for (size_t j = 0; j < d; ++j) vector[j] -= routing->mean[j];
      query.score_offset = SquaredNorm(vector, d);
    }
  }
}

void Calibration::Add(const float* centred, size_t n, const uint32_t* lists, const uint32_t* second_lists,
                      const Tid* tids, const std::byte* codes, const float* excess) {
  const size_t d = routing_->dimensions;
  const size_t count = queries_.size();
  const bool product = options_.metric == Metric::kInnerProduct;
  const size_t row_bytes = options_.format.RowBytes();
  products_.resize(count * kBatchRows);
  float norms[kBatchRows] = {};
  for (size_t first = 0; first < n; first += kBatchRows) {
    const size_t rows = std::min(kBatchRows, n - first);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(count), static_cast<int>(rows),
                static_cast<int>(d), product ? -1.0f : -2.0f, centred_.data(), static_cast<int>(d),
                centred + first * d, static_cast<int>(d), 0.0f, products_.data(), static_cast<int>(rows));
    for (size_t i = 0; i < rows; ++i) {
      ++list_rows_[lists[first + i]];
      if (second_lists != nullptr && second_lists[first + i] != lists[first + i]) ++list_rows_[second_lists[first + i]];
      if (product) continue;
      const double norm = SquaredNorm(centred + (first + i) * d, d);
      norms[i] = static_cast<float>(excess == nullptr ? norm : norm - excess[first + i]);
    }
    for (size_t q = 0; q < count; ++q) {
      const float* scores = &products_[q * rows];
      for (size_t i = 0; i < rows; ++i) {
        const float score = scores[i] + norms[i];
        // False for what is not a number.
        if (!(score <= thresholds_[q])) continue;
        const size_t row = first + i;
        if (!tids_.empty() && tids_[q] == tids[row]) continue;
        Keep(q, {score, lists[row], second_lists == nullptr ? lists[row] : second_lists[row]});
        KeepCode(q, score, lists[row], codes == nullptr ? nullptr : codes + row * row_bytes);
      }
    }
  }
}

void Calibration::Keep(size_t number, const Neighbour& neighbour) {
  Query& query = queries_[number];
  query.neighbours.push_back(neighbour);
  if (query.neighbours.size() >= query.capacity + query.capacity / kSlackShare) DropFarthest(number);
}

void Calibration::DropFarthest(size_t number) {
  Query& query = queries_[number];
  auto& neighbours = query.neighbours;
  if (neighbours.size() <= query.capacity) return;
  const auto end = neighbours.begin() + static_cast<ptrdiff_t>(query.capacity);
  std::nth_element(neighbours.begin(), end - 1, neighbours.end());
  thresholds_[number] = end[-1].score;
  neighbours.erase(end, neighbours.end());
}

void Calibration::KeepCode(size_t number, float score, uint32_t list, const std::byte* row) {
  if (!measures_bound_loss() || !IsOneOf(kLossQueries, number, queries_.size())) return;
  auto& nearest = queries_[number].nearest;
  const bool full = nearest.size() == kLossNeighbours;
  if (full && score > nearest.front().score) return;
  CodedNeighbour neighbour{score, list, {row, row + options_.format.RowBytes()}};
  if (full) {
    if (!(neighbour < nearest.front())) return;
    std::pop_heap(nearest.begin(), nearest.end());
    nearest.pop_back();
  }
  nearest.push_back(std::move(neighbour));
  std::push_heap(nearest.begin(), nearest.end());
}

std::vector<std::byte> Calibration::EncodePart(size_t part) {
  if (part > 0) {
    DropFarthest(part - 1);
    return EncodeQuery(queries_[part - 1]);
  }
  const Bytes bytes = std::as_bytes(std::span(list_rows_));
  return {bytes.begin(), bytes.end()};
}

Status Calibration::MergePart(size_t part, Bytes bytes) {
  if (part > queries_.size()) return Status::Corrupt("a calibration has too many parts");
  if (part > 0) return MergeQuery(part - 1, bytes);
  if (bytes.size() != list_rows_.size() * sizeof(uint64_t)) return Status::Corrupt("a calibration is of other lists");
  for (size_t i = 0; i < list_rows_.size(); ++i) list_rows_[i] += Load<uint64_t>(&bytes[i * sizeof(uint64_t)]);
  return Status::Ok();
}

std::vector<std::byte> Calibration::EncodeQuery(const Query& query) const {
  const size_t row_bytes = options_.format.RowBytes();
  std::vector<std::byte> bytes(sizeof(PartHeader) + query.neighbours.size() * sizeof(Neighbour) +
                               query.nearest.size() * (sizeof(CodeHeader) + row_bytes));
  std::byte* to = bytes.data();
  Store(to, PartHeader{static_cast<uint32_t>(query.neighbours.size()), static_cast<uint32_t>(query.nearest.size())});
  to += sizeof(PartHeader);
  for (const Neighbour& neighbour : query.neighbours) {
    Store(to, neighbour);
    to += sizeof neighbour;
  }
  for (const CodedNeighbour& neighbour : query.nearest) {
    Store(to, CodeHeader{neighbour.score, neighbour.list});
    to = std::copy(neighbour.row.begin(), neighbour.row.end(), to + sizeof(CodeHeader));
  }
  return bytes;
}

Status Calibration::MergeQuery(size_t number, Bytes bytes) {
  const size_t code_bytes = sizeof(CodeHeader) + options_.format.RowBytes();
  if (bytes.size() < sizeof(PartHeader)) return Status::Corrupt("a calibration's query is cut off");
  const auto header = Load<PartHeader>(bytes.data());
  if (bytes.size() != sizeof header + header.neighbours * sizeof(Neighbour) + header.codes * code_bytes)
    return Status::Corrupt("a calibration's query has the wrong length");
  const std::byte* from = bytes.data() + sizeof header;
  for (uint32_t i = 0; i < header.neighbours; ++i, from += sizeof(Neighbour)) {
    const auto neighbour = Load<Neighbour>(from);
    if (std::max(neighbour.list, neighbour.second_list) >= list_rows_.size())
      return Status::Corrupt("a calibration's neighbour is in no list");
    Keep(number, neighbour);
  }
  for (uint32_t i = 0; i < header.codes; ++i, from += code_bytes) {
    const auto code = Load<CodeHeader>(from);
    if (code.list >= list_rows_.size()) return Status::Corrupt("a calibration's neighbour is in no list");
    KeepCode(number, code.score, code.list, from + sizeof code);
  }
  return Status::Ok();
}

TrueNeighbours Calibration::NearestOf(size_t query, uint32_t k) const {
  const Query& of = queries_[query];
  assert(k > 0 && k <= of.capacity);
  const size_t count = std::min<size_t>(k, of.neighbours.size());
  if (count == 0) return {0, 0};
  std::vector<Neighbour> neighbours = of.neighbours;
  const auto last = neighbours.begin() + static_cast<ptrdiff_t>(count) - 1;
  std::nth_element(neighbours.begin(), last, neighbours.end());
  const double score = last->score;
  const double distance = score + of.score_offset;
  // A whole number, whatever has been rounded.
  if (options_.metric == Metric::kHamming) return {static_cast<uint32_t>(count), std::round(distance) + 0.5};
  // Scores are float32 products, and a small distance is a difference of large ones.
  const double rounding = 1e-4 * std::abs(distance) + 1e-6 * (std::abs(score) + std::abs(of.score_offset));
  return {static_cast<uint32_t>(count), distance + rounding};
}

Status Calibration::Step(Clock::time_point deadline, bool* done) {
  do {
    if (ranked_ < queries_.size()) RankQuery(ranked_++);
  } while (ranked_ < queries_.size() && Clock::now() < deadline);
  *done = ranked_ == queries_.size();
  if (*done) Finish();
  return Status::Ok();
}

void Calibration::RankQuery(size_t number) {
  Query& query = queries_[number];
  DropFarthest(number);
  std::sort(query.neighbours.begin(), query.neighbours.end());
  // As scans rank. They look at fewer lists exactly, but hardly ever miss one of those they probe by that.
  ListRanker ranker(routing_, &raw_[number * routing_->dimensions],
                    {kAdaptiveRule, std::min(routing_->list_count(), kMaxRankedLists), kAnyStop});
  std::vector<RankedList> lists;
  ranker.Rank(ProbeRule(), &lists);
  Rank(lists, query, &fixed_);
  if (options_.metric == Metric::kInnerProduct) return;
  ranker.Rank(kAdaptiveRule, &lists);
  Rank(lists, query, &adaptive_);
}

void Calibration::Rank(const std::vector<RankedList>& lists, const Query& query, Rankings* rankings) const {
  rankings->lists.resize(kMarks);
  rankings->rows.resize(kMarks);
  rankings->found_at.resize(kLevels);
  std::vector<float> stop_of(routing_->list_count(), kInfinity);
  for (const RankedList& ranked : lists) {
    stop_of[ranked.list] = ranked.stop;
    const size_t mark = MarkOf(ranked.stop);
    ++rankings->lists[mark];
    rankings->rows[mark] += list_rows_[ranked.list];
  }
  for (size_t level = 0; level < kLevels; ++level) {
    if (kCurveNeighbours[level] > query.capacity) break;
    const size_t count = std::min<size_t>(kCurveNeighbours[level], query.neighbours.size());
    if (count == 0) continue;
    std::vector<float>& found_at = rankings->found_at[level].emplace_back();
    found_at.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const Neighbour& neighbour = query.neighbours[i];
      found_at.push_back(std::min(stop_of[neighbour.list], stop_of[neighbour.second_list]));
    }
    std::sort(found_at.begin(), found_at.end());
  }
}

// The share of the nearest rows whose bound lies beyond the last of them: a scan that asks for as many never looks at
// these.
double Calibration::MeasureBoundLoss() const {
  if (!measures_bound_loss()) return options_.bound_loss.value_or(0);
  const uint32_t d = routing_->dimensions;
  const uint32_t padded = options_.format.padded();
  const uint32_t bits = options_.format.bits;
  const float* mean = routing_->mean.data();
  CodeScorer scorer(options_.metric, padded, bits, options_.epsilon);
  std::vector<float> y(padded);
  std::vector<std::byte> group(GroupBytes(padded, bits, 1) + RangeBuffer::kSlack);
  size_t seen = 0;
  size_t lost = 0;
  for (size_t i = 0; i < queries_.size(); ++i) {
    const Query& query = queries_[i];
    if (query.nearest.size() < kLossNeighbours) continue;
    QueryCoder coder(options_.metric, options_.format, &raw_[i * d], options_.rotation_seed, mean);
    const double limit = NearestOf(i, kLossNeighbours).limit;
    for (const CodedNeighbour& neighbour : query.nearest) {
      scorer.SetQuery(coder.Residual(&routing_->centroids[size_t{neighbour.list} * d], y.data()));
      const auto factors = Load<CodeFactors>(neighbour.row.data());
      PackGroup(neighbour.row.data() + sizeof factors, padded, bits, 1, group.data());
      float bound;
      scorer.Score({1, &factors.a, &factors.s, &factors.e, group.data()}, &bound);
      ++seen;
      if (bound > limit) ++lost;
    }
  }
  return seen == 0 ? 0 : static_cast<double>(lost) / static_cast<double>(seen);
}

CurvePoint Calibration::Solve(const Rankings& rankings, size_t level, float recall) const {
  const auto& queries = rankings.found_at[level];
  // What the bound loses has to be made up for by more lists; but not all of it can be.
  const double wanted = std::min(recall / (1.0 - curve_.bound_loss), std::max<double>(recall, 1 - (1 - recall) / 4.0));
  const auto reaches = [&](size_t mark) {
    double sum = 0;
    double squares = 0;
    for (const std::vector<float>& found_at : queries) {
      const auto end = std::upper_bound(found_at.begin(), found_at.end(), ThresholdAt(mark));
      const double share = static_cast<double>(end - found_at.begin()) / static_cast<double>(found_at.size());
      sum += share;
      squares += share * share;
    }
    if (queries.empty()) return false;
    const auto count = static_cast<double>(queries.size());
    const double mean = sum / count;
    const double variance = std::max(0.0, squares / count - mean * mean);
    return mean - std::sqrt(variance / count) >= wanted;
  };
  CurvePoint point{kCurveNeighbours[level], recall, kInfinity, 0, 0, 0};
  size_t low = 0;
  size_t high = kMarks;  // beyond: only so many lists have been ranked
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (reaches(middle))
      high = middle;
    else
      low = middle + 1;
  }
  if (low < kMarks) {
    point.stop = ThresholdAt(low);
    const auto sum_up_to = [&](const std::vector<uint64_t>& sums) {
      return static_cast<double>(std::accumulate(sums.begin(), sums.begin() + static_cast<ptrdiff_t>(low) + 1, uint64_t{0}));
    };
    const auto count = static_cast<double>(queries_.size());
    point.lists = static_cast<float>(sum_up_to(rankings.lists) / count);
    point.rows = static_cast<float>(sum_up_to(rankings.rows) / count);
  } else {
    point.lists = static_cast<float>(routing_->list_count());
    point.rows = static_cast<float>(std::accumulate(list_rows_.begin(), list_rows_.end(), 0.0));
  }
  point.bytes = point.rows * static_cast<float>(options_.format.RowBytes() + kTidBytes) +
                point.lists * static_cast<float>(kBlockAlignment);
  return point;
}

void Calibration::Finish() {
  // Distances too large for float32 have no order, and say nothing of lists.
  for (const Query& query : queries_) curve_.queries += query.neighbours.empty() ? 0 : 1;
  if (curve_.queries == 0) return;
  curve_.bound_loss = static_cast<float>(MeasureBoundLoss());
  constexpr size_t kTen = 1;
  static_assert(kCurveNeighbours[kTen] == 10);
  const Rankings* rankings = &fixed_;
  if (options_.metric != Metric::kInnerProduct && Solve(adaptive_, kTen, 0.95f).rows < Solve(fixed_, kTen, 0.95f).rows) {
    rankings = &adaptive_;
    curve_.rule = kAdaptiveRule;
  }
  for (size_t level = 0; level < kLevels; ++level)
    for (const float recall : kCurveRecalls) curve_.points.push_back(Solve(*rankings, level, recall));
}

}  // namespace ivfremote
