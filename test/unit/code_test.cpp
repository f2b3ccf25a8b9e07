#include "core/code.h"

#include <hwy/targets.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "core/rotation.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

constexpr uint32_t kWidths[] = {1, 2, 4, 8};

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Encoded {
  CodeFactors factors;
  ByteVector code;
};

Encoded Encode(Metric metric, uint32_t bits, const std::vector<float>& residual, double centroid_product = 0) {
  const auto padded = static_cast<uint32_t>(residual.size());
  Encoded encoded;
  encoded.code.assign(CodeBytes(padded, bits) + 1, std::byte{0x5a});
  encoded.factors = EncodeResidual(metric, padded, bits, residual.data(), centroid_product, encoded.code.data());
  EXPECT_EQ(encoded.code.back(), std::byte{0x5a});
  encoded.code.pop_back();
  return encoded;
}

// v of a code.
std::vector<float> Integers(const ByteVector& code, uint32_t bits) {
  std::vector<float> v(code.size() * 8 / bits);
  DecodeResidual(static_cast<uint32_t>(v.size()), bits, code.data(), 1, v.data());
  return v;
}

template <class A, class B>
double Product(const A& a, const B& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double Similarity(const std::vector<float>& u, const ByteVector& code, uint32_t bits) {
  const std::vector<float> v = Integers(code, bits);
  return Product(v, u) / std::sqrt(Product(v, v) * Product(u, u));
}

// Normally distributed, by Box and Muller.
float Normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(static_cast<double>((random() >> 11) + 1) * 0x1p-53));
  return static_cast<float>(radius * std::cos(std::acos(-1.0) * Uniform(random)));
}

std::vector<float> NormalVector(Random& random, size_t n) {
  std::vector<float> values(n);
  for (float& value : values) value = Normal(random);
  return values;
}

// Runs each test once for every instruction set that this machine has.
class CodeTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  static void Choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(CodeTest, FactorsBelongToTheCode) {
  Random random(51);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : {8u, 16u, 24u, 32u, 40u, 48u, 104u, 112u, 784u, 1000u}) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      for (int i = 0; i < 20; ++i) {
        const std::vector<float> u = NormalVector(random, padded);
        const Encoded l2 = Encode(Metric::kL2, bits, u);
        const std::vector<float> v = Integers(l2.code, bits);
        const double squared_norm = Product(u, u);
        const double s = squared_norm / Product(v, u);
        const double e = std::sqrt(std::max(0.0, s * s * Product(v, v) - squared_norm) / (padded - 1));
        EXPECT_FLOAT_EQ(l2.factors.a, static_cast<float>(squared_norm));
        EXPECT_FLOAT_EQ(l2.factors.s, static_cast<float>(s));
        EXPECT_GE(l2.factors.e, e * (1 - 1e-9));
        EXPECT_LE(l2.factors.e, e * (1 + 1e-9) * (1 + 0x1p-22));

        const Encoded cosine = Encode(Metric::kCosine, bits, u, 3);
        EXPECT_EQ(cosine.code, l2.code);
        EXPECT_EQ(cosine.factors.a, l2.factors.a);
        const Encoded product = Encode(Metric::kInnerProduct, bits, u, -3.25);
        EXPECT_EQ(product.code, l2.code);
        EXPECT_EQ(product.factors.a, -3.25f);
        EXPECT_EQ(product.factors.s, l2.factors.s);
        EXPECT_EQ(product.factors.e, l2.factors.e);
      }
    }
  }
}

TEST_P(CodeTest, OneBitIsTheSign) {
  Random random(52);
  std::vector<float> u = NormalVector(random, 112);
  u[0] = 0.0f;
  u[1] = -0.0f;
  u[2] = -1e-45f;
  u[3] = 1e-45f;
  u[4] = -3e38f;
  const std::vector<float> v = Integers(Encode(Metric::kInnerProduct, 1, u).code, 1);
  for (size_t i = 0; i < u.size(); ++i) EXPECT_EQ(v[i], u[i] >= 0 ? 1 : -1) << u[i];
}

// What the published codes reach, by measurement: a worse search for the scale shows here.
TEST_P(CodeTest, DirectionsAreAsNearAsTheyShouldBe) {
  struct {
    uint32_t bits;
    double at_128, at_784;
  } const expected[] = {{1, 0.800, 0.798}, {2, 0.9405, 0.9390}, {4, 0.9950, 0.9943}, {8, 0.99998, 0.99997}};
  Random random(53);
  for (const auto& width : expected) {
    for (uint32_t padded : {128u, 784u}) {
      double sum = 0;
      for (int i = 0; i < 100; ++i) {
        const std::vector<float> u = NormalVector(random, padded);
        sum += Similarity(u, Encode(Metric::kL2, width.bits, u).code, width.bits);
      }
      const double mean = padded == 128 ? width.at_128 : width.at_784;
      EXPECT_NEAR(sum / 100, mean, (1 - mean) / 20) << width.bits << " bits, padded " << padded;
    }
  }
}

