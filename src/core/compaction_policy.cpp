#include "core/compaction_policy.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace ivfremote {
namespace {

constexpr size_t kTierSegments = 4;
// Of the table; flushes need them.
constexpr uint32_t kFreeEntries = 4;
// Rows outside of the largest segment, as a share of all, before lists are split again.
constexpr uint64_t kGrowthShare = 8;

using Numbers = std::vector<uint32_t>;

// By powers of four.
int TierOf(const CompactionCandidate& segment) { return (std::bit_width(segment.live_rows) - 1) / 2; }

// Read, and written but for dead rows.
double CostOf(const CompactionCandidate& segment) {
  const double live = static_cast<double>(segment.live_rows) / static_cast<double>(std::max<uint64_t>(segment.rows, 1));
  return static_cast<double>(segment.bytes) * (1 + live);
}

class Choice {
 public:
  Choice(const std::vector<CompactionCandidate>& segments, const CompactionLimits& limits)
      : segments_(segments), limits_(limits) {}

  Numbers Make() const {
    if (Numbers empty = Empty(); !empty.empty()) return empty;
    if (SplitIsDue() && Fits(All())) return All();
    if (Numbers tier = FullTier(); !tier.empty()) return tier;
    if (Numbers dead = MostlyDead(); !dead.empty()) return dead;
    if (segments_.size() + kFreeEntries >= limits_.max_segments) return SmallestOf(All(), 2);
    return {};
  }

 private:
  Numbers All() const {
    Numbers all(segments_.size());
    std::iota(all.begin(), all.end(), 0u);
    return all;
  }

  Numbers Empty() const {
    Numbers empty;
    for (const uint32_t i : All())
      if (segments_[i].live_rows == 0) empty.push_back(i);
    return empty;
  }

  bool Fits(const Numbers& numbers) const {
    double cost = 0;
    for (const uint32_t i : numbers) cost += CostOf(segments_[i]);
    return cost <= static_cast<double>(limits_.bytes);
  }

  bool SplitIsDue() const {
    uint64_t rows = 0;
    uint64_t largest = 0;
    for (const CompactionCandidate& segment : segments_) {
      rows += segment.live_rows;
      largest = std::max(largest, segment.live_rows);
    }
    return limits_.rows_in_large_lists > rows / 4 && rows - largest > rows / kGrowthShare;
  }

  Numbers SmallestOf(Numbers numbers, size_t count) const {
    std::stable_sort(numbers.begin(), numbers.end(),
                     [this](uint32_t a, uint32_t b) { return segments_[a].live_rows < segments_[b].live_rows; });
    numbers.resize(std::min(count, numbers.size()));
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  }

  // Of the lowest tier first.
  Numbers FullTier() const {
    for (int tier = 0; tier < 32; ++tier) {
      Numbers members;
      for (const uint32_t i : All())
        if (TierOf(segments_[i]) == tier) members.push_back(i);
      if (members.size() < kTierSegments) continue;
      for (size_t count = members.size(); count >= 2; --count)
        if (Numbers chosen = SmallestOf(members, count); Fits(chosen)) return chosen;
    }
    return {};
  }

  Numbers MostlyDead() const {
    for (const uint32_t i : All())
      if (segments_[i].live_rows < segments_[i].rows / 2 && Fits({i})) return {i};
    return {};
  }

  const std::vector<CompactionCandidate>& segments_;
  const CompactionLimits& limits_;
};

}  // namespace

std::vector<uint32_t> ChooseCompaction(const std::vector<CompactionCandidate>& segments, const CompactionLimits& limits) {
  return Choice(segments, limits).Make();
}

}  // namespace ivfremote
