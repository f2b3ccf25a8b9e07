// SQL values to float32 vectors.
#pragma once

#include "core/types.h"
#include "pg/postgres_c.h"

namespace ivfremote {

// What an operator class tells the access method: the result of its support function 1. Part of the interface to other
// extensions' operator classes; `abi` is checked.
struct OpclassInfo {
  static constexpr uint32_t kAbi = 1;

  uint32_t abi;
  Metric metric;
};

const OpclassInfo* GetOpclassInfo(Relation index);

struct Vector {
  const float* values;
  uint32_t dimensions;
};

// A real[], float8[], numeric[] or integer[] value: one dimension, 1 to 16000 elements, none NULL, all finite; else an
// error. Elements are rounded to real. The values may point into the datum, or into memory of the current context.
Vector VectorFromArray(Datum datum);

// Raises an error for NaN or infinity.
void CheckFinite(const float* values, uint32_t n);

// Whether VectorFromArray would take a real[] value of that many dimensions. Raises no error.
bool IsUsableVector(Datum datum, uint32_t dimensions);

[[noreturn]] void ThrowDimensionMismatch(uint32_t expected, uint32_t actual);

}  // namespace ivfremote
