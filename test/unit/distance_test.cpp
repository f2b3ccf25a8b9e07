#include "core/distance.h"

#include <hwy/targets.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <utility>

#include "support.h"

namespace ivfremote {
namespace {

// A value and the sum of its terms' magnitudes, in long double: eleven bits more than the code under test has.
struct Reference {
  long double value = 0;
  long double magnitude = 0;
};

Reference ReferenceSquaredL2(const std::vector<float>& a, const std::vector<float>& b) {
  Reference sum;
  for (size_t i = 0; i < a.size(); ++i) {
    const long double difference = static_cast<long double>(a[i]) - b[i];
    sum.value += difference * difference;
  }
  sum.magnitude = sum.value;
  return sum;
}

Reference ReferenceInnerProduct(const std::vector<float>& a, const std::vector<float>& b) {
  Reference sum;
  for (size_t i = 0; i < a.size(); ++i) {
    const long double product = static_cast<long double>(a[i]) * b[i];
    sum.value += product;
    sum.magnitude += std::abs(product);
  }
  return sum;
}

// The bound that distance.h promises.
testing::AssertionResult WithinBound(double actual, const Reference& expected, size_t n) {
  const long double bound = static_cast<long double>(n + 3) * 0x1p-53L * expected.magnitude;
  if (std::isfinite(actual) && std::abs(actual - expected.value) <= bound) return testing::AssertionSuccess();
  return testing::AssertionFailure() << actual << ", not " << static_cast<double>(expected.value) << " +- "
                                     << static_cast<double>(bound);
}

// Runs each test once for every instruction set that this machine has.
class DistanceTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  static void Choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  static void ExpectRight(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
    const size_t n = a.size();
    EXPECT_TRUE(WithinBound(SquaredL2(a.data(), b.data(), n), ReferenceSquaredL2(a, b), n)) << what << ", n = " << n;
    EXPECT_TRUE(WithinBound(InnerProduct(a.data(), b.data(), n), ReferenceInnerProduct(a, b), n))
        << what << ", n = " << n;
    EXPECT_TRUE(WithinBound(SquaredNorm(a.data(), n), ReferenceInnerProduct(a, a), n)) << what << ", n = " << n;
    const double exact = SquaredL2(a.data(), b.data(), n);
    EXPECT_NEAR(RoughSquaredL2(a.data(), b.data(), n), exact, 1e-4 * exact) << what << ", n = " << n;
  }
};

std::vector<size_t> Lengths() {
  std::vector<size_t> lengths;
  for (size_t n = 1; n <= 100; ++n) lengths.push_back(n);
  lengths.insert(lengths.end(), {784, 1536, 15999, 16000});
  return lengths;
}

TEST_P(DistanceTest, RandomValues) {
  Random random(13);
  for (size_t n : Lengths()) ExpectRight(UniformVector(random, n), UniformVector(random, n), "uniform");
}

TEST_P(DistanceTest, ValuesOfEveryMagnitude) {
  Random random(14);
  for (size_t n : Lengths()) {
    std::vector<float> a(n);
    std::vector<float> b(n);
    for (auto* v : {&a, &b})
      for (float& x : *v) x = std::ldexp(Uniform(random), static_cast<int>(Below(random, 270)) - 145);
    ExpectRight(a, b, "magnitudes");
  }
}

TEST_P(DistanceTest, HugeValuesDoNotOverflow) {
  for (size_t n : Lengths()) {
    ExpectRight(std::vector<float>(n, FLT_MAX), std::vector<float>(n, -FLT_MAX), "opposite corners");
    ExpectRight(std::vector<float>(n, 3e38f), std::vector<float>(n, 3e38f), "one corner");
  }
}

TEST_P(DistanceTest, TinyValuesDoNotUnderflow) {
  for (size_t n : Lengths()) {
    const std::vector<float> a(n, 1e-45f);
    const std::vector<float> b(n, -1e-45f);
    ExpectRight(a, b, "denormals");
    EXPECT_GT(SquaredNorm(a.data(), n), 0);
    EXPECT_GT(SquaredL2(a.data(), b.data(), n), 0);
  }
}

TEST_P(DistanceTest, LargeOffsetsKeepSmallDifferences) {
  Random random(15);
  for (size_t n : Lengths()) {
    std::vector<float> a(n);
    std::vector<float> b(n);
    for (size_t i = 0; i < n; ++i) {
      a[i] = 10000.0f + Uniform(random);
      b[i] = a[i] + 0.001f * static_cast<float>(Below(random, 3));
    }
    ExpectRight(a, b, "offset");
  }
}

TEST_P(DistanceTest, CancellingProducts) {
  Random random(16);
  for (size_t n : Lengths()) {
    std::vector<float> a = UniformVector(random, n);
    std::vector<float> b = UniformVector(random, n);
    for (size_t i = 0; i + 1 < n; i += 2) {
      a[i + 1] = a[i];
      b[i + 1] = -b[i];
    }
    ExpectRight(a, b, "cancelling");
  }
}

TEST_P(DistanceTest, ZerosOfEitherSign) {
  for (size_t n : Lengths()) {
    const std::vector<float> zeros(n, 0.0f);
    const std::vector<float> negative(n, -0.0f);
    EXPECT_EQ(SquaredL2(zeros.data(), negative.data(), n), 0.0);
    EXPECT_EQ(InnerProduct(zeros.data(), negative.data(), n), 0.0);
  }
}

// Rows in pages and blocks start anywhere.
TEST_P(DistanceTest, UnalignedRows) {
  Random random(17);
  const std::vector<float> a = UniformVector(random, 200);
  const std::vector<float> b = UniformVector(random, 200);
  for (size_t start = 0; start < 20; ++start) {
    const std::vector<float> x(a.begin() + static_cast<ptrdiff_t>(start),
                               a.begin() + static_cast<ptrdiff_t>(start + 77));
    const std::vector<float> y(b.begin() + 3, b.begin() + 80);
    EXPECT_EQ(SquaredL2(&a[start], &b[3], 77), SquaredL2(x.data(), y.data(), 77)) << start;
  }
}

TEST_P(DistanceTest, DistanceFromItself) {
  Random random(18);
  for (size_t n : Lengths()) {
    for (float scale : {1.0f, 1e-38f, 1e38f, 1e-44f}) {
      std::vector<float> a = UniformVector(random, n);
      for (float& x : a) x *= scale;
      a[0] = scale;
      EXPECT_EQ(SquaredL2(a.data(), a.data(), n), 0.0);
      EXPECT_EQ(CosineDistance(a.data(), SquaredNorm(a.data(), n), a.data(), n), 0.0) << n << ' ' << scale;
    }
  }
}

TEST_P(DistanceTest, Cosine) {
  Random random(19);
  for (size_t n : Lengths()) {
    for (float scale : {1.0f, 1e-40f, 3e38f}) {
      std::vector<float> a = UniformVector(random, n);
      std::vector<float> b = UniformVector(random, n);
      a[0] = b[0] = 1;
      for (float& x : b) x *= scale;
      const long double similarity = ReferenceInnerProduct(a, b).value /
                                     std::sqrt(ReferenceInnerProduct(a, a).value * ReferenceInnerProduct(b, b).value);
      const double distance = CosineDistance(a.data(), SquaredNorm(a.data(), n), b.data(), n);
      EXPECT_NEAR(distance, static_cast<double>(1 - similarity), static_cast<double>(n + 8) * 0x1p-52)
          << n << ' ' << scale;
      EXPECT_GE(distance, 0);
      EXPECT_LE(distance, 2);
    }
  }
}

TEST_P(DistanceTest, CosineStaysBetween0And2) {
  Random random(20);
  for (int i = 0; i < 2000; ++i) {
    const size_t n = 1 + Below(random, 40);
    const std::vector<float> a = UniformVector(random, n);
    std::vector<float> b = a;
    const float factor = Uniform(random);
    if (factor == 0) continue;
    for (float& x : b) x *= factor;
    if (SquaredNorm(a.data(), n) == 0 || SquaredNorm(b.data(), n) == 0) continue;
    const double distance = CosineDistance(a.data(), SquaredNorm(a.data(), n), b.data(), n);
    ASSERT_GE(distance, 0.0);
    ASSERT_LE(distance, 2.0);
    ASSERT_NEAR(distance, factor > 0 ? 0.0 : 2.0, 1e-10);
  }
}

TEST_P(DistanceTest, CosineOfZeroIsNotANumber) {
  for (size_t n : {1, 7, 100}) {
    const std::vector<float> zero(n, -0.0f);
    const std::vector<float> one(n, 1.0f);
    EXPECT_TRUE(std::isnan(CosineDistance(zero.data(), 0, one.data(), n)));
    EXPECT_TRUE(std::isnan(CosineDistance(one.data(), SquaredNorm(one.data(), n), zero.data(), n)));
    EXPECT_TRUE(std::isnan(CosineDistance(zero.data(), 0, zero.data(), n)));
  }
}

TEST_P(DistanceTest, ScorerGivesTheOperatorsValues) {
  const float query[] = {3, 4};
  const float row[] = {0, 4};
  EXPECT_EQ(Scorer(Metric::kL2, query, 2).Distance(row), 3.0);
  EXPECT_EQ(Scorer(Metric::kInnerProduct, query, 2).Distance(row), -16.0);
  EXPECT_DOUBLE_EQ(Scorer(Metric::kCosine, query, 2).Distance(row), 1 - 16.0 / 20);
}

TEST_P(DistanceTest, ScorerEqualsTheFunctionsToTheLastBit) {
  Random random(21);
  for (size_t n : Lengths()) {
    const std::vector<float> a = UniformVector(random, n);
    const std::vector<float> b = UniformVector(random, n);
    EXPECT_EQ(Scorer(Metric::kL2, a.data(), n).Distance(b.data()), std::sqrt(SquaredL2(a.data(), b.data(), n)));
    EXPECT_EQ(Scorer(Metric::kInnerProduct, a.data(), n).Distance(b.data()), -InnerProduct(a.data(), b.data(), n));
    EXPECT_EQ(Scorer(Metric::kCosine, a.data(), n).Distance(b.data()),
              CosineDistance(a.data(), SquaredNorm(a.data(), n), b.data(), n));
  }
}

TEST_P(DistanceTest, OnlyAZeroQueryUnderCosineIsUnordered) {
  const float zero[] = {0, -0.0f};
  const float tiny[] = {0, 1e-45f};
  EXPECT_FALSE(Scorer(Metric::kCosine, zero, 2).ordered());
  EXPECT_TRUE(Scorer(Metric::kCosine, tiny, 2).ordered());
  EXPECT_TRUE(Scorer(Metric::kL2, zero, 2).ordered());
  EXPECT_TRUE(Scorer(Metric::kInnerProduct, zero, 2).ordered());
}

// What an operator makes of two vectors that sums in float32, from the first to the last or from the last to the first.
double InFloat32(Metric metric, const std::vector<float>& a, const std::vector<float>& b, bool backwards) {
  float squared_distance = 0;
  float product = 0;
  float norm_a = 0;
  float norm_b = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    const size_t i = backwards ? a.size() - 1 - k : k;
    squared_distance += (a[i] - b[i]) * (a[i] - b[i]);
    product += a[i] * b[i];
    norm_a += a[i] * a[i];
    norm_b += b[i] * b[i];
  }
  if (metric == Metric::kL2) return std::sqrt(double{squared_distance});
  if (metric == Metric::kInnerProduct) return -product;
  return 1 - std::clamp(product / std::sqrt(double{norm_a} * norm_b), -1.0, 1.0);
}

