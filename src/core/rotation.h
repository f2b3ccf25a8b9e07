// A random rotation, cheap to apply and to write down: four rounds of random signs and a fast Walsh-Hadamard transform,
// of the first and of the last 2^k coordinates in turn, with a rotation between the halves after each two (FHT-Kac).
// Every step is orthonormal, so lengths and inner products stay. It makes the coordinates of any vector look alike,
// which is what the codes' error bounds rest on.
//
// Segments are read with the rotation they were written with, so this decides a format. With D the padded dimensions, a
// multiple of 8, and P the largest power of two that is at most D, round r = 0, 1, 2, 3 does, in float32 arithmetic without fused
// operations:
//   1. Signs: x_j changes its sign if bit n % 64 (0 the least significant) of the output n / 64 of splitmix64 is 1,
//      where n = r D + j. Output m of splitmix64, m = 0, 1, ..., is made of z = seed + (m + 1) 0x9e3779b97f4a7c15 by
//      z = (z ^ z >> 30) 0xbf58476d1ce4e5b9; z = (z ^ z >> 27) 0x94d049bb133111eb; z ^ z >> 31, all modulo 2^64.
//   2. Transform: y is the first P coordinates in rounds 0 and 2, the last P in rounds 1 and 3. For h = 1, 2, 4, ...,
//      P / 2: (y_i, y_i+h) becomes (y_i + y_i+h, y_i - y_i+h) for every i without the bit h. Then y is multiplied by
//      1 / sqrt(P), rounded to float32.
//   3. In rounds 1 and 3, if D is not P: (x_i, x_i+D/2) becomes (x_i + x_i+D/2, x_i - x_i+D/2) times sqrt(1/2),
//      rounded to float32, for every i < D / 2. Not in every round: a coordinate that the first transform leaves out
//      would be paired with one that the second leaves out, and keep an eighth of its energy to the end.
#pragma once

#include <vector>

#include "core/types.h"

namespace ivfremote {

class Rotation {
 public:
  static constexpr uint32_t kRounds = 4;

  // Of vectors of `dimensions`, at least 1, padded with zeros to `padded`, a multiple of 8.
  Rotation(uint32_t dimensions, uint32_t padded, uint64_t seed);

  uint32_t dimensions() const { return dimensions_; }
  uint32_t padded() const { return padded_; }

  // `in` is [dimensions], `out` [padded]; they must not overlap. The same bits on every machine, as long as values stay
  // below 1e34: beyond it sums may overflow.
  void Apply(const float* in, float* out) const;
  // The transpose: rounds and steps backwards. `in` is [padded], `out` [dimensions]; they must not overlap.
  void ApplyInverse(const float* in, float* out) const;

 private:
  uint32_t dimensions_;
  uint32_t padded_;
  std::vector<uint32_t> signs_;  // the sign bits to flip, [kRounds x padded]
};

}  // namespace ivfremote
