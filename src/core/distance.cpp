#include "core/distance.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/distance.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Sums term(a[i], b[i]) over i in float64, in four independent accumulators to hide the latency of the additions.
template <class VectorTerm, class ScalarTerm>
HWY_INLINE double SumTerms(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t n, VectorTerm vector_term,
                           ScalarTerm scalar_term) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d);
  auto sum1 = sum0;
  auto sum2 = sum0;
  auto sum3 = sum0;
  const auto load = [&](const float* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(df, p)); };
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    sum0 = vector_term(load(a + i), load(b + i), sum0);
    sum1 = vector_term(load(a + i + lanes), load(b + i + lanes), sum1);
    sum2 = vector_term(load(a + i + 2 * lanes), load(b + i + 2 * lanes), sum2);
    sum3 = vector_term(load(a + i + 3 * lanes), load(b + i + 3 * lanes), sum3);
  }
  for (; i + lanes <= n; i += lanes) sum0 = vector_term(load(a + i), load(b + i), sum0);
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; i < n; ++i) sum += scalar_term(a[i], b[i]);
  return sum;
}

double SquaredL2(const float* a, const float* b, size_t n) {
  return SumTerms(
      a, b, n,
      [](auto x, auto y, auto sum) HWY_ATTR {
        const auto difference = hn::Sub(x, y);
        return hn::MulAdd(difference, difference, sum);
      },
      [](double x, double y) { return (x - y) * (x - y); });
}

double InnerProduct(const float* a, const float* b, size_t n) {
  return SumTerms(
      a, b, n, [](auto x, auto y, auto sum) HWY_ATTR { return hn::MulAdd(x, y, sum); },
      [](double x, double y) { return x * y; });
}

double RoughSquaredL2(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d);
  auto sum1 = sum0;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto x = hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    const auto y = hn::Sub(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes));
    sum0 = hn::MulAdd(x, x, sum0);
    sum1 = hn::MulAdd(y, y, sum1);
  }
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::Sub(hn::LoadU(d, a + i), hn::LoadU(d, b + i));
    sum0 = hn::MulAdd(x, x, sum0);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

void SubtractScaledSum(const float* HWY_RESTRICT a, double scale, const float* HWY_RESTRICT b,
                       const float* HWY_RESTRICT c, size_t n, float* HWY_RESTRICT out) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  const auto load = [&](const float* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(df, p)); };
  const auto factor = hn::Set(d, scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::DemoteTo(df, hn::Sub(load(a + i), hn::Mul(factor, hn::Add(load(b + i), load(c + i))))), df, out + i);
  for (; i < n; ++i) out[i] = static_cast<float>(a[i] - scale * (double{b[i]} + c[i]));
}

bool AllFinite(const float* HWY_RESTRICT a, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  // x * 0 is 0 for every finite x, and NaN otherwise; a NaN stays in the sum.
  auto sum = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::Zero(d), sum);
  float rest = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) rest += a[i] * 0.0f;
  return rest == 0.0f;
}

}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(SquaredL2);
HWY_EXPORT(InnerProduct);
HWY_EXPORT(RoughSquaredL2);
HWY_EXPORT(SubtractScaledSum);
HWY_EXPORT(AllFinite);

double SquaredL2(const float* a, const float* b, size_t n) { return HWY_DYNAMIC_DISPATCH(SquaredL2)(a, b, n); }

double InnerProduct(const float* a, const float* b, size_t n) { return HWY_DYNAMIC_DISPATCH(InnerProduct)(a, b, n); }

double RoughSquaredL2(const float* a, const float* b, size_t n) {
  const double sum = HWY_DYNAMIC_DISPATCH(RoughSquaredL2)(a, b, n);
  constexpr double kSmallest = 1e-25;
  return sum >= kSmallest && std::isfinite(sum) ? sum : SquaredL2(a, b, n);
}

void SubtractScaledSum(const float* a, double scale, const float* b, const float* c, size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SubtractScaledSum)(a, scale, b, c, n, out);
}

bool AllFinite(const float* a, size_t n) { return HWY_DYNAMIC_DISPATCH(AllFinite)(a, n); }

// The same sum as InnerProduct(a, a, n), so that a vector is at cosine distance 0 from itself exactly.
double SquaredNorm(const float* a, size_t n) { return InnerProduct(a, a, n); }

double CosineDistance(const float* a, double squared_norm_a, const float* b, size_t n) {
  const double squared_norm_b = SquaredNorm(b, n);
  if (squared_norm_a == 0 || squared_norm_b == 0) return std::numeric_limits<double>::quiet_NaN();
  // The product can neither overflow nor underflow: squared float32 norms lie between 1e-90 and 1e82.
  const double similarity = InnerProduct(a, b, n) / std::sqrt(squared_norm_a * squared_norm_b);
  return 1.0 - std::clamp(similarity, -1.0, 1.0);
}

Scorer::Scorer(Metric metric, const float* query, size_t dimensions)
    : metric_(metric), query_(query), dimensions_(dimensions), squared_norm_(SquaredNorm(query, dimensions)) {}

double Scorer::Distance(const float* row) const {
  switch (metric_) {
    case Metric::kL2:
      return std::sqrt(SquaredL2(query_, row, dimensions_));
    case Metric::kInnerProduct:
      return -InnerProduct(query_, row, dimensions_);
    case Metric::kCosine:
      return CosineDistance(query_, squared_norm_, row, dimensions_);
    case Metric::kHamming:
      return SquaredL2(query_, row, dimensions_);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

double Scorer::LeastInFloat32(double distance, const float* row) const {
  // Twice what the roundings of a sum make at most, relative to the magnitudes of its terms; and what may underflow.
  const double share = static_cast<double>(dimensions_ + 8) * 0x1p-23;
  const double lost = static_cast<double>(dimensions_) * 0x1p-126;
  switch (metric_) {
    case Metric::kL2:
      return std::sqrt(std::max(0.0, distance * distance * (1 - share) - lost));
    case Metric::kInnerProduct: {
      const double norms =
          row == nullptr ? 2 * std::abs(distance) : std::sqrt(squared_norm_ * SquaredNorm(row, dimensions_));
      return distance - share * norms - lost;
    }
    case Metric::kCosine:
      return std::max(0.0, distance - share);
    case Metric::kHamming:  // a whole number
      break;
  }
  return distance;
}

}  // namespace ivfremote
#endif  // HWY_ONCE
