// The one translation unit that includes Faiss.
#include "core/training.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/utils/distances.h>
#include <omp.h>
#include <signal.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "core/assignment.h"

namespace ivfremote {
namespace {

constexpr int kIterations = 10;
constexpr int kSeed = 1234;
// Iterations over all lists after the groups: for 0.001 more recall, and less spread between builds.
constexpr int kRefinements = 2;
constexpr double kMaxRefinementOperations = 4e10;  // each; beyond, the flat search would cost more than the training
// Below this many lists one level is fast enough, and needs no detour.
constexpr uint32_t kMinListsForTwoLevels = 64;

// Threads that start while this exists inherit a mask with every signal blocked: Postgres's handlers must run on its own
// thread only. On destruction OpenMP's threads are ended, so none is left in the backend.
class TrainingThreads {
 public:
  explicit TrainingThreads(int threads) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
    omp_set_num_threads(TeamSize(threads));
  }
  ~TrainingThreads() {
    omp_pause_resource_all(omp_pause_hard);
    omp_set_num_threads(1);
    pthread_sigmask(SIG_SETMASK, &saved_, nullptr);
  }
  // GNU's OpenMP spins at barriers, for milliseconds, unless it has more threads than processors: with as many threads as
  // processors and one of them busy elsewhere, training took ten times as long as with one thread.
  static int TeamSize(int threads) {
    return threads > 1 && threads >= omp_get_num_procs() ? omp_get_num_procs() + 1 : threads;
  }

  // Lets this thread's handlers run for signals that have come in.
  void DeliverSignals() const {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, &saved_, &blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  }

 private:
  sigset_t saved_;
};

class Interrupt : public faiss::InterruptCallback {
 public:
  Interrupt(const TrainingThreads* threads, InterruptCheck check) : threads_(threads), check_(check) {}
  bool want_interrupt() override {
    if (check_ == nullptr) return false;
    threads_->DeliverSignals();
    return check_();
  }

 private:
  const TrainingThreads* threads_;
  InterruptCheck check_;
};

// Registers the interrupt callback for as long as it exists.
class InterruptScope {
 public:
  InterruptScope(const TrainingThreads* threads, InterruptCheck check) {
    faiss::InterruptCallback::instance = std::make_unique<Interrupt>(threads, check);
  }
  ~InterruptScope() { faiss::InterruptCallback::clear_instance(); }
};

// Faiss asks its callback between batches of queries: keep a batch to some 20 ms.
void SizeFaissBatches(uint32_t dimensions) {
  const double rows = 2e9 / (2.0 * dimensions * 1024);
  faiss::distance_compute_blas_query_bs = static_cast<int>(std::clamp(rows, 64.0, 4096.0));
  faiss::distance_compute_blas_database_bs = 1024;
}

// Lets only one thread compute n x k distances while it exists, if that takes but some milliseconds: threads that meet
// at thousands of barriers wait for each other's turn on a busy machine, 10 to 40 times as long as they compute.
class SmallWorkOnOneThread {
 public:
  SmallWorkOnOneThread(size_t d, size_t k, size_t n) : threads_(omp_get_max_threads()) {
    if (2.0 * static_cast<double>(n) * static_cast<double>(k) * static_cast<double>(d) < 1e8) omp_set_num_threads(1);
  }
  ~SmallWorkOnOneThread() { omp_set_num_threads(threads_); }

