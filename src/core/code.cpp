#include "core/code.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <limits>

#include "core/little_endian.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/code.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Encoding rounds t u to half-integers h = v / 2 in [-2^bits / 2 + 1/2, 2^bits / 2 - 1/2] for the scale t, of eight,
// whose h is nearest to u in direction. Sums that end up in factors are of float64 products, which are exact; the
// choice of the scale is in float32, so machines may differ in it, each with the factors that belong to its code.
HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kScales = 8;

// h of u for a scale. Zeros of either sign are 1/2.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V HalfInteger(D d, V scaled, float levels) {
  const V lowest = hn::Set(d, -levels / 2);
  const V highest = hn::Set(d, levels / 2 - 1);
  return hn::Add(hn::Min(hn::Max(hn::Floor(scaled), lowest), highest), hn::Set(d, 0.5f));
}

// |u|^2, and the largest |u_i|.
HWY_INLINE double SquaredNorm(const float* HWY_RESTRICT u, size_t n, float* largest) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  auto sum = hn::Zero(d);
  auto most = hn::Zero(df);
  for (size_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(df, u + i);
    const auto wide = hn::PromoteTo(d, v);
    sum = hn::MulAdd(wide, wide, sum);
    most = hn::Max(most, hn::Abs(v));
  }
  *largest = hn::GetLane(hn::MaxOfLanes(df, most));
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// The best of kScales scales around the one that suits a normal distribution, or that spares the largest value.
HWY_INLINE float BestScale(const float* HWY_RESTRICT u, size_t n, uint32_t bits, double squared_norm, float largest) {
  // The step, in standard deviations, that quantises a normal distribution best; and how far to look around it.
  const double step = bits == 2 ? 0.9957 : bits == 4 ? 0.3352 : 0.0308;
  const double spread = bits == 2 ? 0.2 : bits == 4 ? 0.16 : 0.04;
  const float levels = static_cast<float>(1u << bits);
  const double center = std::max(std::sqrt(static_cast<double>(n) / squared_norm) / step, 0.48 * levels / largest);

  const hn::CappedTag<float, 16> d;
  float best_scale = 0;
  double best_similarity = -1;
  for (size_t i = 0; i < kScales; i += 2) {
    float scale[2];
    double relative[2];
    for (size_t j = 0; j < 2; ++j) {
      relative[j] = 1 + spread * (2 * static_cast<double>(i + j) / (kScales - 1) - 1);
      scale[j] = static_cast<float>(std::min<double>(center * relative[j], FLT_MAX));
    }
    const auto scale0 = hn::Set(d, scale[0]);
    const auto scale1 = hn::Set(d, scale[1]);
    auto product0 = hn::Zero(d);
    auto product1 = product0;
    auto square0 = product0;
    auto square1 = product0;
    for (size_t k = 0; k < n; k += hn::Lanes(d)) {
      // Where n is no multiple of 16, the last of 16 lanes are zeros.
      const auto v = k + hn::Lanes(d) <= n ? hn::LoadU(d, u + k) : hn::MaskedLoad(hn::FirstN(d, n - k), d, u + k);
      const auto w0 = hn::Mul(v, scale0);
      const auto w1 = hn::Mul(v, scale1);
      const auto h0 = HalfInteger(d, w0, levels);
      const auto h1 = HalfInteger(d, w1, levels);
      product0 = hn::MulAdd(h0, w0, product0);
      product1 = hn::MulAdd(h1, w1, product1);
      square0 = hn::MulAdd(h0, h0, square0);
      square1 = hn::MulAdd(h1, h1, square1);
    }
    // <h, t u>, which never overflows, over t |h|.
    const double products[2] = {hn::GetLane(hn::SumOfLanes(d, product0)), hn::GetLane(hn::SumOfLanes(d, product1))};
    const double zeros = static_cast<double>(AlignUp(n, hn::Lanes(d)) - n);  // of h = 1/2
    const double squares[2] = {hn::GetLane(hn::SumOfLanes(d, square0)) - zeros / 4,
                               hn::GetLane(hn::SumOfLanes(d, square1)) - zeros / 4};
    for (size_t j = 0; j < 2; ++j) {
      const double similarity = products[j] / (relative[j] * std::sqrt(squares[j]));
      if (similarity > best_similarity) {
        best_similarity = similarity;
        best_scale = scale[j];
      }
    }
  }
  return best_scale;
}

// Dimensions that are packed together.
template <uint32_t kBits>
constexpr size_t kPack = kBits >= 4 ? 8 : 16;

