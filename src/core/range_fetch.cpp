#include "core/range_fetch.h"

namespace ivfremote {

Status RangeFetch::Start(ObjectStore* store) {
  std::vector<RangeRequest> send;
  in_wave_.clear();
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (buffers_[i].data() != nullptr) continue;
    in_wave_.push_back(i);
    send.push_back(requests_[i]);
  }
  failed_ = 0;
  const size_t concurrent = send.size();
  return store->GetRanges(std::move(send), concurrent, &wave_);
}

Status RangeFetch::Step(Clock::time_point deadline, bool* done) {
  std::vector<RangeCompletion> completions;
  IVFREMOTE_RETURN_IF_ERROR(wave_->Step(deadline, &completions));
  Status failure;
  for (RangeCompletion& completion : completions) {
    if (!completion.status.ok()) {
      failure = completion.status;
      ++failed_;
      continue;
    }
    --missing_;
    buffers_[in_wave_[completion.request]] = std::move(completion.buffer);
  }
  *done = missing_ == 0;
  if (*done || !failure.ok()) wave_.reset();
  return failure;
}

uint64_t RangeFetch::length() const {
  uint64_t length = 0;
  for (const RangeRequest& request : requests_) length += request.length;
  return length;
}

}  // namespace ivfremote