// Rows as pictures are: many zeros, no negative value, neighbours alike; and what `offset` adds to every coordinate.
std::vector<float> Picture(Random& random, uint32_t dimensions, float offset) {
  std::vector<float> row(dimensions);
  float brightness = 0;
  for (float& x : row) {
    brightness = 0.7f * brightness + 0.3f * Normal(random);
    x = std::max(0.0f, brightness) + offset;
  }
  return row;
}

// The estimate of a squared distance is unbiased and its error is what e says, whatever the rows look like.
TEST_P(CodeTest, ErrorsAreWhatTheFactorsSay) {
  for (uint32_t bits : kWidths) {
    for (uint32_t dimensions : {100u, 200u, 784u}) {
      for (float offset : {0.0f, 1000.0f}) {
        Random random(54);
        const Rotation rotation(dimensions, PaddedDimensions(dimensions, bits), 55);
        const auto rotated_residual = [&](const std::vector<float>& x, const std::vector<float>& c) {
          std::vector<float> residual(dimensions);
          for (uint32_t i = 0; i < dimensions; ++i) residual[i] = x[i] - c[i];
          std::vector<float> u(rotation.padded());
          rotation.Apply(residual.data(), u.data());
          return u;
        };
        // Near the mean of the rows, or residuals and queries were alike and the errors smaller.
        const std::vector<float> centroid(dimensions, 0.17f + offset);
        std::vector<std::vector<float>> queries(40);
        std::vector<std::vector<float>> ys;
        for (std::vector<float>& query : queries) {
          query = Picture(random, dimensions, offset);
          ys.push_back(rotated_residual(query, centroid));
        }
        double sum = 0;
        double squares = 0;
        int below = 0;
        int pairs = 0;
        for (int row = 0; row < 250; ++row) {
          const std::vector<float> x = Picture(random, dimensions, offset);
          const Encoded encoded = Encode(Metric::kL2, bits, rotated_residual(x, centroid));
          const std::vector<float> v = Integers(encoded.code, bits);
          for (size_t i = 0; i < queries.size(); ++i) {
            double truth = 0;
            for (uint32_t k = 0; k < dimensions; ++k) truth += std::pow(static_cast<double>(x[k]) - queries[i][k], 2);
            const double norm = std::sqrt(Product(ys[i], ys[i]));
            const double estimate = encoded.factors.a + norm * norm - 2 * encoded.factors.s * Product(v, ys[i]);
            const double z = (estimate - truth) / (2 * encoded.factors.e * norm);
            sum += z;
            squares += z * z;
            below += z > 1.9;
            ++pairs;
          }
        }
        const std::string what = std::to_string(bits) + " bits, " + std::to_string(dimensions) + " dimensions, " +
                                 "offset " +
                                 std::to_string(offset);
        EXPECT_NEAR(sum / pairs, 0, 0.1) << what;
        EXPECT_NEAR(std::sqrt(squares / pairs), 1, 0.1) << what;
        EXPECT_NEAR(static_cast<double>(below) / pairs, 0.03, 0.01) << what;
      }
    }
  }
}

TEST_P(CodeTest, ZeroResidual) {
  for (uint32_t bits : kWidths) {
    const Encoded zero = Encode(Metric::kL2, bits, std::vector<float>(112, 0.0f));
    const Encoded negative = Encode(Metric::kCosine, bits, std::vector<float>(112, -0.0f));
    const Encoded product = Encode(Metric::kInnerProduct, bits, std::vector<float>(112, 0.0f), 2.5);
    EXPECT_EQ(negative.code, zero.code);
    EXPECT_EQ(product.code, zero.code);
    EXPECT_EQ(zero.factors.a, 0.0f);
    EXPECT_EQ(negative.factors.a, 0.0f);
    EXPECT_EQ(product.factors.a, 2.5f);
    for (const Encoded& encoded : {zero, negative, product}) {
      EXPECT_EQ(encoded.factors.s, 0.0f);
      EXPECT_EQ(encoded.factors.e, 0.0f);
      std::vector<float> decoded(112, kNaN);
      DecodeResidual(112, bits, encoded.code.data(), encoded.factors.s, decoded.data());
      for (float x : decoded) ASSERT_EQ(x, 0.0f);
    }
  }
}

TEST_P(CodeTest, EqualRowsHaveEqualCodes) {
  Random random(56);
  for (uint32_t bits : kWidths) {
    const std::vector<float> u = NormalVector(random, 112);
    const Encoded first = Encode(Metric::kL2, bits, u);
    const Encoded second = Encode(Metric::kL2, bits, std::vector<float>(u));
    EXPECT_EQ(first.code, second.code);
    EXPECT_EQ(0, std::memcmp(&first.factors, &second.factors, sizeof first.factors));
  }
}

