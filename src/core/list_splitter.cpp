#include "core/list_splitter.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <unordered_set>

#include "core/distance.h"
#include "core/even_part.h"
#include "core/training.h"

namespace ivfremote {
namespace {

constexpr size_t kListsPerThread = 16;  // in a step
// Of k-means with the list's own centroid fixed, after k-means without has found where to start.
constexpr int kIterations = 10;
constexpr int kLastIterations = 2;
// A new list of fewer rows, in shares of the target, is none: where many rows are equal the others would get a list each.
constexpr double kTooSmall = 0.25;
constexpr std::chrono::milliseconds kCodingStep{50};

// Beyond, centroids would be clamped anyway.
constexpr float kLargestUnits = 65504;

// Takes out those that no more than `too_few` rows are nearest to, and moves the others to the mean of their rows. The first
// stays where it is. `nearest`: of each row. Returns whether anything changed.
bool MoveToMeans(size_t d, const std::vector<float>& rows, const std::vector<uint32_t>& nearest, double too_few,
                 std::vector<float>* centroids) {
  std::vector<double> sums(centroids->size());
  std::vector<uint64_t> counts(centroids->size() / d);
  for (size_t i = 0; i < nearest.size(); ++i) {
    ++counts[nearest[i]];
    for (size_t j = 0; j < d; ++j) sums[nearest[i] * d + j] += rows[i * d + j];
  }
  std::vector<float> moved(centroids->begin(), centroids->begin() + static_cast<ptrdiff_t>(d));
  for (size_t c = 1; c < counts.size(); ++c)
    for (size_t j = 0; j < d && static_cast<double>(counts[c]) > too_few; ++j)
      moved.push_back(static_cast<float>(sums[c * d + j] / static_cast<double>(counts[c])));
  const bool changed = moved != *centroids;
  *centroids = std::move(moved);
  return changed;
}

// Takes out all but the first of equal ones.
void TakeOutEqual(size_t d, std::vector<float>* centroids) {
  std::vector<float> kept;
  for (auto at = centroids->begin(); at != centroids->end(); at += static_cast<ptrdiff_t>(d)) {
    bool equal = false;
    for (auto other = kept.begin(); other != kept.end() && !equal; other += static_cast<ptrdiff_t>(d))
      equal = std::equal(at, at + static_cast<ptrdiff_t>(d), other);
    if (!equal) kept.insert(kept.end(), at, at + static_cast<ptrdiff_t>(d));
  }
  *centroids = std::move(kept);
}

}  // namespace

ListSplitter::ListSplitter(const Routing& routing, const std::vector<uint64_t>& rows_of_list, double target_rows,
                           const ListSplitterOptions& options)
    : routing_(routing), target_rows_(target_rows), options_(options), reassigned_(routing.list_count()) {
  assert(rows_of_list.size() == routing.list_count());
  Choose(rows_of_list);
}

// The largest first, as far as lists may be added and memory allows.
void ListSplitter::Choose(const std::vector<uint64_t>& rows_of_list) {
  for (uint32_t list = 0; list < rows_of_list.size(); ++list)
    if (static_cast<double>(rows_of_list[list]) > kLarge * target_rows_) lists_.push_back(list);
  std::stable_sort(lists_.begin(), lists_.end(),
                   [&](uint32_t a, uint32_t b) { return rows_of_list[a] > rows_of_list[b]; });
  const uint64_t memory_rows = options_.memory_bytes / (d() * sizeof(float));
  const uint64_t most_parts = std::max<uint64_t>(memory_rows / kEnoughRowsPerList, 2);
  uint64_t lists_left = kMaxLists - rows_of_list.size();
  uint64_t parts = 0;
  const double all_rows = std::accumulate(rows_of_list.begin(), rows_of_list.end(), 0.0);
  for (const uint32_t list : lists_) {
    const bool too_large = static_cast<double>(rows_of_list[list]) > kTooLarge * target_rows_;
    if (!too_large && static_cast<double>(kMaxLists - lists_left) * target_rows_ >= all_rows) break;
    const double wanted = std::ceil(static_cast<double>(rows_of_list[list]) / target_rows_);
    const double most = static_cast<double>(std::min(lists_left + 1, most_parts - parts));
    const auto some = static_cast<uint32_t>(std::min(wanted, most));
    if (some < 2) break;
    large_.push_back({rows_of_list[list], some});
    parts += some;
    lists_left -= some - 1;
  }
  lists_.resize(large_.size());
  const uint64_t rows_for_part =
      std::clamp<uint64_t>(memory_rows / std::max<uint64_t>(parts, 1), kEnoughRowsPerList, kMostRowsPerCentroid);
  for (LargeList& large : large_) large.kept = std::min(large.rows, rows_for_part * large.parts);

  std::vector<uint32_t> order(lists_.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return lists_[a] < lists_[b]; });
  std::vector<LargeList> ascending;
  for (const uint32_t i : order) ascending.push_back(std::move(large_[i]));
  large_ = std::move(ascending);
  std::sort(lists_.begin(), lists_.end());
}

