#include "core/training.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <limits>

#include "core/even_part.h"
#include "core/kmeans.h"

namespace ivfremote {
namespace {

// Iterations over all lists after the groups: for 0.001 more recall, and less spread between builds.
constexpr int kRefinements = 2;
constexpr double kMaxRefinementOperations = 4e10;  // each; beyond, the flat search would cost more than the training
constexpr size_t kMaxRefinedFloats = 2u << 20;     // of centroids, whose sums are kept in float64
// Below this many lists one level is fast enough, and needs no detour.
constexpr uint32_t kMinListsForTwoLevels = 64;
constexpr size_t kBatchBytes = 8u << 20;
constexpr size_t kMaxBatchRows = 8192;
// So many for a thread, so that none waits long for the last.
constexpr size_t kBranchesPerThread = 4;

// Shares `total` among the groups in proportion to their rows: at least 1 and at most its rows for each non-empty one.
std::vector<uint32_t> ShareLists(uint32_t total, const std::vector<uint64_t>& group_rows) {
  uint64_t rows = 0;
  for (uint64_t count : group_rows) rows += count;
  std::vector<uint32_t> shares(group_rows.size());
  double owed = 0;
  uint32_t shared = 0;
  for (size_t g = 0; g < shares.size(); ++g) {
    if (group_rows[g] == 0) continue;
    owed += static_cast<double>(total) * static_cast<double>(group_rows[g]) / static_cast<double>(rows);
    const double share = std::clamp(std::round(owed), 1.0, static_cast<double>(group_rows[g]));
    shares[g] = static_cast<uint32_t>(share);
    shared += shares[g];
    owed -= share;
  }
  // Small groups at the end may have taken more than was left.
  for (; shared > total; --shared) --*std::max_element(shares.begin(), shares.end());
  return shares;
}

}  // namespace

uint32_t AutomaticLists(double rows, uint32_t dimensions) {
  constexpr double kManyRows = 1e7;
  const double rows_per_list = dimensions >= 512 ? 200 : 300;
  const double lists = std::max(std::min(rows, kManyRows) / rows_per_list, rows / (2 * rows_per_list));
  return static_cast<uint32_t>(std::clamp(std::round(lists), 1.0, double{kMaxLists}));
}

SampleSummary::SampleSummary(uint32_t dimensions)
    : sums(dimensions), least(dimensions, FLT_MAX), greatest(dimensions, -FLT_MAX) {}

void SampleSummary::Add(const float* row) {
  ++rows;
  for (size_t j = 0; j < sums.size(); ++j) {
    sums[j] += row[j];
    least[j] = std::min(least[j], row[j]);
    greatest[j] = std::max(greatest[j], row[j]);
  }
}

struct Trainer::State {
  // A group whose rows are in the buffer, all that it gets.
  struct Branch {
    uint32_t group;
    size_t first;   // row of the buffer
    size_t rows;
    uint64_t seen;  // rows of the group that came by
  };

  TrainingOptions options;
  uint64_t sample_rows;
  uint32_t lists;
  bool refines;
  double scale = 1;  // what rows are multiplied by, a power of two
  Routing routing;   // group_first says each group's share of the lists from kLists on

  Pass pass;
  int refinements = 0;  // done
  uint64_t rows_in_pass = 0;
  uint64_t rows_done = 0;

  // What Step works on, centred and scaled; afterwards the next row begins anew.
  std::vector<float> buffer;
  bool worked_on = false;
  bool full = false;
  std::vector<uint32_t> groups_of_batch;
  std::vector<Branch> branches;

  std::vector<uint64_t> group_rows;  // of the sample
  std::vector<double> sums;          // of each list's rows
  std::vector<uint64_t> counts;

  uint64_t rows_used = 0;
  double fewest_rows_per_list = std::numeric_limits<double>::infinity();
  size_t enough_memory_bytes = 0;

