#include "core/half.h"

#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/half.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Without the machine's own conversions, which not every target has: exponent and fraction move to where float32 has
// them, and the product with 2^112 puts the exponent right, of subnormal numbers, too.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V PromoteVector(D d, hn::Vec<hn::RebindToUnsigned<D>> half, V scale) {
  const hn::RebindToUnsigned<D> du;
  const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7fff)));
  const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000)));
  const auto finite = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f));
  // Infinity and NaN have the largest exponent in both.
  const auto special = hn::BitCast(d, hn::Or(magnitude, hn::Set(du, 0x7f800000)));
  const auto is_special = hn::Ge(hn::BitCast(d, magnitude), hn::BitCast(d, hn::Set(du, 0x0f800000)));
  const auto value = hn::IfThenElse(is_special, special, finite);
  return hn::Mul(hn::Or(value, hn::BitCast(d, sign)), scale);
}

void PromoteAll(const uint16_t* HWY_RESTRICT halves, size_t n, float scale, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<uint16_t, decltype(d)> dh;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::CappedTag<float, 1> d1;
  const hn::Rebind<uint16_t, decltype(d1)> dh1;
  const hn::RebindToUnsigned<decltype(d1)> du1;
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(PromoteVector(d, hn::PromoteTo(du, hn::LoadU(dh, halves + i)), factor), d, out + i);
  for (; i < n; ++i)
    hn::StoreU(PromoteVector(d1, hn::PromoteTo(du1, hn::LoadU(dh1, halves + i)), hn::Set(d1, scale)), d1, out + i);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(PromoteAll);

uint16_t RoundToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;  // 65520 and more
  } else if (magnitude < 0x38800000) {
    // Subnormal: the sum's last bit is worth 2^-24, theirs.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else {
    half = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

void FromHalves(const uint16_t* halves, size_t n, float scale, float* out) {
  HWY_DYNAMIC_DISPATCH(PromoteAll)(halves, n, scale, out);
}

void ToHalves(const float* values, size_t n, float scale, uint16_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = RoundToHalf(values[i] / scale);
}

}  // namespace ivfremote
#endif  // HWY_ONCE
