// How an index stores its rows: as they are, floats or bits, or as RaBitQ codes.
#pragma once

#include "core/bits.h"
#include "core/code.h"

namespace ivfremote {

struct CodeFormat {
  CodeKind kind = CodeKind::kFloat32;
  uint32_t bits = 32;  // of a dimension
  uint32_t dimensions = 0;

  friend bool operator==(const CodeFormat&, const CodeFormat&) = default;

  // Else rows are exact.
  bool coded() const { return kind == CodeKind::kRabitq; }
  // Of a code; meaningless for floats and bits.
  uint32_t padded() const { return PaddedDimensions(dimensions, bits); }
  // A row by itself, as pending rows and the build's sort hold it: its CodeFactors and code, its floats or
  // its bits.
  size_t RowBytes() const {
    if (kind == CodeKind::kBits) return PackedBytes(dimensions);
    return coded() ? sizeof(CodeFactors) + CodeBytes(padded(), bits) : dimensions * sizeof(float);
  }
};

// RaBitQ when the user names no width. Below 8 dimensions floats take no more bytes than a code with its factors, and bounds
// would be violated more often than epsilon says (10 % instead of 0.6 % at 2 dimensions).
inline CodeFormat AutomaticFormat(uint32_t dimensions) {
  if (dimensions < 8) return {CodeKind::kFloat32, 32, dimensions};
  return {CodeKind::kRabitq, AutomaticBits(dimensions), dimensions};
}

// Whether the code kind and width read from outside are ones this library knows.
constexpr bool IsKnownCode(uint8_t kind, uint8_t bits) {
  switch (static_cast<CodeKind>(kind)) {
    case CodeKind::kFloat32:
      return bits == 32;
    case CodeKind::kRabitq:
      return IsCodeWidth(bits);
    case CodeKind::kBits:
      return bits == 1;
  }
  return false;
}

// Whether rows of that kind can be compared so.
constexpr bool IsKindOf(CodeKind kind, Metric metric) { return (kind == CodeKind::kBits) == (metric == Metric::kHamming); }

}  // namespace ivfremote
