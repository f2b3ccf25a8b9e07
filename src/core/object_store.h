// The seam to every object store. Implementations: file, memory (tests); decorators add behaviour with the same interface.
//
// Nothing here blocks without end: work that may wait is done in steps with a deadline, and the caller looks for
// interrupts between steps. A signal ends a wait early. Objects are used from one thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// Bytes fetched, with kSlack readable bytes after them for kernels that over-read.
class RangeBuffer {
 public:
  static constexpr size_t kSlack = 64;

  RangeBuffer() = default;
  explicit RangeBuffer(size_t size) : data_(std::make_unique_for_overwrite<std::byte[]>(size + kSlack)), size_(size) {}

  std::byte* data() { return data_.get(); }
  size_t size() const { return size_; }
  Bytes bytes() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_ = 0;
};

struct RangeRequest {
  std::string key;
  uint64_t offset = 0;
  uint32_t length = 0;
};

// How one request of a wave ended. `buffer` holds exactly the bytes asked for when `status` is ok.
struct RangeCompletion {
  size_t request = 0;  // index into the wave's requests
  Status status;
  RangeBuffer buffer;
  Clock::time_point started;
  Clock::time_point finished;
};

// Range reads under way at the same time. Destroying it cancels what is left.
class RangeWave {
 public:
  virtual ~RangeWave() = default;

  // Makes progress until at least one request has ended, or `deadline`. Appends what ended, in any order, each request
  // once. An error here (not in a completion) ends the wave.
  virtual Status Step(Clock::time_point deadline, std::vector<RangeCompletion>* completions) = 0;
};

// A new object being written. Nothing is visible under its key before Finish has said done; destroying an unfinished
// upload aborts it.
class Upload {
 public:
  virtual ~Upload() = default;

  // Takes the bytes. May be called only when the last Step said ready (at first it is).
  virtual Status Append(Bytes bytes) = 0;

  // Moves bytes until another Append is welcome, or `deadline`.
  virtual Status Step(Clock::time_point deadline, bool* ready) = 0;

  // Completes the object, in steps. When done, it is durable and readable. kAlreadyExists if the key was taken.
  virtual Status Finish(Clock::time_point deadline, bool* done) = 0;
};

struct ObjectInfo {
  std::string key;
  uint64_t size = 0;
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // Starts a wave with at most `max_concurrent` requests in flight.
  virtual Status GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                           std::unique_ptr<RangeWave>* wave) = 0;

  // Starts writing a new object; never overwrites one.
  virtual Status Create(std::string_view key, std::unique_ptr<Upload>* upload) = 0;

  // A missing object is kNotFound.
  virtual Status Delete(std::string_view key) = 0;

  // Up to `limit` objects whose keys start with `prefix` and come after `start_after`, in key order.
  virtual Status List(std::string_view prefix, std::string_view start_after, size_t limit,
                      std::vector<ObjectInfo>* objects) = 0;
};

}  // namespace ivfremote
