#include "core/rotation.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/rotation.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// The output is the same bits on every machine: each value is made by the operations that rotation.h names, in their
// order, whatever the vector width. No loop multiplies before it adds, so the compiler finds nothing to contract to a
// fused multiply-add, which rounds differently.
HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// The butterflies at distance kStep < lanes, within a vector: a + b in the lower lane, a - b in the upper.
template <size_t kStep, class D, class V = hn::Vec<D>>
HWY_INLINE V ButterflyLanes([[maybe_unused]] D d, V v) {
#if HWY_TARGET == HWY_SCALAR
  return v;  // never called: a vector is one lane
#else
  V swapped;
  if constexpr (kStep == 1) swapped = hn::Shuffle2301(v);
  if constexpr (kStep == 2) swapped = hn::Shuffle1032(v);
  if constexpr (kStep == 4) swapped = hn::SwapAdjacentBlocks(v);
  if constexpr (kStep == 8) swapped = hn::SwapAdjacentBlocks(hn::ReverseBlocks(d, v));
  const hn::RebindToUnsigned<D> du;
  const auto upper = hn::And(hn::Iota(du, 0), hn::Set(du, kStep));
  const auto sign = hn::BitCast(d, hn::ShiftLeft<31 - std::countr_zero(kStep)>(upper));
  return hn::Add(swapped, hn::Xor(v, sign));
#endif
}

// The fast Walsh-Hadamard transform of `n` floats, a power of two from kMostLanes, with butterflies at distances 1, 2, 4,
// ..., n / 2. Distances below the width go within vectors, two of the others in one pass over memory.
template <size_t kMostLanes>
HWY_INLINE void Transform(float* HWY_RESTRICT x, size_t n, float scale) {
  const hn::CappedTag<float, kMostLanes> d;
  const size_t lanes = hn::Lanes(d);
  const auto factor = [&](bool last) HWY_ATTR { return hn::Set(d, last ? scale : 1.0f); };
  const auto within = factor(lanes == n);
  for (size_t i = 0; i < n; i += lanes) {
    auto v = hn::LoadU(d, x + i);
    if (lanes > 1) v = ButterflyLanes<1>(d, v);
    if (lanes > 2) v = ButterflyLanes<2>(d, v);
    if (lanes > 4) v = ButterflyLanes<4>(d, v);
    if (lanes > 8) v = ButterflyLanes<8>(d, v);
    hn::StoreU(hn::Mul(v, within), d, x + i);
  }
  size_t step = lanes;
  if ((std::countr_zero(n) - std::countr_zero(lanes)) % 2 != 0) {
    const auto pairs = factor(2 * step == n);
    for (size_t i = 0; i < n; i += 2 * step) {
      for (size_t j = i; j < i + step; j += lanes) {
        const auto a = hn::LoadU(d, x + j);
        const auto b = hn::LoadU(d, x + j + step);
        hn::StoreU(hn::Mul(hn::Add(a, b), pairs), d, x + j);
        hn::StoreU(hn::Mul(hn::Sub(a, b), pairs), d, x + j + step);
      }
    }
    step *= 2;
  }
  for (; step < n; step *= 4) {
    const auto fours = factor(4 * step == n);
    for (size_t i = 0; i < n; i += 4 * step) {
      for (size_t j = i; j < i + step; j += lanes) {
        const auto a = hn::LoadU(d, x + j);
        const auto b = hn::LoadU(d, x + j + step);
        const auto c = hn::LoadU(d, x + j + 2 * step);
        const auto e = hn::LoadU(d, x + j + 3 * step);
        const auto ab = hn::Add(a, b);
        const auto ba = hn::Sub(a, b);
        const auto ce = hn::Add(c, e);
        const auto ec = hn::Sub(c, e);
        hn::StoreU(hn::Mul(hn::Add(ab, ce), fours), d, x + j);
        hn::StoreU(hn::Mul(hn::Add(ba, ec), fours), d, x + j + step);
        hn::StoreU(hn::Mul(hn::Sub(ab, ce), fours), d, x + j + 2 * step);
        hn::StoreU(hn::Mul(hn::Sub(ba, ec), fours), d, x + j + 3 * step);
      }
    }
  }
}

