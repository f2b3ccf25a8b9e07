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

Operands GetOperands(FunctionCallInfo fcinfo) {
  const Operands operands{VectorFromArray(PG_GETARG_DATUM(0)), VectorFromArray(PG_GETARG_DATUM(1))};
  if (operands.a.dimensions != operands.b.dimensions)
    ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("different vector dimensions %u and %u",
                                                            operands.a.dimensions, operands.b.dimensions)));
  return operands;
}

// Through the Scorer, as the scan does: operators and scan agree to the last bit.
Datum Distance(FunctionCallInfo fcinfo, Metric metric) {
  const Operands operands = GetOperands(fcinfo);
  const Scorer scorer(metric, operands.b.values, operands.b.dimensions);
  PG_RETURN_FLOAT8(scorer.Distance(operands.a.values));
}

constexpr OpclassInfo kL2{OpclassInfo::kAbi, Metric::kL2};
constexpr OpclassInfo kInnerProduct{OpclassInfo::kAbi, Metric::kInnerProduct};
constexpr OpclassInfo kCosine{OpclassInfo::kAbi, Metric::kCosine};

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_l2_distance);
Datum ivfremote_l2_distance(PG_FUNCTION_ARGS) { return Distance(fcinfo, Metric::kL2); }

PG_FUNCTION_INFO_V1(ivfremote_negative_inner_product);
Datum ivfremote_negative_inner_product(PG_FUNCTION_ARGS) {
  return Distance(fcinfo, Metric::kInnerProduct);
}

PG_FUNCTION_INFO_V1(ivfremote_cosine_distance);
Datum ivfremote_cosine_distance(PG_FUNCTION_ARGS) { return Distance(fcinfo, Metric::kCosine); }

PG_FUNCTION_INFO_V1(ivfremote_inner_product);
Datum ivfremote_inner_product(PG_FUNCTION_ARGS) {
  const Operands operands = GetOperands(fcinfo);
  PG_RETURN_FLOAT8(InnerProduct(operands.a.values, operands.b.values, operands.a.dimensions));
}

PG_FUNCTION_INFO_V1(ivfremote_l2_norm);
Datum ivfremote_l2_norm(PG_FUNCTION_ARGS) {
  const Vector vector = VectorFromArray(PG_GETARG_DATUM(0));
  PG_RETURN_FLOAT8(std::sqrt(SquaredNorm(vector.values, vector.dimensions)));
}

PG_FUNCTION_INFO_V1(ivfremote_real_l2_support);
Datum ivfremote_real_l2_support(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  PG_RETURN_POINTER(&kL2);
}

PG_FUNCTION_INFO_V1(ivfremote_real_ip_support);
Datum ivfremote_real_ip_support(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  PG_RETURN_POINTER(&kInnerProduct);
}

PG_FUNCTION_INFO_V1(ivfremote_real_cosine_support);
Datum ivfremote_real_cosine_support(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  PG_RETURN_POINTER(&kCosine);
}

}  // extern "C"
