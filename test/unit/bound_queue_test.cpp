#include "core/bound_queue.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "support.h"

namespace ivfremote {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kSizes[] = {0, 1, 2, 63, 64, 65, 511, 512, 513, 1024, 5000, 100000};

using Order = std::vector<std::pair<float, uint32_t>>;

Order Sorted(const std::vector<float>& bounds) {
  Order order;
  for (uint32_t i = 0; i < bounds.size(); ++i) order.push_back({bounds[i], i});
  std::sort(order.begin(), order.end());
  return order;
}

// Up to `count` rows of the queue.
Order Take(BoundQueue* queue, size_t count = ~size_t{0}) {
  Order order;
  uint32_t row;
  float bound;
  while (order.size() < count && queue->Next(&row, &bound)) order.push_back({bound, row});
  return order;
}

void ExpectSorted(const std::vector<float>& bounds) {
  BoundQueue queue;
  queue.Start(bounds);
  // EXPECT_EQ would print them all.
  EXPECT_TRUE(Take(&queue) == Sorted(bounds)) << bounds.size() << " bounds";
  EXPECT_TRUE(Take(&queue).empty()) << "something after the end";
}

TEST(BoundQueue, NothingBeforeStart) {
  BoundQueue queue;
  EXPECT_TRUE(Take(&queue).empty());
}

TEST(BoundQueue, EqualsAFullSort) {
  Random random(1);
  for (size_t size : kSizes) ExpectSorted(UniformVector(random, size));
}

TEST(BoundQueue, SortedAndReversedBounds) {
  for (size_t size : kSizes) {
    std::vector<float> bounds(size);
    std::iota(bounds.begin(), bounds.end(), -100.0f);
    ExpectSorted(bounds);
    std::reverse(bounds.begin(), bounds.end());
    ExpectSorted(bounds);
  }
}

TEST(BoundQueue, TiesByRowNumber) {
  Random random(2);
  for (size_t size : kSizes)
    for (uint64_t values : {1, 2, 7, 300}) {
      std::vector<float> bounds(size);
      for (float& bound : bounds) bound = static_cast<float>(Below(random, values));
      ExpectSorted(bounds);
    }
}

TEST(BoundQueue, BothZerosAreTies) {
  std::vector<float> bounds(2000);
  for (size_t i = 0; i < bounds.size(); ++i) bounds[i] = i % 3 == 0 ? -0.0f : 0.0f;
  ExpectSorted(bounds);
}

TEST(BoundQueue, InfiniteBounds) {
  Random random(3);
  for (size_t size : kSizes)
    for (uint64_t share : {1, 2, 5, 400}) {
      std::vector<float> bounds = UniformVector(random, size);
      for (float& bound : bounds) {
        if (Below(random, share) == 0) bound = -kInfinity;
        if (Below(random, share) == 1) bound = kInfinity;
      }
      ExpectSorted(bounds);
    }
  ExpectSorted(std::vector<float>(3000, kInfinity));
  ExpectSorted(std::vector<float>(3000, -kInfinity));
}

// Every 16th bound is what the threshold is taken from: here it says little, or the wrong thing.
TEST(BoundQueue, SampleThatMisleads) {
  Random random(4);
  for (float sampled : {-kInfinity, -2.0f, 0.0f, 2.0f, kInfinity}) {
    std::vector<float> bounds = UniformVector(random, 20000);
    for (size_t i = 0; i < bounds.size(); i += 16) bounds[i] = sampled;
    ExpectSorted(bounds);
  }
}

TEST(BoundQueue, TakenInPieces) {
  Random random(5);
  const std::vector<float> bounds = UniformVector(random, 30000);
  const Order expected = Sorted(bounds);
  BoundQueue queue;
  queue.Start(bounds);
  Order order;
  while (order.size() < expected.size()) {
    const Order piece = Take(&queue, 1 + Below(random, 700));
    ASSERT_FALSE(piece.empty());
    order.insert(order.end(), piece.begin(), piece.end());
  }
  EXPECT_TRUE(order == expected);
}

TEST(BoundQueue, StartForgetsWhatWasLeft) {
  Random random(6);
  BoundQueue queue;
  for (size_t taken : {0, 1, 10, 64, 65, 1000, 5000}) {
    const std::vector<float> bounds = UniformVector(random, 5000);
    queue.Start(bounds);
    const Order expected = Sorted(bounds);
    EXPECT_TRUE(Take(&queue, taken) == Order(expected.begin(), expected.begin() + static_cast<ptrdiff_t>(taken)));
  }
  queue.Start({});
  EXPECT_TRUE(Take(&queue).empty());
}

}  // namespace
}  // namespace ivfremote
