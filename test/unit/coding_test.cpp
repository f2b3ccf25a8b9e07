#include "core/coding.h"

#include <cmath>
#include <functional>
#include <limits>

#include "core/distance.h"
#include "core/object_store.h"
#include "core/segment_format.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr uint64_t kSeed = 0x5eed;
constexpr double kEpsilon = 1.9;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
const char* const kMetricNames[] = {"L2", "InnerProduct", "Cosine"};

// Rows of one code centroid and what is known of them: everything between a vector and a bound.
struct Codes {
  Metric metric = Metric::kL2;
  CodeFormat format;
  std::vector<float> mean;      // in routing space
  std::vector<float> centroid;  // less the mean
  std::vector<std::vector<float>> rows;

  std::vector<std::byte> Encode() const {
    RowCoder coder(metric, format, kSeed, mean.data());
    std::vector<std::byte> bytes(rows.size() * format.RowBytes());
    for (size_t i = 0; i < rows.size(); ++i) {
      coder.Encode(rows[i].data(), centroid.data(), &bytes[i * format.RowBytes()]);
    }
    return bytes;
  }

  QueryResidual Residual(const std::vector<float>& query, std::vector<float>* y) const {
    y->resize(format.padded());
    return QueryCoder(metric, format, query.data(), kSeed, mean.data()).Residual(centroid.data(), y->data());
  }

  std::vector<float> Bounds(const std::vector<float>& query, double epsilon = kEpsilon) const {
    const auto count = static_cast<uint32_t>(rows.size());
    RangeBuffer buffer(CodedRowsBytes(format, count));
    PutCodedRows(format, Encode().data(), count, buffer.data());
    std::vector<float> y;
    CodeScorer scorer(metric, format.padded(), format.bits, epsilon);
    scorer.SetQuery(Residual(query, &y));
    std::vector<float> bounds(count);
    scorer.Score(ViewCodedRows(buffer.data(), count), bounds.data());
    return bounds;
  }

  // In the unit of bounds: squared L2 (of directions, for cosine) or the negative product.
  double Exact(const std::vector<float>& query, size_t i) const {
    switch (metric) {
      case Metric::kL2:
        return SquaredL2(query.data(), rows[i].data(), format.dimensions);
      case Metric::kInnerProduct:
        return -InnerProduct(query.data(), rows[i].data(), format.dimensions);
      case Metric::kCosine:
      case Metric::kHamming:  // never of codes
        break;
    }
    return 2 * Scorer(metric, query.data(), format.dimensions).Distance(rows[i].data());
  }

  // The mean of the rows, and of the half of them that is near row 0, as training finds them.
  void Train() {
    const uint32_t d = format.dimensions;
    std::vector<double> sum(d);
    std::vector<float> row(d);
    for (const auto& values : rows) {
      ToRoutingSpace(metric, values.data(), d, row.data());
      for (uint32_t j = 0; j < d; ++j) sum[j] += row[j];
    }
    mean.resize(d);
    for (uint32_t j = 0; j < d; ++j) mean[j] = static_cast<float>(sum[j] / static_cast<double>(rows.size()));
    sum.assign(d, 0);
    for (size_t i = 0; i < rows.size(); i += 2) {
      Centre(metric, rows[i].data(), mean.data(), d, row.data());
      for (uint32_t j = 0; j < d; ++j) sum[j] += row[j];
    }
    centroid.resize(d);
    for (uint32_t j = 0; j < d; ++j) centroid[j] = static_cast<float>(2 * sum[j] / static_cast<double>(rows.size()));
  }
};

