// Which lists a query probes: the best of a routing's, by rank.
//
// Few centroids are all compared as they are. Where they have codes, these are scored first, and only the lists that come
// out best are compared exactly. Beyond kMaxFlatLists only the codes of the nearest groups are scored. What the routing at
// hand doesn't hold is asked for, so that nothing is read that isn't needed.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "core/code_scorer.h"
#include "core/routing.h"
#include "core/status.h"

namespace ivfremote {

// How lists are ranked for a query, and which of them are probed: those whose stop value is at most a threshold.
//   L2, cosine:     score = |q - c|^2 + radius_weight radius^2;  stop value = ln(1 + j) + ratio_weight ln(s_j / s_0)
//   inner product:  score = -(<q,c> + 2 |q| radius / sqrt(d));   stop value = ln(1 + j)
// for the j-th best list, j from 0. With ratio_weight 0 the threshold is a number of lists.
struct ProbeRule {
  float radius_weight = 0;
  float ratio_weight = 0;
};
inline constexpr ProbeRule kAdaptiveRule{0.3f, 4.0f};

inline constexpr float kAnyStop = std::numeric_limits<float>::infinity();

struct RankedList {
  uint32_t list;
  float stop;
};

// What is wanted of a ranking: the best `count` lists, of these only the ones with stop values up to `max_stop`, but
// always the best.
struct RankWish {
  ProbeRule rule;
  uint32_t count = 1;
  float max_stop = kAnyStop;
};

// A run of bytes of the encoded routing.
struct RoutingRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};

// For one query. In turn: Next and Feed, until Next says that nothing more is needed; then Rank.
class ListRanker {
 public:
  // Lists whose codes are scored without a look at the groups first.
  static constexpr uint32_t kMaxFlatLists = 32768;
  // The share of the groups, nearest first, whose lists are looked at beyond. With fewer, flat search would find more.
  static constexpr double kGroupShare = 0.4;
  // Of the lists looked at for a row that is inserted, whose nearest list is wanted.
  static constexpr uint32_t kInsertGroups = 8;

  // `routing`, of which the lists' part or more is there, must outlive the ranker; `query` is the user's, copied.
  ListRanker(const Routing* routing, const float* query, const RankWish& wish);

  // For the list nearest to a row that is inserted, whatever the metric: the first of the ranking. Of the routing the
  // groups are enough.
  static ListRanker ForInsert(const Routing* routing, const float* row);

  // The next bytes of the encoded routing to be fed: one group's codes, or about 64 kB of centroids. False: none.
  bool Next(RoutingRange* range);
  Status Feed(Bytes bytes);

  // Best first; ties by list number. The rule may be another than the wish's: that chose which lists were looked at.
  void Rank(const ProbeRule& rule, std::vector<RankedList>* lists) const;

 private:
  enum class Stage { kCodes, kCentroids, kDone };

  ListRanker(const Routing* routing, const float* query, const RankWish& wish, Metric metric);
  void Start(uint32_t group_count, bool by_codes);
  // Of those that have lists, ascending.
  std::vector<uint32_t> NearestGroups(uint32_t count) const;
  double GroupSpread(uint32_t group) const;
  double Distance(const float* centroid) const;  // squared, from the residual
  void SetCodeQuery();
  void ScoreGroup(uint32_t group, const std::byte* bytes);
  // The lists worth an exact comparison.
  void ChooseByCodes();
  // In units of the codes, squared, less code_square_; or of the product.
  std::vector<float> ScoresByCodes() const;
  void StartCentroids();
  // The list at this position of lists_.
  void Compare(size_t at, const float* centroid);
  double Score(const ProbeRule& rule, size_t at) const;
  // The least score that counts: a query on the centroid of rows that are all equal would be infinitely far,
  // relatively, from every other list.
  double Floor(const ProbeRule& rule) const;
  // Most lists are too far for the threshold whatever their rank, and need not be sorted.
  double FarthestScore(double best, double ratio_weight) const;
  double RatioWeight(const ProbeRule& rule) const { return metric_ == Metric::kInnerProduct ? 0 : rule.ratio_weight; }

  const Routing* routing_;
  RankWish wish_;
  Metric metric_;
  RoutingHeader header_;
  std::vector<float> query_;     // in routing space
  std::vector<float> residual_;  // query_ minus the mean
  double query_norm_;
  bool near_;  // float32 keeps the order of distances

  Stage stage_ = Stage::kDone;
  std::vector<uint32_t> groups_;  // looked at, ascending
  std::vector<uint32_t> lists_;   // looked at, ascending
  size_t next_ = 0;               // to be asked for: of groups_ or lists_
  size_t asked_ = 0;              // bytes

  // While codes are scored. In units of the codes: the squared norm that all distances share, which float32 would lose their
  // differences beside, and what a bound is multiplied with.
  std::optional<CodeScorer> scorer_;
  double code_square_ = 0;
  double code_factor_ = 0;
  std::vector<float> bounds_;  // by position in lists_

  // By position in lists_: the residual's squared distance, or the query's product with the centroid.
  std::vector<double> compared_;
};

}  // namespace ivfremote
