#include "core/server_check.h"

#include <algorithm>
#include <cstdio>

namespace ivfremote {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kStep{100};
constexpr std::chrono::seconds kLimit{60};          // for one check
constexpr size_t kSmallBytes = 64 << 10;
constexpr size_t kLargeBytes = (8 << 20) + 100000;  // more than one part of a multipart upload

std::string Format(const char* format, double value) {
  char text[400];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// Calls step(deadline, &done) until done, an error, the limit, or an interrupt.
template <typename Step>
Status RunSteps(InterruptCheck interrupted, Step step) {
  const Clock::time_point limit = Clock::now() + kLimit;
  for (bool done = false; !done;) {
    IVFREMOTE_RETURN_IF_ERROR(step(Clock::now() + kStep, &done));
    if (interrupted != nullptr && interrupted()) return Status::Cancelled("cancelled");
    if (!done && Clock::now() >= limit) return Status::Timeout("no answer in 60 s");
  }
  return Status::Ok();
}

std::string HintFor(const Status& status) {
  if (status.message().find("NoSuchBucket") != std::string::npos)
    return "Create the bucket, or correct the server's url.";
  switch (status.code()) {
    case StatusCode::kDenied:
      return "Check the keys in the user mapping, and that they allow listing, reading, writing and deleting below the "
             "server's url.";
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
      return "Check the server's endpoint and the network between here and there.";
    case StatusCode::kNoSpace:
      return "Make room in the store.";
    default:
      return "Check the server's url, region, endpoint and addressing.";
  }
}

class Checker {
 public:
  Checker(ObjectStore* store, const std::string& key_base, InterruptCheck interrupted,
          std::vector<CheckResult>* results)
      : store_(store),
        small_key_(key_base + ".check"),
        large_key_(key_base + ".large.check"),
        tagged_key_(key_base + ".tagged.check"),
        interrupted_(interrupted),
        results_(results),
        data_(kLargeBytes) {
    for (size_t i = 0; i < data_.size(); ++i) data_[i] = std::byte(i * 31 >> 3);
  }

  Status Run() {
    IVFREMOTE_RETURN_IF_ERROR(Report("list", List()));
    const Status put = Put(small_key_, kSmallBytes, true);
    IVFREMOTE_RETURN_IF_ERROR(Report("put", put, Format("%.0f kB", kSmallBytes / 1024.0)));
    if (!put.ok()) return Status::Ok();  // all else needs an object
    IVFREMOTE_RETURN_IF_ERROR(ConditionalPut());
    IVFREMOTE_RETURN_IF_ERROR(ConditionalReplace());
    IVFREMOTE_RETURN_IF_ERROR(RangedGet());
    IVFREMOTE_RETURN_IF_ERROR(Multipart());
    IVFREMOTE_RETURN_IF_ERROR(Report("delete", Delete()));
    return Status::Ok();
  }

 private:
  // A failed check is a result; only an interrupt ends the whole.
  Status Report(const char* check, const Status& status, std::string detail = {}, std::string hint = {}) {
    if (status.code() == StatusCode::kCancelled) return status;
    if (hint.empty()) hint = HintFor(status);
    results_->push_back({check, status.ok(), status.ok() ? detail : status.message(), status.ok() ? "" : hint});
    return Status::Ok();
  }

  Status Operate(std::unique_ptr<Operation>& operation) {
    return RunSteps(interrupted_, [&](auto deadline, bool* done) { return operation->Step(deadline, done); });
  }

  Status List() {
    std::vector<ObjectInfo> objects;
    std::unique_ptr<Operation> operation;
    IVFREMOTE_RETURN_IF_ERROR(store_->List("", "", 10, &objects, &operation));
    return Operate(operation);
  }

  Status Put(const std::string& key, size_t bytes, bool finish) {
    std::unique_ptr<Upload> upload;
    IVFREMOTE_RETURN_IF_ERROR(store_->Create(key, &upload));
    IVFREMOTE_RETURN_IF_ERROR(upload->Append(Bytes(data_).first(bytes)));
    IVFREMOTE_RETURN_IF_ERROR(
        RunSteps(interrupted_, [&](auto deadline, bool* ready) { return upload->Step(deadline, ready); }));
    if (!finish) return Status::Ok();
    return RunSteps(interrupted_, [&](auto deadline, bool* done) { return upload->Finish(deadline, done); });
  }

  Status ConditionalPut() {
    const Status status = Put(small_key_, kSmallBytes, true);
    if (status.code() == StatusCode::kAlreadyExists)
      return Report("conditional put", Status::Ok(), "an existing object is not replaced");
    if (status.ok())
      return Report("conditional put", Status::Unsupported("the store replaced an existing object"), {},
                    "Indexes work, and rely on the unique names of their objects.");
    return Report("conditional put", status);
  }

  Status Replace(const std::string& tag) {
    std::unique_ptr<Operation> operation;
    IVFREMOTE_RETURN_IF_ERROR(store_->WriteTagged(tagged_key_, "check", tag, &operation));
    return Operate(operation);
  }

  // The right tag is tried by whoever writes; a store that does not look at it replaces what another has written.
  Status ConditionalReplace() {
    Status status = Replace("");
    if (status.ok()) status = Replace("\"00000000000000000000000000000000\"");
    if (status.code() == StatusCode::kPrecondition)
      return Report("conditional replace", Status::Ok(), "an object that has changed is not replaced");
    if (status.ok())
      return Report("conditional replace", Status::Unsupported("the store replaced an object that is another than was read"), {},
                    "Let only one cluster write below the url: two that write under one incarnation may not notice.");
    return Report("conditional replace", status);
  }

  Status Get(const std::string& key, uint64_t offset, size_t length, RangeCompletion* completion) {
    std::unique_ptr<RangeWave> wave;
    IVFREMOTE_RETURN_IF_ERROR(store_->GetRanges({{key, offset, static_cast<uint32_t>(length)}}, 1, &wave));
    std::vector<RangeCompletion> completions;
    IVFREMOTE_RETURN_IF_ERROR(RunSteps(interrupted_, [&](auto deadline, bool* done) {
      const Status status = wave->Step(deadline, &completions);
      *done = !completions.empty();
      return status;
    }));
    *completion = std::move(completions[0]);
    IVFREMOTE_RETURN_IF_ERROR(completion->status);
    if (!std::equal(data_.begin() + static_cast<ptrdiff_t>(offset),
                    data_.begin() + static_cast<ptrdiff_t>(offset + length), completion->buffer.bytes().begin()))
      return Status::Corrupt("the bytes read are not the bytes written");
    return Status::Ok();
  }

  Status RangedGet() {
    constexpr int kTries = 5;
    RangeCompletion completion;
    Status status;
    std::vector<double> milliseconds;
    for (int i = 0; i < kTries && status.ok(); ++i) {
      status = Get(small_key_, 1000u + static_cast<unsigned>(i), 1000, &completion);
      milliseconds.push_back(Milliseconds(completion.finished - completion.started));
    }
    IVFREMOTE_RETURN_IF_ERROR(Report("ranged get", status, "1000 bytes from the middle of an object"));
    if (!status.ok()) return Status::Ok();
    std::sort(milliseconds.begin(), milliseconds.end());
    return Report("latency", status,
                  Format("%.1f ms for 1000 bytes, the median of 5 requests on an open connection", milliseconds[kTries / 2]));
  }

  Status Multipart() {
    const Clock::time_point start = Clock::now();
    const Status put = Put(large_key_, kLargeBytes, true);
    const double put_s = Milliseconds(Clock::now() - start) / 1000;
    IVFREMOTE_RETURN_IF_ERROR(
        Report("multipart", put, Format("%.0f MB/s written, on one connection", kLargeBytes / 1e6 / put_s)));
    if (put.ok()) {
      RangeCompletion completion;
      const Status get = Get(large_key_, 0, kLargeBytes, &completion);
      const double get_s = Milliseconds(completion.finished - completion.started) / 1000;
      IVFREMOTE_RETURN_IF_ERROR(
          Report("bandwidth", get, Format("%.0f MB/s read, on one connection", kLargeBytes / 1e6 / get_s)));
    }
    return Report("abort", Abort(), "an unfinished upload leaves nothing",
                  "Let the keys abort multipart uploads, and give the bucket a lifecycle rule that does.");
  }

  Status ListUploads(const std::string& key, std::vector<UploadInfo>* uploads) {
    std::unique_ptr<Operation> operation;
    IVFREMOTE_RETURN_IF_ERROR(store_->ListUploads(key, uploads, &operation));
    return Operate(operation);
  }

  // An upload that is destroyed has little time to tell a distant store so: what is left is given up in peace.
  Status Abort() {
    const std::string key = large_key_ + ".aborted";
    IVFREMOTE_RETURN_IF_ERROR(Put(key, kLargeBytes, false));
    std::vector<UploadInfo> uploads;
    IVFREMOTE_RETURN_IF_ERROR(ListUploads(key, &uploads));
    for (const UploadInfo& upload : uploads) {
      std::unique_ptr<Operation> operation;
      IVFREMOTE_RETURN_IF_ERROR(store_->AbortUpload(upload, &operation));
      IVFREMOTE_RETURN_IF_ERROR(Operate(operation));
    }
    std::vector<UploadInfo> left;
    IVFREMOTE_RETURN_IF_ERROR(ListUploads(key, &left));
    if (!left.empty()) return Status::Internal("the store still lists the aborted upload");
    return Status::Ok();
  }

  Status Delete() {
    std::unique_ptr<Operation> operation;
    IVFREMOTE_RETURN_IF_ERROR(store_->Delete({small_key_, large_key_, tagged_key_}, &operation));
    IVFREMOTE_RETURN_IF_ERROR(Operate(operation));
    RangeCompletion completion;
    const Status status = Get(small_key_, 0, 10, &completion);
    if (status.code() == StatusCode::kNotFound) return Status::Ok();
    return status.ok() ? Status::Internal("a deleted object can still be read") : status;
  }

  ObjectStore* store_;
  std::string small_key_;
  std::string large_key_;
  std::string tagged_key_;
  InterruptCheck interrupted_;
  std::vector<CheckResult>* results_;
  std::vector<std::byte> data_;
};

}  // namespace

Status CheckStore(ObjectStore* store, const std::string& key_base, InterruptCheck interrupted,
                  std::vector<CheckResult>* results) {
  IVFREMOTE_RETURN_IF_ERROR(store->CheckTransport(interrupted, results));
  if (!results->empty() && !results->back().ok) return Status::Ok();
  return Checker(store, key_base, interrupted, results).Run();
}

}  // namespace ivfremote
