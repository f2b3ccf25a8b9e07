// The SQL distance functions and the operator classes' support functions.
#include <cmath>

#include "core/distance.h"
#include "pg/vectors.h"

namespace ivfremote {
namespace {

struct Operands {
  Vector a;
  Vector b;
};

Operands GetOperands(FunctionCallInfo fcinfo, ValueType a = ValueType::kArray, ValueType b = ValueType::kArray) {
  const Operands operands{VectorFrom(a, PG_GETARG_DATUM(0)), VectorFrom(b, PG_GETARG_DATUM(1))};
  if (operands.a.dimensions != operands.b.dimensions)
    ThrowDifferentDimensions(ValueType::kArray, operands.a.dimensions, operands.b.dimensions);
  return operands;
}

// Through the Scorer, as the scan does: operators and scan agree to the last bit.
Datum Distance(FunctionCallInfo fcinfo, Metric metric, ValueType a = ValueType::kArray,
               ValueType b = ValueType::kArray) {
  const Operands operands = GetOperands(fcinfo, a, b);
  const Scorer scorer(metric, operands.b.values, operands.b.dimensions);
  PG_RETURN_FLOAT8(scorer.Distance(operands.a.values));
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

#define IVFREMOTE_DISTANCE(name, ...) \
  PG_FUNCTION_INFO_V1(name);          \
  Datum name(PG_FUNCTION_ARGS) { return Distance(fcinfo, __VA_ARGS__); }

IVFREMOTE_DISTANCE(ivfremote_l2_distance, Metric::kL2)
IVFREMOTE_DISTANCE(ivfremote_negative_inner_product, Metric::kInnerProduct)
IVFREMOTE_DISTANCE(ivfremote_cosine_distance, Metric::kCosine)
IVFREMOTE_DISTANCE(ivfremote_vector_array_l2_distance, Metric::kL2, ValueType::kVector)
IVFREMOTE_DISTANCE(ivfremote_vector_array_negative_inner_product, Metric::kInnerProduct, ValueType::kVector)
IVFREMOTE_DISTANCE(ivfremote_vector_array_cosine_distance, Metric::kCosine, ValueType::kVector)
IVFREMOTE_DISTANCE(ivfremote_array_vector_l2_distance, Metric::kL2, ValueType::kArray, ValueType::kVector)
IVFREMOTE_DISTANCE(ivfremote_array_vector_negative_inner_product, Metric::kInnerProduct, ValueType::kArray,
                   ValueType::kVector)
IVFREMOTE_DISTANCE(ivfremote_array_vector_cosine_distance, Metric::kCosine, ValueType::kArray, ValueType::kVector)

PG_FUNCTION_INFO_V1(ivfremote_inner_product);
Datum ivfremote_inner_product(PG_FUNCTION_ARGS) {
  const Operands operands = GetOperands(fcinfo);
  PG_RETURN_FLOAT8(InnerProduct(operands.a.values, operands.b.values, operands.a.dimensions));
}

PG_FUNCTION_INFO_V1(ivfremote_l2_norm);
Datum ivfremote_l2_norm(PG_FUNCTION_ARGS) {
  const Vector vector = VectorFrom(ValueType::kArray, PG_GETARG_DATUM(0));
  PG_RETURN_FLOAT8(std::sqrt(SquaredNorm(vector.values, vector.dimensions)));
}

#define IVFREMOTE_OPCLASS(name, metric, value_type)                               \
  PG_FUNCTION_INFO_V1(name);                                                      \
  Datum name(PG_FUNCTION_ARGS) {                                                  \
    static constexpr OpclassInfo kInfo{OpclassInfo::kAbi, metric, value_type};    \
    (void)fcinfo;                                                                 \
    PG_RETURN_POINTER(&kInfo);                                                    \
  }

IVFREMOTE_OPCLASS(ivfremote_real_l2_support, Metric::kL2, ValueType::kArray)
IVFREMOTE_OPCLASS(ivfremote_real_ip_support, Metric::kInnerProduct, ValueType::kArray)
IVFREMOTE_OPCLASS(ivfremote_real_cosine_support, Metric::kCosine, ValueType::kArray)
IVFREMOTE_OPCLASS(ivfremote_vector_l2_support, Metric::kL2, ValueType::kVector)
IVFREMOTE_OPCLASS(ivfremote_vector_ip_support, Metric::kInnerProduct, ValueType::kVector)
IVFREMOTE_OPCLASS(ivfremote_vector_cosine_support, Metric::kCosine, ValueType::kVector)
IVFREMOTE_OPCLASS(ivfremote_halfvec_l2_support, Metric::kL2, ValueType::kHalfvec)
IVFREMOTE_OPCLASS(ivfremote_halfvec_ip_support, Metric::kInnerProduct, ValueType::kHalfvec)
IVFREMOTE_OPCLASS(ivfremote_halfvec_cosine_support, Metric::kCosine, ValueType::kHalfvec)
IVFREMOTE_OPCLASS(ivfremote_bit_hamming_support, Metric::kHamming, ValueType::kBit)

}  // extern "C"