std::vector<float> ListSplitter::InUnits(const float* values, size_t count) const {
  const double unit = std::ldexp(1.0, -routing_.exponent);
  std::vector<float> units(count);
  for (size_t i = 0; i < count; ++i)
    units[i] = static_cast<float>(std::clamp<double>(values[i] * unit, -kLargestUnits, kLargestUnits));
  return units;
}

void ListSplitter::Add(uint32_t list, const float* centred) {
  const auto at = std::lower_bound(lists_.begin(), lists_.end(), list);
  if (at == lists_.end() || *at != list) return;
  LargeList& large = large_[static_cast<size_t>(at - lists_.begin())];
  if (!IsOneOf(large.kept, large.seen++, large.rows)) return;
  if (large.sample.empty()) large.sample.reserve(large.kept * d());
  const std::vector<float> units = InUnits(centred, d());
  large.sample.insert(large.sample.end(), units.begin(), units.end());
}

Status ListSplitter::Step(bool* done) {
  *done = false;
  switch (stage_) {
    case Stage::kSplitting:
      if (next_ < large_.size()) return SplitSome();
      stage_ = Stage::kPlacing;
      return Status::Ok();
    case Stage::kPlacing: {
      IVFREMOTE_RETURN_IF_ERROR(KMeans::Run({routing_.dimensions, options_.threads, options_.interrupted},
                                            [&](const KMeans& kmeans) {
                                              TakeOutKnown();
                                              Place(kmeans);
                                              FindNeighbours(kmeans);
                                            }));
      StartCoding();
      stage_ = Stage::kCoding;
      return Status::Ok();
    }
    case Stage::kCoding:
      *done = CodeSome();
      return Status::Ok();
  }
  return Status::Ok();
}

Status ListSplitter::SplitSome() {
  const size_t first = next_;
  const size_t count = std::min(large_.size() - first, kListsPerThread * static_cast<size_t>(options_.threads));
  next_ += count;
  return KMeans::Run({routing_.dimensions, options_.threads, options_.interrupted}, [&](const KMeans& kmeans) {
    kmeans.ForEach(count, [&](size_t i) { Split(kmeans, lists_[first + i], &large_[first + i]); });
  });
}

