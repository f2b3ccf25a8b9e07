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

  // How many of the bytes appended the store has for good: they are never sent again.
  virtual uint64_t BytesStored() const = 0;
};

// Something else under way.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual Status Step(Clock::time_point deadline, bool* done) = 0;
};

// One that ends with a known status at its first step: what local stores have.
class FinishedOperation : public Operation {
 public:
  explicit FinishedOperation(Status status) : status_(std::move(status)) {}
  Status Step(Clock::time_point, bool* done) override {
    *done = status_.ok();
    return status_;
  }

 private:
  Status status_;
};

struct ObjectInfo {
  std::string key;
  uint64_t size = 0;
};

// A small object as a whole. The tag names these bytes: it changes with them.
struct TaggedObject {
  std::string text;
  std::string tag;
};

// One line of server_check.h's report.
struct CheckResult {
  std::string check;
  bool ok = false;
  std::string detail;
  std::string hint;  // empty if ok
};

// An upload that was never finished.
struct UploadInfo {
  std::string key;
  std::string id;
};

// What has gone wrong since a request last succeeded, while requests are still tried again.
struct StoreTrouble {
  int failures = 0;           // attempts; 0: all is well
  Clock::time_point since{};  // when the first of them began
  bool denied = false;        // the last of them: the store refused the credentials
  std::string last;           // what it said, or why there was no answer
};

struct AwsCredentials;

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // Starts a wave with at most `max_concurrent` requests in flight.
  virtual Status GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                           std::unique_ptr<RangeWave>* wave) = 0;

  // Starts writing a new object; never overwrites one.
  virtual Status Create(std::string_view key, std::unique_ptr<Upload>* upload) = 0;

  // Reads an object of at most `limit` bytes; `object` must outlive the operation.
  virtual Status ReadTagged(std::string key, size_t limit, TaggedObject* object,
                            std::unique_ptr<Operation>* operation) = 0;

  // Replaces an object whose tag is still `tag`, or creates one where there is none (empty tag), durably and at once.
  // Else kPrecondition; it may be one's own write that was found, when its answer was lost (tagged_text.h looks).
  virtual Status WriteTagged(std::string key, std::string text, std::string tag,
                             std::unique_ptr<Operation>* operation) = 0;

  // Deletes objects. One that does not exist is no error.
  virtual Status Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) = 0;

  // Appends up to `limit` objects whose keys start with `prefix` and come after `start_after`, in key order. `objects`
  // must outlive the operation.
  virtual Status List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
                      std::unique_ptr<Operation>* operation) = 0;

  // Unfinished uploads to keys that start with `prefix`, others' included, and how to be rid of one. One that does not
  // exist is no error.
  virtual Status ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                             std::unique_ptr<Operation>* operation) = 0;
  virtual Status AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) = 0;

  // Adds what can be said of the way to the store before anything is stored; ends with the first that is not ok.
  virtual Status CheckTransport(InterruptCheck, std::vector<CheckResult>*) { return Status::Ok(); }

  virtual StoreTrouble Trouble() const { return {}; }

  // Whether requests that were refused wait to hear of others (SetCredentials), or that there are none. Only stores
  // that are made to be patient wait.
  virtual bool AwaitsCredentials() const { return false; }
  virtual void SetCredentials(const AwsCredentials&) {}
  virtual void KeepCredentials() {}

  // Whether requests that start from now on have the patience the store was made with, or end soon: somebody waits.
  virtual void SetPatient(bool) {}

  // Something the user should be told once about this store; empty: nothing.
  virtual std::string TakeNotice() { return {}; }
};

}  // namespace ivfremote
