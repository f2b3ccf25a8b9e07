#include "core/recall_curve.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/format_version.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

constexpr uint32_t kMagic = 0x56525543;  // "CURV"
constexpr uint16_t kVersion = 1;
constexpr uint32_t kMaxPoints = 4096;

struct RawHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t point_bytes;
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t point_count;
  uint32_t queries;
  float radius_weight;
  float ratio_weight;
  float bound_loss;
  uint8_t from_queries;
  uint8_t reserved[27];
};
static_assert(sizeof(RawHeader) == 64);
static_assert(offsetof(RawHeader, point_count) == 16 && offsetof(RawHeader, radius_weight) == 24 &&
              offsetof(RawHeader, from_queries) == 36);
static_assert(offsetof(CurvePoint, recall) == 4 && offsetof(CurvePoint, bytes) == 20);

// Between a and b, at `share` of the way.
CurvePoint Between(const CurvePoint& a, const CurvePoint& b, double share) {
  const auto mix = [share](float x, float y) {
    if (std::isinf(x) || std::isinf(y)) return share > 0 ? y : x;
    return static_cast<float>(x + share * (double{y} - x));
  };
  return {0, 0, mix(a.stop, b.stop), mix(a.lists, b.lists), mix(a.rows, b.rows), mix(a.bytes, b.bytes)};
}

// `first` .. `last` are points of one k, by recall.
CurvePoint AtRecall(const CurvePoint* first, const CurvePoint* last, double recall) {
  const CurvePoint* above = std::lower_bound(first, last, recall, [](const CurvePoint& point, double value) {
    return point.recall < value;
  });
  if (above == first) return *first;
  if (above == last) {
    CurvePoint all = last[-1];
    all.stop = std::numeric_limits<float>::infinity();
    return all;
  }
  // Lists grow with the logarithm of what is still missed.
  const double from = std::log1p(-double{above[-1].recall});
  const double to = std::log1p(-double{above->recall});
  return Between(above[-1], *above, (std::log1p(-recall) - from) / (to - from));
}

}  // namespace

CurvePoint RecallCurve::At(uint32_t k, double recall) const {
  assert(!points.empty());
  // As points have it: 0.95 is not a little more than the point at 0.95, whose next may need all lists.
  recall = static_cast<float>(recall);
  const auto range = [this](uint32_t of_k) {
    return std::equal_range(points.begin(), points.end(), CurvePoint{of_k, 0, 0, 0, 0, 0},
                            [](const CurvePoint& a, const CurvePoint& b) { return a.k < b.k; });
  };
  const auto at = [&](uint32_t of_k) {
    const auto [first, last] = range(of_k);
    return AtRecall(&*first, &*first + (last - first), recall);
  };
  const auto above = std::lower_bound(points.begin(), points.end(), k,
                                      [](const CurvePoint& point, uint32_t value) { return point.k < value; });
  CurvePoint result;
  if (above == points.end()) {
    result = at(points.back().k);
  } else if (above == points.begin() || above->k == k) {
    result = at(above->k);
  } else {
    const double low = std::log(static_cast<double>(above[-1].k));
    const double high = std::log(static_cast<double>(above->k));
    result = Between(at(above[-1].k), at(above->k), (std::log(static_cast<double>(k)) - low) / (high - low));
  }
  result.k = k;
  result.recall = static_cast<float>(recall);
  return result;
}

std::vector<std::byte> RecallCurve::Encode() const {
  RawHeader raw{};
  raw.magic = kMagic;
  raw.version = kVersion;
  raw.point_bytes = sizeof(CurvePoint);
  raw.point_count = static_cast<uint32_t>(points.size());
  raw.queries = queries;
  raw.radius_weight = rule.radius_weight;
  raw.ratio_weight = rule.ratio_weight;
  raw.bound_loss = bound_loss;
  raw.from_queries = from_queries ? 1 : 0;
  std::vector<std::byte> bytes(sizeof raw + points.size() * sizeof(CurvePoint));
  Store(bytes.data(), raw);
  if (!points.empty()) std::memcpy(bytes.data() + sizeof raw, points.data(), points.size() * sizeof(CurvePoint));
  return bytes;
}

Status DecodeRecallCurve(Bytes bytes, RecallCurve* curve) {
  if (bytes.size() < sizeof(RawHeader)) return Status::Corrupt("recall curve is shorter than its header");
  const auto raw = Load<RawHeader>(bytes.data());
  if (raw.magic != kMagic) return Status::Corrupt("not a recall curve");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("recall curve", raw.version, kVersion));
  if (raw.required_features != 0) return Status::Unsupported("recall curve uses features this library does not know");
  if (raw.point_bytes > sizeof(CurvePoint))
    return Status::Unsupported("recall curve has points this library does not know");
  if (raw.point_bytes != sizeof(CurvePoint) || raw.point_count == 0 || raw.point_count > kMaxPoints ||
      bytes.size() != sizeof raw + raw.point_count * sizeof(CurvePoint) ||
      !(raw.bound_loss >= 0 && raw.bound_loss <= 1) ||
      !(raw.radius_weight >= 0 && raw.ratio_weight >= 0 && std::isfinite(raw.radius_weight) &&
        std::isfinite(raw.ratio_weight)))
    return Status::Corrupt("recall curve has an impossible header");
  curve->rule = {raw.radius_weight, raw.ratio_weight};
  curve->queries = raw.queries;
  curve->from_queries = raw.from_queries != 0;
  curve->bound_loss = raw.bound_loss;
  curve->points.resize(raw.point_count);
  std::memcpy(curve->points.data(), bytes.data() + sizeof raw, raw.point_count * sizeof(CurvePoint));
  for (size_t i = 0; i < curve->points.size(); ++i) {
    const CurvePoint& point = curve->points[i];
    const bool in_order = i == 0 || curve->points[i - 1].k < point.k ||
                          (curve->points[i - 1].k == point.k && curve->points[i - 1].recall < point.recall);
    if (point.k == 0 || !(point.recall > 0 && point.recall < 1) || !(point.stop >= 0) || !(point.lists >= 0) ||
        !(point.rows >= 0) || !(point.bytes >= 0) || !in_order)
      return Status::Corrupt("recall curve has an impossible point");
  }
  return Status::Ok();
}

}  // namespace ivfremote