// Two clouds `offset` away from the origin; even rows belong to one, odd to the other.
Codes Clouds(Random& random, Metric metric, uint32_t bits, uint32_t dimensions, float offset, size_t rows = 200) {
  Codes codes;
  codes.metric = metric;
  codes.format = {CodeKind::kRabitq, bits, dimensions};
  const std::vector<float> centres[] = {UniformVector(random, dimensions), UniformVector(random, dimensions)};
  for (size_t i = 0; i < rows; ++i) {
    codes.rows.push_back(UniformVector(random, dimensions));
    for (uint32_t j = 0; j < dimensions; ++j)
      codes.rows[i][j] = offset + centres[i % 2][j] + 0.5f * codes.rows[i][j];
  }
  codes.Train();
  return codes;
}

std::vector<float> QueryNear(Random& random, const Codes& codes, size_t row) {
  std::vector<float> query = codes.rows[row];
  for (float& x : query) x += 0.5f * Uniform(random);
  return query;
}

double Norm(const std::vector<float>& vector) { return std::sqrt(SquaredNorm(vector.data(), vector.size())); }

// The greatest term that a distance is computed from, in its unit.
double Magnitude(const Codes& codes, const std::vector<float>& query, size_t i) {
  if (codes.metric == Metric::kInnerProduct)
    return Norm(query) * (Norm(codes.rows[i]) + Norm(codes.mean) + Norm(codes.centroid));
  const double centroid = Norm(codes.centroid);
  return codes.Exact(query, i) + 2 * centroid * centroid;
}

// Whether a bound lies above the truth by more than vectors of float32 (directions, centroids) are worth.
bool Above(const Codes& codes, const std::vector<float>& query, size_t i, float bound) {
  const double exact = codes.Exact(query, i);
  double rounding = 2e-6 * Magnitude(codes, query, i);
  if (codes.metric == Metric::kCosine) rounding = 5e-7 * std::sqrt(std::abs(exact)) + 1e-13;
  if (codes.metric == Metric::kL2) rounding = 0;
  return bound > exact + rounding;
}

class CodingTest : public testing::TestWithParam<std::tuple<Metric, uint32_t, uint32_t, float>> {
 protected:
  Metric metric() const { return std::get<0>(GetParam()); }
  uint32_t bits() const { return std::get<1>(GetParam()); }
  uint32_t dimensions() const { return std::get<2>(GetParam()); }
  float offset() const { return std::get<3>(GetParam()); }
};

// Nearly all bounds lie below the truth, and not far below.
TEST_P(CodingTest, BoundsAgainstExactDistances) {
  Random random(100 + dimensions() * 10 + bits());
  const Codes codes = Clouds(random, metric(), bits(), dimensions(), offset());
  size_t above = 0;
  size_t seen = 0;
  double squares = 0;
  for (size_t q = 0; q < 10; ++q) {
    const std::vector<float> query = QueryNear(random, codes, q);
    const std::vector<float> bounds = codes.Bounds(query);
    const std::vector<float> estimates = codes.Bounds(query, 0);
    std::vector<float> y;
    const QueryResidual residual = codes.Residual(query, &y);
    const double y_norm = std::sqrt(SquaredNorm(residual.y, y.size()));
    for (size_t i = 0; i < codes.rows.size(); ++i, ++seen) {
      const double exact = codes.Exact(query, i);
      ASSERT_TRUE(std::isfinite(bounds[i]));
      ASSERT_LE(bounds[i], estimates[i]);
      above += Above(codes, query, i, bounds[i]);
      // The error of a code, relative to |u| |y|: 0.75, 0.363, 0.1 and 0.006 over sqrt(D).
      const double relative = (bits() == 1 ? 0.75 : bits() == 2 ? 0.363 : bits() == 4 ? 0.1 : 0.01) /
                              std::sqrt(static_cast<double>(codes.format.padded()));
      std::vector<float> u(dimensions());
      Centre(metric(), codes.rows[i].data(), codes.mean.data(), dimensions(), u.data());
      for (uint32_t j = 0; j < dimensions(); ++j) u[j] -= codes.centroid[j];
      const double u_norm = std::sqrt(SquaredNorm(u.data(), dimensions()));
      const double unit = (metric() == Metric::kInnerProduct ? 1 : 2) * relative * u_norm * y_norm + 1e-37;
      const double error = std::max(0.0, std::abs(estimates[i] - exact) - 1e-5 * Magnitude(codes, query, i));
      squares += error * error / (unit * unit);
      EXPECT_LE(exact - bounds[i], 20 * unit + 1e-5 * Magnitude(codes, query, i)) << "a bound that says nothing";
    }
  }
  // The fewer the dimensions, the less an error has of a normal distribution.
  EXPECT_LE(static_cast<double>(above), (dimensions() < 16 ? 0.1 : 0.05) * static_cast<double>(seen));
  EXPECT_LE(std::sqrt(squares / static_cast<double>(seen)), 2.0);
}

