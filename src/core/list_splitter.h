// Splits lists that have grown too large, from rows decoded from codes, which is what maintenance has of them.
//
// A list that is split keeps its number and centroid, so that codes which refer to it stay valid, and goes on as one of the
// lists its rows are shared among; the others are added, numbered from the routing's list_count on, in new groups at the end
// (decision 0011). Mean and exponent stay: a component that would be too large is the largest float16.
#pragma once

#include <vector>

#include "core/kmeans.h"
#include "core/routing.h"
#include "core/status.h"

namespace ivfremote {

struct ListSplitterOptions {
  int threads = 1;
  InterruptCheck interrupted = nullptr;    // asked often; Step ends with kCancelled when it says yes
  size_t memory_bytes = size_t{64} << 20;  // of the rows it keeps: if that is too little for all lists, the largest are split
  uint64_t rotation_seed = 0;              // of the centroids' codes, where there are none yet but have to be
};

class ListSplitter {
 public:
  // Lists with more than this many times the rows they should have are split. With 3, more rows are scored for the same recall.
  static constexpr double kTooLarge = 2;
  // The same while there are fewer lists than there should be: as an index grows, lists come to lie below kTooLarge.
  static constexpr double kLarge = 1.5;
  // As many lists around a list that is split may lose rows to the new ones, or win some.
  static constexpr uint32_t kNeighbours = 8;

  // `routing`, all of it, must outlive the splitter. `rows_of_list`: of each list the rows it will get by Add, if it is split.
  ListSplitter(const Routing& routing, const std::vector<uint64_t>& rows_of_list, double target_rows,
               const ListSplitterOptions& options);

  // Those to be split, ascending. None: nothing to do.
  const std::vector<uint32_t>& lists() const { return lists_; }

  // The next row, in any order: [dimensions], less the mean. Rows of other lists are ignored. At most kMostRowsPerCentroid are
  // kept for each list to come, evenly.
  void Add(uint32_t list, const float* centred);

  // After all rows, until it is done. Bounded work, or asks `interrupted`; threads exist only meanwhile.
  Status Step(bool* done);

  // When done. Rows that are all equal can't be split: there may be none.
  uint32_t new_lists() const { return result_.list_count() - routing_.list_count(); }
  // Whether rows of this list may be nearer to a new one: lists that were split and their neighbours.
  bool Reassigned(uint32_t list) const { return list < reassigned_.size() && reassigned_[list]; }
  // Radii of the new lists are of the rows kept, errors of codes included: Assigner::Radii has those of all rows.
  Routing TakeRouting() { return std::move(result_); }

  // After all rows have been assigned by `routing`, which was taken, and before it is encoded: a new list that got none becomes a
  // copy of the list it was split from. That comes first in every ranking, so no search probes the empty one instead; rows of
  // neither are touched. Returns the groups whose codes are to be made again.
  std::vector<uint32_t> HideEmpty(const std::vector<uint64_t>& rows_of_list, Routing* routing) const;

 private:
  enum class Stage { kSplitting, kPlacing, kCoding };
  struct LargeList {
    uint64_t rows;
    uint32_t parts;               // itself and the new ones
    uint64_t kept = 0;            // of its rows
    uint64_t seen = 0;
    std::vector<float> sample{};  // those kept
    std::vector<float> centroids{};  // new ones
    std::vector<float> radii{};
  };

  void Choose(const std::vector<uint64_t>& rows_of_list);
  size_t d() const { return routing_.dimensions; }
  // Squares of what is computed with are float32 in any case: in units of the routing's exponent.
  std::vector<float> InUnits(const float* values, size_t count) const;
  Status SplitSome();
  void Split(const KMeans& kmeans, uint32_t list, LargeList* large) const;
  void TakeOutKnown();
  void Place(const KMeans& kmeans);
  void FindNeighbours(const KMeans& kmeans);
  void StartCoding();
  bool CodeSome();

  const Routing& routing_;
  double target_rows_;
  ListSplitterOptions options_;
  std::vector<uint32_t> lists_;
  std::vector<LargeList> large_;  // by position in lists_
  std::vector<bool> reassigned_;
  std::vector<uint32_t> parents_;  // of each new list
  Stage stage_ = Stage::kSplitting;
  size_t next_ = 0;  // of large_, then of groups to be coded
  Routing result_;
};

}  // namespace ivfremote
