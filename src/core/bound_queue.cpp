#include "core/bound_queue.h"

#include <algorithm>
#include <limits>

namespace ivfremote {
namespace {

constexpr size_t kSampleStride = 16;
constexpr size_t kSortAll = 512;

}  // namespace

void BoundQueue::Start(std::vector<float> bounds) {
  *this = BoundQueue();
  bounds_ = std::move(bounds);
}

void BoundQueue::NextBatch() {
  const bool first = taken_ == 0;
  float threshold = std::numeric_limits<float>::infinity();
  if (bounds_.size() - taken_ > kSortAll) {
    std::vector<float> sample;
    for (size_t i = 0; i < bounds_.size(); i += kSampleStride)
      if (first || bounds_[i] > last_) sample.push_back(bounds_[i]);
    const size_t wanted = batch_size_ / kSampleStride;
    if (wanted < sample.size()) {
      std::nth_element(sample.begin(), sample.begin() + static_cast<ptrdiff_t>(wanted), sample.end());
      threshold = sample[wanted];
    }
  }
  batch_.clear();
  next_ = 0;
  for (size_t i = 0; i < bounds_.size(); ++i)
    if (bounds_[i] <= threshold && (first || bounds_[i] > last_)) batch_.push_back(static_cast<uint32_t>(i));
  std::sort(batch_.begin(), batch_.end(), [this](uint32_t a, uint32_t b) {
    return bounds_[a] != bounds_[b] ? bounds_[a] < bounds_[b] : a < b;
  });
  taken_ += batch_.size();
  last_ = threshold;
  batch_size_ *= 4;
}

bool BoundQueue::Next(uint32_t* row, float* bound) {
  if (next_ == batch_.size()) {
    if (taken_ == bounds_.size()) return false;
    NextBatch();
  }
  *row = batch_[next_++];
  *bound = bounds_[*row];
  return true;
}

}  // namespace ivfremote
