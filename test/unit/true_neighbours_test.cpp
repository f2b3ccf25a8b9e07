// Calibration::NearestOf, which ivfremote_recall() compares searches with.
#include <algorithm>
#include <numeric>

#include "core/calibration.h"
#include "core/coding.h"
#include "core/distance.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr uint32_t kDimensions = 12;
constexpr uint32_t kLists = 8;

// Rows, queries and a routing with a large mean, as a table's vectors may have.
class TrueNeighboursTest : public testing::TestWithParam<Metric> {
 protected:
  void Make(size_t rows, size_t queries) {
    Random random(17);
    rows_ = Routed(random, rows);
    queries_ = Routed(random, queries);
    routing_.dimensions = kDimensions;
    routing_.metric = GetParam();
    routing_.mean.assign(kDimensions, Offset());
    routing_.radii.assign(kLists, 1.0f);
    routing_.group_first = {0, kLists};
    routing_.group_centroids.assign(kDimensions, 0.0f);
    routing_.centroids = UniformVector(random, size_t{kLists} * kDimensions);
    for (size_t i = 0; i < rows; ++i) {
      tids_.push_back({static_cast<uint32_t>(i), 1});
      lists_.push_back(static_cast<uint32_t>(i % kLists));
    }
  }

  float Offset() const { return GetParam() == Metric::kCosine ? 0.0f : 30.0f; }

  std::vector<float> Routed(Random& random, size_t n) const {
    std::vector<float> vectors = UniformVector(random, n * kDimensions);
    for (float& value : vectors) value += Offset();
    for (size_t i = 0; i < n; ++i)
      ToRoutingSpace(GetParam(), &vectors[i * kDimensions], kDimensions, &vectors[i * kDimensions]);
    return vectors;
  }

  // After all rows, in two pieces.
  Calibration Run(uint32_t k, std::vector<Tid> query_tids) const {
    CalibrationOptions options;
    options.metric = GetParam();
    options.format = {CodeKind::kFloat32, 32, kDimensions};
    options.k = k;
    Calibration calibration(options, &routing_, queries_, std::move(query_tids));
    std::vector<float> centred = rows_;
    for (size_t i = 0; i < centred.size(); ++i) centred[i] -= routing_.mean[i % kDimensions];
    const auto* codes = RowBytes(rows_.data());
    const size_t first = tids_.size() / 3;
    calibration.Add(centred.data(), first, lists_.data(), nullptr, tids_.data(), codes);
    calibration.Add(centred.data() + first * kDimensions, tids_.size() - first, lists_.data() + first, nullptr, tids_.data() + first,
                    codes + first * options.format.RowBytes());
    return calibration;
  }

  double Distance(size_t query, size_t row) const {
    const float* q = &queries_[query * kDimensions];
    const float* r = &rows_[row * kDimensions];
    return GetParam() == Metric::kInnerProduct ? -InnerProduct(q, r, kDimensions) : SquaredL2(q, r, kDimensions);
  }

  // Of all rows but `without`, ascending.
  std::vector<double> Distances(size_t query, size_t without) const {
    std::vector<double> distances;
    for (size_t row = 0; row < tids_.size(); ++row)
      if (row != without) distances.push_back(Distance(query, row));
    std::sort(distances.begin(), distances.end());
    return distances;
  }

  static constexpr size_t kNone = SIZE_MAX;

  Routing routing_;
  std::vector<float> rows_;
  std::vector<float> queries_;
  std::vector<Tid> tids_;
  std::vector<uint32_t> lists_;
};

// As many rows are within the limit as are asked for: neither one fewer nor, rounding apart, one more.
TEST_P(TrueNeighboursTest, LimitIsTheLastNeighbours) {
  Make(3000, 150);
  for (const uint32_t k : {1u, 10u, 100u, 700u}) {
    const Calibration calibration = Run(k, {});
    for (const size_t query : {0u, 99u, 100u, 149u}) {
      const std::vector<double> distances = Distances(query, kNone);
      const TrueNeighbours nearest = calibration.NearestOf(query, k);
      EXPECT_EQ(nearest.count, k);
      EXPECT_GE(nearest.limit, distances[k - 1]);
      EXPECT_LE(nearest.limit, distances[k - 1] + 2e-4 * std::abs(distances[k - 1]) + 0.02) << "query " << query;
    }
  }
}

TEST_P(TrueNeighboursTest, AFewerKThanTheOptions) {
  Make(500, 3);
  const Calibration calibration = Run(200, {});
  EXPECT_GE(calibration.NearestOf(2, 5).limit, Distances(2, kNone)[4]);
  EXPECT_LT(calibration.NearestOf(2, 5).limit, Distances(2, kNone)[199]);
}

