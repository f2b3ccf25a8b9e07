// Trains the centroids: two-level k-means of a sample that need not fit in memory.
#pragma once

#include <memory>
#include <vector>

#include "core/routing.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// The number of lists an index gets when the user names none: a list for every 200 rows from 512 dimensions on, for every 300
// below; beyond 10 million rows for twice as many, but no fewer than 10 million rows have. At least 1.
// docs/decisions/0010-automatic-lists.md has the measurements.
uint32_t AutomaticLists(double rows, uint32_t dimensions);

// More sample rows for a centroid than this are left out; with fewer than kEnoughRowsPerList lists are worse.
inline constexpr uint32_t kMostRowsPerCentroid = 256;
inline constexpr uint32_t kEnoughRowsPerList = 30;

// What centring the sample takes, found as its rows are drawn.
struct SampleSummary {
  explicit SampleSummary(uint32_t dimensions);
  void Add(const float* row);

  uint64_t rows = 0;
  std::vector<double> sums;
  std::vector<float> least;
  std::vector<float> greatest;
};

struct TrainingOptions {
  Metric metric = Metric::kL2;
  uint32_t dimensions = 0;
  uint32_t lists = 1;
  int threads = 1;
  size_t memory_bytes = size_t{64} << 20;  // of the sample, at a time; the centroids of all lists must not need more
  InterruptCheck interrupted = nullptr;    // asked often; the operation ends with kCancelled when it says yes
};

// k-means of the sample into about sqrt(lists) groups, then of each group into its share of lists; L2 for every
// metric. There are fewer lists than asked for when the sample has fewer rows. The sample's mean is subtracted first.
//
// The caller keeps the sample, and hands over all its rows in each pass, as often as pass() is not kDone:
//   each row: Add or AddMember, then Step if full();    after the last: Step, then EndPass
// Threads exist only inside Step, with every signal blocked.
class Trainer {
 public:
  enum class Pass {
    kGroups,    // an even part of the sample is clustered into groups
    kSharing,   // each row is given its group: the caller takes groups() and row() after each Step
    kLists,     // the rows of each group are clustered into lists; see grouped()
    kRefining,  // each list's centroid becomes the mean of its rows, whatever their group; not for large samples
    kDone
  };

  // `sample` has at least one row.
  Trainer(const TrainingOptions& options, const SampleSummary& sample);
  Trainer(Trainer&&) noexcept;
  ~Trainer();

  Pass pass() const;
  // Whether kLists wants what kSharing gave, in the order of groups. If not (there is but one group), any order.
  bool grouped() const;
  // Whether a pass over the sample in its own order comes after kSharing.
  bool refines() const;

  // The next row: [dimensions], in routing space, finite. Bounded work.
  void Add(const float* row);
  // The next row if grouped(): a row(i) of its group.
  void AddMember(uint32_t group, const float* row);
  bool full() const;
  Status Step();
  void EndPass();

  // kSharing, after a Step: of the rows added since the Step before, each one's group, and the row as AddMember wants it.
  const std::vector<uint32_t>& groups() const;
  const float* row(size_t number) const;

  // Rows that have passed by, of all passes.
  uint64_t rows_done() const;
  uint64_t rows_total() const;

  // When done: how many rows the lists were trained on. If some group's had less than kEnoughRowsPerList for want of
  // memory, the memory_bytes with which none would have, else 0, and how few that were.
  uint64_t rows_used() const;
  size_t enough_memory_bytes() const;
  double fewest_rows_per_list() const;

  // When done. Radii are 0: Assigner::Radii has them when all rows have been assigned.
  Routing TakeRouting();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ivfremote