// Writes the codes of kPack dimensions as code.h lays them out.
template <uint32_t kBits>
HWY_INLINE void Pack(const uint16_t* HWY_RESTRICT codes, std::byte* HWY_RESTRICT out) {
  const auto* bytes = reinterpret_cast<const std::byte*>(codes);
  if constexpr (kBits == 1) {
    uint32_t packed = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      const uint64_t four = Load<uint64_t>(bytes + 8 * i);
      packed |= static_cast<uint32_t>((four | four >> 15 | four >> 30 | four >> 45) & 15) << 4 * i;
    }
    Store(out, static_cast<uint16_t>(packed));
  } else {
    for (uint32_t word = 0; word < kPack<kBits> * kBits / 32; ++word) {
      uint32_t packed = 0;
      for (uint32_t k = 0; k < 16 / kBits; ++k)
        packed |= Load<uint32_t>(bytes + 4 * (word * (16 / kBits) + k)) << kBits * k;
      Store(out + 4 * word, packed);
    }
  }
}

// Writes the code of the scale; <v,u> and |v|^2.
template <uint32_t kBits>
HWY_INLINE void Quantize(const float* HWY_RESTRICT u, size_t n, float scale, std::byte* HWY_RESTRICT code,
                         double* product, double* square) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  const hn::Rebind<int32_t, decltype(d)> di;
  const hn::Rebind<uint16_t, decltype(d)> du;
  constexpr float kLevels = 1u << kBits;
  const auto factor = hn::Set(df, scale);
  auto products = hn::Zero(d);
  auto squares = products;
  for (size_t i = 0; i < n; i += kPack<kBits>) {
    uint16_t codes[kPack<kBits>];
    for (size_t j = 0; j < kPack<kBits>; j += hn::Lanes(d)) {
      const auto v = hn::LoadU(df, u + i + j);
      const auto h = HalfInteger(df, hn::Mul(v, factor), kLevels);
      const auto wide = hn::PromoteTo(d, h);
      products = hn::MulAdd(wide, hn::PromoteTo(d, v), products);
      squares = hn::MulAdd(wide, wide, squares);
      const auto from_zero = hn::ConvertTo(di, hn::Add(h, hn::Set(df, (kLevels - 1) / 2)));
      hn::StoreU(hn::DemoteTo(du, from_zero), du, codes + j);
    }
    Pack<kBits>(codes, code);
    code += kPack<kBits> * kBits / 8;
  }
  *product = 2 * hn::GetLane(hn::SumOfLanes(d, products));
  *square = 4 * hn::GetLane(hn::SumOfLanes(d, squares));
}

