// Lower bounds of the distances of coded rows from a query: the kernels, chosen at run time for the machine.
//
// With y = P (q - c) and <v,y> from the codes and a query of 8-bit tables (1 bit) or 16-bit integers:
//   L2, cosine:     bound = a + |y|^2 - 2 s <v,y> - 2 epsilon sqrt((e |y|)^2 + (s sigma)^2)       squared L2
//   inner product:  bound = -(<q,c> + alpha a + s <v,y>) - epsilon sqrt((e |y|)^2 + (s sigma)^2)  negative product
// where sigma is the standard error of <v,y> from quantising the query, and y = P (q - alpha c) for inner product. The
// estimate is the bound at epsilon 0. A bound is never NaN: what is not finite is -infinity.
#pragma once

#include <vector>

#include "core/code.h"
#include "core/types.h"

namespace ivfremote {

// What a query is to the rows of one code centroid.
struct QueryResidual {
  const float* y;               // [padded]
  double alpha = 0;             // inner product only
  double centroid_product = 0;  // <q,c>, inner product only
};

// A block's rows: factors by column, codes in groups. RangeBuffer::kSlack bytes after the codes must be readable.
struct CodedRows {
  uint32_t rows = 0;
  const float* a = nullptr;
  const float* s = nullptr;
  const float* e = nullptr;
  const std::byte* codes = nullptr;
};

// What the bounds of a query's rows are made of, from the integer sum that stands for <v,y>:
//   bound = shared + own a + s (scale (sum - center) + offset) - width sqrt(e^2 + (s noise)^2)
// less kSafety of the terms' magnitudes.
struct BoundTerms {
  // Rounding takes at most eight times 2^-24 of a term's magnitude, storing the factors included; rotating a vector in
  // float32 takes about as much.
  static constexpr float kSafety = 0x1p-20f;

  int32_t center = 0;
  float scale = 0;
  float offset = 0;
  float shared = 0;
  float own = 0;
  float width = 0;
  float noise = 0;  // sigma / |y|
};

// For one thread, but Score may run on many at once.
class CodeScorer {
 public:
  CodeScorer(Metric metric, uint32_t padded, uint32_t bits, double epsilon);

  // Prepares for the rows of a centroid. `query.y` need not outlive the call. Where it isn't finite, or too long for
  // float32, all bounds are -infinity.
  void SetQuery(const QueryResidual& query);

  // Writes the bounds of all rows.
  void Score(const CodedRows& rows, float* bounds) const;

  // The same with plain loops: what the kernels are tested against. Sums of codes are the same integers, so bounds
  // differ by float rounding only.
  void ScoreReference(const CodedRows& rows, float* bounds) const;

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  uint8_t* tables() { return reinterpret_cast<uint8_t*>(query_.data()); }
  int16_t* integers() { return reinterpret_cast<int16_t*>(query_.data()); }
  int64_t ReferenceSum(const std::byte* group, uint32_t rows, uint32_t row) const;

  Metric metric_;
  uint32_t padded_;
  uint32_t bits_;
  double epsilon_;
  // Of the query: filled by SetQuery.
  std::vector<Line> query_;  // tables for 1 bit, else integers: see code_kernels.h
  std::vector<float> whole_;  // y with zeros up to a multiple of 16, where it isn't one
  BoundTerms terms_;
};

}  // namespace ivfremote
