// k-means by Faiss, on several threads and interruptible.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

struct KMeansOptions {
  uint32_t dimensions = 0;
  int threads = 1;
  InterruptCheck interrupted = nullptr;  // asked often, on the calling thread
};

// Rows are [n x dimensions], finite, with squared distances that are.
class KMeans {
 public:
  // Does `work`. Threads exist only meanwhile, with every signal blocked; the calling thread's signals are delivered
  // before `interrupted` is asked. When that says yes, `work` is left by an exception: kCancelled.
  static Status Run(const KMeansOptions& options, const std::function<void(const KMeans&)>& work);

  // The centroids of n rows in k clusters, 1 <= k <= n. Copies no rows.
  std::vector<float> Cluster(size_t k, size_t n, const float* rows) const;

  // The numbers of the `count` nearest centroids, nearest first, for each of n rows. `count` is at most their number.
  std::vector<uint32_t> Nearest(const std::vector<float>& centroids, size_t n, const float* rows,
                                size_t count = 1) const;

  // The numbers of rows in an order in which near ones come near each other: a depth-first walk of recursive 2-means.
  std::vector<uint32_t> BisectOrder(const std::vector<float>& rows) const;
  // The rows in that order.
  std::vector<float> InBisectOrder(const std::vector<float>& rows) const;

  // Calls task(0) .. task(count - 1), several at a time, each on one thread. A task may call the functions above.
  void ForEach(size_t count, const std::function<void(size_t)>& task) const;

 private:
  explicit KMeans(const KMeansOptions& options) : options_(options) {}
  void Bisect(const std::vector<float>& rows, std::vector<uint32_t> numbers, std::vector<uint32_t>* order) const;

  KMeansOptions options_;
};

}  // namespace ivfremote
