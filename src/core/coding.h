// Between vectors and codes: rows to what an index stores of them, and a query to what scores it.
//
// Both work in routing space less the routing's mean ("centred"), where centroids live. With x' a centred row, c' a
// centroid and P the rotation, a code is of u = P (x' - c'). L2 and cosine see no mean: y = P (q' - c'). Inner product
// does: there c is mean + c', and y = P (q - alpha c) with alpha = <q,c> / |c|^2, which makes |y| least.
#pragma once

#include <vector>

#include "core/code_format.h"
#include "core/code_scorer.h"
#include "core/routing.h"

namespace ivfremote {

class RowCoder {
 public:
  // `routing_mean` is [dimensions] and must outlive the coder.
  RowCoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean);

  // Writes format.RowBytes() to `out`. `row` is the user's; `centred` the same row in routing space less the mean (not
  // looked at for float32, where the row is stored as it is). `centroid` is its code centroid, [dimensions].
  void Encode(const float* row, const float* centred, const float* centroid, std::byte* out);

 private:
  Metric metric_;
  CodeFormat format_;
  Rotation rotation_;
  const float* mean_;
  std::vector<float> residual_;
  std::vector<float> rotated_;
};

// Takes a row or query to routing space and subtracts the mean; `out` is [dimensions]. False for a zero row under cosine.
bool Centre(Metric metric, const float* row, const float* mean, uint32_t dimensions, float* out);

// Centroids as queries meet them: P c', or P (mean + c') for inner product.
class RotatedCentroid {
 public:
  RotatedCentroid(Metric metric, uint32_t dimensions, uint64_t rotation_seed, const float* routing_mean);

  uint32_t padded() const { return rotation_.padded(); }
  void Rotate(const float* centroid, float* out);

 private:
  Metric metric_;
  Rotation rotation_;
  const float* mean_;
  std::vector<float> sum_;
};

class QueryCoder {
 public:
  // `query` is the user's and need not outlive the call.
  QueryCoder(Metric metric, const float* query, uint32_t dimensions, uint64_t rotation_seed,
             const float* routing_mean);

  uint32_t padded() const { return static_cast<uint32_t>(rotated_.size()); }
  // `centroid` as RotatedCentroid gives it, [padded]; `y` is [padded] and becomes the result's.
  QueryResidual Residual(const float* centroid, float* y) const;

 private:
  Metric metric_;
  std::vector<float> rotated_;  // P q', or P q for inner product
};

}  // namespace ivfremote
