// Bits: vectors of 0 and 1, eight components a byte, and their Hamming distances. They are the squared L2 distances of the same
// vectors as floats, so lists of bits are trained and ranked as those of floats are.
//
// As Postgres's type bit has them: component i is bit 7 - i % 8 of byte i / 8, and bits after the last component are 0.
#pragma once

#include "core/types.h"

namespace ivfremote {

constexpr size_t PackedBytes(uint32_t dimensions) { return (size_t{dimensions} + 7) / 8; }

// A component is 1 where the value is not 0. `bits` is PackedBytes long.
void PackBits(const float* values, uint32_t dimensions, std::byte* bits);
// To 0.0 and 1.0. What follows the last component is not looked at.
void UnpackBits(const std::byte* bits, uint32_t dimensions, float* values);

// Of `query` from `count` rows, one after the other, of `row_bytes` each.
void HammingDistances(const std::byte* query, const std::byte* rows, size_t row_bytes, uint32_t count,
                      uint32_t* distances);

}  // namespace ivfremote
