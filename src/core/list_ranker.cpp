#include "core/list_ranker.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cfloat>
#include <cmath>

#include "core/distance.h"
#include "core/half.h"
#include "core/object_store.h"

namespace ivfremote {
namespace {

// The logarithm of a ratio of scores counts as no more: the best score may be 0.
constexpr double kMaxLogRatio = 20;
// Codes choose this many times the lists that are wanted, and at least some.
constexpr uint64_t kChosenPerWanted = 2;
constexpr size_t kMinChosen = 16;
// Centroids are asked for in runs of about this many bytes.
constexpr uint64_t kRunBytes = 64 << 10;
// Inner products of a group's lists are up to this many times their rows' spread along the query above the group's.
constexpr double kGroupSpread = 8;
// A query further away than this, in units of the codes, is taken to be here: all lists look alike from there on but for
// their direction, and float32 has room to spare.
constexpr double kMaxCodeNorm = 1e15;

float ToFloat(double value) { return static_cast<float>(std::clamp<double>(value, -FLT_MAX, FLT_MAX)); }

// Not a number (of damaged bytes) would break the order.
double Ordered(double score) { return std::isnan(score) ? std::numeric_limits<double>::infinity() : score; }

// Numbers in the order of the floats, and of positions where these are equal.
uint64_t SortKey(float score, uint32_t position) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 is 0
  return uint64_t{bits >> 31 != 0 ? ~bits : bits | 0x80000000} << 32 | position;
}

}  // namespace

ListRanker::ListRanker(const Routing* routing, const float* query, const RankWish& wish, Metric metric)
    : routing_(routing),
      wish_(wish),
      metric_(metric),
      header_(routing->header()),
      query_(routing->dimensions),
      residual_(routing->dimensions) {
  if (!ToRoutingSpace(routing->metric, query, query_.size(), query_.data()))
    std::fill(query_.begin(), query_.end(), 0.0f);
  query_norm_ = std::sqrt(SquaredNorm(query_.data(), query_.size()));
  for (size_t i = 0; i < residual_.size(); ++i) residual_[i] = ToFloat(double{query_[i]} - routing->mean[i]);
  // Some coordinate of a centroid is about as large as float16 goes. From farther away float32 would lose its place.
  constexpr double kNear = 1024;
  near_ = std::sqrt(SquaredNorm(residual_.data(), residual_.size())) <= kNear * std::exp2(header_.exponent + 15.0);
}

double ListRanker::Distance(const float* centroid) const {
  return near_ ? RoughSquaredL2(residual_.data(), centroid, residual_.size())
               : SquaredL2(residual_.data(), centroid, residual_.size());
}

ListRanker::ListRanker(const Routing* routing, const float* query, const RankWish& wish)
    : ListRanker(routing, query, wish, routing->metric) {
  const uint32_t groups = routing->group_count();
  const bool coded = header_.coded();
  const bool all =
      !coded || routing->list_count() <= kMaxFlatLists || wish.count > kGroupShare * routing->list_count();
  Start(all ? groups : static_cast<uint32_t>(std::ceil(groups * kGroupShare)), coded);
}

ListRanker ListRanker::ForInsert(const Routing* routing, const float* row) {
  ListRanker ranker(routing, row, RankWish(), Metric::kL2);
  ranker.Start(kInsertGroups, false);
  return ranker;
}

void ListRanker::Start(uint32_t group_count, bool by_codes) {
  groups_ = NearestGroups(group_count);
  lists_.reserve(routing_->list_count());
  for (const uint32_t group : groups_)
    for (uint32_t i = 0; i < routing_->ListsOf(group); ++i) lists_.push_back(routing_->group_first[group] + i);
  // Where most would be chosen, choosing takes longer than it saves. A threshold leaves fewer than are allowed.
  const uint64_t most = (std::isfinite(wish_.max_stop) ? 1 : kChosenPerWanted) * wish_.count;
  if (!by_codes || lists_.size() <= std::max<uint64_t>(most, kMinChosen)) return StartCentroids();
  stage_ = Stage::kCodes;
  SetCodeQuery();
  bounds_.reserve(lists_.size());
  if (routing_->codes.empty()) return;
  for (const uint32_t group : groups_) ScoreGroup(group, &routing_->codes[routing_->code_offsets[group]]);
  ChooseByCodes();
}

std::vector<uint32_t> ListRanker::NearestGroups(uint32_t count) const {
  // Training leaves groups without lists where many rows are equal.
  std::vector<uint32_t> groups;
  for (uint32_t g = 0; g < routing_->group_count(); ++g)
    if (routing_->ListsOf(g) > 0) groups.push_back(g);
  if (count >= groups.size()) return groups;
  const size_t d = query_.size();
  std::vector<double> scores(routing_->group_count());
  for (const uint32_t g : groups) {
    const float* centroid = &routing_->group_centroids[size_t{g} * d];
    scores[g] = Ordered(metric_ == Metric::kInnerProduct ? -InnerProduct(query_.data(), centroid, d) - GroupSpread(g)
                                                         : Distance(centroid));
  }
  std::nth_element(groups.begin(), groups.begin() + count, groups.end(), [&](uint32_t a, uint32_t b) {
    return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
  });
  groups.resize(count);
  std::sort(groups.begin(), groups.end());
  return groups;
}

