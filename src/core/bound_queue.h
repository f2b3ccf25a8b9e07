// Gives rows in the order of their bounds, as many as are asked for: how many that will be is not known before.
#pragma once

#include <vector>

#include "core/types.h"

namespace ivfremote {

// Takes the next rows in batches: a threshold from a sample, the rows below it sorted; most rows are never sorted.
class BoundQueue {
 public:
  // Of row 0, 1, ...; none is NaN.
  void Start(std::vector<float> bounds);

  // The row with the next smallest bound, ties by row number. False at the end.
  bool Next(uint32_t* row, float* bound);

 private:
  void NextBatch();

  std::vector<float> bounds_;
  std::vector<uint32_t> batch_;  // rows, in order
  size_t next_ = 0;              // in batch_
  size_t taken_ = 0;             // rows of all batches so far
  size_t batch_size_ = 64;       // wanted
  float last_ = 0;               // every row at or below has been in a batch; meaningless before the first
};

}  // namespace ivfremote
