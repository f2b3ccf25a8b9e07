#include "pg/vectors.h"

#include <cmath>
#include <cstring>

#include "core/bits.h"
#include "core/distance.h"
#include "core/half.h"

extern "C" {
#include "utils/varbit.h"
}

namespace ivfremote {
namespace {

// The checks that real[] and float8[] share; returns the number of elements.
uint32_t CheckArray(ArrayType* array) {
  if (ARR_NDIM(array) > 1)
    ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("vector must be a one-dimensional array"),
                    errdetail("The array has %d dimensions.", ARR_NDIM(array))));
  if (ARR_NDIM(array) == 0)
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("vector must have at least 1 dimension")));
  if (ARR_HASNULL(array) && array_contains_nulls(array))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("vector must not contain nulls")));
  const int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
  if (n > static_cast<int>(kMaxDimensions))
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("vector cannot have more than %u dimensions", kMaxDimensions),
                    errdetail("The array has %d elements.", n)));
  return static_cast<uint32_t>(n);
}

float RoundToReal(double value, uint32_t i) {
  const auto rounded = static_cast<float>(value);
  if (std::isinf(rounded) && !std::isinf(value))
    ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("value out of range for type real"),
                    errdetail("Element %u of the vector is %g.", i + 1, value)));
  return rounded;
}

const float* RoundToReal(ArrayType* array, uint32_t n) {
  auto* values = static_cast<float*>(palloc(n * sizeof(float)));
  switch (ARR_ELEMTYPE(array)) {
    case FLOAT8OID: {
      const auto* from = reinterpret_cast<const double*>(ARR_DATA_PTR(array));
      for (uint32_t i = 0; i < n; ++i) values[i] = RoundToReal(from[i], i);
      break;
    }
    case INT4OID: {
      const auto* from = reinterpret_cast<const int32*>(ARR_DATA_PTR(array));
      for (uint32_t i = 0; i < n; ++i) values[i] = static_cast<float>(from[i]);
      break;
    }
    case NUMERICOID: {
      Datum* from;
      int count;
      deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &from, nullptr, &count);
      for (uint32_t i = 0; i < n; ++i)
        values[i] = RoundToReal(DatumGetFloat8(DirectFunctionCall1(numeric_float8, from[i])), i);
      break;
    }
    default:
      ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                      errmsg("vector cannot be an array of type %s", format_type_be(ARR_ELEMTYPE(array)))));
  }
  return values;
}

Vector VectorFromArray(Datum datum) {
  ArrayType* array = DatumGetArrayTypeP(datum);
  const uint32_t n = CheckArray(array);
  const float* values = ARR_ELEMTYPE(array) == FLOAT4OID ? reinterpret_cast<const float*>(ARR_DATA_PTR(array))
                                                         : RoundToReal(array, n);
  return {values, n};
}

bool IsUsableArray(Datum datum, Vector* vector) {
  ArrayType* array = DatumGetArrayTypeP(datum);
  if (ARR_NDIM(array) != 1 || (ARR_HASNULL(array) && array_contains_nulls(array))) return false;
  *vector = {reinterpret_cast<const float*>(ARR_DATA_PTR(array)), static_cast<uint32_t>(ARR_DIMS(array)[0])};
  return true;
}

// What a detoasted vector or halfvec begins with; its elements follow, float32 or halves.
struct PgvectorHeader {
  int32 vl_len_;
  int16 dimensions;
  int16 unused;  // 0, in all versions there are
};
static_assert(sizeof(PgvectorHeader) == 8);

// The dimensions, or 0 if the value is not what it should be.
uint32_t DimensionsOf(const PgvectorHeader* value, size_t element_bytes) {
  const size_t bytes = VARSIZE(value);
  if (bytes < sizeof *value || value->unused != 0 || value->dimensions < 1) return 0;
  const auto dimensions = static_cast<uint32_t>(value->dimensions);
  return dimensions <= kMaxDimensions && bytes == sizeof *value + dimensions * element_bytes ? dimensions : 0;
}

uint32_t DimensionsOf(const VarBit* value) {
  const size_t bytes = VARSIZE(value);
  if (bytes < VARBITTOTALLEN(0) || VARBITLEN(value) < 1) return 0;
  const auto dimensions = static_cast<uint32_t>(VARBITLEN(value));
  return dimensions <= kMaxBits && bytes == VARBITTOTALLEN(dimensions) ? dimensions : 0;
}

