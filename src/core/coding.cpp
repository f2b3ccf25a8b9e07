#include "core/coding.h"

#include <algorithm>
#include <cstring>

#include "core/distance.h"
#include "core/little_endian.h"

namespace ivfremote {

RowCoder::RowCoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean)
    : metric_(metric),
      format_(format),
      rotation_(format.dimensions, format.padded(), rotation_seed),
      mean_(routing_mean),
      routed_(format.dimensions),
      residual_(format.dimensions),
      rotated_(format.padded()) {}

void RowCoder::Encode(const float* row, const float* centroid, std::byte* out) {
  const uint32_t d = format_.dimensions;
  if (!format_.coded()) {
    std::memcpy(out, row, d * sizeof(float));
    return;
  }
  if (!ToRoutingSpace(metric_, row, d, routed_.data())) std::fill(routed_.begin(), routed_.end(), 0.0f);
  SubtractScaledSum(routed_.data(), 1, mean_, centroid, d, residual_.data());
  double centroid_product = 0;
  if (metric_ == Metric::kInnerProduct)
    for (uint32_t i = 0; i < d; ++i) centroid_product += residual_[i] * (double{mean_[i]} + centroid[i]);
  rotation_.Apply(residual_.data(), rotated_.data());
  Store(out, EncodeResidual(metric_, format_.padded(), format_.bits, rotated_.data(), centroid_product,
                            out + sizeof(CodeFactors)));
}

QueryCoder::QueryCoder(Metric metric, const CodeFormat& format, const float* query, uint64_t rotation_seed,
                       const float* routing_mean)
    : metric_(metric),
      rotation_(format.dimensions, format.padded(), rotation_seed),
      query_(format.dimensions),
      mean_(routing_mean, routing_mean + format.dimensions),
      residual_(format.dimensions) {
  ToRoutingSpace(metric, query, format.dimensions, query_.data());
}

QueryResidual QueryCoder::Residual(const float* centroid, float* y) {
  const size_t d = query_.size();
  double share = 1;  // of the centroid, in the difference
  double product = 0;
  if (metric_ == Metric::kInnerProduct) {
    double squared_norm = 0;
    for (size_t i = 0; i < d; ++i) {
      const double c = double{mean_[i]} + centroid[i];
      product += query_[i] * c;
      squared_norm += c * c;
    }
    share = squared_norm > 0 ? product / squared_norm : 0;
  }
  SubtractScaledSum(query_.data(), share, mean_.data(), centroid, d, residual_.data());
  rotation_.Apply(residual_.data(), y);
  return {y, metric_ == Metric::kInnerProduct ? share : 0, product};
}

}  // namespace ivfremote
