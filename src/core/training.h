// Trains the centroids: two-level k-means by Faiss, in steps.
#pragma once

#include <memory>
#include <vector>

#include "core/routing.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// The number of lists an index of `rows` rows gets when the user names none: rows / 200, and rows / 400 beyond 10
// million, at least 1.
uint32_t AutomaticLists(double rows);

struct TrainingOptions {
  Metric metric = Metric::kL2;
  uint32_t dimensions = 0;
  uint32_t lists = 1;
  int threads = 1;
  InterruptCheck interrupted = nullptr;  // asked often; the operation ends with kCancelled when it says yes
};

// k-means of the sample into about sqrt(lists) groups, then of each group into its share of lists; L2 for every
// metric. There are fewer lists than asked for when the sample has fewer rows. The sample's mean is subtracted first.
// Threads exist only inside Step, with every signal blocked.
class Trainer {
 public:
  // `sample` is [n x dimensions] in routing space, n >= 1, all finite.
  Trainer(const TrainingOptions& options, std::vector<float> sample);
  ~Trainer();

  // One Faiss training run: the groups first, then one group a step.
  Status Step(bool* done);

  uint32_t steps_done() const;
  uint32_t steps_total() const;

  // When done. Radii are 0: Assigner::Radii has them when all rows have been assigned.
  Routing TakeRouting();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ivfremote