void ListSplitter::Split(const KMeans& kmeans, uint32_t list, LargeList* large) const {
  const std::vector<float> rows = std::exchange(large->sample, {});
  const size_t n = rows.size() / d();
  const size_t parts = std::min<size_t>(large->parts, n);
  if (parts < 2) return;
  const std::vector<float> own = InUnits(&routing_.centroids[list * d()], d());
  std::vector<float> centroids = kmeans.Cluster(parts, n, rows.data());
  // The list's own centroid in the place of the nearest, at the front.
  const uint32_t nearest_to_own = kmeans.Nearest(centroids, 1, own.data())[0];
  std::swap_ranges(centroids.begin(), centroids.begin() + static_cast<ptrdiff_t>(d()),
                   centroids.begin() + static_cast<ptrdiff_t>(nearest_to_own * d()));
  std::copy(own.begin(), own.end(), centroids.begin());
  const auto move = [&](double too_few) {
    return MoveToMeans(d(), rows, kmeans.Nearest(centroids, n, rows.data()), too_few, &centroids);
  };
  for (int i = 0; i < kIterations; ++i)
    if (!move(0)) break;
  move(kTooSmall * target_rows_ * static_cast<double>(n) / static_cast<double>(large->rows));
  for (int i = 0; i < kLastIterations; ++i) move(0);

  RoundCentroids(0, &centroids);
  TakeOutEqual(d(), &centroids);
  const std::vector<uint32_t> nearest = kmeans.Nearest(centroids, n, rows.data());
  std::vector<double> squares(centroids.size() / d());
  std::vector<uint64_t> counts(squares.size());
  for (size_t i = 0; i < n; ++i) {
    squares[nearest[i]] += SquaredL2(&rows[i * d()], &centroids[nearest[i] * d()], d());
    ++counts[nearest[i]];
  }
  for (size_t c = 1; c < counts.size(); ++c) {
    if (counts[c] == 0) continue;
    const auto from = centroids.begin() + static_cast<ptrdiff_t>(c * d());
    large->centroids.insert(large->centroids.end(), from, from + static_cast<ptrdiff_t>(d()));
    large->radii.push_back(static_cast<float>(std::sqrt(squares[c] / static_cast<double>(counts[c]))));
  }
}

// Takes out new lists whose centroid another list has, be it of before: components that are too large make them equal. Rows would
// go to the first of them only.
void ListSplitter::TakeOutKnown() {
  const auto key = [this](const float* centroid) {
    std::string bytes(d() * sizeof(float), '\0');
    for (size_t j = 0; j < d(); ++j) {
      const float value = centroid[j] + 0.0f;  // -0 is 0
      std::memcpy(&bytes[j * sizeof(float)], &value, sizeof value);
    }
    return bytes;
  };
  std::unordered_set<std::string> known;
  for (const LargeList& large : large_)
    for (size_t i = 0; i < large.radii.size(); ++i) known.insert(key(&large.centroids[i * d()]));
  // Those of before come first; few of them are equal to a new one.
  for (uint32_t list = 0; list < routing_.list_count(); ++list)
    known.erase(key(InUnits(&routing_.centroids[list * d()], d()).data()));
  for (LargeList& large : large_) {
    size_t kept = 0;
    for (size_t i = 0; i < large.radii.size(); ++i) {
      // Each is taken once.
      if (known.erase(key(&large.centroids[i * d()])) == 0) continue;
      std::copy_n(&large.centroids[i * d()], d(), &large.centroids[kept * d()]);
      large.radii[kept++] = large.radii[i];
    }
    large.centroids.resize(kept * d());
    large.radii.resize(kept);
  }
}

