// Finds the recall curve of an index: for sample queries the true neighbours among all rows, and in which list each is.
//
// All rows pass by once, in batches, and are compared with all queries by matrix products; of each query the nearest
// are kept. Several calibrations with the same queries may see a share of the rows each; one then takes over what the
// others kept. In the end the lists are ranked for each query: a neighbour is found at a threshold if its list's stop value
// is at most that. The threshold of a target is the least whose mean recall, less one standard error, reaches it. A
// query that is a row of the table is not its own neighbour. docs/decisions has why.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "core/code_format.h"
#include "core/recall_curve.h"
#include "core/routing.h"

namespace ivfremote {

struct CalibrationOptions {
  Metric metric = Metric::kL2;
  CodeFormat format;
  uint64_t rotation_seed = 0;
  double epsilon = 1.9;
  uint32_t k = 0;  // for NearestOf: at least as many neighbours are kept of every query
  // What is lost by bounds, where it is known; else it is measured. It can't be where rows are decoded from codes: no bound
  // lies beyond its own estimate.
  std::optional<float> bound_loss = {};
};

// What a search for the k nearest is measured by.
struct TrueNeighbours {
  uint32_t count;  // k, or fewer if there are no more rows
  double limit;    // a row is one of them, or as good as one, if its squared L2 (or negative product) is at most this
};

// How many queries an index of `rows` rows is calibrated with: 400 to 1000, as the products cost, and of many dimensions
// what 8 MB hold.
uint32_t CalibrationQueries(double rows, uint32_t dimensions);

class Calibration {
 public:
  // `queries` is [n x dimensions], in routing space; `tids` their rows', to leave them out (empty: they are none).
  // `routing` must outlive the calibration; its radii are used from the first Step on only. Products run on one thread.
  Calibration(const CalibrationOptions& options, const Routing* routing, std::vector<float> queries,
              std::vector<Tid> tids);

  // The next rows: centred (routing space less the mean), their lists and their codes (RowBytes each). `second_lists` may
  // be null: rows are in one list only. `codes` may be where the bound's loss is known. `excess`, if not null, is
  // subtracted from each row's squared distances (RowDecoder).
  void Add(const float* centred, size_t n, const uint32_t* lists, const uint32_t* second_lists, const Tid* tids,
           const std::byte* codes, const float* excess = nullptr);

  // What has been kept so far, in part_count() parts, for MergePart of a calibration with the same arguments: with all
  // parts merged it is as if it had seen these rows too, whichever rows either of them saw. Damaged bytes are kCorrupt.
  size_t part_count() const { return queries_.size() + 1; }
  std::vector<std::byte> EncodePart(size_t part);
  Status MergePart(size_t part, Bytes bytes);

  // As the constructor got them.
  const std::vector<float>& queries() const { return raw_; }
  const std::vector<Tid>& tids() const { return tids_; }

  // After all rows: of one query the nearest k, at most the option's. Squared L2 is of routing space.
  TrueNeighbours NearestOf(size_t query, uint32_t k) const;

  // After all rows: ranks the lists for one query after the other. Not done before all have been.
  Status Step(Clock::time_point deadline, bool* done);
  size_t query_count() const { return queries_.size(); }
  size_t queries_done() const { return ranked_; }
  RecallCurve TakeCurve() { return std::move(curve_); }

 private:
  // Which of equally near rows are kept is decided by what is kept of them, so it doesn't depend on their order.
  struct Neighbour {
    float score;  // squared L2 or negative product, up to a constant of the query
    uint32_t list;
    uint32_t second_list;  // the same if there is none
    friend bool operator<(const Neighbour& a, const Neighbour& b) {
      return std::tie(a.score, a.list, a.second_list) < std::tie(b.score, b.list, b.second_list);
    }
  };
  // One of the few nearest of a query, with its code: for the loss by the bound.
  struct CodedNeighbour {
    float score;
    uint32_t list;
    std::vector<std::byte> row;
    friend bool operator<(const CodedNeighbour& a, const CodedNeighbour& b) {
      return std::tie(a.score, a.list, a.row) < std::tie(b.score, b.list, b.row);
    }
  };
  struct Query {
    size_t capacity;
    // In no order, the nearest `capacity` among them; sorted by Step. Those beyond are dropped now and then, all at once:
    // a heap of 10000 is touched all over by each row it takes.
    std::vector<Neighbour> neighbours;
    std::vector<CodedNeighbour> nearest;
    double score_offset;                // score + this: squared L2, or negative product
  };
  // What one rule makes of the queries. Thresholds are multiples of a unit, the marks.
  struct Rankings {
    std::vector<uint64_t> lists;  // by mark: of all queries, the lists whose stop value it is the first to reach
    std::vector<uint64_t> rows;   // in these lists
    // For each k of kCurveNeighbours and query that has as many: the neighbours' stop values, ascending.
    std::vector<std::vector<std::vector<float>>> found_at;
  };

  void Keep(size_t query, const Neighbour& neighbour);
  // Drops all but the nearest `capacity`.
  void DropFarthest(size_t query);
  // Its code, if this is a query whose loss by the bound is measured.
  void KeepCode(size_t query, float score, uint32_t list, const std::byte* row);
  std::vector<std::byte> EncodeQuery(const Query& query) const;
  Status MergeQuery(size_t number, Bytes bytes);
  void RankQuery(size_t number);
  void Rank(const std::vector<RankedList>& lists, const Query& query, Rankings* rankings) const;
  bool measures_bound_loss() const { return options_.format.coded() && !options_.bound_loss; }
  double MeasureBoundLoss() const;
  CurvePoint Solve(const Rankings& rankings, size_t level, float recall) const;
  void Finish();

  CalibrationOptions options_;
  const Routing* routing_;
  std::vector<float> raw_;       // queries in routing space
  std::vector<float> centred_;   // what rows are multiplied with
  std::vector<Tid> tids_;
  std::vector<Query> queries_;
  std::vector<float> thresholds_;  // of each query: scores beyond are of no interest
  std::vector<uint64_t> list_rows_;
  std::vector<float> products_;
  Rankings adaptive_;
  Rankings fixed_;
  size_t ranked_ = 0;
  RecallCurve curve_;
};

}  // namespace ivfremote