// Of enough dimensions that errors look random.
class DecodedRowsTest : public CodingTest {};

std::string NameOf(const testing::TestParamInfo<CodingTest::ParamType>& info) {
  return std::string(kMetricNames[static_cast<size_t>(std::get<0>(info.param))]) + "Bits" +
         std::to_string(std::get<1>(info.param)) + "Dimensions" + std::to_string(std::get<2>(info.param)) +
         (std::get<3>(info.param) > 0 ? "Offset" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Widths, CodingTest,
    testing::Combine(testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine), testing::Values(1, 2, 4, 8),
                     testing::Values(1, 3, 100, 784), testing::Values(0.0f, 1000.0f)),
    NameOf);
INSTANTIATE_TEST_SUITE_P(
    Widths, DecodedRowsTest,
    testing::Combine(testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine), testing::Values(1, 2, 4, 8),
                     testing::Values(100, 784), testing::Values(0.0f, 1000.0f)),
    NameOf);

// -- what codes are of

void ForEachFormat(const std::function<void(Metric, uint32_t, uint32_t)>& check) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t bits : {1u, 2u, 4u, 8u})
      for (uint32_t dimensions : {1u, 3u, 100u, 784u}) {
        SCOPED_TRACE(std::string(kMetricNames[static_cast<size_t>(metric)]) + ", " + std::to_string(bits) + " bits, " +
                     std::to_string(dimensions) + " dimensions");
        check(metric, bits, dimensions);
      }
}

TEST(Coding, FloatRowsAreStoredAsTheyAre) {
  const CodeFormat format{CodeKind::kFloat32, 32, 3};
  const float mean[] = {1, 1, 1};
  const float row[] = {1, 2, 3};
  const float centroid[] = {4, 5, 6};
  RowCoder coder(Metric::kL2, format, kSeed, mean);
  std::vector<std::byte> bytes(format.RowBytes());
  coder.Encode(row, centroid, bytes.data());
  EXPECT_EQ(std::memcmp(bytes.data(), row, sizeof row), 0);
}

// -- the way back

// What is decoded of all rows, [n x dimensions] less the mean, and the excess of each.
struct Decoded {
  std::vector<float> rows;
  std::vector<float> excess;

  explicit Decoded(const Codes& codes) : rows(codes.rows.size() * codes.format.dimensions), excess(codes.rows.size()) {
    RowDecoder decoder(codes.metric, codes.format, kSeed, codes.mean.data());
    const std::vector<std::byte> bytes = codes.Encode();
    for (size_t i = 0; i < excess.size(); ++i)
      decoder.Decode(&bytes[i * codes.format.RowBytes()], codes.centroid.data(), &rows[i * codes.format.dimensions],
                     &excess[i]);
  }
};

