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
struct Size {
  uint32_t dimensions, padded;
};
// Padded as codes of every width are, and further.
constexpr Size kSizes[] = {{1, 8},      {1, 16},     {2, 16},     {3, 16},      {7, 8},        {8, 8},       {9, 16},
                           {16, 16},    {17, 24},    {17, 32},    {24, 24},     {31, 32},      {40, 40},     {56, 56},
                           {60, 64},    {64, 64},    {100, 104},  {100, 112},   {104, 104},    {128, 128},   {136, 136},
                           {200, 200},  {200, 208},  {784, 784},  {1000, 1000}, {1000, 1008},  {1536, 1536}, {3, 1000},
                           {4096, 4096}, {16000, 16000}};
void PrintTo(const Size& size, std::ostream* out) { *out << size.dimensions << " in " << size.padded; }

Rotation RotationOf(const Size& size, uint64_t seed = kSeed) { return {size.dimensions, size.padded, seed}; }

// The rotation again, from the words of rotation.h and in plain loops.
std::vector<float> ByTheWords(const std::vector<float>& in, size_t padded, uint64_t seed) {
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
  for (const Size& size : kSizes) {
    for (uint64_t seed : {uint64_t{0}, kSeed, ~uint64_t{0}}) {
      const std::vector<float> in = UniformVector(random, size.dimensions);
      EXPECT_EQ(Rotated(RotationOf(size, seed), in), ByTheWords(in, size.padded, seed))
          << testing::PrintToString(size) << ' ' << seed;
    }
  }
}

// What segments in the wild rely on: if this test fails, the change breaks them.
TEST_P(RotationTest, IsTheSameForEver) {
  struct Golden {
    Size size;
    uint32_t crc32c;  // of the output
    std::array<float, 4> first;
  };
  const Golden goldens[] = {
      {{1, 16}, 0xc03b7061, {0x1.2cp-2f, 0x1.9p-4f, 0x1.9p-4f, -0x1.9p-4f}},
      {{3, 16}, 0xf3596ded, {0x1.0bp-2f, 0x1.03p-2f, 0x1.64p-4f, 0x1.28p-5f}},
      {{100, 112}, 0x4bca4d42, {-0x1.0f74p-1f, -0x1.568p-6f, -0x1.68acp-1f, -0x1.b1c006p-5f}},
      {{784, 784}, 0xc798f0f0, {0x1.5b6a3ep-3f, -0x1.f21fd6p-4f, -0x1.b25c48p-1f, 0x1.943908p-3f}},
      {{1536, 1536}, 0x2f6f530d, {0x1.7b11f6p-3f, -0x1.2b5404p-3f, -0x1.10297ep+0f, -0x1.18318p-2f}},
      {{8, 8}, 0x628df624, {0x1.e00022p-5f, 0x1.cffff4p-4f, -0x1.19p+0f, -0x1.3bfffcp-2f}},
      {{20, 24}, 0x519581d8, {-0x1.77fffep-2f, 0x1.fffff6p-7f, -0x1.820002p-2f, -0x1.a7fffep-4f}},
      {{100, 104}, 0x50a2d0cd, {-0x1.d54004p-3f, 0x1.660006p-5f, 0x1.930006p-5f, 0x1.690006p-5f}},
      {{1000, 1000}, 0x4ddb690c, {-0x1.e38a2p-2f, -0x1.86e20ap-7f, 0x1.86f23p-3f, -0x1.19c7p-1f}},
      {{16000, 16000}, 0x7ea70be2, {0x1.ec81cap-6f, 0x1.88acd6p-2f, 0x1.b62c84p-5f, 0x1.e96adp-3f}},
  };
  for (const Golden& golden : goldens) {
    std::vector<float> in(golden.size.dimensions);
    for (uint32_t i = 0; i < in.size(); ++i) in[i] = (static_cast<float>(i * 37 % 101) - 50) / 64;
    const std::vector<float> out = Rotated(RotationOf(golden.size), in);
    SCOPED_TRACE(testing::PrintToString(golden.size));
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(out[i], golden.first[i]) << i;
    EXPECT_EQ(Crc32c(std::as_bytes(std::span(out))), golden.crc32c);
  }
}

