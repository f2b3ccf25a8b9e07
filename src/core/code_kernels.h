// The vector code of CodeScorer, chosen at run time for the machine. All integers are the same on every machine; floats
// and doubles differ in their last bits.
//
// A query is prepared as what the codes' kernel reads:
//   1 bit:        for each 4 dimensions 16 bytes, entry m the sum of |y_i| over the dimensions whose sign of y_i is that
//                 of the code with nibble m, in units of `unit` / 2
//   2, 4, 8 bits: an int16 for each dimension, in units of `unit`
#pragma once

#include "core/code_scorer.h"

namespace ivfremote {

struct QueryMagnitudes {
  double squared_norm;
  double absolute_sum;
  float largest;        // |y_i|
  float largest_group;  // the sum of |y_i| of 4 dimensions that share a table
};
// `length` is a multiple of 16 here and below: zeros follow the padded dimensions.
QueryMagnitudes MeasureQuery(const float* y, uint32_t length);

// `multiplier` x the sum of |y_i| of any 4 dimensions that share a table is at most 255; `tables` is [length / 4 x 16].
void BuildTables(const float* y, uint32_t length, float multiplier, uint8_t* tables);
// `multiplier` x any |y_i| is at most 32767; `integers` is [length]. Returns the integers' sum.
int32_t BuildIntegers(const float* y, uint32_t length, float multiplier, int16_t* integers);

// `query` is what BuildTables or BuildIntegers wrote.
void ScoreCodes(uint32_t padded, uint32_t bits, const void* query, const BoundTerms& terms, const CodedRows& rows,
                float* bounds);

}  // namespace ivfremote
