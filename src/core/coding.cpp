#include "core/coding.h"

#include <cmath>
#include <cstring>

#include "core/distance.h"
#include "core/little_endian.h"

namespace ivfremote {

bool Centre(Metric metric, const float* row, const float* mean, uint32_t dimensions, float* out) {
  const bool has_direction = ToRoutingSpace(metric, row, dimensions, out);
  if (!has_direction) std::fill(out, out + dimensions, 0.0f);
  for (uint32_t i = 0; i < dimensions; ++i) out[i] -= mean[i];
  return has_direction;
}

RowCoder::RowCoder(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const float* routing_mean)
    : metric_(metric),
      format_(format),
      rotation_(format.dimensions, rotation_seed),
      mean_(routing_mean),
      residual_(format.dimensions),
      rotated_(format.padded()) {}

void RowCoder::Encode(const float* row, const float* centred, const float* centroid, std::byte* out) {
  const uint32_t d = format_.dimensions;
  if (!format_.coded()) {
    std::memcpy(out, row, d * sizeof(float));
    return;
  }
  for (uint32_t i = 0; i < d; ++i) residual_[i] = centred[i] - centroid[i];
  double centroid_product = 0;
  if (metric_ == Metric::kInnerProduct)
    for (uint32_t i = 0; i < d; ++i) centroid_product += double{residual_[i]} * (double{mean_[i]} + centroid[i]);
  rotation_.Apply(residual_.data(), rotated_.data());
  Store(out, EncodeResidual(metric_, format_.padded(), format_.bits, rotated_.data(), centroid_product,
                            out + sizeof(CodeFactors)));
}

RotatedCentroid::RotatedCentroid(Metric metric, uint32_t dimensions, uint64_t rotation_seed, const float* routing_mean)
    : metric_(metric), rotation_(dimensions, rotation_seed), mean_(routing_mean), sum_(dimensions) {}

void RotatedCentroid::Rotate(const float* centroid, float* out) {
  if (metric_ != Metric::kInnerProduct) return rotation_.Apply(centroid, out);
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] = mean_[i] + centroid[i];
  rotation_.Apply(sum_.data(), out);
}

QueryCoder::QueryCoder(Metric metric, const float* query, uint32_t dimensions, uint64_t rotation_seed,
                       const float* routing_mean)
    : metric_(metric), rotated_(Rotation::Padded(dimensions)) {
  const Rotation rotation(dimensions, rotation_seed);
  if (metric == Metric::kInnerProduct) {
    rotation.Apply(query, rotated_.data());
    return;
  }
  std::vector<float> centred(dimensions);
  Centre(metric, query, routing_mean, dimensions, centred.data());
  rotation.Apply(centred.data(), rotated_.data());
}

QueryResidual QueryCoder::Residual(const float* centroid, float* y) const {
  const size_t n = rotated_.size();
  if (metric_ != Metric::kInnerProduct) {
    for (size_t i = 0; i < n; ++i) y[i] = rotated_[i] - centroid[i];
    return {y, 0, 0};
  }
  const double product = InnerProduct(rotated_.data(), centroid, n);
  const double squared_norm = SquaredNorm(centroid, n);
  const double alpha = squared_norm > 0 ? product / squared_norm : 0;
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>(rotated_[i] - alpha * centroid[i]);
  return {y, alpha, product};
}

}  // namespace ivfremote