TEST_P(DistanceTest, BoundOfFloat32Operators) {
  Random random(37);
  for (size_t n : Lengths()) {
    // Roundings that add up, products that cancel each other, and what is lost below float32.
    std::vector<float> same = UniformVector(random, n);
    for (float& x : same) x = 0.1f + x * 1e-6f;
    std::vector<float> near = same;
    near[n / 2] += 1e-4f;
    std::vector<float> mixed = UniformVector(random, n);
    for (size_t i = 0; i < n; ++i) mixed[i] *= i % 2 == 0 ? 1000.0f : 1e-3f;
    const std::vector<float> tiny(n, 1e-23f);
    const std::vector<float> vectors[] = {same, near, mixed, UniformVector(random, n), tiny};
    for (const auto& a : vectors)
      for (const auto& b : vectors)
        for (const Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
          const Scorer scorer(metric, a.data(), n);
          const double exact = scorer.Distance(b.data());
          const double least = scorer.LeastInFloat32(exact, b.data());
          EXPECT_LE(least, exact);
          EXPECT_GE(least, exact - 4e-3 * (std::abs(exact) + std::sqrt(ReferenceInnerProduct(a, a).value *
                                                                      ReferenceInnerProduct(b, b).value) + 1)) << n;
          for (const bool backwards : {false, true}) {
            const double distance = InFloat32(metric, a, b, backwards);
            // Of norms that float32 has few digits for, cosines say nothing.
            if (metric == Metric::kCosine && (a == tiny || b == tiny)) continue;
            EXPECT_GE(distance, least) << n << ' ' << static_cast<int>(metric);
          }
        }
  }
}

