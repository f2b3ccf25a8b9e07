// A random rotation, cheap to apply and to write down: four rounds of random signs, a fast Walsh-Hadamard transform of
// the first or last 2^k coordinates and a rotation between the halves (FHT-Kac). Every step is orthonormal, so lengths
// and inner products stay. It makes the coordinates of any vector look alike, which is what the codes' error bounds
// rest on.
#pragma once

#include <vector>

#include "core/types.h"

namespace ivfremote {

class Rotation {
 public:
  // Decides a format: the same dimensions and seed give the same rotation for ever.
  Rotation(uint32_t dimensions, uint64_t seed);

  // Vectors are padded with zeros to a multiple of 16 before they are rotated.
  static constexpr uint32_t Padded(uint32_t dimensions) { return (dimensions + 15) / 16 * 16; }

  uint32_t dimensions() const { return dimensions_; }
  uint32_t padded() const { return padded_; }

  // `in` is [dimensions], `out` [padded]; they must not overlap.
  void Apply(const float* in, float* out) const;
  // `in` is [padded], `out` [dimensions]; they must not overlap.
  void ApplyInverse(const float* in, float* out) const;

 private:
  uint32_t dimensions_;
  uint32_t padded_;
  std::vector<uint32_t> signs_;  // the sign bits to flip, [rounds x padded]
};

}  // namespace ivfremote
