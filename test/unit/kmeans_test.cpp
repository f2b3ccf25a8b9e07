#include "core/kmeans.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <new>
#include <set>
#include <thread>

#include "support.h"

namespace ivfremote {
namespace {

std::thread::id asker;
std::atomic<int> checks;
std::atomic<bool> stop;
bool CheckInterrupt() {
  EXPECT_EQ(std::this_thread::get_id(), asker);
  ++checks;
  return stop;
}

size_t ThreadCount() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

class KMeansTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    asker = std::this_thread::get_id();
    checks = 0;
    stop = false;
  }
  void TearDown() override { EXPECT_EQ(ThreadCount(), 1u); }

  static KMeansOptions Options() { return {4, GetParam(), CheckInterrupt}; }
};

TEST_P(KMeansTest, EveryTaskOnce) {
  for (size_t count : {0u, 1u, 2u, 1000u}) {
    std::vector<std::atomic<int>> done(count);
    ASSERT_OK(KMeans::Run(Options(), [&](const KMeans& kmeans) {
      kmeans.ForEach(count, [&](size_t number) { ++done[number]; });
      // When it returns all are done.
      for (const auto& times : done) EXPECT_EQ(times, 1);
    }));
  }
}

TEST_P(KMeansTest, TasksMayCluster) {
  Random random(3);
  const std::vector<float> rows = UniformVector(random, 4 * 500);
  std::vector<std::vector<float>> centroids(20);
  ASSERT_OK(KMeans::Run(Options(), [&](const KMeans& kmeans) {
    kmeans.ForEach(20, [&](size_t number) { centroids[number] = kmeans.InBisectOrder(kmeans.Cluster(9, 500, rows.data())); });
  }));
  for (const auto& each : centroids) {
    EXPECT_EQ(each.size(), 36u);
    EXPECT_EQ(each, centroids[0]);
  }
}

// An exception of a task is the caller's; no further tasks begin.
TEST_P(KMeansTest, TaskFails) {
  std::atomic<int> begun = 0;
  const auto work = [&](const KMeans& kmeans) {
    kmeans.ForEach(1000, [&](size_t number) {
      ++begun;
      if (number == 3) throw std::bad_alloc();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  };
  EXPECT_THROW((void)KMeans::Run(Options(), work), std::bad_alloc);
  EXPECT_LT(begun, 900);
}

// The calling thread asks, whatever the tasks are at, and tasks learn of it when they cluster.
TEST_P(KMeansTest, CancelledWhileTasksRun) {
  Random random(4);
  const std::vector<float> rows = UniformVector(random, 4 * 5000);
  std::atomic<int> begun = 0;
  const Status status = KMeans::Run(Options(), [&](const KMeans& kmeans) {
    kmeans.ForEach(100000, [&](size_t) {
      if (++begun == 4) stop = true;
      kmeans.Cluster(50, 5000, rows.data());
    });
  });
  EXPECT_TRUE(Fails(status, StatusCode::kCancelled, {"cancelled"}));
  EXPECT_LT(begun, 1000);
  EXPECT_GT(checks, 0);
}

TEST_P(KMeansTest, CancelledBefore) {
  stop = true;
  bool worked = false;
  EXPECT_TRUE(Fails(KMeans::Run(Options(), [&](const KMeans&) { worked = true; }), StatusCode::kCancelled));
  EXPECT_FALSE(worked);
}

INSTANTIATE_TEST_SUITE_P(Threads, KMeansTest, testing::Values(1, 2, 5));

}  // namespace
}  // namespace ivfremote