  size_t d() const { return options.dimensions; }
  uint32_t group_count() const { return static_cast<uint32_t>(group_rows.size()); }
  uint32_t share(uint32_t group) const { return routing.group_first[group + 1] - routing.group_first[group]; }
  // With what k-means allocates for a row.
  size_t RowBytes() const { return d() * sizeof(float) + 24; }
  size_t MemoryRows() const { return options.memory_bytes / RowBytes(); }
  size_t BatchRows() const { return std::clamp<size_t>(kBatchBytes / RowBytes(), 1, kMaxBatchRows); }
  size_t BufferRows() const { return buffer.size() / d(); }

  void Centre(const SampleSummary& sample);
  void Begin(Pass next);
  void BeginBuffer();
  void Append(const float* row, bool centred);
  size_t RowsFor(uint32_t centroids, uint64_t rows) const;
  size_t RowsOfBranch(uint32_t group) const { return RowsFor(share(group), group_rows[group]); }
  void AddToBranch(uint32_t group, const float* row, bool centred);
  bool NextFits(uint32_t group) const;
  void TrainGroups(const KMeans& kmeans);
  void ShareBatch(const KMeans& kmeans);
  void TrainBranches(const KMeans& kmeans);
  void RefineBatch(const KMeans& kmeans);
  void EndRefinement();
  void Complete();
};

Trainer::Trainer(const TrainingOptions& options, const SampleSummary& sample) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.options = options;
  state.sample_rows = sample.rows;
  state.lists = static_cast<uint32_t>(std::min<uint64_t>(options.lists, sample.rows));
  const size_t floats = size_t{state.lists} * options.dimensions;
  state.refines = floats <= kMaxRefinedFloats && 2.0 * static_cast<double>(sample.rows) * static_cast<double>(floats) <=
                                                     kMaxRefinementOperations;
  state.routing.dimensions = options.dimensions;
  state.routing.metric = options.metric;
  state.Centre(sample);
  if (state.lists >= kMinListsForTwoLevels) {
    state.group_rows.resize(static_cast<size_t>(std::lround(std::sqrt(state.lists))));
    state.Begin(Pass::kGroups);
  } else {
    state.group_rows.push_back(sample.rows);
    state.routing.group_centroids.resize(options.dimensions);  // the mean
    state.Begin(Pass::kLists);
  }
}

