// SQL values to float32 vectors.
#pragma once

#include "core/types.h"
#include "pg/postgres_c.h"

namespace ivfremote {

// How the values of a type are laid out: arrays as below, the others as pgvector has them (and bit as Postgres has it).
enum class ValueType : uint8_t { kArray, kVector, kHalfvec, kBit };

// What an operator class tells the access method: the result of its support function 1. Part of the interface to other
// extensions' operator classes; `abi` is checked.
struct OpclassInfo {
  static constexpr uint32_t kAbi = 2;

  uint32_t abi;
  Metric metric;
  ValueType value_type;  // of the type that the operator class is for
};

const OpclassInfo* GetOpclassInfo(Relation index);

// What the type of the indexed column or expression says, as vector(3) does; 0 if nothing.
uint32_t DeclaredDimensions(Relation index);

struct Vector {
  const float* values;
  uint32_t dimensions;
};

// Of kArray: a real[], float8[], numeric[] or integer[] value: one dimension, 1 to 16000 elements, none NULL, all finite;
// else an error. Elements are rounded to real. Of other types: an error if the value is damaged, or not finite. Bits are
// 0.0 and 1.0. The values may point into the datum, or into memory of the current context.
Vector VectorFrom(ValueType type, Datum datum);

// The type of the query in a scan key: the index's own, or an array.
ValueType QueryTypeOf(Relation index, const ScanKeyData& key);

// Raises an error for NaN or infinity.
void CheckFinite(const float* values, uint32_t n);

// Whether VectorFrom would take a value, of real[] or another type but no other array, as one of that many dimensions.
// Raises no error.
bool IsUsableVector(ValueType type, Datum datum, uint32_t dimensions);

[[noreturn]] void ThrowDimensionMismatch(uint32_t expected, uint32_t actual);

}  // namespace ivfremote
