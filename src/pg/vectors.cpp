#include "pg/vectors.h"

#include <cmath>

#include "core/distance.h"

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

Vector VectorFromArray(Datum datum) {
  ArrayType* array = DatumGetArrayTypeP(datum);
  const uint32_t n = CheckArray(array);
  const float* values = ARR_ELEMTYPE(array) == FLOAT4OID ? reinterpret_cast<const float*>(ARR_DATA_PTR(array))
                                                         : RoundToReal(array, n);
  CheckFinite(values, n);
  return {values, n};
}

bool IsUsableVector(Datum datum, uint32_t dimensions) {
  ArrayType* array = DatumGetArrayTypeP(datum);
  if (ARR_NDIM(array) != 1 || (ARR_HASNULL(array) && array_contains_nulls(array))) return false;
  return static_cast<uint32_t>(ARR_DIMS(array)[0]) == dimensions &&
         AllFinite(reinterpret_cast<const float*>(ARR_DATA_PTR(array)), dimensions);
}

void ThrowDimensionMismatch(uint32_t expected, uint32_t actual) {
  ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("expected %u dimensions, not %u", expected, actual)));
  pg_unreachable();
}

}  // namespace ivfremote
