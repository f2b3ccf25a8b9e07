// How an index stores its rows: as they are, or as RaBitQ codes.
#pragma once

#include "core/code.h"

namespace ivfremote {

struct CodeFormat {
  CodeKind kind = CodeKind::kFloat32;
  uint32_t bits = 32;  // of a dimension
  uint32_t dimensions = 0;

  friend bool operator==(const CodeFormat&, const CodeFormat&) = default;

  bool coded() const { return kind == CodeKind::kRabitq; }
  // Of a code; meaningless for floats.
  uint32_t padded() const { return PaddedDimensions(dimensions, bits); }
  // A row by itself, as pending rows and the build's sort hold it: its CodeFactors and code, or its floats.
  size_t RowBytes() const {
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
  return kind == static_cast<uint8_t>(CodeKind::kFloat32) ? bits == 32
                                                          : kind == static_cast<uint8_t>(CodeKind::kRabitq) &&
                                                                IsCodeWidth(bits);
}

}  // namespace ivfremote
