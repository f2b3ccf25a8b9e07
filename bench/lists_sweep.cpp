// How long it takes to rank the lists of a routing, and what the codes and the tree lose of flat search over all centroids as
// floats, from few lists to many. Called by lists_sweep.sh; no server, pages are memory here.
//
// Centroids are a mixture with a hierarchy: from the top each of four levels splits a cluster into the fourth root of the
// number of lists, at distances that shrink by 0.7 a level. `cloud` is the same without clusters: one level, the hard case
// of words. All steps are normal, coordinate j with variance 1 / (1 + j): 100 dimensions are worth 16, 768 worth 32
// (squared sum of variances by sum of squares). `norms` is a cloud whose centroids, and rows about them, are multiplied by
// e^(x / 2), x normal, searched by inner product. Groups are k-means of the centroids, as many as the square root of the
// lists. Rows and queries are a step from the centroids: the last level's, of a cloud half of it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "core/assignment.h"
#include "core/distance.h"
#include "core/list_ranker.h"
#include "core/training.h"
#include "lib/figures.h"
#include "unit/training_run.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr size_t kQueries = 100;
constexpr size_t kNeighbours = 10;
constexpr double kRecall = 0.95;
constexpr double kShrink = 0.7;

void Check(const Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, status.message().c_str());
  std::exit(1);
}

enum class Kind { kMixture, kCloud, kNorms };
constexpr const char* kKindNames[] = {"mixture", "cloud", "norms"};

class Generator {
 public:
  Generator(uint32_t dimensions, Kind kind, uint32_t lists) : dimensions_(dimensions), random_(lists + dimensions) {
    for (uint32_t j = 0; j < dimensions; ++j) deviations_.push_back(std::pow(1.0f + static_cast<float>(j), -0.5f));
    std::vector<float> level(dimensions);
    const uint32_t levels = kind == Kind::kMixture ? 4 : 1;
    row_step_ = kind == Kind::kMixture ? 1 : 0.5;
    step_ = 1;
    for (uint32_t i = 1; i <= levels; ++i) {
      const auto count = static_cast<size_t>(std::lround(std::pow(lists, static_cast<double>(i) / levels)));
      std::vector<float> next;
      for (size_t k = 0; k < count; ++k) {
        const size_t parent = k * (level.size() / dimensions) / count;
        AddStep(&level[parent * dimensions], step_, &next);
      }
      level = std::move(next);
      if (i < levels) step_ *= kShrink;
    }
    row_step_ *= step_;
    centroids_ = std::move(level);
    for (size_t i = 0; i < centroids_.size() / dimensions; ++i) {
      scales_.push_back(kind == Kind::kNorms ? std::exp(normal_(random_) / 2) : 1);
      for (uint32_t j = 0; j < dimensions; ++j) centroids_[i * dimensions + j] *= scales_[i];
    }
  }

  const std::vector<float>& centroids() const { return centroids_; }
  // `count` rows about centroids taken in turn.
  std::vector<float> Rows(size_t count) {
    std::vector<float> rows;
    const size_t lists = centroids_.size() / dimensions_;
    for (size_t i = 0; i < count; ++i) {
      const size_t list = i * 7919 % lists;
      AddStep(&centroids_[list * dimensions_], row_step_ * scales_[list], &rows);
    }
    return rows;
  }

 private:
  void AddStep(const float* from, double step, std::vector<float>* out) {
    for (uint32_t j = 0; j < dimensions_; ++j)
      out->push_back(from[j] + static_cast<float>(step) * deviations_[j] * normal_(random_));
  }

  uint32_t dimensions_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  std::vector<float> deviations_;
  double step_ = 1;      // of the last level
  double row_step_ = 1;  // of rows about centroids
  std::vector<float> centroids_;
  std::vector<float> scales_;
};

Routing Train(const std::vector<float>& rows, uint32_t dimensions, uint32_t lists) {
  TrainingOptions options;
  options.dimensions = dimensions;
  options.lists = lists;
  options.threads = 2;
  Routing routing;
  Check(ivfremote::Train(options, rows, &routing), "training");
  return routing;
}

