// Assigns rows to their nearest lists in batches, by matrix products down the routing's tree: to the centroids of all
// groups first, then to the lists of the nearest groups. With 8 groups 99.3 to 100 % of rows reach the nearest list.
#pragma once

#include <vector>

#include "core/routing.h"
#include "core/types.h"

namespace ivfremote {

class Assigner {
 public:
  static constexpr uint32_t kGroups = 8;
  static constexpr size_t kSecondCandidates = 16;

  // `routing` must outlive the assigner. Products run on one thread.
  explicit Assigner(const Routing* routing);

  // How many rows to hand over at a time, so that a batch takes well below 100 ms, and two copies of it 8 MB.
  size_t batch_rows() const { return batch_rows_; }

  // `rows` is [n x dimensions] in routing space (ToRoutingSpace); n <= batch_rows(). Subtracts the mean from the rows.
  void Assign(float* rows, size_t n, uint32_t* lists);

  // The same for rows that are less the mean already. `excess`, if not null: how much longer than the true one each row's
  // squared distance from any point is (RowDecoder).
  void AssignCentred(const float* rows, size_t n, uint32_t* lists, const float* excess = nullptr);

  // The same, and for each row a second list that finds it for queries that miss the first: of the nearest ones the one
  // with the least |x - c2|^2 + (<x - c2, x - c1> / |x - c1|)^2, so that its residual points another way than the first
  // list's (SOAR: Sun et al., "SOAR: Improved Indexing for Approximate Nearest Neighbor Search", NeurIPS 2023, with
  // lambda 1). With one list, both are the same.
  void AssignTwo(float* rows, size_t n, uint32_t* lists, uint32_t* second_lists);

  // Rows that stay in their lists, which only radii see.
  void Count(const float* rows, size_t n, const uint32_t* lists, const float* excess = nullptr);

  // The radius of each list over all rows assigned so far.
  std::vector<float> Radii() const;

  // Rows of each list so far.
  std::vector<uint64_t> Counts() const;

  // What Radii rests on, for an assigner with the same routing that has assigned other rows of the table.
  std::vector<std::byte> EncodeSums() const;
  Status MergeSums(Bytes bytes);

 private:
  void AssignThroughTree(const float* rows, size_t n);
  void Consider(const float* rows, size_t n, const uint32_t* row_numbers, uint32_t first_list, uint32_t list_count);
  void ConsiderProducts(size_t row, const float* products, uint32_t first_list, uint32_t list_count);
  uint32_t NearestDirectly(const float* row) const;
  // Keeps a list among a row's kSecondCandidates nearest, if they are kept.
  void KeepNear(size_t row, float score, uint32_t list);
  uint32_t SecondList(const float* row, size_t number, uint32_t first) const;

  const Routing* routing_;
  size_t batch_rows_;
  std::vector<float> centroid_norms_;  // squared
  std::vector<float> group_norms_;
  struct Sum {
    double squared;  // of the distances of a list's rows
    uint64_t rows;
  };
  std::vector<Sum> sums_;  // per list

  // Scratch of one batch.
  std::vector<float> products_;
  std::vector<float> gathered_;
  std::vector<std::vector<uint32_t>> rows_of_group_;
  std::vector<float> best_score_;
  std::vector<uint32_t> best_list_;
  // For second lists: a heap for each row, farthest first.
  struct Near {
    float score;
    uint32_t list;
    friend bool operator<(const Near& a, const Near& b) {
      return a.score != b.score ? a.score < b.score : a.list < b.list;
    }
  };
  std::vector<std::vector<Near>> near_;
};

}  // namespace ivfremote
