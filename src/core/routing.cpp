#include "core/routing.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/distance.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

constexpr uint32_t kMagic = 0x54554f52;  // "ROUT"
constexpr uint16_t kVersion = 0;

struct RawRoutingHeader {
  uint32_t magic;
  uint16_t version;
  uint8_t metric;
  uint8_t centroid_kind;  // 0: float32
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t dimensions;
  uint32_t list_count;
  uint32_t group_count;
  uint8_t reserved[36];
};
static_assert(sizeof(RawRoutingHeader) == RoutingHeader::kBytes);

template <typename T>
void Put(std::byte** to, const std::vector<T>& values) {
  if (!values.empty()) std::memcpy(*to, values.data(), values.size() * sizeof(T));
  *to += values.size() * sizeof(T);
}

template <typename T>
void Take(const std::byte** from, size_t count, std::vector<T>* values) {
  values->resize(count);
  if (count > 0) std::memcpy(values->data(), *from, count * sizeof(T));
  *from += count * sizeof(T);
}

// The logarithm of a ratio of scores counts as no more: the best score may be 0.
constexpr double kMaxLogRatio = 20;

float ToFloat(double value) { return static_cast<float>(std::clamp<double>(value, -FLT_MAX, FLT_MAX)); }

}  // namespace

Status DecodeRoutingHeader(Bytes bytes, RoutingHeader* header) {
  if (bytes.size() < sizeof(RawRoutingHeader)) return Status::Corrupt("routing is shorter than its header");
  const auto raw = Load<RawRoutingHeader>(bytes.data());
  if (raw.magic != kMagic) return Status::Corrupt("not a routing");
  if (raw.version > kVersion)
    return Status::Unsupported("routing has format version " + std::to_string(raw.version) +
                               ", this library reads up to " + std::to_string(kVersion));
  if (raw.required_features != 0 || raw.centroid_kind != 0)
    return Status::Unsupported("routing uses features this library does not know");
  if (raw.metric > static_cast<uint8_t>(Metric::kCosine) || raw.dimensions == 0 ||
      raw.dimensions > kMaxDimensions || raw.list_count == 0 || raw.list_count > kMaxLists ||
      raw.group_count == 0 || raw.group_count > raw.list_count)
    return Status::Corrupt("routing has an impossible header");
  *header = {raw.dimensions, static_cast<Metric>(raw.metric), raw.list_count, raw.group_count};
  return Status::Ok();
}

std::vector<std::byte> Routing::Encode() const {
  RawRoutingHeader raw{};
  raw.magic = kMagic;
  raw.version = kVersion;
  raw.metric = static_cast<uint8_t>(metric);
  raw.dimensions = dimensions;
  raw.list_count = list_count();
  raw.group_count = group_count();
  std::vector<std::byte> bytes(header().EncodedBytes());
  Store(bytes.data(), raw);
  std::byte* to = bytes.data() + sizeof raw;
  Put(&to, mean);
  Put(&to, radii);
  Put(&to, group_first);
  Put(&to, group_centroids);
  Put(&to, centroids);
  return bytes;
}

Status DecodeRouting(Bytes bytes, Routing* routing) {
  RoutingHeader header;
  IVFREMOTE_RETURN_IF_ERROR(DecodeRoutingHeader(bytes, &header));
  if (bytes.size() != header.EncodedBytes()) return Status::Corrupt("routing has the wrong length");
  const size_t d = header.dimensions;
  routing->dimensions = header.dimensions;
  routing->metric = header.metric;
  const std::byte* from = bytes.data() + RoutingHeader::kBytes;
  Take(&from, d, &routing->mean);
  Take(&from, header.list_count, &routing->radii);
  Take(&from, header.group_count + size_t{1}, &routing->group_first);
  Take(&from, header.group_count * d, &routing->group_centroids);
  Take(&from, header.list_count * d, &routing->centroids);
  if (!std::is_sorted(routing->group_first.begin(), routing->group_first.end()) ||
      routing->group_first.front() != 0 || routing->group_first.back() != header.list_count)
    return Status::Corrupt("routing has impossible groups");
  return Status::Ok();
}

bool ToRoutingSpace(Metric metric, const float* row, size_t dimensions, float* out) {
  if (metric != Metric::kCosine) {
    if (out != row) std::memcpy(out, row, dimensions * sizeof(float));
    return true;
  }
  const double norm = std::sqrt(SquaredNorm(row, dimensions));
  if (norm == 0) return false;
  for (size_t i = 0; i < dimensions; ++i) out[i] = static_cast<float>(row[i] / norm);
  return true;
}