// Both take steps of as many lanes as `d` has while these fit, and return where they stopped.
template <class D>
HWY_INLINE size_t Flip(D d, float* HWY_RESTRICT x, const uint32_t* HWY_RESTRICT signs, size_t i, size_t n) {
  const hn::RebindToUnsigned<D> du;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::Xor(hn::LoadU(d, x + i), hn::BitCast(d, hn::LoadU(du, signs + i))), d, x + i);
  return i;
}

template <class D>
HWY_INLINE size_t RotateHalves(D d, float* HWY_RESTRICT x, float* HWY_RESTRICT y, size_t i, size_t n) {
  const auto factor = hn::Set(d, 0x1.6a09e6p-1f);  // sqrt(1 / 2)
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, y + i);
    hn::StoreU(hn::Mul(hn::Add(a, b), factor), d, x + i);
    hn::StoreU(hn::Mul(hn::Sub(a, b), factor), d, y + i);
  }
  return i;
}

// Multiples of 8 coordinates, and of 4 in each half.
HWY_INLINE void FlipAll(float* HWY_RESTRICT x, const uint32_t* HWY_RESTRICT signs, size_t n) {
  const size_t done = Flip(hn::CappedTag<float, 16>(), x, signs, 0, n);
  Flip(hn::CappedTag<float, 8>(), x, signs, done, n);
}

HWY_INLINE void RotateAllHalves(float* HWY_RESTRICT x, size_t n) {
  const size_t done = RotateHalves(hn::CappedTag<float, 8>(), x, x + n / 2, 0, n / 2);
  RotateHalves(hn::CappedTag<float, 4>(), x, x + n / 2, done, n / 2);
}

void Rotate(float* x, const uint32_t* signs, size_t n, bool inverse) {
  const size_t power = std::bit_floor(n);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(power)));
  for (size_t i = 0; i < Rotation::kRounds; ++i) {
    // Each step is its own inverse, so only their order differs.
    const size_t round = inverse ? Rotation::kRounds - 1 - i : i;
    float* part = round % 2 == 0 ? x : x + n - power;
    const bool halves = round % 2 == 1 && power != n;
    if (!inverse) FlipAll(x, signs + round * n, n);
    if (inverse && halves) RotateAllHalves(x, n);
    if (power >= 16)
      Transform<16>(part, power, scale);
    else
      Transform<8>(part, power, scale);
    if (!inverse && halves) RotateAllHalves(x, n);
    if (inverse) FlipAll(x, signs + round * n, n);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(Rotate);

Rotation::Rotation(uint32_t dimensions, uint32_t padded, uint64_t seed)
    : dimensions_(dimensions), padded_(padded), signs_(size_t{kRounds} * padded_) {
  assert(dimensions > 0 && dimensions <= padded && padded % 8 == 0);
  // splitmix64 (Steele, Lea and Flood).
  uint64_t state = seed;
  uint64_t word = 0;
  for (size_t i = 0; i < signs_.size(); ++i, word >>= 1) {
    if (i % 64 == 0) {
      state += 0x9e3779b97f4a7c15;
      word = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
      word = (word ^ word >> 27) * 0x94d049bb133111eb;
      word ^= word >> 31;
    }
    signs_[i] = static_cast<uint32_t>(word & 1) << 31;
  }
}

void Rotation::Apply(const float* in, float* out) const {
  std::fill(std::copy_n(in, dimensions_, out), out + padded_, 0.0f);
  HWY_DYNAMIC_DISPATCH(Rotate)(out, signs_.data(), padded_, false);
}

void Rotation::ApplyInverse(const float* in, float* out) const {
  std::vector<float> work(in, in + padded_);
  HWY_DYNAMIC_DISPATCH(Rotate)(work.data(), signs_.data(), padded_, true);
  std::copy_n(work.begin(), dimensions_, out);
}

}  // namespace ivfremote
#endif  // HWY_ONCE
