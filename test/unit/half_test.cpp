#include "core/half.h"

#include <bit>
#include <cmath>
#include <limits>

#include "support.h"

namespace ivfremote {
namespace {

// A half by definition.
double ValueOf(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  const double sign = half >> 15 != 0 ? -1 : 1;
  if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

std::vector<uint16_t> AllHalves() {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  return halves;
}

bool IsNan(uint16_t half) { return std::isnan(ValueOf(half)); }

TEST(Half, EveryValueByDefinitionAndBack) {
  const std::vector<uint16_t> halves = AllHalves();
  for (const int exponent : {0, -1, 10, -100, -125, 112}) {
    SCOPED_TRACE(exponent);
    const float scale = std::ldexp(1.0f, exponent);
    std::vector<float> values(halves.size());
    FromHalves(halves.data(), halves.size(), scale, values.data());
    std::vector<uint16_t> back(halves.size());
    ToHalves(values.data(), values.size(), scale, back.data());
    for (size_t i = 0; i < halves.size(); ++i) {
      if (IsNan(halves[i])) {
        ASSERT_TRUE(std::isnan(values[i])) << i;
        continue;
      }
      ASSERT_EQ(values[i], std::ldexp(ValueOf(halves[i]), exponent)) << i;
      ASSERT_EQ(std::signbit(values[i]), i >= 32768) << i;
      ASSERT_EQ(back[i], i);
    }
  }
}

TEST(Half, AnyNumberOfThem) {
  const std::vector<uint16_t> halves = AllHalves();
  for (size_t n = 0; n < 70; ++n) {
    std::vector<float> values(n + 1, -7.0f);
    FromHalves(&halves[15000], n, 2.0f, values.data());
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(values[i], 2 * ValueOf(static_cast<uint16_t>(15000 + i)));
    ASSERT_EQ(values[n], -7.0f) << n;
  }
}

// Of two halves the nearer, and half way the even one.
TEST(Half, RoundsToNearestEven) {
  for (uint32_t i = 0; i < 0x7c00; ++i) {
    const double low = ValueOf(static_cast<uint16_t>(i));
    const double high = i + 1 == 0x7c00 ? 65536 : ValueOf(static_cast<uint16_t>(i + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    const uint16_t even = static_cast<uint16_t>(i + (i & 1));
    ASSERT_EQ(RoundToHalf(middle), even) << i;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, 0.0f)), i) << i;
    ASSERT_EQ(RoundToHalf(std::nextafter(middle, INFINITY)), i + 1) << i;
    ASSERT_EQ(RoundToHalf(-middle), even | 0x8000) << i;
  }
}

TEST(Half, WhatHasNoHalf) {
  EXPECT_EQ(RoundToHalf(1e-45f), 0);
  EXPECT_EQ(RoundToHalf(-1e-45f), 0x8000);
  EXPECT_EQ(RoundToHalf(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(RoundToHalf(-INFINITY), 0xfc00);
  EXPECT_TRUE(IsNan(RoundToHalf(NAN)));
}

}  // namespace
}  // namespace ivfremote
