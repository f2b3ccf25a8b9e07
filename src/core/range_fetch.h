// Some ranges of objects, read together in one wave and held; for maintenance, which reads a few large ones at a time.
#pragma once

#include <memory>
#include <vector>

#include "core/object_store.h"

namespace ivfremote {

class RangeFetch {
 public:
  explicit RangeFetch(std::vector<RangeRequest> requests)
      : requests_(std::move(requests)), buffers_(requests_.size()), missing_(requests_.size()) {}

  // After an error it may be started again, with another store: for what is missing.
  Status Start(ObjectStore* store);
  // Until all of it has arrived, or `deadline`.
  Status Step(Clock::time_point deadline, bool* done);

  // Of the last start.
  size_t requests_in_wave() const { return in_wave_.size(); }
  size_t requests_failed() const { return failed_; }

  // Of all requests.
  uint64_t length() const;

  // When done.
  size_t count() const { return requests_.size(); }
  Bytes bytes(size_t i) const { return buffers_[i].bytes(); }

 private:
  std::vector<RangeRequest> requests_;
  std::vector<RangeBuffer> buffers_;
  size_t missing_;
  std::unique_ptr<RangeWave> wave_;
  std::vector<size_t> in_wave_;  // numbers of requests, by their number in the wave
  size_t failed_ = 0;
};

}  // namespace ivfremote