 private:
  int threads_;
};

// k-means of n rows into k clusters, 1 <= k <= n.
std::vector<float> Cluster(size_t d, size_t k, size_t n, const float* rows) {
  const SmallWorkOnOneThread one_thread(d, k, n);
  faiss::ClusteringParameters parameters;
  parameters.niter = kIterations;
  parameters.seed = kSeed;
  parameters.min_points_per_centroid = 1;
  parameters.max_points_per_centroid = 256;
  faiss::Clustering clustering(static_cast<int>(d), static_cast<int>(k), parameters);
  faiss::IndexFlatL2 index(static_cast<faiss::Index::idx_t>(d));
  clustering.train(static_cast<faiss::Index::idx_t>(n), rows, index);
  return std::move(clustering.centroids);
}

std::vector<uint32_t> NearestOf(size_t d, const std::vector<float>& centroids, size_t n, const float* rows) {
  const SmallWorkOnOneThread one_thread(d, centroids.size() / d, n);
  faiss::IndexFlatL2 index(static_cast<faiss::Index::idx_t>(d));
  index.add(static_cast<faiss::Index::idx_t>(centroids.size() / d), centroids.data());
  std::vector<faiss::Index::idx_t> labels(n);
  index.assign(static_cast<faiss::Index::idx_t>(n), rows, labels.data());
  std::vector<uint32_t> nearest(n);
  for (size_t i = 0; i < n; ++i) nearest[i] = static_cast<uint32_t>(std::max<faiss::Index::idx_t>(labels[i], 0));
  return nearest;
}

std::vector<float> Gather(size_t d, const float* rows, const std::vector<uint32_t>& numbers) {
  std::vector<float> out(numbers.size() * d);
  for (size_t i = 0; i < numbers.size(); ++i) std::memcpy(&out[i * d], rows + numbers[i] * d, d * sizeof(float));
  return out;
}

// Appends `numbers` (of rows) to `order` so that near rows come near each other: a depth-first walk of recursive
// 2-means.
void BisectOrder(size_t d, const std::vector<float>& rows, std::vector<uint32_t> numbers,
                 std::vector<uint32_t>* order) {
  if (numbers.size() > 2) {
    const std::vector<float> members = Gather(d, rows.data(), numbers);
    const std::vector<float> halves = Cluster(d, 2, numbers.size(), members.data());
    const std::vector<uint32_t> side = NearestOf(d, halves, numbers.size(), members.data());
    std::vector<uint32_t> parts[2];
    for (size_t i = 0; i < numbers.size(); ++i) parts[side[i]].push_back(numbers[i]);
    if (!parts[0].empty() && !parts[1].empty()) {
      BisectOrder(d, rows, std::move(parts[0]), order);
      BisectOrder(d, rows, std::move(parts[1]), order);
      return;
    }
  }
  order->insert(order->end(), numbers.begin(), numbers.end());
}

std::vector<float> InBisectOrder(size_t d, const std::vector<float>& rows) {
  std::vector<uint32_t> numbers(rows.size() / d);
  std::iota(numbers.begin(), numbers.end(), 0u);
  std::vector<uint32_t> order;
  BisectOrder(d, rows, std::move(numbers), &order);
  return Gather(d, rows.data(), order);
}

// Shares `total` among the groups in proportion to their sizes: at least 1 and at most its size for each non-empty one.
std::vector<uint32_t> ShareLists(uint32_t total, const std::vector<std::vector<uint32_t>>& groups) {
  size_t rows = 0;
  for (const auto& group : groups) rows += group.size();
  std::vector<uint32_t> shares(groups.size());
  double owed = 0;
  uint32_t shared = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].empty()) continue;
    owed += static_cast<double>(total) * static_cast<double>(groups[g].size()) / static_cast<double>(rows);
    const double share = std::clamp(std::round(owed), 1.0, static_cast<double>(groups[g].size()));
    shares[g] = static_cast<uint32_t>(share);
    shared += shares[g];
    owed -= share;
  }
  // Small groups at the end may have taken more than was left.
  for (; shared > total; --shared) --*std::max_element(shares.begin(), shares.end());
  return shares;
}

}  // namespace

uint32_t AutomaticLists(double rows) {
  const double lists = rows <= 1e7 ? rows / 200 : std::max(1e7 / 200, rows / 400);
  return static_cast<uint32_t>(std::clamp(std::round(lists), 1.0, double{kMaxLists}));
}

struct Trainer::State {
  TrainingOptions options;
  std::vector<float> sample;
  size_t rows = 0;
  double scale = 1;  // what the sample was multiplied by, a power of two
  std::vector<std::vector<uint32_t>> members;  // sample rows of each group, in layout order
  std::vector<uint32_t> shares;                // lists of each group
  uint32_t next_group = 0;
  bool centred = false;
  bool have_groups = false;
  Routing routing;

  template <typename Visit>
  Status ForEachRow(Visit visit);
  Status Centre();
  void TrainGroups();
  void TrainListsOf(uint32_t group);
  void Refine();
  void Complete();
};

Trainer::Trainer(const TrainingOptions& options, std::vector<float> sample) : state_(std::make_unique<State>()) {
  state_->options = options;
  state_->rows = sample.size() / options.dimensions;
  state_->sample = std::move(sample);
  state_->routing.dimensions = options.dimensions;
  state_->routing.metric = options.metric;
}

Trainer::~Trainer() = default;

uint32_t Trainer::steps_total() const { return 1 + static_cast<uint32_t>(state_->shares.size()); }
uint32_t Trainer::steps_done() const { return state_->have_groups ? 1 + state_->next_group : 0; }

Routing Trainer::TakeRouting() { return std::move(state_->routing); }

// Calls visit(row) for every sample row; ends early when the user wants to.
template <typename Visit>
Status Trainer::State::ForEachRow(Visit visit) {
  constexpr size_t kRowsBetweenChecks = 1024;
  for (size_t i = 0; i < rows; ++i) {
    if (i % kRowsBetweenChecks == 0 && options.interrupted != nullptr && options.interrupted())
      return Status::Cancelled("training was cancelled");
    visit(&sample[i * options.dimensions]);
  }
  return Status::Ok();
}

