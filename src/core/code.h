// RaBitQ codes (Gao and Long, "RaBitQ", SIGMOD 2024; Gao et al., "Practical and asymptotically optimal quantization",
// SIGMOD 2025): 1, 2, 4 or 8 bits for each dimension of a row's rotated residual u = P (x - c) from its code centroid
// c, and three factors. A code stands for the odd integers v = 2 code - (2^bits - 1); s v is an unbiased decode of u.
// A code is right with the factors that belong to it; which of nearly equal codes an encoder picks is no format.
#pragma once

#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// Of one row; float32 as stored. With <.,.> in the rotated space, D = padded dimensions:
//   s = |u|^2 / <v,u>                 e = sqrt(max(0, s^2 |v|^2 - |u|^2) / (D - 1)), rounded up
//   a = |u|^2 (L2 and cosine) or <u,c> (inner product)
// A zero residual has s = e = 0. Where one of them would not be finite, or <u,c> is lost because u is too short, e is
// infinity and the others are 0: its lower bound is -infinity.
struct CodeFactors {
  float a;
  float s;
  float e;
};

constexpr bool IsCodeWidth(uint32_t bits) { return bits == 1 || bits == 2 || bits == 4 || bits == 8; }
// The width when the user names none.
constexpr uint32_t AutomaticBits(uint32_t dimensions) {
  return dimensions >= 512 ? 1 : dimensions >= 384 ? 2 : dimensions >= 32 ? 4 : 8;
}

// What the dimensions are padded to before they are rotated: a code is made of whole 32-bit words, or of 16 bits.
constexpr uint32_t PaddedDimensions(uint32_t dimensions, uint32_t bits) {
  const uint32_t multiple = bits >= 4 ? 8 : 16;
  return (dimensions + multiple - 1) / multiple * multiple;
}

// A code by itself, as pending rows store it. 1 bit: dimension i is bit i % 8 of byte i / 8. Else: little-endian 32-bit
// words of 32 / bits dimensions each; in a word, dimension 2k + h is the `bits` bits from bit 16h + bits k on.
constexpr size_t CodeBytes(uint32_t padded, uint32_t bits) { return size_t{padded} * bits / 8; }

// Codes in groups, as a block stores them and the kernels read them. 1 bit: 32 rows a group; for each 4 dimensions
// ceil(t / 2) bytes, t the rows of the group, byte j with row j in its low and row j + ceil(t / 2) in its high nibble,
// dimension 4g + i in bit i of the nibble; where t is odd, the high nibble that has no row is 0. Else: 16 rows a group;
// for each word of a code the words of its t rows. All groups but the last are full.
constexpr uint32_t GroupRows(uint32_t bits) { return bits == 1 ? 32 : 16; }
constexpr size_t GroupBytes(uint32_t padded, uint32_t bits, uint32_t rows) {
  return bits == 1 ? size_t{padded} / 4 * ((rows + 1) / 2) : size_t{padded} * bits / 8 * rows;
}
constexpr size_t GroupedBytes(uint32_t padded, uint32_t bits, uint32_t rows) {
  const uint32_t group = GroupRows(bits);
  return rows / group * GroupBytes(padded, bits, group) + GroupBytes(padded, bits, rows % group);
}
// `codes` are `rows` <= GroupRows codes, one after the other; `out` is GroupBytes long.
void PackGroup(const std::byte* codes, uint32_t padded, uint32_t bits, uint32_t rows, std::byte* out);
// The code of one row of a group of `rows`.
void UnpackFromGroup(const std::byte* group, uint32_t padded, uint32_t bits, uint32_t rows, uint32_t row,
                     std::byte* code);

// `residual` is u, [padded]; `centroid_product` is <u,c> (inner product only, else ignored). Writes CodeBytes to `code`:
// one bit is 1 where u_i >= 0; more are t u, rounded to odd integers, for the best t of a few. All 0 if u has a value
// that is not finite.
CodeFactors EncodeResidual(Metric metric, uint32_t padded, uint32_t bits, const float* residual,
                           double centroid_product, std::byte* code);

// s v, [padded].
void DecodeResidual(uint32_t padded, uint32_t bits, const std::byte* code, float s, float* residual);

}  // namespace ivfremote