// Calibration compares queries with decoded rows, and so ranks them as scans do.
TEST_P(CodingTest, DecodedRowsGiveTheEstimatesOfScans) {
  Random random(200 + dimensions() * 10 + bits());
  const Codes codes = Clouds(random, metric(), bits(), dimensions(), offset());
  const Decoded decoded(codes);
  const std::vector<std::byte> bytes = codes.Encode();
  const uint32_t padded = codes.format.padded();
  for (size_t q = 0; q < 5; ++q) {
    const std::vector<float> query = QueryNear(random, codes, q);
    std::vector<float> y;
    const QueryResidual residual = codes.Residual(query, &y);
    std::vector<float> centred(dimensions());
    Centre(metric(), query.data(), codes.mean.data(), dimensions(), centred.data());
    std::vector<float> rotated(padded);
    for (size_t i = 0; i < codes.rows.size(); ++i) {
      const std::byte* row = &bytes[i * codes.format.RowBytes()];
      const auto factors = Load<CodeFactors>(row);
      DecodeResidual(padded, bits(), row + sizeof factors, factors.s, rotated.data());
      const double product = InnerProduct(rotated.data(), y.data(), padded);
      const float* back = &decoded.rows[i * dimensions()];
      double scan = factors.a + SquaredNorm(y.data(), padded) - 2 * product;
      double ours = SquaredL2(back, centred.data(), dimensions()) - decoded.excess[i];
      if (metric() == Metric::kInnerProduct) {
        scan = -(residual.centroid_product + residual.alpha * factors.a + product);
        ours = -InnerProduct(back, query.data(), dimensions()) -
               InnerProduct(codes.mean.data(), query.data(), dimensions());
      }
      // Mean, centroid and row are float32, as the query less its mean is.
      const double magnitude = Magnitude(codes, query, i) + SquaredNorm(rotated.data(), padded);
      ASSERT_NEAR(ours, scan, 1e-5 * magnitude + 1e-7 * offset() * std::sqrt(magnitude * dimensions())) << i;
    }
  }
}

// Errors of decoded rows cancel out, and the excess is how much longer they make distances.
TEST_P(DecodedRowsTest, AreUnbiased) {
  Random random(300 + dimensions() * 10 + bits());
  // Rows in all directions from a point that is beside the centroid: errors of like rows are alike.
  Codes codes = Clouds(random, metric(), bits(), dimensions(), offset(), 2000);
  for (auto& row : codes.rows) {
    row = UniformVector(random, dimensions());
    for (float& x : row) x += offset();
  }
  codes.Train();
  std::vector<float> row(dimensions());
  Centre(metric(), codes.rows[0].data(), codes.mean.data(), dimensions(), row.data());
  const auto spread = static_cast<float>(Norm(row) / std::sqrt(dimensions()));
  for (float& x : codes.centroid) x += 0.3f * spread * Uniform(random);
  const Decoded decoded(codes);
  const auto n = static_cast<double>(codes.rows.size());
  std::vector<double> error(dimensions());
  double excess = 0;
  double length = 0;
  double from_point = 0;
  double true_from_point = 0;
  std::vector<float> point = UniformVector(random, dimensions());
  if (metric() == Metric::kCosine) ToRoutingSpace(metric(), point.data(), dimensions(), point.data());
  for (size_t i = 0; i < codes.rows.size(); ++i) {
    const float* back = &decoded.rows[i * dimensions()];
    Centre(metric(), codes.rows[i].data(), codes.mean.data(), dimensions(), row.data());
    for (uint32_t j = 0; j < dimensions(); ++j) error[j] += double{back[j]} - row[j];
    excess += decoded.excess[i];
    const double true_length = SquaredL2(row.data(), codes.centroid.data(), dimensions());
    length += true_length;
    EXPECT_NEAR(SquaredL2(back, codes.centroid.data(), dimensions()) - decoded.excess[i], true_length,
                1e-4 * true_length + 1e-6 * offset());
    from_point += SquaredL2(back, point.data(), dimensions()) - decoded.excess[i];
    true_from_point += SquaredL2(row.data(), point.data(), dimensions());
  }
  double bias = 0;
  for (const double sum : error) bias += sum / n * sum / n;
  // As independent errors add up; those of a decode that is too short would be a third of the way to the centroid.
  EXPECT_LT(bias, 3 * excess / n / n + 1e-9 * length / n * (1 + offset()));
  EXPECT_NEAR(from_point, true_from_point, 0.005 * true_from_point);
  const double share = excess / length;
  const double expected = bits() == 1 ? 0.57 : bits() == 2 ? 0.13 : bits() == 4 ? 0.01 : 0.00005;
  EXPECT_GT(share, 0.5 * expected);
  EXPECT_LT(share, 2 * expected + 1e-4);
}

