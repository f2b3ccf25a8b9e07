#include "pg/probes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "pg/index_cache.h"
#include "pg/settings.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

constexpr double kDefaultRecall = 0.95;
// A query that is hard to answer may probe this many times the lists that queries do on average.
constexpr double kMaxOverMean = 4;

ProbeSetting Fixed(double lists, uint32_t list_count, const ProbeRule& rule) {
  const auto probes = static_cast<uint32_t>(std::clamp<double>(lists, 1, std::max<uint32_t>(list_count, 1)));
  return {rule, std::numeric_limits<float>::infinity(), probes, static_cast<double>(probes), 0};
}

// Up to which rows the curve is asked: beyond, lists grow as rows do.
double KnownRows(const RecallCurve& curve) { return std::max<double>(curve.points.back().k, settings.recall_k); }

CurvePoint PointAt(const RecallCurve& curve, double rows, double recall) {
  CurvePoint point{};
  CallCore([&] {
    point = curve.At(static_cast<uint32_t>(std::min(rows, KnownRows(curve))), recall);
    return Status::Ok();
  });
  if (rows > KnownRows(curve)) point.lists *= static_cast<float>(rows / KnownRows(curve));
  return point;
}

// How many times the lists of recall_k rows so many rows take.
double Growth(const RecallCurve* curve, double rows) {
  if (rows <= settings.recall_k) return 1;
  if (curve == nullptr) return std::sqrt(rows / settings.recall_k);
  return PointAt(*curve, rows, kDefaultRecall).lists /
         std::max(1.0f, PointAt(*curve, settings.recall_k, kDefaultRecall).lists);
}

}  // namespace

ProbeWish ProbeWishOf(Relation index) {
  const IndexOptions* options = GetIndexOptions(index);
  if (settings.probes > 0) return {settings.probes, 0};
  if (settings.recall_target >= 0) return {0, settings.recall_target};
  if (options->probes > 0) return {options->probes, 0};
  return {0, options->recall_target >= 0 ? options->recall_target : kDefaultRecall};
}

ProbeSetting ProbeSettingOf(Relation index, uint32_t list_count, const RecallCurve* curve, double rows) {
  if (curve != nullptr && curve->queries == 0) curve = nullptr;
  const ProbeRule rule = curve != nullptr ? curve->rule : ProbeRule{};
  const auto [probes, recall] = ProbeWishOf(index);
  if (probes > 0) return Fixed(probes * Growth(curve, rows), list_count, rule);
  if (recall >= 1) return Fixed(list_count, list_count, rule);
  if (curve == nullptr)
    return Fixed(std::max(8.0, std::round(std::sqrt(list_count))) * Growth(curve, rows), list_count, rule);
  const CurvePoint point = PointAt(*curve, rows, recall);
  if (std::isinf(point.stop)) return Fixed(list_count, list_count, rule);
  if (rows > KnownRows(*curve)) return Fixed(std::ceil(point.lists), list_count, rule);
  const double most = std::ceil(kMaxOverMean * point.lists) + 8;
  return {rule, point.stop, static_cast<uint32_t>(std::min<double>(most, list_count)), point.lists, recall};
}

ProbeSetting ProbeSettingOf(Relation index, const MetaPage& meta) {
  return ProbeSettingOf(index, meta.list_count, &GetResidentIndex(index, meta)->curve, settings.recall_k);
}

double EpsilonOf(uint32_t bits) {
  return settings.epsilon >= 0 ? settings.epsilon : DefaultEpsilon(bits);
}

}  // namespace ivfremote
