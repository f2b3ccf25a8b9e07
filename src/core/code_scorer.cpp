#include "core/code_scorer.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/code_kernels.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest integer of a query. What it loses is far below the error of 8-bit codes.
constexpr double kLargestInteger = 8191;
// A query's integers times the largest code stay below 2^31 when each is rounded up: 2^23 exceeds 255 / 2 times the
// largest number of dimensions.
constexpr double kLargestSum = 0x1p31 - 0x1p23;
// The standard deviation of a rounding to integers.
constexpr double kRoundingError = 0.28867513459481287;

// The unit of a smaller query would not be a normal float32.
constexpr float kSmallest = 0x1p-100f;

float RoundUp(double value) {
  const auto nearest = static_cast<float>(value);
  return nearest < value ? std::nextafter(nearest, kInfinity) : nearest;
}

}  // namespace

CodeScorer::CodeScorer(Metric metric, uint32_t padded, uint32_t bits, double epsilon)
    : metric_(metric),
      padded_(padded),
      bits_(bits),
      epsilon_(epsilon),
      query_(size_t{PaddedDimensions(padded, 1)} * (bits == 1 ? 4 : sizeof(int16_t)) / sizeof(Line) + 1) {
  assert(IsCodeWidth(bits) && padded == PaddedDimensions(padded, bits) && padded <= kMaxBits);
}

void CodeScorer::SetQuery(const QueryResidual& query) {
  terms_ = BoundTerms();
  // The query's kernels read 16 values at once; zeros after the last change nothing.
  const float* values = query.y;
  const uint32_t length = PaddedDimensions(padded_, 1);
  if (length != padded_) {
    whole_.assign(query.y, query.y + padded_);
    whole_.resize(length);
    values = whole_.data();
  }
  const QueryMagnitudes y = MeasureQuery(values, length);
  const double alpha = metric_ == Metric::kInnerProduct ? std::abs(query.alpha) : 0;
  // What rows share with the centroid would be lost with an alpha that is no normal float32.
  const bool alpha_fits = alpha == 0 || (alpha >= FLT_MIN && alpha <= FLT_MAX);
  if (!std::isfinite(y.squared_norm) || !std::isfinite(y.largest_group) || !alpha_fits) {
    std::memset(query_.data(), 0, query_.size() * sizeof(Line));
    terms_.shared = -kInfinity;
    return;
  }

  const double norm = std::sqrt(y.squared_norm);
  const double largest_v = static_cast<double>((1u << bits_) - 1);
  double unit = 0;    // of the sum
  double center = 0;  // <v,y> = unit (sum - center)
  double sigma = 0;
  if (y.largest < kSmallest) {
    // All of <v,y> is error.
    std::memset(query_.data(), 0, query_.size() * sizeof(Line));
    sigma = y.absolute_sum * largest_v;
  } else if (bits_ == 1) {
    const float multiplier = 255.0f / y.largest_group;
    BuildTables(values, length, multiplier, tables());
    unit = 2.0 / multiplier;
    center = y.absolute_sum / unit;
    sigma = unit * kRoundingError * std::sqrt(padded_ / 4.0);
  } else {
    const auto multiplier =
        static_cast<float>(std::min(kLargestInteger / y.largest, kLargestSum / (largest_v * y.absolute_sum)));
    const int32_t sum = BuildIntegers(values, length, multiplier, integers());
    // v = 2 code - largest_v.
    unit = 2.0 / multiplier;
    center = 0.5 * largest_v * sum;
    sigma = kRoundingError / multiplier * largest_v * std::sqrt(static_cast<double>(padded_));
  }

  const bool inner_product = metric_ == Metric::kInnerProduct;
  const double sign = inner_product ? -1 : -2;
  terms_.center = static_cast<int32_t>(std::lround(center));
  terms_.scale = static_cast<float>(sign * unit);
  terms_.offset = static_cast<float>(sign * unit * (terms_.center - center));
  terms_.own = inner_product ? static_cast<float>(-query.alpha) : 1;
  // Additions alone round what all rows share; |y|^2 has come through the rotation, too. Products smaller than the
  // smallest normal float32 are lost.
  const double shared = inner_product ? -query.centroid_product : y.squared_norm;
  const double safety = inner_product ? 0x1p-22 : double{BoundTerms::kSafety};
  terms_.shared = -RoundUp(std::abs(shared) * safety + FLT_MIN - shared);
  terms_.width = RoundUp(-sign * epsilon_ * norm * (1 + double{BoundTerms::kSafety}));
  terms_.noise = norm > 0 ? RoundUp(sigma / norm) : 0;
}

void CodeScorer::Score(const CodedRows& rows, float* bounds) const {
  ScoreCodes(padded_, bits_, query_.data(), terms_, rows, bounds);
}

int64_t CodeScorer::ReferenceSum(const std::byte* group, uint32_t rows, uint32_t row) const {
  const auto* query = reinterpret_cast<const std::byte*>(query_.data());
  int64_t sum = 0;
  if (bits_ == 1) {
    const uint32_t stride = (rows + 1) / 2;
    for (uint32_t i = 0; i < padded_ / 4; ++i, group += stride) {
      const auto nibbles = static_cast<uint32_t>(group[row % stride]);
      sum += static_cast<uint8_t>(query[16 * i + (row < stride ? nibbles & 15 : nibbles >> 4)]);
    }
    return sum;
  }
  const uint32_t word_dimensions = 32 / bits_;
  for (uint32_t i = 0; i < padded_; ++i) {
    const uint32_t in_word = i % word_dimensions;
    const auto word = Load<uint32_t>(group + 4 * (i / word_dimensions * rows + row));
    const uint32_t code = word >> (in_word % 2 * 16 + in_word / 2 * bits_) & ((1u << bits_) - 1);
    sum += int64_t{code} * Load<int16_t>(query + sizeof(int16_t) * i);
  }
  return sum;
}

void CodeScorer::ScoreReference(const CodedRows& rows, float* bounds) const {
  const uint32_t group_rows = GroupRows(bits_);
  const std::byte* group = rows.codes;
  for (uint32_t begin = 0; begin < rows.rows; begin += group_rows) {
    const uint32_t in_group = std::min(group_rows, rows.rows - begin);
    for (uint32_t i = begin; i < begin + in_group; ++i) {
      const auto sum = static_cast<float>(ReferenceSum(group, in_group, i - begin) - terms_.center);
      const float own = terms_.own * rows.a[i];
      const float product = rows.s[i] * (terms_.scale * sum + terms_.offset);
      const float noise = rows.s[i] * terms_.noise;
      const float error = std::sqrt(rows.e[i] * rows.e[i] + noise * noise);
      const float bound = own + terms_.shared + product - terms_.width * error -
                          BoundTerms::kSafety * (std::abs(own) + std::abs(product));
      bounds[i] = std::isfinite(bound) ? bound : -kInfinity;
    }
    group += GroupBytes(padded_, bits_, in_group);
  }
}

}  // namespace ivfremote