// A bit string that is no vector may be a sound one of a length that no index has.
void CheckBits(Datum datum) {
  const VarBit* bits = DatumGetVarBitP(datum);
  if (VARSIZE(bits) < VARBITTOTALLEN(0)) return;
  const int32 length = VARBITLEN(bits);
  if (length == 0)
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("bit string must have at least 1 bit")));
  if (length > static_cast<int32>(kMaxBits))
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("bit string cannot have more than %u bits", kMaxBits), errdetail("It has %d bits.", length)));
}

// A value of another type than an array. False if it is not what it should be: then nobody may read beyond its header.
bool ReadValue(ValueType type, Datum datum, Vector* vector) {
  const auto* value = reinterpret_cast<const PgvectorHeader*>(PG_DETOAST_DATUM(datum));
  if (type == ValueType::kVector) {
    *vector = {reinterpret_cast<const float*>(value + 1), DimensionsOf(value, sizeof(float))};
    return vector->dimensions > 0;
  }
  const auto* bits = reinterpret_cast<const VarBit*>(value);
  vector->dimensions = type == ValueType::kHalfvec ? DimensionsOf(value, sizeof(uint16_t)) : DimensionsOf(bits);
  if (vector->dimensions == 0) return false;
  auto* values = static_cast<float*>(palloc(vector->dimensions * sizeof(float)));
  if (type == ValueType::kHalfvec) {
    FromHalves(reinterpret_cast<const uint16_t*>(value + 1), vector->dimensions, 1, values);
  } else {
    UnpackBits(reinterpret_cast<const std::byte*>(VARBITS(bits)), vector->dimensions, values);
  }
  vector->values = values;
  return true;
}

Datum ArrayFrom(const Vector& vector) {
  const size_t bytes = ARR_OVERHEAD_NONULLS(1) + vector.dimensions * sizeof(float);
  auto* array = static_cast<ArrayType*>(palloc0(bytes));
  SET_VARSIZE(array, bytes);
  array->ndim = 1;
  array->elemtype = FLOAT4OID;
  ARR_DIMS(array)[0] = static_cast<int>(vector.dimensions);
  ARR_LBOUND(array)[0] = 1;
  std::memcpy(ARR_DATA_PTR(array), vector.values, vector.dimensions * sizeof(float));
  return PointerGetDatum(array);
}

Datum PgvectorFrom(ValueType type, const Vector& vector) {
  const bool halves = type == ValueType::kHalfvec;
  const size_t bytes = sizeof(PgvectorHeader) + vector.dimensions * (halves ? sizeof(uint16_t) : sizeof(float));
  auto* value = static_cast<PgvectorHeader*>(palloc0(bytes));
  SET_VARSIZE(value, bytes);
  value->dimensions = static_cast<int16>(vector.dimensions);
  if (!halves) {
    std::memcpy(value + 1, vector.values, vector.dimensions * sizeof(float));
    return PointerGetDatum(value);
  }
  auto* elements = reinterpret_cast<uint16_t*>(value + 1);
  for (uint32_t i = 0; i < vector.dimensions; ++i) {
    elements[i] = RoundToHalf(vector.values[i]);
    if ((elements[i] & 0x7c00) == 0x7c00)
      ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("value out of range for type halfvec"),
                      errdetail("Element %u of the vector is %g.", i + 1, double{vector.values[i]})));
  }
  return PointerGetDatum(value);
}

Datum BitsFrom(const Vector& vector) {
  const size_t bytes = VARBITTOTALLEN(vector.dimensions);
  auto* bits = static_cast<VarBit*>(palloc0(bytes));
  SET_VARSIZE(bits, bytes);
  VARBITLEN(bits) = static_cast<int32>(vector.dimensions);
  for (uint32_t i = 0; i < vector.dimensions; ++i) {
    const float value = vector.values[i];
    if (value != 0 && value != 1)
      ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bits must be 0 or 1"),
                      errdetail("Element %u of the vector is %g.", i + 1, double{value})));
  }
  PackBits(vector.values, vector.dimensions, reinterpret_cast<std::byte*>(VARBITS(bits)));
  return PointerGetDatum(bits);
}