TEST_P(TrueNeighboursTest, ARowIsNotItsOwnNeighbour) {
  Make(400, 2);
  std::copy_n(&rows_[7 * kDimensions], kDimensions, &queries_[0]);
  std::copy_n(&rows_[390 * kDimensions], kDimensions, &queries_[kDimensions]);
  const Calibration calibration = Run(400, {tids_[7], tids_[390]});
  EXPECT_EQ(calibration.NearestOf(0, 400).count, 399u);
  EXPECT_GE(calibration.NearestOf(0, 3).limit, Distances(0, 7)[2]);
  EXPECT_GE(calibration.NearestOf(1, 3).limit, Distances(1, 390)[2]);
  const Calibration own = Run(400, {});
  EXPECT_EQ(own.NearestOf(0, 400).count, 400u);
}

TEST_P(TrueNeighboursTest, FewerRowsThanAskedFor) {
  Make(6, 1);
  const TrueNeighbours nearest = Run(10, {}).NearestOf(0, 10);
  EXPECT_EQ(nearest.count, 6u);
  EXPECT_GE(nearest.limit, Distances(0, kNone)[5]);
  rows_.clear();
  tids_.clear();
  EXPECT_EQ(Run(10, {}).NearestOf(0, 10).count, 0u);
}

// A difference of large products may round to below 0; the row itself is a hit even so.
TEST_P(TrueNeighboursTest, EqualRowsAreWithinTheLimit) {
  Make(300, 1);
  for (const size_t row : {5u, 6u, 290u}) std::copy_n(&queries_[0], kDimensions, &rows_[row * kDimensions]);
  const TrueNeighbours nearest = Run(3, {}).NearestOf(0, 3);
  if (GetParam() != Metric::kInnerProduct) {
    EXPECT_GE(nearest.limit, 0);
  }
  EXPECT_GE(nearest.limit, Distances(0, kNone)[2]);
}

TEST_P(TrueNeighboursTest, TheSameAfterTheCurve) {
  Make(600, 60);
  Calibration calibration = Run(10, {});
  const TrueNeighbours before = calibration.NearestOf(3, 10);
  for (bool done = false; !done;) ASSERT_OK(calibration.Step(Later(), &done));
  EXPECT_EQ(calibration.NearestOf(3, 10).limit, before.limit);
  EXPECT_EQ(calibration.TakeCurve().queries, 60u);
}

// Not even of the most bits a row that is one bit too far counts as a neighbour.
TEST(TrueNeighboursOfBits, LimitIsBetweenWholeDistances) {
  constexpr uint32_t kRows = 60;
  Random random(18);
  std::vector<std::vector<float>> vectors(kRows + 1, std::vector<float>(kMaxBits));
  for (auto& vector : vectors)
    for (float& value : vector) value = static_cast<float>(random() >> 63);
  Routing routing;
  routing.dimensions = kMaxBits;
  routing.metric = Metric::kHamming;
  routing.mean.assign(kMaxBits, 0.4375f);
  routing.radii = {1};
  routing.group_first = {0, 1};
  routing.group_centroids.assign(kMaxBits, 0.0f);
  routing.centroids.assign(kMaxBits, 0.0f);
  CalibrationOptions options;
  options.metric = Metric::kHamming;
  options.format = {CodeKind::kBits, 1, kMaxBits};
  options.k = kRows;
  Calibration calibration(options, &routing, vectors[kRows], {});
  std::vector<double> distances;
  for (uint32_t i = 0; i < kRows; ++i) {
    distances.push_back(SquaredL2(vectors[kRows].data(), vectors[i].data(), kMaxBits));
    std::vector<float> centred = vectors[i];
    for (float& value : centred) value -= routing.mean[0];
    std::vector<std::byte> bits(options.format.RowBytes());
    PackBits(vectors[i].data(), kMaxBits, bits.data());
    const uint32_t list = 0;
    const Tid tid{i, 1};
    calibration.Add(centred.data(), 1, &list, nullptr, &tid, bits.data());
  }
  std::sort(distances.begin(), distances.end());
  for (uint32_t k = 1; k <= kRows; ++k) EXPECT_EQ(calibration.NearestOf(0, k).limit, distances[k - 1] + 0.5) << k;
}

INSTANTIATE_TEST_SUITE_P(Metrics, TrueNeighboursTest,
                         testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine));

}  // namespace
}  // namespace ivfremote