std::vector<uint32_t> Assign(const Routing& routing, std::vector<float> rows) {
  const size_t count = rows.size() / routing.dimensions;
  std::vector<uint32_t> lists(count);
  Assigner assigner(&routing);
  for (size_t i = 0; i < count; i += assigner.batch_rows())
    assigner.Assign(&rows[i * routing.dimensions], std::min(assigner.batch_rows(), count - i), &lists[i]);
  return lists;
}

// A routing of these centroids, in groups.
Routing Group(const std::vector<float>& centroids, uint32_t dimensions) {
  const auto lists = static_cast<uint32_t>(centroids.size() / dimensions);
  const auto groups = static_cast<uint32_t>(std::lround(std::sqrt(lists)));
  const Routing trained = Train(centroids, dimensions, groups);
  const std::vector<uint32_t> group_of = Assign(trained, centroids);
  Routing routing;
  routing.dimensions = dimensions;
  routing.mean = trained.mean;
  routing.group_centroids = trained.centroids;
  routing.group_first.push_back(0);
  for (uint32_t g = 0; g < trained.list_count(); ++g) {
    for (uint32_t i = 0; i < lists; ++i)
      if (group_of[i] == g)
        for (uint32_t j = 0; j < dimensions; ++j)
          routing.centroids.push_back(centroids[size_t{i} * dimensions + j] - routing.mean[j]);
    routing.group_first.push_back(static_cast<uint32_t>(routing.centroids.size() / dimensions));
  }
  routing.radii.assign(lists, 0.0f);
  RoundCentroids(&routing);
  return routing;
}

// The lists of the nearest rows of a query.
std::vector<uint32_t> NearestLists(Metric metric, const std::vector<float>& rows, const std::vector<uint32_t>& lists,
                                   const float* query) {
  const size_t d = rows.size() / lists.size();
  std::vector<std::pair<double, uint32_t>> nearest;
  for (size_t i = 0; i < lists.size(); ++i) {
    const float* row = &rows[i * d];
    nearest.push_back({metric == Metric::kL2 ? RoughSquaredL2(query, row, d) : -InnerProduct(query, row, d), lists[i]});
  }
  std::partial_sort(nearest.begin(), nearest.begin() + kNeighbours, nearest.end());
  std::vector<uint32_t> found;
  for (size_t i = 0; i < kNeighbours; ++i) found.push_back(nearest[i].second);
  return found;
}

// A ranking as scans make it: what the session doesn't keep of the routing comes from `encoded`.
std::vector<RankedList> Rank(const Routing& kept, const std::vector<std::byte>& encoded, const float* query,
                             const RankWish& wish) {
  ListRanker ranker(&kept, query, wish);
  RoutingRange range;
  while (ranker.Next(&range)) Check(ranker.Feed(Bytes(encoded).subspan(range.offset, range.length)), "ranking");
  std::vector<RankedList> lists;
  ranker.Rank(wish.rule, &lists);
  return lists;
}

double MedianMicroseconds(const Routing& kept, const std::vector<std::byte>& encoded, const std::vector<float>& queries,
                          const RankWish& wish) {
  std::vector<double> times;
  for (int round = 0; round < 5; ++round)
    for (size_t i = 0; i < kQueries; ++i) {
      const Stopwatch watch;
      Rank(kept, encoded, &queries[i * kept.dimensions], wish);
      times.push_back(watch.seconds() * 1e6);
    }
  return Median(times);
}

size_t InCommon(const std::vector<uint32_t>& wanted, const std::vector<RankedList>& ranked) {
  size_t found = 0;
  for (const uint32_t list : wanted)
    found += std::any_of(ranked.begin(), ranked.end(), [&](const RankedList& other) { return other.list == list; });
  return found;
}

