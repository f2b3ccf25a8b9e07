// The one translation unit that includes Faiss, and is compiled for OpenMP.
#include "core/kmeans.h"

#include <faiss/Clustering.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/utils/distances.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>

namespace ivfremote {
namespace {

constexpr int kIterations = 10;
constexpr int kSeed = 1234;
constexpr std::chrono::milliseconds kWatchInterval{10};

// Threads that start while this exists inherit a mask with every signal blocked: Postgres's handlers must run on its own
// thread only. On destruction OpenMP's threads are ended, so none is left in the backend.
class Threads {
 public:
  explicit Threads(int threads) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
    omp_set_num_threads(TeamSize(threads));
  }
  ~Threads() {
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

// Faiss asks it on the thread that computes. Only the one that made it takes signals and asks the caller; the others see
// what that found.
class Interrupt : public faiss::InterruptCallback {
 public:
  Interrupt(const Threads* threads, InterruptCheck check)
      : threads_(threads), check_(check), owner_(pthread_self()) {}
  bool want_interrupt() override {
    if (check_ != nullptr && pthread_equal(pthread_self(), owner_)) {
      threads_->DeliverSignals();
      if (check_()) stopped_ = true;
    }
    return stopped_;
  }

 private:
  const Threads* threads_;
  InterruptCheck check_;
  pthread_t owner_;
  std::atomic<bool> stopped_ = false;
};

// Registers the interrupt callback for as long as it exists.
class InterruptScope {
 public:
  InterruptScope(const Threads* threads, InterruptCheck check) {
    faiss::InterruptCallback::instance = std::make_unique<Interrupt>(threads, check);
  }
  ~InterruptScope() { faiss::InterruptCallback::clear_instance(); }
};

// Faiss asks its callback between batches of queries: keep a batch to some 20 ms, and its products to 4 MB a thread.
void SizeFaissBatches(uint32_t dimensions) {
  const double rows = 2e9 / (2.0 * dimensions * 1024);
  faiss::distance_compute_blas_query_bs = static_cast<int>(std::clamp(rows, 64.0, 1024.0));
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

std::vector<float> Gather(size_t d, const float* rows, const std::vector<uint32_t>& numbers) {
  std::vector<float> out(numbers.size() * d);
  for (size_t i = 0; i < numbers.size(); ++i) std::memcpy(&out[i * d], rows + numbers[i] * d, d * sizeof(float));
  return out;
}

// Tasks handed to a team of threads. An exception ends the handing out, and is thrown on the thread that waits.
class Tasks {
 public:
  Tasks(size_t count, const std::function<void(size_t)>& task) : count_(count), task_(task) {}

  // Runs tasks until none is left, or one has failed.
  void Work() {
    try {
      while (!failed_) {
        const size_t number = next_++;
        if (number >= count_) break;
        task_(number);
      }
    } catch (...) {
      const std::lock_guard guard(lock_);
      if (error_ == nullptr) error_ = std::current_exception();
      failed_ = true;
    }
    const std::lock_guard guard(lock_);
    ++ended_;
    one_ended_.notify_one();
  }

  // Waits until that many have returned from Work, and has the interrupt callback ask meanwhile.
  void Watch(int workers) {
    std::unique_lock guard(lock_);
    while (ended_ < workers) {
      one_ended_.wait_for(guard, kWatchInterval);
      guard.unlock();
      faiss::InterruptCallback::is_interrupted();
      guard.lock();
    }
  }

  void ThrowIfFailed() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 private:
  const size_t count_;
  const std::function<void(size_t)>& task_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex lock_;
  std::condition_variable one_ended_;
  int ended_ = 0;
  std::exception_ptr error_;
};

}  // namespace

Status KMeans::Run(const KMeansOptions& options, const std::function<void(const KMeans&)>& work) {
  const Threads threads(options.threads);
  const InterruptScope interrupts(&threads, options.interrupted);
  try {
    SizeFaissBatches(options.dimensions);
    faiss::InterruptCallback::check();
    work(KMeans(options));
  } catch (const faiss::FaissException& e) {
    if (faiss::InterruptCallback::is_interrupted()) return Status::Cancelled("training was cancelled");
    return Status::Internal(std::string("k-means failed: ") + e.what());
  }
  return Status::Ok();
}

std::vector<float> KMeans::Cluster(size_t k, size_t n, const float* rows) const {
  const size_t d = options_.dimensions;
  const SmallWorkOnOneThread one_thread(d, k, n);
  faiss::ClusteringParameters parameters;
  parameters.niter = kIterations;
  parameters.seed = kSeed;
  parameters.min_points_per_centroid = 1;
  parameters.max_points_per_centroid = std::numeric_limits<int>::max();  // beyond, Faiss would copy some
  faiss::Clustering clustering(static_cast<int>(d), static_cast<int>(k), parameters);
  faiss::IndexFlatL2 index(static_cast<faiss::Index::idx_t>(d));
  clustering.train(static_cast<faiss::Index::idx_t>(n), rows, index);
  return std::move(clustering.centroids);
}

std::vector<uint32_t> KMeans::Nearest(const std::vector<float>& centroids, size_t n, const float* rows,
                                      size_t count) const {
  const size_t d = options_.dimensions;
  const size_t k = centroids.size() / d;
  const SmallWorkOnOneThread one_thread(d, k, n);
  std::vector<float> distances(n * count);
  std::vector<int64_t> labels(n * count);
  faiss::knn_L2sqr(rows, centroids.data(), d, n, k, count, distances.data(), labels.data());
  std::vector<uint32_t> nearest(n * count);
  for (size_t i = 0; i < nearest.size(); ++i) nearest[i] = static_cast<uint32_t>(std::max<int64_t>(labels[i], 0));
  return nearest;
}

void KMeans::Bisect(const std::vector<float>& rows, std::vector<uint32_t> numbers,
                    std::vector<uint32_t>* order) const {
  const size_t d = options_.dimensions;
  if (numbers.size() > 2) {
    std::vector<uint32_t> parts[2];
    {
      const std::vector<float> members = Gather(d, rows.data(), numbers);
      const std::vector<float> halves = Cluster(2, numbers.size(), members.data());
      const std::vector<uint32_t> side = Nearest(halves, numbers.size(), members.data());
      for (size_t i = 0; i < numbers.size(); ++i) parts[side[i]].push_back(numbers[i]);
    }
    if (!parts[0].empty() && !parts[1].empty()) {
      Bisect(rows, std::move(parts[0]), order);
      Bisect(rows, std::move(parts[1]), order);
      return;
    }
  }
  order->insert(order->end(), numbers.begin(), numbers.end());
}

std::vector<uint32_t> KMeans::BisectOrder(const std::vector<float>& rows) const {
  std::vector<uint32_t> numbers(rows.size() / options_.dimensions);
  std::iota(numbers.begin(), numbers.end(), 0u);
  std::vector<uint32_t> order;
  Bisect(rows, std::move(numbers), &order);
  return order;
}

std::vector<float> KMeans::InBisectOrder(const std::vector<float>& rows) const {
  return Gather(options_.dimensions, rows.data(), BisectOrder(rows));
}

void KMeans::ForEach(size_t count, const std::function<void(size_t)>& task) const {
  if (options_.threads == 1 || count <= 1) {
    // Faiss's own threads do what they can.
    for (size_t i = 0; i < count; ++i) task(i);
    return;
  }
  Tasks tasks(count, task);
  [[maybe_unused]] const int workers = static_cast<int>(std::min<size_t>(static_cast<size_t>(options_.threads), count));
  // The calling thread only watches, so that it can take signals whatever the tasks are at.
#pragma omp parallel num_threads(workers + 1)
  {
    if (omp_get_thread_num() == 0) {
      tasks.Watch(omp_get_num_threads() - 1);
    } else {
      omp_set_num_threads(1);
      tasks.Work();
    }
  }
  tasks.Work();  // if there was no thread to be had
  tasks.ThrowIfFailed();
  faiss::InterruptCallback::check();
}

}  // namespace ivfremote