TEST(Coding, DecodedFloatRowsAreThemselves) {
  Random random(14);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    Codes codes = Clouds(random, metric, 4, 20, 3, 10);
    codes.format = {CodeKind::kFloat32, 32, 20};
    const Decoded decoded(codes);
    std::vector<float> row(20);
    for (size_t i = 0; i < codes.rows.size(); ++i) {
      Centre(metric, codes.rows[i].data(), codes.mean.data(), 20, row.data());
      for (size_t j = 0; j < 20; ++j) EXPECT_EQ(decoded.rows[i * 20 + j], row[j]);
      EXPECT_EQ(decoded.excess[i], 0);
    }
  }
}

// Rows of which a code says nothing, or whose residual is zero, are their centroid; none is infinite.
TEST(Coding, DecodedRowsAreFinite) {
  Random random(15);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    for (float scale : {0.0f, 1e-45f, 1e-30f, 1e-20f, 1e18f, 1e20f, 3e38f}) {
      Codes codes = Clouds(random, metric, bits, dimensions, 0, 20);
      codes.centroid.assign(dimensions, 0.0f);
      codes.mean.assign(dimensions, 0.0f);
      for (auto& row : codes.rows)
        for (float& x : row) x *= 0.5f * scale;
      const Decoded decoded(codes);
      EXPECT_TRUE(AllFinite(decoded.rows.data(), decoded.rows.size())) << scale;
      EXPECT_TRUE(AllFinite(decoded.excess.data(), decoded.excess.size())) << scale;
      if (scale > 0) continue;
      EXPECT_EQ(SquaredNorm(decoded.rows.data(), decoded.rows.size()), 0);
      EXPECT_EQ(SquaredNorm(decoded.excess.data(), decoded.excess.size()), 0);
    }
  });
}

// P (q' - c') is as long as q' - c'; of inner product's y nothing is along c.
TEST(Coding, ResidualsOfQueries) {
  Random random(7);
  for (float offset : {0.0f, 1000.0f})
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      SCOPED_TRACE(kMetricNames[static_cast<size_t>(metric)]);
      const Codes codes = Clouds(random, metric, 4, 100, offset);
      const std::vector<float> query = QueryNear(random, codes, 1);
      std::vector<float> y;
      const QueryResidual residual = codes.Residual(query, &y);
      if (metric != Metric::kInnerProduct) {
        std::vector<float> centred(100);
        Centre(metric, query.data(), codes.mean.data(), 100, centred.data());
        const double distance = SquaredL2(centred.data(), codes.centroid.data(), 100);
        EXPECT_NEAR(SquaredNorm(residual.y, y.size()), distance, 1e-4 * distance);
        continue;
      }
      std::vector<float> c(100);
      for (size_t j = 0; j < 100; ++j) c[j] = codes.mean[j] + codes.centroid[j];
      std::vector<float> rotated(codes.format.padded());
      Rotation(100, codes.format.padded(), kSeed).Apply(c.data(), rotated.data());
      const double norms = std::sqrt(SquaredNorm(c.data(), 100) * SquaredNorm(query.data(), 100));
      EXPECT_NEAR(residual.centroid_product, InnerProduct(c.data(), query.data(), 100), 1e-6 * norms);
      EXPECT_NEAR(residual.alpha, residual.centroid_product / SquaredNorm(c.data(), 100), 1e-5);
      EXPECT_NEAR(InnerProduct(residual.y, rotated.data(), y.size()), 0, 1e-5 * norms);
    }
}

