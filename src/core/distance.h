// The distances users see and the index orders by: float32 inputs, float64 arithmetic, SIMD chosen at run time.
//
// Sums run in float64, where no sum of 16000 squared float32 differences overflows and every product of two float32
// values is exact. A result differs from the exact value by at most (n + 3) * 2^-53 of the sum of its terms' magnitudes;
// the last bits depend on the vector width of the machine. The SQL operators and the scan call the same functions, so
// their orders agree to the last bit.
#pragma once

#include "core/types.h"

namespace ivfremote {

double SquaredL2(const float* a, const float* b, size_t n);
double InnerProduct(const float* a, const float* b, size_t n);
double SquaredNorm(const float* a, size_t n);

// The same in float32 arithmetic, about twice as fast: for ranking, where the last digits don't matter. In float64 where
// float32 would overflow or underflow.
double RoughSquaredL2(const float* a, const float* b, size_t n);

// out[i] = a[i] - scale * (b[i] + c[i]), computed in float64 and rounded once.
void SubtractScaledSum(const float* a, double scale, const float* b, const float* c, size_t n, float* out);

// Neither NaN nor infinity among the values.
bool AllFinite(const float* a, size_t n);

// 1 - a.b / (|a| |b|), in [0, 2]; NaN if a or b is zero. `squared_norm_a` is SquaredNorm(a, n).
double CosineDistance(const float* a, double squared_norm_a, const float* b, size_t n);

// A query and its metric, ready to score many rows. `query` must outlive it.
class Scorer {
 public:
  Scorer(Metric metric, const float* query, size_t dimensions);

  // The operator's own value: `<->` for L2, `<#>` (negative inner product), `<=>` for cosine, `<~>` for Hamming of vectors
  // of 0 and 1.
  double Distance(const float* row) const;

  // Of a row at that Distance: a lower bound of what an operator makes of it that sums in float32, in whatever order (under
  // cosine if squares of norms don't underflow there). Without the row (null), an inner product is taken to be half of that
  // of the norms at least.
  double LeastInFloat32(double distance, const float* row) const;

  // Whether distances mean anything: false for a zero query under cosine.
  bool ordered() const { return metric_ != Metric::kCosine || squared_norm_ > 0; }

 private:
  Metric metric_;
  const float* query_;
  size_t dimensions_;
  double squared_norm_;
};

}  // namespace ivfremote