// Adds the new lists in groups of the usual size, near ones next to each other.
void ListSplitter::Place(const KMeans& kmeans) {
  std::vector<float> centroids;
  std::vector<float> radii;
  std::vector<uint32_t> parents;
  for (size_t i = 0; i < large_.size(); ++i) {
    const LargeList& large = large_[i];
    centroids.insert(centroids.end(), large.centroids.begin(), large.centroids.end());
    radii.insert(radii.end(), large.radii.begin(), large.radii.end());
    parents.insert(parents.end(), large.radii.size(), lists_[i]);
  }
  result_ = routing_;
  if (radii.empty()) return;
  const double usual = static_cast<double>(routing_.list_count()) / routing_.group_count();
  const auto groups = static_cast<size_t>(std::max(1.0, std::round(static_cast<double>(radii.size()) / usual)));
  const std::vector<float> group_centroids =
      kmeans.InBisectOrder(kmeans.Cluster(std::min(groups, radii.size()), radii.size(), centroids.data()));
  const std::vector<uint32_t> group_of = kmeans.Nearest(group_centroids, radii.size(), centroids.data());
  const float scale = std::ldexp(1.0f, routing_.exponent);
  const auto append = [&](const float* units, std::vector<float>* to) {
    std::vector<float> rounded(units, units + d());
    RoundCentroids(0, &rounded);
    for (const float value : rounded) to->push_back(value * scale);
  };
  for (uint32_t group = 0; group * d() < group_centroids.size(); ++group) {
    std::vector<uint32_t> members;
    std::vector<float> of_members;
    for (uint32_t i = 0; i < group_of.size(); ++i) {
      if (group_of[i] != group) continue;
      members.push_back(i);
      of_members.insert(of_members.end(), &centroids[i * d()], &centroids[i * d()] + d());
    }
    if (members.empty()) continue;
    for (const uint32_t member : kmeans.BisectOrder(of_members)) {
      append(&centroids[members[member] * d()], &result_.centroids);
      result_.radii.push_back(std::min(radii[members[member]] * scale, FLT_MAX));
      parents_.push_back(parents[members[member]]);
    }
    append(&group_centroids[group * d()], &result_.group_centroids);
    result_.group_first.push_back(result_.list_count());
  }
}

void ListSplitter::FindNeighbours(const KMeans& kmeans) {
  std::vector<uint32_t> split;
  for (size_t i = 0; i < lists_.size(); ++i)
    if (!large_[i].radii.empty()) split.push_back(lists_[i]);
  const size_t wanted = std::min<size_t>(kNeighbours + 1, routing_.list_count());  // itself is one
  if (split.size() * wanted >= routing_.list_count()) {
    reassigned_.assign(reassigned_.size(), !split.empty());
    return;
  }
  const std::vector<float> all = InUnits(routing_.centroids.data(), routing_.centroids.size());
  std::vector<float> centroids;
  for (const uint32_t list : split)
    centroids.insert(centroids.end(), &all[list * d()], &all[list * d()] + d());
  for (const uint32_t list : kmeans.Nearest(all, split.size(), centroids.data(), wanted)) reassigned_[list] = true;
  for (const uint32_t list : split) reassigned_[list] = true;  // one of many equal centroids
}

void ListSplitter::StartCoding() {
  next_ = 0;
  const bool coded = routing_.header().coded();
  if (new_lists() == 0 || !(coded || WantsCodes(result_)))
    next_ = result_.group_count();
  else
    StartCodes(coded ? routing_.rotation_seed : options_.rotation_seed, &result_);
}

// Whether all groups are coded. Those that were there get the codes they had.
bool ListSplitter::CodeSome() {
  const Clock::time_point end = Clock::now() + kCodingStep;
  while (next_ < result_.group_count() && Clock::now() < end) CodeGroup(static_cast<uint32_t>(next_++), &result_);
  return next_ == result_.group_count();
}

std::vector<uint32_t> ListSplitter::HideEmpty(const std::vector<uint64_t>& rows_of_list, Routing* routing) const {
  std::vector<uint32_t> groups;
  for (uint32_t group = routing_.group_count(); group < routing->group_count(); ++group) {
    bool changed = false;
    for (uint32_t list = routing->group_first[group]; list < routing->group_first[group + 1]; ++list) {
      if (rows_of_list[list] > 0) continue;
      const uint32_t parent = parents_[list - routing_.list_count()];
      std::copy_n(&routing->centroids[parent * d()], d(), &routing->centroids[list * d()]);
      routing->radii[list] = routing->radii[parent];
      changed = true;
    }
    if (changed && routing->header().coded()) groups.push_back(group);
  }
  return groups;
}

}  // namespace ivfremote