Trainer::Trainer(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

Trainer::Pass Trainer::pass() const { return state_->pass; }
bool Trainer::grouped() const { return state_->group_count() > 1; }
bool Trainer::refines() const { return state_->refines; }
bool Trainer::full() const { return state_->full; }
const std::vector<uint32_t>& Trainer::groups() const { return state_->groups_of_batch; }
const float* Trainer::row(size_t number) const { return &state_->buffer[number * state_->d()]; }
uint64_t Trainer::rows_done() const { return state_->rows_done; }
uint64_t Trainer::rows_total() const {
  return state_->sample_rows * ((grouped() ? 3u : 1u) + (refines() ? unsigned{kRefinements} : 0u));
}
uint64_t Trainer::rows_used() const { return state_->rows_used; }
double Trainer::fewest_rows_per_list() const { return state_->fewest_rows_per_list; }
size_t Trainer::enough_memory_bytes() const { return state_->enough_memory_bytes; }
Routing Trainer::TakeRouting() { return std::move(state_->routing); }

void Trainer::Add(const float* row) {
  State& state = *state_;
  assert(state.pass != Pass::kDone && state.rows_in_pass < state.sample_rows);
  const uint64_t number = state.rows_in_pass++;
  ++state.rows_done;
  if (state.worked_on) state.BeginBuffer();
  if (state.pass == Pass::kLists) {
    state.AddToBranch(0, row, false);
  } else if (state.pass == Pass::kGroups) {
    if (IsOneOf(state.RowsFor(state.group_count(), state.sample_rows), number, state.sample_rows))
      state.Append(row, false);
  } else {
    state.Append(row, false);
    state.full = state.BufferRows() == state.BatchRows();
  }
}

void Trainer::AddMember(uint32_t group, const float* row) {
  State& state = *state_;
  assert(state.pass == Pass::kLists && grouped());
  ++state.rows_done;
  if (state.worked_on) state.BeginBuffer();
  state.AddToBranch(group, row, true);
}

Status Trainer::Step() {
  State& state = *state_;
  if (state.worked_on) state.BeginBuffer();
  state.worked_on = true;
  state.full = false;
  if (state.buffer.empty()) return Status::Ok();
  const KMeansOptions options = {state.options.dimensions, state.options.threads, state.options.interrupted};
  return KMeans::Run(options, [&state](const KMeans& kmeans) {
    switch (state.pass) {
      case Pass::kGroups:
        return state.TrainGroups(kmeans);
      case Pass::kSharing:
        return state.ShareBatch(kmeans);
      case Pass::kLists:
        return state.TrainBranches(kmeans);
      case Pass::kRefining:
        return state.RefineBatch(kmeans);
      case Pass::kDone:
        return;
    }
  });
}

void Trainer::EndPass() {
  State& state = *state_;
  switch (state.pass) {
    case Pass::kGroups:
      return state.Begin(Pass::kSharing);
    case Pass::kSharing:
      return state.Begin(Pass::kLists);
    case Pass::kLists:
      return state.Begin(state.refines ? Pass::kRefining : Pass::kDone);
    case Pass::kRefining:
      state.EndRefinement();
      return state.Begin(++state.refinements < kRefinements ? Pass::kRefining : Pass::kDone);
    case Pass::kDone:
      return;
  }
}

void Trainer::State::Begin(Pass next) {
  pass = next;
  rows_in_pass = 0;
  buffer = {};
  BeginBuffer();
  size_t rows = std::min<uint64_t>(BatchRows(), sample_rows);
  if (pass == Pass::kGroups) rows = RowsFor(group_count(), sample_rows);
  if (pass == Pass::kLists) {
    routing.group_first.assign(1, 0);
    for (uint32_t share : ShareLists(lists, group_rows))
      routing.group_first.push_back(routing.group_first.back() + share);
    routing.centroids.resize(routing.group_first.back() * d());
    size_t all = 0;
    rows = 0;
    for (uint32_t group = 0; group < group_count(); ++group) {
      all += RowsOfBranch(group);
      rows = std::max(rows, RowsOfBranch(group));
    }
    rows = std::max(rows, std::min(all, MemoryRows()));
  }
  if (pass == Pass::kDone) return Complete();
  buffer.reserve(rows * d());
}

void Trainer::State::BeginBuffer() {
  buffer.clear();
  branches.clear();
  groups_of_batch.clear();
  worked_on = false;
  full = false;
}

// The mean, and a power of two that keeps squares from overflowing: Faiss asserts (aborts the process) when all
// distances of a row are infinite.
void Trainer::State::Centre(const SampleSummary& sample) {
  routing.mean.resize(d());
  double largest = 0;
  for (size_t j = 0; j < d(); ++j) {
    const auto mean = static_cast<float>(sample.sums[j] / static_cast<double>(sample.rows));
    routing.mean[j] = mean;
    largest = std::max({largest, double{sample.greatest[j]} - mean, mean - double{sample.least[j]}});
  }
  if (largest > 1e15 || (largest > 0 && largest < 1e-15)) scale = std::exp2(-std::ilogb(largest));
}

void Trainer::State::Append(const float* row, bool centred) {
  buffer.insert(buffer.end(), row, row + d());
  if (centred) return;
  float* values = &buffer[buffer.size() - d()];
  for (size_t j = 0; j < d(); ++j) values[j] = static_cast<float>((double{values[j]} - routing.mean[j]) * scale);
}

// How many of `rows` rows train that many centroids, as far as there is memory.
size_t Trainer::State::RowsFor(uint32_t centroids, uint64_t rows) const {
  const uint64_t wanted = std::min<uint64_t>({rows, uint64_t{centroids} * kMostRowsPerCentroid, MemoryRows()});
  return std::max<uint64_t>(wanted, centroids);
}

void Trainer::State::AddToBranch(uint32_t group, const float* row, bool centred) {
  if (branches.empty() || branches.back().group != group) branches.push_back({group, BufferRows(), 0, 0});
  Branch& branch = branches.back();
  const uint64_t rows = group_rows[group];
  if (IsOneOf(RowsOfBranch(group), branch.seen++, rows)) {
    Append(row, centred);
    ++branch.rows;
  }
  full = branch.seen == rows && !NextFits(group);
}

// Whether the group after this one can be trained in the same step.
bool Trainer::State::NextFits(uint32_t group) const {
  if (branches.size() >= kBranchesPerThread * static_cast<size_t>(options.threads)) return false;
  for (++group; group < group_count(); ++group)
    if (group_rows[group] > 0) return BufferRows() + RowsOfBranch(group) <= MemoryRows();
  return false;
}

void Trainer::State::TrainGroups(const KMeans& kmeans) {
  routing.group_centroids = kmeans.InBisectOrder(kmeans.Cluster(group_count(), BufferRows(), buffer.data()));
}

void Trainer::State::ShareBatch(const KMeans& kmeans) {
  groups_of_batch = kmeans.Nearest(routing.group_centroids, BufferRows(), buffer.data());
  for (uint32_t group : groups_of_batch) ++group_rows[group];
}

void Trainer::State::TrainBranches(const KMeans& kmeans) {
  kmeans.ForEach(branches.size(), [&](size_t number) {
    const Branch& branch = branches[number];
    const std::vector<float> centroids =
        kmeans.InBisectOrder(kmeans.Cluster(share(branch.group), branch.rows, &buffer[branch.first * d()]));
    std::copy(centroids.begin(), centroids.end(), &routing.centroids[routing.group_first[branch.group] * d()]);
  });
  for (const Branch& branch : branches) {
    const uint32_t lists_of_branch = share(branch.group);
    rows_used += branch.rows;
    const auto enough = std::min<uint64_t>(group_rows[branch.group], uint64_t{lists_of_branch} * kEnoughRowsPerList);
    if (branch.rows >= enough) continue;
    fewest_rows_per_list =
        std::min(fewest_rows_per_list, static_cast<double>(branch.rows) / static_cast<double>(lists_of_branch));
    enough_memory_bytes = std::max(enough_memory_bytes, enough * RowBytes());
  }
}

void Trainer::State::RefineBatch(const KMeans& kmeans) {
  const std::vector<uint32_t> nearest = kmeans.Nearest(routing.centroids, BufferRows(), buffer.data());
  sums.resize(routing.centroids.size());
  counts.resize(routing.centroids.size() / d());
  for (size_t i = 0; i < nearest.size(); ++i) {
    ++counts[nearest[i]];
    for (size_t j = 0; j < d(); ++j) sums[nearest[i] * d() + j] += buffer[i * d() + j];
  }
}

void Trainer::State::EndRefinement() {
  for (size_t i = 0; i < sums.size(); ++i)
    if (counts[i / d()] > 0) routing.centroids[i] = static_cast<float>(sums[i] / static_cast<double>(counts[i / d()]));
  sums = {};
  counts = {};
}

void Trainer::State::Complete() {
  const auto unscale = [this](std::vector<float>* values) {
    if (scale == 1) return;
    for (float& value : *values)
      value = static_cast<float>(std::clamp<double>(value / scale, -FLT_MAX, FLT_MAX));
  };
  unscale(&routing.group_centroids);
  unscale(&routing.centroids);
  RoundCentroids(&routing, kHeadroom);
  routing.radii.assign(routing.group_first.back(), 0.0f);
}

}  // namespace ivfremote
