#include "core/sample_matcher.h"

#include "support.h"

namespace ivfremote {
namespace {

constexpr uint32_t kDimensions = 24;
constexpr uint64_t kSeed = 5;

class SampleMatcherTest : public testing::TestWithParam<Metric> {
 protected:
  void SetUp() override {
    routing_.dimensions = kDimensions;
    routing_.metric = GetParam();
    routing_.mean = UniformVector(random_, kDimensions);
    routing_.centroids = UniformVector(random_, 2 * kDimensions);
  }

  SampleMatcher Matcher() { return {GetParam(), kFormat, kSeed, &routing_}; }

  std::vector<std::byte> Encode(const std::vector<float>& row, uint32_t centroid) {
    RowCoder coder(GetParam(), kFormat, kSeed, routing_.mean.data());
    std::vector<std::byte> code(kFormat.RowBytes());
    coder.Encode(row.data(), &routing_.centroids[centroid * kDimensions], code.data());
    return code;
  }

  // As a page has it: aligned for nothing.
  static void Add(SampleMatcher* matcher, Tid tid, const std::vector<float>& row) {
    std::vector<std::byte> bytes(1 + kDimensions * sizeof(float));
    std::memcpy(bytes.data() + 1, row.data(), kDimensions * sizeof(float));
    matcher->Add(tid, bytes.data() + 1);
  }

  const CodeFormat kFormat{CodeKind::kRabitq, 4, kDimensions};
  Random random_{7};
  Routing routing_;
};

TEST_P(SampleMatcherTest, KeepsRowsThatAreAlive) {
  SampleMatcher matcher = Matcher();
  std::vector<std::vector<float>> rows;
  for (uint32_t i = 0; i < 10; ++i) {
    rows.push_back(UniformVector(random_, kDimensions));
    Add(&matcher, {i, 1}, rows.back());
  }
  for (uint32_t i = 1; i < 10; i += 2) matcher.Offer({i, 1}, i % 2, Encode(rows[i], i % 2).data());
  // Pending rows that are not of the sample, or not with this offset.
  matcher.Offer({99, 1}, 0, Encode(rows[0], 0).data());
  matcher.Offer({0, 2}, 0, Encode(rows[0], 0).data());
  const SampleRows taken = matcher.Take(100);
  EXPECT_EQ(taken.dimensions, kDimensions);
  ASSERT_EQ(taken.tids.size(), 5u);
  for (uint32_t k = 0; k < 5; ++k) {
    EXPECT_EQ(taken.tids[k], (Tid{2 * k + 1, 1}));
    EXPECT_TRUE(std::equal(rows[2 * k + 1].begin(), rows[2 * k + 1].end(), &taken.rows[k * kDimensions]));
  }
}

// The row that had the TID before is nowhere else: it must not come back.
TEST_P(SampleMatcherTest, KeepsTheRowThatHasTheTidNow) {
  const std::vector<float> dead = UniformVector(random_, kDimensions);
  const std::vector<float> alive = UniformVector(random_, kDimensions);
  for (bool sampled : {false, true}) {
    SampleMatcher matcher = Matcher();
    Add(&matcher, {3, 7}, dead);
    if (sampled) Add(&matcher, {3, 7}, alive);
    matcher.Offer({3, 7}, 1, Encode(alive, 1).data());
    const SampleRows taken = matcher.Take(100);
    ASSERT_EQ(taken.tids.size(), sampled ? 1u : 0u);
    if (!sampled) continue;
    EXPECT_EQ(taken.rows, alive);
  }
}

TEST_P(SampleMatcherTest, TakesAnEvenPart) {
  SampleMatcher matcher = Matcher();
  for (uint32_t i = 0; i < 100; ++i) {
    const std::vector<float> row = UniformVector(random_, kDimensions);
    Add(&matcher, {i, 1}, row);
    if (i >= 20) matcher.Offer({i, 1}, 0, Encode(row, 0).data());
  }
  const SampleRows taken = matcher.Take(8);
  ASSERT_EQ(taken.tids.size(), 8u);
  for (uint32_t k = 0; k < 8; ++k) EXPECT_EQ((taken.tids[k].block - 20) / 10, k);
  EXPECT_EQ(taken.rows.size(), 8u * kDimensions);
}

INSTANTIATE_TEST_SUITE_P(Metrics, SampleMatcherTest,
                         testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine));

}  // namespace
}  // namespace ivfremote