// How much larger than its centroid's the products in a group may be. How far its lists are from the centroid is not at hand;
// where rows are wide apart lists are, too.
double ListRanker::GroupSpread(uint32_t group) const {
  const uint32_t lists = routing_->ListsOf(group);
  const double radius = std::sqrt(SquaredNorm(&routing_->radii[routing_->group_first[group]], lists) / lists);
  return kGroupSpread * query_norm_ / std::sqrt(static_cast<double>(query_.size())) * radius;
}

// Bounds are made half the squared distance less what all lists share, or the negative product. Both come from the
// scorer of products: that of distances would lose the difference in the query's norm, for queries from afar.
void ListRanker::SetCodeQuery() {
  const CodeFormat format = header_.code_format();
  const bool product = metric_ == Metric::kInnerProduct;
  const std::vector<float>& query = product ? query_ : residual_;
  // Codes are of centroids divided by the index's power of two; products only need some scale.
  const double norm = std::sqrt(SquaredNorm(query.data(), query.size()));
  double scale = product ? (norm > 0 ? std::exp2(-std::ilogb(norm)) : 1) : std::exp2(-header_.exponent);
  code_square_ = norm * scale * norm * scale;
  code_factor_ = product ? 1 : 2;
  if (norm * scale > kMaxCodeNorm) {
    code_factor_ *= norm * scale / kMaxCodeNorm;
    scale = kMaxCodeNorm / norm;
  }
  std::vector<float> scaled(query.size());
  for (size_t i = 0; i < scaled.size(); ++i) scaled[i] = static_cast<float>(query[i] * scale);
  std::vector<float> y(format.padded());
  routing_->rotation->Apply(scaled.data(), y.data());
  scorer_.emplace(Metric::kInnerProduct, format.padded(), format.bits, 0);
  scorer_->SetQuery({y.data(), product ? 0 : -0.5, 0});
}

void ListRanker::ScoreGroup(uint32_t group, const std::byte* bytes) {
  const uint32_t lists = routing_->ListsOf(group);
  const size_t first = bounds_.size();
  bounds_.resize(first + lists);
  scorer_->Score(ViewGroupCodes(bytes, lists), &bounds_[first]);
}

std::vector<float> ListRanker::ScoresByCodes() const {
  std::vector<float> scores(bounds_.size());
  const double unit = std::exp2(-header_.exponent);
  const double spread = 2 * unit * (query_norm_ > 0 ? std::sqrt(code_square_ / query_.size()) : 0);
  for (size_t i = 0; i < scores.size(); ++i) {
    const double radius = routing_->radii[lists_[i]];
    const double score = code_factor_ * bounds_[i];
    scores[i] = ToFloat(Ordered(metric_ == Metric::kInnerProduct
                                    ? score - spread * radius
                                    : score + wish_.rule.radius_weight * (radius * unit) * (radius * unit)));
  }
  return scores;
}

void ListRanker::ChooseByCodes() {
  const std::vector<float> scores = ScoresByCodes();
  const double ratio_weight = RatioWeight(wish_.rule);
  const double floor = Floor(wish_.rule) * std::exp2(-2.0 * header_.exponent);
  const double shared = metric_ == Metric::kInnerProduct ? 0 : code_square_;
  const double best = std::max(shared + *std::min_element(scores.begin(), scores.end()), floor);
  std::vector<uint64_t> keys;
  const auto take = [&](double farthest) {
    keys.clear();
    for (uint32_t i = 0; i < scores.size(); ++i)
      if (shared + scores[i] <= farthest) keys.push_back(SortKey(scores[i], i));
  };
  take(FarthestScore(best, ratio_weight));
  if (keys.size() < kMinChosen) take(std::numeric_limits<double>::infinity());
  size_t count = std::min<uint64_t>(std::max<uint64_t>(kChosenPerWanted * wish_.count, kMinChosen), keys.size());
  const auto end = keys.begin() + static_cast<ptrdiff_t>(count);
  std::nth_element(keys.begin(), end, keys.end());
  std::sort(keys.begin(), end);
  if (std::isfinite(wish_.max_stop)) {
    // As if each list had half its rank: twice as many lists, where scores are alike.
    for (size_t j = kMinChosen; j < count; ++j) {
      double stop = std::log1p(static_cast<double>(j) / kChosenPerWanted);
      const double score = shared + scores[static_cast<uint32_t>(keys[j])];
      if (ratio_weight > 0 && score > best) stop += ratio_weight * std::min(std::log(score / best), kMaxLogRatio);
      if (stop > wish_.max_stop) count = j;
    }
  }
  std::vector<uint32_t> chosen(count);
  for (size_t j = 0; j < count; ++j) chosen[j] = lists_[static_cast<uint32_t>(keys[j])];
  std::sort(chosen.begin(), chosen.end());
  lists_ = std::move(chosen);
  scorer_.reset();
  bounds_ = {};
  StartCentroids();
}