ListRanker::ListRanker(Metric metric, const float* query, uint32_t dimensions)
    : metric_(metric), query_(dimensions) {
  if (!ToRoutingSpace(metric, query, dimensions, query_.data())) std::fill(query_.begin(), query_.end(), 0.0f);
  query_norm_ = std::sqrt(SquaredNorm(query_.data(), dimensions));
}

Status ListRanker::Feed(Bytes bytes) {
  if (position_ == 0) {
    IVFREMOTE_RETURN_IF_ERROR(DecodeRoutingHeader(bytes, &header_));
    if (header_.dimensions != query_.size() || header_.metric != metric_)
      return Status::Corrupt("routing is for other vectors than the index");
    mean_.resize(header_.dimensions);
    radii_.resize(header_.list_count);
    group_first_.resize(header_.group_count + size_t{1});
    group_distances_.assign(header_.group_count, std::numeric_limits<double>::infinity());
    distances_.assign(header_.list_count, std::numeric_limits<double>::infinity());
    if (metric_ == Metric::kInnerProduct) products_.assign(header_.list_count, 0.0);
    position_ = RoutingHeader::kBytes;
    bytes = bytes.subspan(RoutingHeader::kBytes);
  }
  if (position_ + bytes.size() > header_.EncodedBytes() || bytes.size() % sizeof(float) != 0)
    return Status::Corrupt("routing has the wrong length");
  FeedFloats(position_, reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float));
  position_ += bytes.size();
  return Status::Ok();
}

void ListRanker::FeedFloats(uint64_t position, const float* values, size_t count) {
  const uint64_t end = position + count * sizeof(float);
  // The part of the bytes that lies in [from, to), copied into an array that starts at `from`.
  const auto copy = [&](uint64_t from, uint64_t to, auto* array) {
    const uint64_t first = std::max(position, from);
    const uint64_t last = std::min(end, to);
    if (first < last)
      std::memcpy(array->data() + (first - from) / sizeof(float), values + (first - position) / sizeof(float),
                  last - first);
  };
  copy(header_.MeanOffset(), header_.RadiiOffset(), &mean_);
  copy(header_.RadiiOffset(), header_.GroupsOffset(), &radii_);
  copy(header_.GroupsOffset(), header_.GroupCentroidsOffset(), &group_first_);
  if (end <= header_.GroupCentroidsOffset()) return;

  if (residual_.empty()) {
    residual_.resize(header_.dimensions);
    for (size_t i = 0; i < residual_.size(); ++i) residual_[i] = ToFloat(double{query_[i]} - mean_[i]);
  }
  const auto accumulate = [&](uint64_t from, uint64_t to, auto* distances, auto* products) {
    const uint64_t first = std::max(position, from);
    const uint64_t last = std::min(end, to);
    if (first < last)
      Accumulate((first - from) / sizeof(float), values + (first - position) / sizeof(float),
                 (last - first) / sizeof(float), distances, products);
  };
  std::vector<double>* none = nullptr;
  accumulate(header_.GroupCentroidsOffset(), header_.CentroidsOffset(), &group_distances_, none);
  accumulate(header_.CentroidsOffset(), header_.EncodedBytes(), &distances_,
             metric_ == Metric::kInnerProduct ? &products_ : none);
}

void ListRanker::Accumulate(uint64_t at, const float* values, size_t count, std::vector<double>* distances,
                            std::vector<double>* products) {
  const size_t d = header_.dimensions;
  for (const float* last = values + count; values < last;) {
    const size_t row = at / d;
    const size_t column = at % d;
    const size_t length = std::min<size_t>(d - column, static_cast<size_t>(last - values));
    if (column == 0) (*distances)[row] = 0;
    (*distances)[row] += RoughSquaredL2(residual_.data() + column, values, length);
    if (products != nullptr) (*products)[row] += InnerProduct(query_.data() + column, values, length);
    values += length;
    at += length;
  }
}