TEST(Coding, EqualRowsHaveEqualCodes) {
  Random random(8);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    Codes codes = Clouds(random, metric, bits, dimensions, 0, 10);
    codes.rows.assign(70, codes.rows[3]);
    const std::vector<std::byte> bytes = codes.Encode();
    const size_t row_bytes = codes.format.RowBytes();
    for (size_t i = 1; i < 70; ++i)
      ASSERT_EQ(std::memcmp(bytes.data(), &bytes[i * row_bytes], row_bytes), 0);
    const std::vector<float> bounds = codes.Bounds(QueryNear(random, codes, 0));
    // Groups that are full and the one that is not, alike.
    for (float bound : bounds) ASSERT_EQ(bound, bounds[0]);
  });
}

// A row on its centroid: the bound is the truth.
TEST(Coding, ZeroResidual) {
  Random random(9);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    Codes codes = Clouds(random, metric, bits, dimensions, 0, 10);
    codes.rows.assign(3, codes.rows[0]);
    codes.mean.assign(dimensions, 0.0f);
    ToRoutingSpace(metric, codes.rows[0].data(), dimensions, codes.centroid.data());
    const auto factors = Load<CodeFactors>(codes.Encode().data());
    EXPECT_EQ(factors.a, 0);
    EXPECT_EQ(factors.s, 0);
    EXPECT_EQ(factors.e, 0);
    for (int i = 0; i < 5; ++i) {
      const std::vector<float> query = QueryNear(random, codes, 0);
      const double exact = codes.Exact(query, 0);
      for (float bound : codes.Bounds(query)) {
        EXPECT_FALSE(Above(codes, query, 0, bound));
        EXPECT_NEAR(bound, exact, 1e-5 * Magnitude(codes, query, 0));
      }
    }
    // The query, too.
    for (float bound : codes.Bounds(codes.rows[0])) EXPECT_NEAR(bound, codes.Exact(codes.rows[0], 0), 1e-4 * dimensions);
  });
}

TEST(Coding, CentroidOfNoLength) {
  Random random(10);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    Codes codes = Clouds(random, metric, bits, dimensions, 0);
    codes.mean.assign(dimensions, 0.0f);
    codes.centroid.assign(dimensions, 0.0f);
    const std::vector<float> query = QueryNear(random, codes, 0);
    std::vector<float> y;
    EXPECT_EQ(codes.Residual(query, &y).alpha, 0);
    const std::vector<float> bounds = codes.Bounds(query);
    size_t above = 0;
    for (size_t i = 0; i < bounds.size(); ++i) {
      ASSERT_TRUE(std::isfinite(bounds[i]));
      above += Above(codes, query, i, bounds[i]);
    }
    EXPECT_LE(above, bounds.size() / 8);
    // The zero query is at no angle to anything; else its bound is right.
    const std::vector<float> zero(dimensions, 0.0f);
    const std::vector<float> of_zero = codes.Bounds(zero);
    for (size_t i = 0; i < bounds.size(); ++i) {
      ASSERT_FALSE(std::isnan(of_zero[i]));
      if (metric != Metric::kCosine) {
        const double exact = codes.Exact(zero, i);
        ASSERT_LE(of_zero[i], exact + 1e-30);
        ASSERT_NEAR(of_zero[i], exact, 1e-5 * exact + 1e-30);
      }
    }
  });
}

