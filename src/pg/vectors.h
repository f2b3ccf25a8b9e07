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

// What the type of the indexed column or expression says, as vector(3) and bit(3) do; 0 if nothing. An error if no index has
// so many.
uint32_t DeclaredDimensions(Relation index);

struct Vector {
  const float* values;
  uint32_t dimensions;
};

// Of kArray: a real[], float8[], numeric[] or integer[] value: one dimension, 1 to 16000 elements, none NULL, all finite;
// else an error. Elements are rounded to real. Of other types: an error if the value is damaged, or not finite, or has no
// bits or too many. Bits are 0.0 and 1.0. The values may point into the datum, or into memory of the current context.
Vector VectorFrom(ValueType type, Datum datum);

// The type of the query in a scan key: the index's own, or an array, or (of indexes on arrays) a vector.
ValueType QueryTypeOf(Relation index, const ScanKeyData& key);

// Raises an error for NaN or infinity.
void CheckFinite(const float* values, uint32_t n);

// Whether VectorFrom would take a value, of real[] or another type but no other array, as one of that many dimensions.
// Raises no error.
bool IsUsableVector(ValueType type, Datum datum, uint32_t dimensions);

// Of a row that can't be in an index.
[[noreturn]] void ThrowDimensionMismatch(uint32_t expected, uint32_t actual);
// Of operands, as the type's own operators say it.
[[noreturn]] void ThrowDifferentDimensions(ValueType type, uint32_t a, uint32_t b);

// The value of a type (kArray: real[]) that VectorFrom reads so, in the current context. Rounded to the nearest half; an
// error for what is too large for one, and for what is neither 0 nor 1 if it is to be a bit.
Datum DatumFrom(ValueType type, const Vector& vector);

}  // namespace ivfremote