Status ListRanker::NearestGroups(uint32_t count, std::vector<RoutingRange>* ranges) {
  if (position_ == 0 || position_ < header_.CentroidsOffset()) return Status::Corrupt("routing is cut off");
  if (!std::is_sorted(group_first_.begin(), group_first_.end()) || group_first_.back() != header_.list_count)
    return Status::Corrupt("routing has impossible groups");
  std::vector<uint32_t> groups(header_.group_count);
  std::iota(groups.begin(), groups.end(), 0u);
  count = std::min(count, header_.group_count);
  std::partial_sort(groups.begin(), groups.begin() + count, groups.end(), [&](uint32_t a, uint32_t b) {
    return group_distances_[a] != group_distances_[b] ? group_distances_[a] < group_distances_[b] : a < b;
  });
  const uint64_t list_bytes = uint64_t{header_.dimensions} * sizeof(float);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t first = group_first_[groups[i]];
    const uint32_t lists = group_first_[groups[i] + 1] - first;
    if (lists > 0) ranges->push_back({header_.CentroidsOffset() + first * list_bytes, lists * list_bytes});
  }
  return Status::Ok();
}

Status ListRanker::FeedCentroids(const RoutingRange& range, Bytes bytes) {
  if (bytes.size() != range.length) return Status::Internal("wrong bytes for a range of centroids");
  FeedFloats(range.offset, reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float));
  ++ranges_fed_;
  return Status::Ok();
}

std::vector<double> ListRanker::Scores(const ProbeRule& rule) const {
  std::vector<double> scores = distances_;
  if (metric_ == Metric::kInnerProduct) {
    // Lists whose rows spread far along the query may hold larger products than their centroid's.
    const double spread = 2 * query_norm_ / std::sqrt(static_cast<double>(header_.dimensions));
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = -products_[i] - spread * radii_[i];
  } else if (rule.radius_weight > 0) {
    for (size_t i = 0; i < scores.size(); ++i) scores[i] += rule.radius_weight * double{radii_[i]} * radii_[i];
  }
  // Not a number (of damaged bytes) would break the order.
  for (double& score : scores)
    if (std::isnan(score)) score = std::numeric_limits<double>::infinity();
  return scores;
}

Status ListRanker::Rank(const ProbeRule& rule, uint32_t count, float max_stop, std::vector<RankedList>* lists) {
  if (position_ == 0 || position_ != header_.EncodedBytes()) return Status::Corrupt("routing is cut off");
  const std::vector<double> scores = Scores(rule);
  const double ratio_weight = metric_ == Metric::kInnerProduct ? 0 : rule.ratio_weight;
  // A query on the centroid of rows that are all equal would be infinitely far, relatively, from every other list.
  double floor = 0;
  for (const float radius : radii_) floor += double{radius} * radius;
  floor *= rule.radius_weight / static_cast<double>(radii_.size());
  const double best = std::max(*std::min_element(scores.begin(), scores.end()), floor);
  // Most lists are too far for the threshold whatever their rank, and need not be sorted.
  const double farthest = ratio_weight > 0 && max_stop < ratio_weight * kMaxLogRatio
                              ? best * std::exp(max_stop / ratio_weight) * (1 + 1e-6)
                              : std::numeric_limits<double>::infinity();
  std::vector<uint32_t> order;
  order.reserve(scores.size());
  for (uint32_t i = 0; i < scores.size(); ++i)
    if (scores[i] <= farthest || farthest <= floor) order.push_back(i);
  const auto before = [&](uint32_t a, uint32_t b) { return scores[a] != scores[b] ? scores[a] < scores[b] : a < b; };
  count = std::min(count, static_cast<uint32_t>(order.size()));
  if (count < order.size()) std::nth_element(order.begin(), order.begin() + count, order.end(), before);
  std::sort(order.begin(), order.begin() + count, before);

  lists->clear();
  lists->reserve(count);
  for (uint32_t j = 0; j < count; ++j) {
    double stop = std::log1p(j);
    if (ratio_weight > 0) {
      const double ratio = std::max(scores[order[j]], floor) / best;
      stop += ratio_weight * (ratio >= 1 ? std::min(std::log(ratio), kMaxLogRatio) : 0);
    }
    if (j > 0 && static_cast<float>(stop) > max_stop) break;
    lists->push_back({order[j], static_cast<float>(stop)});
  }
  return Status::Ok();
}

Status ListRanker::Nearest(uint32_t* list) {
  if (position_ == 0 || (ranges_fed_ == 0 && position_ != header_.EncodedBytes()))
    return Status::Corrupt("routing is cut off");
  *list = static_cast<uint32_t>(std::min_element(distances_.begin(), distances_.end()) - distances_.begin());
  return Status::Ok();
}

}  // namespace ivfremote
