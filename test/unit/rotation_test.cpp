#include "core/rotation.h"

#include <hwy/targets.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "core/checksum.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr uint64_t kSeed = 20260101;
constexpr uint32_t kDimensions[] = {1, 2, 3, 16, 17, 31, 64, 100, 128, 200, 784, 1000, 1536, 4096, 16000};

// The rotation again, from the words of rotation.h and in plain loops.
std::vector<float> ByTheWords(const std::vector<float>& in, uint64_t seed) {
  const size_t padded = (in.size() + 15) / 16 * 16;
  const size_t power = std::bit_floor(padded);
  std::vector<float> x = in;
  x.resize(padded);
  for (size_t round = 0; round < 4; ++round) {
    for (size_t j = 0; j < padded; ++j) {
      const size_t n = round * padded + j;
      uint64_t z = seed + (n / 64 + 1) * 0x9e3779b97f4a7c15;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      z ^= z >> 31;
      if (z >> n % 64 & 1) x[j] = -x[j];
    }
    float* y = x.data() + (round % 2 == 0 ? 0 : padded - power);
    for (size_t h = 1; h < power; h *= 2)
      for (size_t i = 0; i < power; ++i)
        if ((i & h) == 0) std::tie(y[i], y[i + h]) = std::make_tuple(y[i] + y[i + h], y[i] - y[i + h]);
    for (size_t i = 0; i < power; ++i) y[i] *= static_cast<float>(1 / std::sqrt(static_cast<double>(power)));
    const size_t half = padded / 2;
    for (size_t i = 0; i < half && power != padded && round % 2 == 1; ++i) {
      const float sum = x[i] + x[i + half];
      const float difference = x[i] - x[i + half];
      x[i] = sum * 0.70710678f;
      x[i + half] = difference * 0.70710678f;
    }
  }
  return x;
}