const char* NameOf(ValueType type) {
  switch (type) {
    case ValueType::kArray:
      return "real[]";
    case ValueType::kVector:
      return "vector";
    case ValueType::kHalfvec:
      return "halfvec";
    case ValueType::kBit:
      return "bit";
  }
  return "unknown";
}

}  // namespace

const OpclassInfo* GetOpclassInfo(Relation index) {
  FmgrInfo* procedure = index_getprocinfo(index, 1, 1);
  const auto* info = reinterpret_cast<const OpclassInfo*>(DatumGetPointer(FunctionCall0Coll(procedure, InvalidOid)));
  if (info->abi != OpclassInfo::kAbi)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("operator class of index \"%s\" is made for another version of ivfremote",
                           RelationGetRelationName(index))));
  return info;
}

uint32_t DeclaredDimensions(Relation index) {
  if (GetOpclassInfo(index)->value_type == ValueType::kArray) return 0;
  const FormData_pg_attribute* column = TupleDescAttr(RelationGetDescr(index), 0);
  int32 modifier = column->atttypmod;
  // That of bit varying, which Postgres takes for bit, is a limit.
  if (getBaseTypeAndTypmod(column->atttypid, &modifier) == VARBITOID) return 0;
  if (modifier < 1) return 0;
  const uint32_t most = MaxDimensions(GetOpclassInfo(index)->metric);
  if (static_cast<uint32_t>(modifier) > most)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("column cannot have more than %u dimensions for index \"%s\"", most, RelationGetRelationName(index)),
                    errdetail("It has %d.", modifier)));
  return static_cast<uint32_t>(modifier);
}

void CheckFinite(const float* values, uint32_t n) {
  if (AllFinite(values, n)) return;
  for (uint32_t i = 0; i < n; ++i) {
    if (std::isnan(values[i]))
      ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("NaN not allowed in vector"),
                      errdetail("Element %u is NaN.", i + 1)));
    if (std::isinf(values[i]))
      ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("infinite value not allowed in vector"),
                      errdetail("Element %u is infinite.", i + 1)));
  }
}

Vector VectorFrom(ValueType type, Datum datum) {
  Vector vector;
  if (type == ValueType::kArray) {
    vector = VectorFromArray(datum);
  } else if (!ReadValue(type, datum, &vector)) {
    if (type == ValueType::kBit) CheckBits(datum);
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("damaged value of type %s", NameOf(type)),
                    errdetail("Its size does not fit its dimensions, or it is of an unknown version of the type.")));
  }
  CheckFinite(vector.values, vector.dimensions);
  return vector;
}

ValueType QueryTypeOf(Relation index, const ScanKeyData& key) {
  const bool own = key.sk_subtype == InvalidOid || key.sk_subtype == index->rd_opcintype[0];
  if (own) return GetOpclassInfo(index)->value_type;
  return OidIsValid(get_element_type(key.sk_subtype)) ? ValueType::kArray : ValueType::kVector;
}

bool IsUsableVector(ValueType type, Datum datum, uint32_t dimensions) {
  Vector vector;
  const bool usable = type == ValueType::kArray ? IsUsableArray(datum, &vector) : ReadValue(type, datum, &vector);
  return usable && vector.dimensions == dimensions && AllFinite(vector.values, dimensions);
}

void ThrowDimensionMismatch(uint32_t expected, uint32_t actual) {
  ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("expected %u dimensions, not %u", expected, actual)));
  pg_unreachable();
}

void ThrowDifferentDimensions(ValueType type, uint32_t a, uint32_t b) {
  const char* what = type == ValueType::kBit       ? "bit lengths"
                     : type == ValueType::kHalfvec ? "halfvec dimensions"
                                                   : "vector dimensions";
  ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("different %s %u and %u", what, a, b)));
  pg_unreachable();
}

Datum DatumFrom(ValueType type, const Vector& vector) {
  switch (type) {
    case ValueType::kArray:
      return ArrayFrom(vector);
    case ValueType::kBit:
      return BitsFrom(vector);
    case ValueType::kVector:
    case ValueType::kHalfvec:
      return PgvectorFrom(type, vector);
  }
  pg_unreachable();
}

}  // namespace ivfremote
