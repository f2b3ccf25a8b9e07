#include "core/coding.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "core/distance.h"
#include "core/little_endian.h"

namespace ivfremote {

void RowToFloats(const CodeFormat& format, const std::byte* row, float* values) {
  assert(!format.coded());
  if (format.kind == CodeKind::kBits)
    UnpackBits(row, format.dimensions, values);
  else
    std::memcpy(values, row, format.dimensions * sizeof(float));
}

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
  if (format_.kind == CodeKind::kBits) return PackBits(row, d, out);
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

RowDecoder::RowDecoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean)
    : metric_(metric),
      format_(format),
      rotation_(format.dimensions, format.padded(), rotation_seed),
      mean_(routing_mean),
      rotated_(format.padded()),
      residual_(format.dimensions) {}

void RowDecoder::Decode(const std::byte* row, const float* centroid, float* centred, float* excess) {
  const uint32_t d = format_.dimensions;
  *excess = 0;
  if (!format_.coded()) {
    RowToFloats(format_, row, residual_.data());
    if (!ToRoutingSpace(metric_, residual_.data(), d, centred)) std::fill_n(centred, d, 0.0f);
    for (uint32_t i = 0; i < d; ++i) centred[i] = std::clamp(centred[i] - mean_[i], -FLT_MAX, FLT_MAX);
    return;
  }
  std::copy_n(centroid, d, centred);
  const auto factors = Load<CodeFactors>(row);
  if (std::isinf(factors.e)) return;
  DecodeResidual(format_.padded(), format_.bits, row + sizeof factors, factors.s, rotated_.data());
  rotation_.ApplyInverse(rotated_.data(), residual_.data());
  const double squared_norm = metric_ == Metric::kInnerProduct ? CorrectProduct(factors, centroid) : factors.a;
  const double decoded_norm = SquaredNorm(residual_.data(), d);
  if (!(decoded_norm <= FLT_MAX)) return;
  for (uint32_t i = 0; i < d; ++i) centred[i] = std::clamp(centred[i] + residual_[i], -FLT_MAX, FLT_MAX);
  *excess = static_cast<float>(decoded_norm - squared_norm);
}

double RowDecoder::CorrectProduct(const CodeFactors& factors, const float* centroid) {
  const double squared_norm = SquaredNorm(rotated_.data(), rotated_.size()) -
                              (format_.padded() - 1.0) * factors.e * factors.e;
  double product = 0;
  double centroid_norm = 0;
  for (size_t i = 0; i < residual_.size(); ++i) {
    const double c = double{mean_[i]} + centroid[i];
    product += residual_[i] * c;
    centroid_norm += c * c;
  }
  if (!(centroid_norm > FLT_MIN)) return squared_norm;
  const double share = (factors.a - product) / centroid_norm;
  for (size_t i = 0; i < residual_.size(); ++i)
    residual_[i] = static_cast<float>(residual_[i] + share * (double{mean_[i]} + centroid[i]));
  return squared_norm;
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