void ListRanker::StartCentroids() {
  next_ = 0;
  compared_.assign(lists_.size(), 0);
  const bool here = !routing_->centroids.empty();
  stage_ = here || lists_.empty() ? Stage::kDone : Stage::kCentroids;
  if (!here) return;
  for (size_t i = 0; i < lists_.size(); ++i) Compare(i, &routing_->centroids[size_t{lists_[i]} * query_.size()]);
}

void ListRanker::Compare(size_t at, const float* centroid) {
  compared_[at] = metric_ == Metric::kInnerProduct ? InnerProduct(query_.data(), centroid, query_.size())
                                                   : Distance(centroid);
}

bool ListRanker::Next(RoutingRange* range) {
  switch (stage_) {
    case Stage::kCodes: {
      const uint32_t group = groups_[next_];
      const uint64_t first = routing_->code_offsets[group];
      *range = {header_.CodesOffset() + first, routing_->code_offsets[group + 1] - first};
      break;
    }
    case Stage::kCentroids: {
      const uint64_t most = std::max<uint64_t>(kRunBytes / header_.CentroidBytes(), 1);
      size_t count = 1;
      while (count < most && next_ + count < lists_.size() && lists_[next_ + count] == lists_[next_] + count) ++count;
      *range = {header_.CentroidOffset(lists_[next_]), count * header_.CentroidBytes()};
      break;
    }
    case Stage::kDone:
      return false;
  }
  asked_ = range->length;
  return true;
}

Status ListRanker::Feed(Bytes bytes) {
  if (stage_ == Stage::kDone || bytes.size() != asked_) return Status::Internal("routing is fed what nobody asked for");
  if (stage_ == Stage::kCodes) {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    copy.resize(copy.size() + RangeBuffer::kSlack);
    ScoreGroup(groups_[next_++], copy.data());
    if (next_ == groups_.size()) ChooseByCodes();
    return Status::Ok();
  }
  const size_t d = query_.size();
  const size_t count = bytes.size() / header_.CentroidBytes();
  std::vector<float> centroids(count * d);
  FromHalves(reinterpret_cast<const uint16_t*>(bytes.data()), count * d, header_.scale(), centroids.data());
  for (size_t i = 0; i < count; ++i) Compare(next_ + i, &centroids[i * d]);
  next_ += count;
  if (next_ == lists_.size()) stage_ = Stage::kDone;
  return Status::Ok();
}

double ListRanker::Score(const ProbeRule& rule, size_t at) const {
  const double radius = routing_->radii[lists_[at]];
  // Lists whose rows spread far along the query may hold larger products than their centroid's.
  if (metric_ == Metric::kInnerProduct)
    return Ordered(-compared_[at] - 2 * query_norm_ / std::sqrt(static_cast<double>(query_.size())) * radius);
  return Ordered(compared_[at] + rule.radius_weight * radius * radius);
}

double ListRanker::Floor(const ProbeRule& rule) const {
  if (rule.radius_weight == 0) return 0;
  const std::vector<float>& radii = routing_->radii;
  return SquaredNorm(radii.data(), radii.size()) * rule.radius_weight / static_cast<double>(radii.size());
}

double ListRanker::FarthestScore(double best, double ratio_weight) const {
  return ratio_weight > 0 && wish_.max_stop < ratio_weight * kMaxLogRatio
             ? best * std::exp(wish_.max_stop / ratio_weight) * (1 + 1e-6)
             : std::numeric_limits<double>::infinity();
}

void ListRanker::Rank(const ProbeRule& rule, std::vector<RankedList>* lists) const {
  assert(stage_ == Stage::kDone);
  std::vector<double> scores(lists_.size());
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = Score(rule, i);
  const double ratio_weight = RatioWeight(rule);
  const double floor = Floor(rule);
  lists->clear();
  if (scores.empty()) return;
  const double best = std::max(*std::min_element(scores.begin(), scores.end()), floor);
  const double farthest = FarthestScore(best, ratio_weight);
  std::vector<uint32_t> order;
  order.reserve(scores.size());
  for (uint32_t i = 0; i < scores.size(); ++i)
    if (scores[i] <= farthest || farthest <= floor) order.push_back(i);
  // lists_ ascend.
  const auto before = [&](uint32_t a, uint32_t b) { return scores[a] != scores[b] ? scores[a] < scores[b] : a < b; };
  const uint32_t count = std::min(wish_.count, static_cast<uint32_t>(order.size()));
  if (count < order.size()) std::nth_element(order.begin(), order.begin() + count, order.end(), before);
  std::sort(order.begin(), order.begin() + count, before);

  lists->reserve(count);
  for (uint32_t j = 0; j < count; ++j) {
    double stop = std::log1p(j);
    if (ratio_weight > 0) {
      const double ratio = std::max(scores[order[j]], floor) / best;
      stop += ratio_weight * (ratio >= 1 ? std::min(std::log(ratio), kMaxLogRatio) : 0);
    }
    if (j > 0 && static_cast<float>(stop) > wish_.max_stop) break;
    lists->push_back({lists_[order[j]], static_cast<float>(stop)});
  }
}

}  // namespace ivfremote
