#include "core/bits.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/bits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE uint64_t LoadWord(const uint8_t* from, size_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, from, bytes);
  return word;
}

HWY_INLINE uint32_t Distance(const uint8_t* HWY_RESTRICT a, const uint8_t* HWY_RESTRICT b, size_t bytes) {
  uint64_t count = 0;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  const size_t step = hn::Lanes(d8);
  // Fewer vectors than that take no less time than their words, as lanes must be added up.
  if (bytes >= 4 * step) {
    const auto ones = [&](size_t at) HWY_ATTR {
      return hn::PopulationCount(hn::BitCast(d, hn::Xor(hn::LoadU(d8, a + at), hn::LoadU(d8, b + at))));
    };
    auto sum0 = hn::Zero(d);
    auto sum1 = sum0;
    for (; i + 2 * step <= bytes; i += 2 * step) {
      sum0 = hn::Add(sum0, ones(i));
      sum1 = hn::Add(sum1, ones(i + step));
    }
    count = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  }
#endif
  for (; i + 8 <= bytes; i += 8) count += hwy::PopCount(LoadWord(a + i, 8) ^ LoadWord(b + i, 8));
  if (i < bytes) count += hwy::PopCount(LoadWord(a + i, bytes - i) ^ LoadWord(b + i, bytes - i));
  return static_cast<uint32_t>(count);
}

}  // namespace

void HammingDistances(const std::byte* query, const std::byte* rows, size_t row_bytes, uint32_t count,
                      uint32_t* HWY_RESTRICT distances) {
  const auto* a = reinterpret_cast<const uint8_t*>(query);
  const auto* b = reinterpret_cast<const uint8_t*>(rows);
  for (uint32_t i = 0; i < count; ++i, b += row_bytes) distances[i] = Distance(a, b, row_bytes);
}

}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(HammingDistances);

void HammingDistances(const std::byte* query, const std::byte* rows, size_t row_bytes, uint32_t count,
                      uint32_t* distances) {
  HWY_DYNAMIC_DISPATCH(HammingDistances)(query, rows, row_bytes, count, distances);
}

void PackBits(const float* values, uint32_t dimensions, std::byte* bits) {
  std::fill_n(bits, PackedBytes(dimensions), std::byte{0});
  for (uint32_t i = 0; i < dimensions; ++i)
    if (values[i] != 0) bits[i / 8] |= std::byte{0x80} >> i % 8;
}

void UnpackBits(const std::byte* bits, uint32_t dimensions, float* values) {
  for (uint32_t i = 0; i < dimensions; ++i) values[i] = (bits[i / 8] & std::byte{0x80} >> i % 8) != std::byte{0} ? 1.0f : 0.0f;
}

}  // namespace ivfremote
#endif  // HWY_ONCE