double Product(const std::vector<float>& a, const std::vector<float>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

std::vector<float> Rotated(const Rotation& rotation, const std::vector<float>& in) {
  std::vector<float> out(rotation.padded(), std::numeric_limits<float>::quiet_NaN());
  rotation.Apply(in.data(), out.data());
  return out;
}

// Runs each test once for every instruction set that this machine has.
class RotationTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  static void Choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(RotationTest, IsWhatItsWordsSayToTheLastBit) {
  Random random(41);
  for (uint32_t d : kDimensions) {
    for (uint64_t seed : {uint64_t{0}, kSeed, ~uint64_t{0}}) {
      const std::vector<float> in = UniformVector(random, d);
      EXPECT_EQ(Rotated(Rotation(d, seed), in), ByTheWords(in, seed)) << d << ' ' << seed;
    }
  }
}

// What segments in the wild rely on: if this test fails, the change breaks them.
TEST_P(RotationTest, IsTheSameForEver) {
  struct Golden {
    uint32_t dimensions;
    uint32_t crc32c;  // of the output
    std::array<float, 4> first;
  };
  const Golden goldens[] = {
      {1, 0xc03b7061, {0x1.2cp-2f, 0x1.9p-4f, 0x1.9p-4f, -0x1.9p-4f}},
      {3, 0xf3596ded, {0x1.0bp-2f, 0x1.03p-2f, 0x1.64p-4f, 0x1.28p-5f}},
      {100, 0x4bca4d42, {-0x1.0f74p-1f, -0x1.568p-6f, -0x1.68acp-1f, -0x1.b1c006p-5f}},
      {784, 0xc798f0f0, {0x1.5b6a3ep-3f, -0x1.f21fd6p-4f, -0x1.b25c48p-1f, 0x1.943908p-3f}},
      {1536, 0x2f6f530d, {0x1.7b11f6p-3f, -0x1.2b5404p-3f, -0x1.10297ep+0f, -0x1.18318p-2f}},
      {16000, 0x7ea70be2, {0x1.ec81cap-6f, 0x1.88acd6p-2f, 0x1.b62c84p-5f, 0x1.e96adp-3f}},
  };
  for (const Golden& golden : goldens) {
    std::vector<float> in(golden.dimensions);
    for (uint32_t i = 0; i < golden.dimensions; ++i) in[i] = (static_cast<float>(i * 37 % 101) - 50) / 64;
    const std::vector<float> out = Rotated(Rotation(golden.dimensions, kSeed), in);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(out[i], golden.first[i]) << golden.dimensions << ' ' << i;
    EXPECT_EQ(Crc32c(std::as_bytes(std::span(out))), golden.crc32c) << golden.dimensions;
  }
}

TEST_P(RotationTest, KeepsLengthsAndProducts) {
  Random random(42);
  for (uint32_t d : kDimensions) {
    const Rotation rotation(d, kSeed);
    const std::vector<float> a = UniformVector(random, d);
    const std::vector<float> b = UniformVector(random, d);
    const std::vector<float> rotated_a = Rotated(rotation, a);
    const std::vector<float> rotated_b = Rotated(rotation, b);
    EXPECT_NEAR(Product(rotated_a, rotated_a), Product(a, a), 1e-5 * Product(a, a)) << d;
    EXPECT_NEAR(Product(rotated_a, rotated_b), Product(a, b), 1e-5 * std::sqrt(Product(a, a) * Product(b, b))) << d;
  }
}

TEST_P(RotationTest, InverseUndoesIt) {
  Random random(43);
  for (uint32_t d : kDimensions) {
    const Rotation rotation(d, kSeed);
    const std::vector<float> in = UniformVector(random, d);
    const std::vector<float> rotated = Rotated(rotation, in);
    std::vector<float> back(d, std::numeric_limits<float>::quiet_NaN());
    rotation.ApplyInverse(rotated.data(), back.data());
    for (uint32_t i = 0; i < d; ++i) ASSERT_NEAR(back[i], in[i], 4e-6) << d << ' ' << i;
  }
}

// Of any vector of the rotated space, also one that no row has: the inverse is the transpose.
TEST_P(RotationTest, InverseIsTheTranspose) {
  Random random(44);
  for (uint32_t d : kDimensions) {
    const Rotation rotation(d, kSeed);
    const std::vector<float> in = UniformVector(random, d);
    const std::vector<float> other = UniformVector(random, rotation.padded());
    std::vector<float> back(d);
    rotation.ApplyInverse(other.data(), back.data());
    EXPECT_NEAR(Product(Rotated(rotation, in), other), Product(in, back), 2e-6 * rotation.padded()) << d;
  }
}

// Any single coordinate, and a constant vector, end up in all coordinates alike, as from a normal distribution: its
// tail has one of 1e9 beyond 6 deviations and its fourth moment is 3.
TEST_P(RotationTest, SpreadsWhatIsConcentrated) {
  for (uint32_t d : {100u, 768u, 784u, 1008u, 1536u, 4096u, 16000u}) {
    const Rotation rotation(d, kSeed);
    std::vector<std::vector<float>> inputs(1, std::vector<float>(d, 1 / std::sqrt(static_cast<float>(d))));
    for (uint32_t at = 0; at < d; at += 1 + d / 100) inputs.emplace_back(d, 0.0f)[at] = 1;
    double sum_of_moments = 0;
    for (const std::vector<float>& in : inputs) {
      const std::vector<float> out = Rotated(rotation, in);
      const double deviation = 1 / std::sqrt(static_cast<double>(rotation.padded()));
      double largest = 0;
      for (float x : out) {
        largest = std::max(largest, std::abs(x) / deviation);
        sum_of_moments += std::pow(x / deviation, 4) / rotation.padded();
      }
      EXPECT_LT(largest, 6) << d;
    }
    EXPECT_NEAR(sum_of_moments / static_cast<double>(inputs.size()), 3, 0.15) << d;
  }
}

TEST_P(RotationTest, SeedsDiffer) {
  Random random(45);
  const std::vector<float> in = UniformVector(random, 784);
  const std::vector<float> a = Rotated(Rotation(784, 1), in);
  const std::vector<float> b = Rotated(Rotation(784, 2), in);
  EXPECT_LT(std::abs(Product(a, b)), 0.2 * Product(a, a));
}

TEST_P(RotationTest, HugeAndTinyValues) {
  Random random(46);
  for (float scale : {1e30f, 1e-30f}) {
    std::vector<float> in = UniformVector(random, 784);
    const std::vector<float> plain = Rotated(Rotation(784, kSeed), in);
    for (float& x : in) x *= scale;
    const std::vector<float> out = Rotated(Rotation(784, kSeed), in);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i] / scale, plain[i], 1e-5);
  }
  const std::vector<float> zeros = Rotated(Rotation(784, kSeed), std::vector<float>(784, -0.0f));
  for (float x : zeros) ASSERT_EQ(x, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, RotationTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace ivfremote