TEST_P(RotationTest, KeepsLengthsAndProducts) {
  Random random(42);
  for (const Size& size : kSizes) {
    SCOPED_TRACE(testing::PrintToString(size));
    const uint32_t d = size.dimensions;
    const Rotation rotation = RotationOf(size);
    const std::vector<float> a = UniformVector(random, d);
    const std::vector<float> b = UniformVector(random, d);
    const std::vector<float> rotated_a = Rotated(rotation, a);
    const std::vector<float> rotated_b = Rotated(rotation, b);
    EXPECT_NEAR(Product(rotated_a, rotated_a), Product(a, a), 1e-5 * Product(a, a));
    EXPECT_NEAR(Product(rotated_a, rotated_b), Product(a, b), 1e-5 * std::sqrt(Product(a, a) * Product(b, b)));
  }
}

TEST_P(RotationTest, InverseUndoesIt) {
  Random random(43);
  for (const Size& size : kSizes) {
    SCOPED_TRACE(testing::PrintToString(size));
    const uint32_t d = size.dimensions;
    const Rotation rotation = RotationOf(size);
    const std::vector<float> in = UniformVector(random, d);
    const std::vector<float> rotated = Rotated(rotation, in);
    std::vector<float> back(d, std::numeric_limits<float>::quiet_NaN());
    rotation.ApplyInverse(rotated.data(), back.data());
    for (uint32_t i = 0; i < d; ++i) ASSERT_NEAR(back[i], in[i], 4e-6) << i;
  }
}

// Of any vector of the rotated space, also one that no row has: the inverse is the transpose.
TEST_P(RotationTest, InverseIsTheTranspose) {
  Random random(44);
  for (const Size& size : kSizes) {
    SCOPED_TRACE(testing::PrintToString(size));
    const uint32_t d = size.dimensions;
    const Rotation rotation = RotationOf(size);
    const std::vector<float> in = UniformVector(random, d);
    const std::vector<float> other = UniformVector(random, rotation.padded());
    std::vector<float> back(d);
    rotation.ApplyInverse(other.data(), back.data());
    EXPECT_NEAR(Product(Rotated(rotation, in), other), Product(in, back), 2e-6 * rotation.padded());
  }
}

// Any single coordinate, and a constant vector, end up in all coordinates alike, as from a normal distribution: its
// tail has one of 1e9 beyond 6 deviations and its fourth moment is 3.
TEST_P(RotationTest, SpreadsWhatIsConcentrated) {
  for (uint32_t d : {100u, 200u, 768u, 784u, 1008u, 1536u, 4096u, 16000u}) {
    const Rotation rotation(d, (d + 7) / 8 * 8, kSeed);
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
  const std::vector<float> a = Rotated(Rotation(784, 784, 1), in);
  const std::vector<float> b = Rotated(Rotation(784, 784, 2), in);
  EXPECT_LT(std::abs(Product(a, b)), 0.2 * Product(a, a));
}

TEST_P(RotationTest, HugeAndTinyValues) {
  Random random(46);
  for (float scale : {1e30f, 1e-30f}) {
    std::vector<float> in = UniformVector(random, 784);
    const std::vector<float> plain = Rotated(Rotation(784, 784, kSeed), in);
    for (float& x : in) x *= scale;
    const std::vector<float> out = Rotated(Rotation(784, 784, kSeed), in);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i] / scale, plain[i], 1e-5);
  }
  const std::vector<float> zeros = Rotated(Rotation(784, 784, kSeed), std::vector<float>(784, -0.0f));
  for (float x : zeros) ASSERT_EQ(x, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, RotationTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace ivfremote
