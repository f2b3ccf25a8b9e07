// Between vectors and codes: rows to what an index stores of them, and a query to what scores it.
//
// A row's code is of u = P (x - c): x the row (its direction, for cosine), c = mean + c' its code centroid (centroids are
// stored less the routing's mean), P the rotation. A query scores with y = P (q - c), or y = P (q - alpha c) with alpha =
// <q,c> / |c|^2 for inner product, which makes |y| least. Both differences are taken in float64 before anything is rounded:
// where all values share a large offset, a float32 of x - mean would lose more than the codes do.
#pragma once

#include <vector>

#include "core/code_format.h"
#include "core/code_scorer.h"
#include "core/rotation.h"
#include "core/routing.h"

namespace ivfremote {

// A row that is stored as it is, as floats: [dimensions].
void RowToFloats(const CodeFormat& format, const std::byte* row, float* values);

class RowCoder {
 public:
  // `routing_mean` is [dimensions] and must outlive the coder.
  RowCoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean);

  // Writes format.RowBytes() to `out`. `row` is the user's; `centroid` the one its code refers to, [dimensions].
  void Encode(const float* row, const float* centroid, std::byte* out);

 private:
  Metric metric_;
  CodeFormat format_;
  Rotation rotation_;
  const float* mean_;
  std::vector<float> routed_;
  std::vector<float> residual_;
  std::vector<float> rotated_;
};

// The way back, as far as codes say: what maintenance has of a row, since it never reads the table.
class RowDecoder {
 public:
  // `routing_mean` is [dimensions] and must outlive the decoder.
  RowDecoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean);

  // Writes x' = c + P^T (s v), in routing space less the mean: [dimensions], always finite. It is unbiased: means of many
  // rows are the rows' own, and its products with a query are the estimates that scans order by. Its distances are too long,
  // as an error adds to them: |x' - z|^2 less `*excess` is the estimate of |x - z|^2, and for z = c it is exact. A
  // row of float32 or bits is itself, with an excess of 0; one of which its code says nothing is its centroid.
  void Decode(const std::byte* row, const float* centroid, float* centred, float* excess);

 private:
  // For inner product the code's first factor says what <x - c, mean + c> is: makes it so, and returns |x - c|^2.
  double CorrectProduct(const CodeFactors& factors, const float* centroid);

  Metric metric_;
  CodeFormat format_;
  Rotation rotation_;
  const float* mean_;
  std::vector<float> rotated_;
  std::vector<float> residual_;
};

class QueryCoder {
 public:
  // `query` is the user's; it and `routing_mean`, both [dimensions], need not outlive the call. `format` is coded.
  QueryCoder(Metric metric, const CodeFormat& format, const float* query, uint64_t rotation_seed,
             const float* routing_mean);

  // `centroid` is [dimensions]; `y` is [padded] and becomes the result's.
  QueryResidual Residual(const float* centroid, float* y);

 private:
  Metric metric_;
  Rotation rotation_;
  std::vector<float> query_;  // in routing space
  std::vector<float> mean_;
  std::vector<float> residual_;
};

}  // namespace ivfremote