TEST_P(CodeTest, ScalingARowKeepsItsCode) {
  Random random(57);
  for (uint32_t bits : kWidths) {
    const std::vector<float> u = NormalVector(random, 112);
    const Encoded plain = Encode(Metric::kInnerProduct, bits, u);
    for (float scale : {0x1p-40f, 0x1p-20f, 0x1p50f, 0x1p100f}) {
      std::vector<float> scaled = u;
      for (float& x : scaled) x *= scale;
      const Encoded encoded = Encode(Metric::kInnerProduct, bits, scaled);
      EXPECT_EQ(encoded.code, plain.code) << bits << ' ' << scale;
      EXPECT_EQ(encoded.factors.s, plain.factors.s * scale);
      EXPECT_EQ(encoded.factors.e, plain.factors.e * scale);
    }
  }
}

bool Unbounded(const CodeFactors& factors) { return factors.a == 0 && factors.s == 0 && factors.e == kInfinity; }

TEST_P(CodeTest, WhatIsNotFiniteIsUnbounded) {
  Random random(58);
  for (uint32_t bits : kWidths) {
    std::vector<float> u = NormalVector(random, 112);
    EXPECT_TRUE(Unbounded(Encode(Metric::kInnerProduct, bits, u, 1e39).factors));
    EXPECT_TRUE(Unbounded(Encode(Metric::kInnerProduct, bits, u, -kInfinity).factors));
    EXPECT_TRUE(Unbounded(Encode(Metric::kInnerProduct, bits, u, kNaN).factors));
    EXPECT_FALSE(Unbounded(Encode(Metric::kL2, bits, u, kNaN).factors));
    for (float bad : {kInfinity, -kInfinity, kNaN}) {
      for (size_t at : {0, 50, 111}) {
        std::vector<float> broken = u;
        broken[at] = bad;
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
          const Encoded encoded = Encode(metric, bits, broken);
          EXPECT_TRUE(Unbounded(encoded.factors)) << bad << " at " << at;
          EXPECT_EQ(encoded.code, ByteVector(encoded.code.size(), std::byte{0}));
        }
      }
    }
    for (float& x : u) x *= 1e20f;
    EXPECT_TRUE(Unbounded(Encode(Metric::kL2, bits, u).factors));
    EXPECT_FALSE(Unbounded(Encode(Metric::kInnerProduct, bits, u).factors));
  }
}

// Values of every magnitude in one residual, and residuals far from what a rotation makes.
TEST_P(CodeTest, FactorsAreNeverNotANumber) {
  Random random(59);
  for (uint32_t bits : kWidths) {
    std::vector<std::vector<float>> residuals;
    for (float x : {1e-45f, 1e-42f, 1e-38f, 1e-30f, 1.0f, 1e15f, 1e20f, FLT_MAX}) {
      residuals.emplace_back(48, x);
      residuals.emplace_back(48, -x);
      residuals.emplace_back(48, 0.0f)[17] = x;
      residuals.emplace_back(48, 1.0f)[47] = -x;
      residuals.push_back(NormalVector(random, 48));
      for (float& y : residuals.back()) y = std::clamp(y * x, -FLT_MAX, FLT_MAX);
    }
    for (int i = 0; i < 200; ++i) {
      residuals.emplace_back(48);
      for (float& x : residuals.back()) x = std::ldexp(Uniform(random), static_cast<int>(Below(random, 277)) - 149);
    }
    for (const std::vector<float>& u : residuals) {
      const double norm = std::sqrt(Product(u, u));
      for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
        const Encoded encoded = Encode(metric, bits, u);
        if (Unbounded(encoded.factors)) {
          // Too long, or for inner product too short.
          EXPECT_TRUE(norm > 1e19 || (metric == Metric::kInnerProduct && norm < 1e-14)) << norm;
          continue;
        }
        EXPECT_TRUE(std::isfinite(encoded.factors.a));
        EXPECT_TRUE(std::isfinite(encoded.factors.s) && encoded.factors.s >= 0);
        EXPECT_TRUE(std::isfinite(encoded.factors.e) && encoded.factors.e >= 0);
        // A code is never farther from the row than at a right angle: the sign of each large value is right.
        EXPECT_GT(Similarity(u, encoded.code, bits), 0.1) << bits << ' ' << norm;
      }
    }
  }
}

// Of a residual that a code meets exactly, nothing is left but rounding.
TEST_P(CodeTest, ExactCodes) {
  Random random(60);
  std::vector<float> u(112);
  for (float& x : u) x = (random() & 1) != 0 ? 0.75f : -0.75f;
  for (uint32_t bits : kWidths) {
    const Encoded encoded = Encode(Metric::kL2, bits, u);
    EXPECT_LT(encoded.factors.e, 1e-6) << bits;
    std::vector<float> decoded(112);
    DecodeResidual(112, bits, encoded.code.data(), encoded.factors.s, decoded.data());
    for (size_t i = 0; i < u.size(); ++i) EXPECT_FLOAT_EQ(decoded[i], u[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, CodeTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace ivfremote