// Subtracts the mean, and scales by a power of two so that no square overflows: Faiss asserts (aborts the process) when
// all distances of a row are infinite.
Status Trainer::State::Centre() {
  const size_t d = options.dimensions;
  std::vector<double> sums(d);
  IVFREMOTE_RETURN_IF_ERROR(ForEachRow([&](const float* row) {
    for (size_t j = 0; j < d; ++j) sums[j] += row[j];
  }));
  routing.mean.resize(d);
  for (size_t j = 0; j < d; ++j) routing.mean[j] = static_cast<float>(sums[j] / static_cast<double>(rows));
  double largest = 0;
  IVFREMOTE_RETURN_IF_ERROR(ForEachRow([&](const float* row) {
    for (size_t j = 0; j < d; ++j) largest = std::max(largest, std::abs(double{row[j]} - routing.mean[j]));
  }));
  if (largest > 1e15 || (largest > 0 && largest < 1e-15)) scale = std::exp2(-std::ilogb(largest));
  return ForEachRow([&](float* row) {
    for (size_t j = 0; j < d; ++j) row[j] = static_cast<float>((double{row[j]} - routing.mean[j]) * scale);
  });
}

void Trainer::State::TrainGroups() {
  const size_t d = options.dimensions;
  const auto lists = static_cast<uint32_t>(std::min<size_t>(options.lists, rows));
  uint32_t groups = 1;
  if (lists >= kMinListsForTwoLevels) groups = static_cast<uint32_t>(std::lround(std::sqrt(lists)));
  routing.group_centroids = InBisectOrder(d, Cluster(d, groups, rows, sample.data()));
  const std::vector<uint32_t> nearest = NearestOf(d, routing.group_centroids, rows, sample.data());
  members.resize(groups);
  for (size_t i = 0; i < rows; ++i) members[nearest[i]].push_back(static_cast<uint32_t>(i));
  shares = ShareLists(lists, members);
  routing.group_first.assign(1, 0);
  have_groups = true;
}

void Trainer::State::TrainListsOf(uint32_t group) {
  const size_t d = options.dimensions;
  const auto& numbers = members[group];
  if (!numbers.empty()) {
    const std::vector<float> rows_of_group = Gather(d, sample.data(), numbers);
    const std::vector<float> centroids =
        InBisectOrder(d, Cluster(d, shares[group], numbers.size(), rows_of_group.data()));
    routing.centroids.insert(routing.centroids.end(), centroids.begin(), centroids.end());
  }
  routing.group_first.push_back(static_cast<uint32_t>(routing.centroids.size() / d));
}

// One iteration of k-means over all lists: rows cross the borders of groups.
void Trainer::State::Refine() {
  const size_t d = options.dimensions;
  if (2.0 * static_cast<double>(rows) * static_cast<double>(routing.centroids.size()) > kMaxRefinementOperations) return;
  const std::vector<uint32_t> nearest = NearestOf(d, routing.centroids, rows, sample.data());
  std::vector<double> sums(routing.centroids.size());
  std::vector<size_t> counts(routing.centroids.size() / d);
  for (size_t i = 0; i < rows; ++i) {
    ++counts[nearest[i]];
    for (size_t j = 0; j < d; ++j) sums[nearest[i] * d + j] += sample[i * d + j];
  }
  for (size_t i = 0; i < sums.size(); ++i)
    if (counts[i / d] > 0) routing.centroids[i] = static_cast<float>(sums[i] / static_cast<double>(counts[i / d]));
}

void Trainer::State::Complete() {
  const auto unscale = [this](std::vector<float>* values) {
    if (scale == 1) return;
    for (float& value : *values)
      value = static_cast<float>(std::clamp<double>(value / scale, -FLT_MAX, FLT_MAX));
  };
  unscale(&routing.group_centroids);
  unscale(&routing.centroids);
  RoundCentroids(&routing);
  routing.radii.assign(routing.centroids.size() / options.dimensions, 0.0f);
  sample = {};
}

Status Trainer::Step(bool* done) {
  State& state = *state_;
  if (!state.centred) {
    IVFREMOTE_RETURN_IF_ERROR(state.Centre());
    state.centred = true;
  }
  const TrainingThreads threads(state.options.threads);
  const InterruptScope interrupts(&threads, state.options.interrupted);
  try {
    SizeFaissBatches(state.options.dimensions);
    if (!state.have_groups) {
      state.TrainGroups();
    } else {
      state.TrainListsOf(state.next_group++);
    }
    *done = state.next_group == state.members.size();
    if (*done) {
      for (int i = 0; i < kRefinements; ++i) state.Refine();
      state.Complete();
    }
  } catch (const faiss::FaissException& e) {
    if (state.options.interrupted != nullptr && state.options.interrupted())
      return Status::Cancelled("training was cancelled");
    return Status::Internal(std::string("k-means failed: ") + e.what());
  }
  return Status::Ok();
}

}  // namespace ivfremote
