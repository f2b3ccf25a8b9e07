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

class CodeScorer {
 public:
  CodeScorer(Metric metric, uint32_t padded, uint32_t bits, double epsilon);

  // Prepares for the rows of a centroid. `query.y` need not outlive the call.
  void SetQuery(const QueryResidual& query);

  // Writes the bounds of all rows.
  void Score(const CodedRows& rows, float* bounds) const;

  // The same with plain loops: what the kernels are tested against. Sums of codes are the same integers, so bounds
  // differ by float rounding only.
  void ScoreReference(const CodedRows& rows, float* bounds) const;

 private:
  Metric metric_;
  uint32_t padded_;
  uint32_t bits_;
  double epsilon_;
  // Of the query: filled by SetQuery.
  std::vector<uint8_t> tables_;    // 1 bit: [padded / 4 x 16]
  std::vector<int16_t> integers_;  // else: [padded], in the pairs the kernels want
  float scale_ = 0;                // <v,y> = scale * sum + offset
  float offset_ = 0;
  float constant_ = 0;             // what all rows share: |y|^2, or -<q,c>
  float alpha_ = 0;
  float norm_ = 0;                 // |y|
  float sigma_ = 0;
};

}  // namespace ivfremote
