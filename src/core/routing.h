// Routing: which list a row belongs to, and which lists a query probes. The centroids of an index, version 0.
//
// Centroids are relative to the mean of the sample they were trained on (normalised rows for cosine): a matrix product
// of rows with a large common offset would lose the distance in its rounding. Lists are numbered in layout order, a
// depth-first walk of the tree that training built, so neighbours in space are neighbours in the segment; a group is a
// node of that tree, and holds a run of consecutive lists.
//
// Encoded, in a segment and as a stream of pages, all float32 or uint32, without padding:
//   header (64) | mean [d] | radii [lists] | first list of each group [groups + 1]
//   | group centroids [groups x d] | centroids [lists x d]
#pragma once

#include <limits>
#include <vector>

#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

struct RoutingHeader {
  static constexpr size_t kBytes = 64;

  uint32_t dimensions = 0;
  Metric metric = Metric::kL2;
  uint32_t list_count = 0;
  uint32_t group_count = 0;

  uint64_t MeanOffset() const { return kBytes; }
  uint64_t RadiiOffset() const { return MeanOffset() + uint64_t{dimensions} * sizeof(float); }
  uint64_t GroupsOffset() const { return RadiiOffset() + uint64_t{list_count} * sizeof(float); }
  uint64_t GroupCentroidsOffset() const { return GroupsOffset() + (uint64_t{group_count} + 1) * sizeof(uint32_t); }
  uint64_t CentroidsOffset() const {
    return GroupCentroidsOffset() + uint64_t{group_count} * dimensions * sizeof(float);
  }
  uint64_t EncodedBytes() const { return CentroidsOffset() + uint64_t{list_count} * dimensions * sizeof(float); }
};

Status DecodeRoutingHeader(Bytes bytes, RoutingHeader* header);

struct Routing {
  uint32_t dimensions = 0;
  Metric metric = Metric::kL2;
  std::vector<float> mean;              // [d]
  std::vector<float> radii;             // [lists]: root mean square distance of a list's rows from its centroid
  std::vector<uint32_t> group_first;    // [groups + 1]
  std::vector<float> group_centroids;   // [groups x d]
  std::vector<float> centroids;         // [lists x d]

  uint32_t list_count() const { return static_cast<uint32_t>(radii.size()); }
  uint32_t group_count() const { return static_cast<uint32_t>(group_first.size()) - 1; }
  RoutingHeader header() const { return {dimensions, metric, list_count(), group_count()}; }

  std::vector<std::byte> Encode() const;
};

Status DecodeRouting(Bytes bytes, Routing* routing);

// Brings a row or query into the space the centroids live in, apart from the mean: for cosine its direction, else
// itself. `out` may be `row`. A zero row under cosine has no direction: false.
bool ToRoutingSpace(Metric metric, const float* row, size_t dimensions, float* out);

// A run of bytes of the encoded routing.
struct RoutingRange {
  uint64_t offset;
  uint64_t length;
};

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

// Ranks lists for one query from a routing's bytes as they come, page by page or whole: all lists, or, for a row that is
// inserted, those of the nearest groups only.
class ListRanker {
 public:
  // `query` is the user's, [dimensions] long; it is copied.
  ListRanker(Metric metric, const float* query, uint32_t dimensions);

  // The next bytes of the encoded routing, from its first byte on; lengths are multiples of 4.
  Status Feed(Bytes bytes);
  uint64_t position() const { return position_; }

  // After the first bytes: where the lists' centroids start. What comes before is enough for NearestGroups.
  uint64_t centroids_offset() const { return header_.CentroidsOffset(); }
  // The centroids of the `count` nearest groups, for FeedCentroids.
  Status NearestGroups(uint32_t count, std::vector<RoutingRange>* ranges);
  Status FeedCentroids(const RoutingRange& range, Bytes bytes);

  // After all bytes: the best `count` lists (all, if there are fewer), best first; ties by list number. Of these only the
  // ones with stop values up to `max_stop`, but always the best.
  Status Rank(const ProbeRule& rule, uint32_t count, float max_stop, std::vector<RankedList>* lists);

  const std::vector<float>& mean() const { return mean_; }

  // The list for a row being inserted: the nearest of the centroids that were fed, whatever the metric.
  Status Nearest(uint32_t* list);

 private:
  void FeedFloats(uint64_t position, const float* values, size_t count);
  std::vector<double> Scores(const ProbeRule& rule) const;
  // Adds the floats from `at` on of a matrix of rows to each row's squared distance (and product, if wanted).
  void Accumulate(uint64_t at, const float* values, size_t count, std::vector<double>* distances,
                  std::vector<double>* products);

  Metric metric_;
  std::vector<float> query_;      // in routing space
  std::vector<float> residual_;   // query_ minus the mean
  double query_norm_;
  RoutingHeader header_;
  std::vector<float> mean_;
  std::vector<float> radii_;
  std::vector<uint32_t> group_first_;
  std::vector<double> group_distances_;
  std::vector<double> products_;   // inner product: query . centroid
  std::vector<double> distances_;  // squared distance from the residual; infinite until fed
  uint64_t position_ = 0;
  uint32_t ranges_fed_ = 0;
};

}  // namespace ivfremote