TEST_P(DistanceTest, SubtractScaledSum) {
  Random random(29);
  for (size_t n : Lengths()) {
    const std::vector<float> a = UniformVector(random, n);
    const std::vector<float> c = UniformVector(random, n);
    // Where a - b would lose c's digits in float32.
    std::vector<float> b = UniformVector(random, n);
    for (float& x : b) x *= 1e6f;
    for (const double scale : {0.0, 1.0, -0.37, 1e20}) {
      std::vector<float> out(n);
      SubtractScaledSum(a.data(), scale, b.data(), c.data(), n, out.data());
      for (size_t i = 0; i < n; ++i) {
        const double exact = a[i] - scale * (double{b[i]} + c[i]);
        EXPECT_NEAR(out[i], exact, 1e-7 * std::abs(exact) + 1e-9) << n << ' ' << scale;
      }
    }
  }
}

TEST_P(DistanceTest, AllFinite) {
  const float finite[] = {0.0f, -0.0f, 1e-45f, 1.0f, FLT_MAX, -FLT_MAX};
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(AllFinite(finite, 0));
  for (size_t n : Lengths()) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = finite[i % std::size(finite)];
    EXPECT_TRUE(AllFinite(values.data(), n)) << n;
    const size_t step = n <= 100 ? 1 : 499;
    for (size_t at = 0; at < n; at += step) {
      for (float bad : {kInfinity, -kInfinity, kNaN, -kNaN}) {
        const float good = std::exchange(values[at], bad);
        ASSERT_FALSE(AllFinite(values.data(), n)) << bad << " at " << at << " of " << n;
        values[at] = good;
      }
    }
    // Values that would cancel each other.
    if (n >= 2) {
      values[0] = kInfinity;
      values[n - 1] = -kInfinity;
      EXPECT_FALSE(AllFinite(values.data(), n));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, DistanceTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace ivfremote