// Squares of these overflow or vanish in float32. A bound may then say nothing, but never too much, and never NaN.
TEST(Coding, HugeAndTinyValues) {
  Random random(11);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    const float scales[] = {1e-45f, 1e-30f, 1e-20f, 1, 1e18f, 1e20f, 3e38f};
    for (float row_scale : scales)
      for (float query_scale : scales) {
        Codes codes = Clouds(random, metric, bits, dimensions, 0, 40);
        for (size_t i = 0; i < codes.rows.size(); ++i)
          for (float& x : codes.rows[i]) x *= 0.5f * row_scale;
        codes.Train();
        std::vector<float> query = UniformVector(random, dimensions);
        for (float& x : query) x *= query_scale;
        const std::vector<float> bounds = codes.Bounds(query);
        size_t above = 0;
        for (size_t i = 0; i < bounds.size(); ++i) {
          ASSERT_FALSE(std::isnan(bounds[i])) << row_scale << ' ' << query_scale;
          ASSERT_LT(bounds[i], kInfinity) << row_scale << ' ' << query_scale;
          above += Above(codes, query, i, bounds[i]);
        }
        // Those that are no normal float32 have hardly a digit.
        if (std::min(row_scale, query_scale) < 1e-38f) continue;
        EXPECT_LE(above, dimensions < 16 ? 14u : 8u) << row_scale << ' ' << query_scale;
      }
  });
}

// One row or query among others, and centroids, of which some are huge: what overflows does not spoil the others.
TEST(Coding, HugeRowAmongOthers) {
  Random random(12);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    Codes codes = Clouds(random, metric, bits, dimensions, 0, 40);
    const std::vector<float> query = QueryNear(random, codes, 0);
    const std::vector<float> before = codes.Bounds(query);
    codes.rows[17].assign(dimensions, 1e20f);
    codes.rows[18].assign(dimensions, -3e38f);
    const std::vector<float> bounds = codes.Bounds(query);
    for (size_t i = 0; i < bounds.size(); ++i) {
      if (i == 17 || i == 18) {
        ASSERT_FALSE(std::isnan(bounds[i]));
        // Under cosine it is a row like any other.
        ASSERT_TRUE(metric == Metric::kCosine || bounds[i] <= codes.Exact(query, i));
      } else {
        ASSERT_EQ(bounds[i], before[i]) << i;
      }
    }
    codes.centroid.assign(dimensions, 1e25f);
    for (float bound : codes.Bounds(query)) ASSERT_FALSE(std::isnan(bound));
    codes.mean.assign(dimensions, -3e38f);
    for (float bound : codes.Bounds(query)) ASSERT_FALSE(std::isnan(bound));
  });
}

TEST(Coding, TinyCentroidUnderInnerProduct) {
  Random random(13);
  for (float scale : {1e-45f, 1e-40f, 1e-30f, 1e-20f})
    for (uint32_t bits : {1u, 4u}) {
      Codes codes = Clouds(random, Metric::kInnerProduct, bits, 100, 0);
      codes.mean.assign(100, 0.0f);
      codes.centroid = UniformVector(random, 100);
      for (float& x : codes.centroid) x *= scale;
      const std::vector<float> query = QueryNear(random, codes, 0);
      const std::vector<float> bounds = codes.Bounds(query);
      size_t above = 0;
      for (size_t i = 0; i < bounds.size(); ++i) {
        ASSERT_FALSE(std::isnan(bounds[i])) << scale;
        above += Above(codes, query, i, bounds[i]);
      }
      EXPECT_LE(above, bounds.size() / 10) << scale;
    }
}

TEST(Coding, NegativeZeroIsZero) {
  Random random(14);
  ForEachFormat([&](Metric metric, uint32_t bits, uint32_t dimensions) {
    Codes codes = Clouds(random, metric, bits, dimensions, 0, 40);
    std::vector<float> query = QueryNear(random, codes, 0);
    const auto set = [&](float zero) {
      for (size_t i = 0; i < codes.rows.size(); ++i)
        if (i % 3 == 0) codes.rows[i].assign(dimensions, zero);
        else codes.rows[i][dimensions / 2] = zero;
      query[0] = zero;
      codes.mean.assign(dimensions, zero);
      codes.centroid.assign(dimensions, zero);
    };
    set(0.0f);
    const std::vector<float> bounds = codes.Bounds(query);
    set(-0.0f);
    const std::vector<float> same = codes.Bounds(query);
    for (size_t i = 0; i < bounds.size(); ++i) ASSERT_EQ(bounds[i], same[i]) << i;
  });
}

}  // namespace
}  // namespace ivfremote