// Returns |u|^2; writes the code, <v,u> and |v|^2 if that is finite.
double Encode(const float* u, size_t n, uint32_t bits, std::byte* code, double* product, double* square) {
  float largest;
  const double squared_norm = SquaredNorm(u, n, &largest);
  if (!std::isfinite(squared_norm)) return squared_norm;
  switch (bits) {
    case 1:
      Quantize<1>(u, n, 1, code, product, square);
      break;
    case 2:
      Quantize<2>(u, n, BestScale(u, n, 2, squared_norm, largest), code, product, square);
      break;
    case 4:
      Quantize<4>(u, n, BestScale(u, n, 4, squared_norm, largest), code, product, square);
      break;
    default:
      Quantize<8>(u, n, BestScale(u, n, 8, squared_norm, largest), code, product, square);
      break;
  }
  return squared_norm;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(Encode);

namespace {

constexpr size_t kWord = sizeof(uint32_t);

[[maybe_unused]] bool IsPadded(uint32_t padded, uint32_t bits) {
  return IsCodeWidth(bits) && padded > 0 && padded == PaddedDimensions(padded, bits);
}

constexpr double kSmallestSquaredNorm = 1e-30;

void PackNibbles(const std::byte* codes, size_t code_bytes, uint32_t rows, std::byte* out) {
  const uint32_t half = (rows + 1) / 2;
  for (uint32_t j = 0; j < half; ++j) {
    const std::byte* low = codes + j * code_bytes;
    const std::byte* high = j + half < rows ? low + half * code_bytes : nullptr;
    std::byte* to = out + j;
    for (size_t i = 0; i < code_bytes; ++i) {
      const std::byte l = low[i];
      const std::byte h = high != nullptr ? high[i] : std::byte{0};
      *to = (l & std::byte{0x0f}) | h << 4;
      to += half;
      *to = l >> 4 | (h & std::byte{0xf0});
      to += half;
    }
  }
}

void UnpackNibbles(const std::byte* group, size_t code_bytes, uint32_t rows, uint32_t row, std::byte* code) {
  const uint32_t half = (rows + 1) / 2;
  const int shift = row < half ? 0 : 4;
  const std::byte* from = group + row % half;
  for (size_t i = 0; i < code_bytes; ++i) {
    const std::byte even = *from >> shift & std::byte{0x0f};
    from += half;
    const std::byte odd = *from >> shift & std::byte{0x0f};
    from += half;
    code[i] = even | odd << 4;
  }
}

// To infinity where it is out of range.
float ToFloat(double x) {
  return std::abs(x) <= FLT_MAX ? static_cast<float>(x) : std::numeric_limits<float>::infinity();
}

// The smallest float that is not below x.
float RoundUp(double x) {
  const float rounded = ToFloat(x);
  return rounded < x ? std::nextafter(rounded, std::numeric_limits<float>::infinity()) : rounded;
}

}  // namespace

void PackGroup(const std::byte* codes, uint32_t padded, uint32_t bits, uint32_t rows, std::byte* out) {
  assert(IsPadded(padded, bits) && rows <= GroupRows(bits));
  const size_t code_bytes = CodeBytes(padded, bits);
  if (bits == 1) {
    PackNibbles(codes, code_bytes, rows, out);
    return;
  }
  for (size_t word = 0; word < code_bytes; word += kWord)
    for (uint32_t row = 0; row < rows; ++row, out += kWord)
      Store(out, Load<uint32_t>(codes + row * code_bytes + word));
}

void UnpackFromGroup(const std::byte* group, uint32_t padded, uint32_t bits, uint32_t rows, uint32_t row,
                     std::byte* code) {
  assert(IsPadded(padded, bits) && rows <= GroupRows(bits) && row < rows);
  const size_t code_bytes = CodeBytes(padded, bits);
  if (bits == 1) {
    UnpackNibbles(group, code_bytes, rows, row, code);
    return;
  }
  for (size_t word = 0; word < code_bytes; word += kWord)
    Store(code + word, Load<uint32_t>(group + word * rows + row * kWord));
}

CodeFactors EncodeResidual(Metric metric, uint32_t padded, uint32_t bits, const float* residual,
                           double centroid_product, std::byte* code) {
  assert(IsPadded(padded, bits));
  constexpr CodeFactors kUnbounded = {0, 0, std::numeric_limits<float>::infinity()};
  double product = 0;
  double square = 0;
  const double squared_norm = HWY_DYNAMIC_DISPATCH(Encode)(residual, padded, bits, code, &product, &square);
  // The bound of a product is no better than its terms: those of so short a residual are no normal float32.
  const bool lost = metric == Metric::kInnerProduct && squared_norm > 0 && squared_norm < kSmallestSquaredNorm;
  if (!std::isfinite(squared_norm) || lost) {
    std::fill_n(code, CodeBytes(padded, bits), std::byte{0});
    return kUnbounded;
  }
  CodeFactors factors = {ToFloat(metric == Metric::kInnerProduct ? centroid_product : squared_norm), 0, 0};
  if (squared_norm > 0) {
    // Positive: v has the signs of u, but where u_i is nothing beside the largest.
    const double s = squared_norm / product;
    const double excess = std::max(0.0, s * s * square - squared_norm);
    factors.s = ToFloat(s);
    factors.e = RoundUp(std::sqrt(excess / (padded - 1)));
  }
  const bool finite = std::isfinite(factors.a) && std::isfinite(factors.s) && std::isfinite(factors.e);
  return finite ? factors : kUnbounded;
}

void DecodeResidual(uint32_t padded, uint32_t bits, const std::byte* code, float s, float* residual) {
  assert(IsPadded(padded, bits));
  if (bits == 1) {
    for (uint32_t i = 0; i < padded; ++i)
      residual[i] = (std::to_integer<uint32_t>(code[i / 8]) >> i % 8 & 1) != 0 ? s : -s;
    return;
  }
  const uint32_t mask = (1u << bits) - 1;
  for (uint32_t i = 0; i < padded; code += kWord) {
    for (uint32_t word = Load<uint32_t>(code), k = 0; k < 16; k += bits)
      for (uint32_t shift : {k, k + 16}) {
        const auto v = static_cast<int32_t>(2 * (word >> shift & mask)) - static_cast<int32_t>(mask);
        residual[i++] = s * static_cast<float>(v);
      }
  }
}

}  // namespace ivfremote
#endif  // HWY_ONCE