void Measure(uint32_t dimensions, uint32_t lists, Kind kind, Figures* figures) {
  Generator generator(dimensions, kind, lists);
  Routing flat = Group(generator.centroids(), dimensions);
  const std::vector<float> rows = generator.Rows(std::max<size_t>(2 * size_t{lists}, 30000));
  const std::vector<float> queries = generator.Rows(kQueries);
  std::vector<uint32_t> list_of;
  {
    Assigner assigner(&flat);
    list_of.resize(rows.size() / dimensions);
    std::vector<float> batch;
    for (size_t i = 0; i < list_of.size(); i += assigner.batch_rows()) {
      const size_t count = std::min(assigner.batch_rows(), list_of.size() - i);
      batch.assign(&rows[i * dimensions], &rows[i * dimensions] + count * dimensions);
      assigner.Assign(batch.data(), count, &list_of[i]);
    }
    flat.radii = assigner.Radii();
  }
  flat.metric = kind == Kind::kNorms ? Metric::kInnerProduct : Metric::kL2;
  Routing coded = flat;
  if (WantsCodes(coded)) {
    StartCodes(1, &coded);
    for (uint32_t g = 0; g < coded.group_count(); ++g) CodeGroup(g, &coded);
  }
  const std::vector<std::byte> encoded = coded.Encode();
  if (coded.header().coded()) coded.centroids.clear();

  // The threshold that flat ranking reaches the recall with.
  std::vector<std::vector<uint32_t>> wanted;
  std::vector<float> found_at;
  std::vector<std::vector<RankedList>> ranked;
  for (size_t i = 0; i < kQueries; ++i) {
    const float* query = &queries[i * dimensions];
    wanted.push_back(NearestLists(flat.metric, rows, list_of, query));
    ranked.push_back(Rank(flat, encoded, query, {kAdaptiveRule, lists, kAnyStop}));
    std::vector<float> stop_of(lists);
    for (const RankedList& list : ranked.back()) stop_of[list.list] = list.stop;
    for (const uint32_t list : wanted.back()) found_at.push_back(stop_of[list]);
  }
  std::sort(found_at.begin(), found_at.end());
  RankWish wish{kAdaptiveRule, lists, found_at[static_cast<size_t>(kRecall * static_cast<double>(found_at.size()))]};
  double probed = 0;
  for (auto& query : ranked) {
    std::erase_if(query, [&](const RankedList& list) { return list.stop > wish.max_stop; });
    probed += static_cast<double>(query.size()) / kQueries;
  }
  wish.count = std::min(lists, static_cast<uint32_t>(4 * probed + 8));

  size_t flat_found = 0;
  size_t coded_found = 0;
  size_t lists_of_flat = 0;
  size_t lists_kept = 0;
  for (size_t i = 0; i < kQueries; ++i) {
    const float* query = &queries[i * dimensions];
    const std::vector<RankedList> by_floats = Rank(flat, encoded, query, wish);
    const std::vector<RankedList> by_codes = Rank(coded, encoded, query, wish);
    flat_found += InCommon(wanted[i], by_floats);
    coded_found += InCommon(wanted[i], by_codes);
    std::vector<uint32_t> numbers;
    for (const RankedList& list : by_floats) numbers.push_back(list.list);
    lists_of_flat += numbers.size();
    lists_kept += InCommon(numbers, by_codes);
  }
  const double loss = (static_cast<double>(flat_found) - static_cast<double>(coded_found)) / (kQueries * kNeighbours);
  const double lists_lost = 1 - static_cast<double>(lists_kept) / static_cast<double>(lists_of_flat);
  const double us = MedianMicroseconds(coded, encoded, queries, wish);
  const double flat_us = MedianMicroseconds(flat, encoded, queries, wish);
  const std::string suffix = Format("_%s_%u_%u", kKindNames[static_cast<size_t>(kind)], dimensions, lists);
  std::printf("%s: %.0f us (floats %.0f us), %.1f of %u lists probed, recall lost %.4f, lists lost %.4f, kept %.1f MB\n",
              suffix.c_str() + 1, us, flat_us, probed, lists, loss, lists_lost, static_cast<double>(coded.bytes()) / 1e6);
  std::fflush(stdout);
  figures->Add("us" + suffix, us, 0);
  figures->Add("loss" + suffix, loss, 4);
  figures->Add("lists_lost" + suffix, lists_lost, 4);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<uint32_t> sizes = {300, 1000, 3000, 8000, 32000, 50000};
  if (argc > 1) {
    sizes.clear();
    for (int i = 1; i < argc; ++i) sizes.push_back(static_cast<uint32_t>(std::atoi(argv[i])));
  }
  Figures figures;
  for (const uint32_t dimensions : {100u, 768u})
    for (const Kind kind : {Kind::kMixture, Kind::kCloud, Kind::kNorms})
      for (const uint32_t lists : sizes) Measure(dimensions, lists, kind, &figures);
  figures.Print();
}
