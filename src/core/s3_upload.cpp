#include "core/s3_upload.h"

#include <algorithm>
#include <deque>

#include "core/s3_call.h"
#include "core/xml.h"

namespace ivfremote {
namespace {

using Connection = S3Store::Connection;

constexpr size_t kPartBytes = 8 << 20;  // also the largest object written by a single PUT
constexpr size_t kPartsInFlight = 4;
// How long a dying upload may take to tell the store so.
constexpr std::chrono::milliseconds kAbortTime{150};

// Stores differ in whether the ETags in their XML have quotes.
std::string_view Unquoted(std::string_view etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') return etag.substr(1, etag.size() - 2);
  return etag;
}

class S3Upload : public Upload {
 public:
  S3Upload(std::shared_ptr<Connection> connection, std::string key)
      : connection_(std::move(connection)), key_(std::move(key)), path_(connection_->PathOf(key_)) {}

  ~S3Upload() override {
    if (upload_id_.empty() || completed_) return;
    try {
      flights_.clear();
      connection_->awaits_credentials = false;
      S3Request request;
      request.method = "DELETE";
      request.path = path_;
      request.query = {{"uploadId", upload_id_}};
      S3Call call(connection_, std::move(request));
      const Clock::time_point deadline = Clock::now() + kAbortTime;
      while (!call.done() && !connection_->awaits_credentials && Clock::now() < deadline)
        DriveCalls(connection_.get(), {&call}, deadline);
    } catch (...) {
      // Garbage collection aborts it later.
    }
  }

  Status Append(Bytes bytes) override {
    while (!bytes.empty()) {
      if (filling_.size() == kPartBytes) {
        waiting_.push_back(std::move(filling_));
        filling_ = TakeBuffer();
      }
      if (filling_.capacity() < kPartBytes) filling_.reserve(kPartBytes);
      const size_t n = std::min(bytes.size(), kPartBytes - filling_.size());
      filling_.insert(filling_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      bytes = bytes.subspan(n);
      size_ += n;
    }
    return Status::Ok();
  }

  Status Step(Clock::time_point deadline, bool* ready) override {
    IVFREMOTE_RETURN_IF_ERROR(Pump());
    if (!flights_.empty() || initiate_ != nullptr) {
      // Parts move while the next one is being filled.
      Drive(Clock::now());
      IVFREMOTE_RETURN_IF_ERROR(Pump());
    }
    while (!waiting_.empty() && Clock::now() < deadline) {
      Drive(deadline);
      IVFREMOTE_RETURN_IF_ERROR(Pump());
      if (Clock::now() < deadline && !progressed_) break;  // a signal
    }
    *ready = waiting_.empty();
    return Status::Ok();
  }

  uint64_t BytesStored() const override { return stored_; }

  Status Finish(Clock::time_point deadline, bool* done) override {
    if (!finishing_) {
      finishing_ = true;
      if (upload_id_.empty() && initiate_ == nullptr && waiting_.empty()) {
        StartSingle();
      } else if (!filling_.empty()) {
        waiting_.push_back(std::move(filling_));
        filling_.clear();
      }
    }
    for (;;) {
      IVFREMOTE_RETURN_IF_ERROR(Pump());
      if (single_ != nullptr && single_->done()) {
        if (!PerhapsDone(*single_)) IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key_), single_->status()));
        etag_ = ETagOf(*single_);
        single_.reset();
        StartHead();
      }
      if (!upload_id_.empty() && waiting_.empty() && flights_.empty() && complete_ == nullptr && !completed_)
        StartComplete();
      if (complete_ != nullptr && complete_->done()) {
        if (!PerhapsDone(*complete_)) IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key_), complete_->status()));
        completed_ = true;
        etag_ = complete_->status().ok() ? ResultETag(complete_->response().text) : std::string();
        complete_.reset();
        StartHead();
      }
      if (head_ != nullptr && head_->done()) {
        IVFREMOTE_RETURN_IF_ERROR(CheckHead());
        stored_ = size_;
        *done = true;
        return Status::Ok();
      }
      if (Clock::now() >= deadline) return Status::Ok();
      Drive(deadline);
      if (!progressed_ && Clock::now() < deadline) return Status::Ok();  // a signal
    }
  }

 private:
  struct Flight {
    size_t part;
    std::vector<std::byte> bytes;
    std::unique_ptr<S3Call> call;
  };

  // Takes the results of calls that are done, and starts what can be started.
  Status Pump() {
    if (!waiting_.empty() && upload_id_.empty() && initiate_ == nullptr) StartInitiate();
    if (initiate_ != nullptr && initiate_->done()) {
      IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key_), initiate_->status()));
      ParseXml(initiate_->response().text, [this](std::string_view path, std::string_view text) {
        if (path == "InitiateMultipartUploadResult/UploadId") upload_id_ = text;
      });
      if (upload_id_.empty()) return Status::Unavailable(ObjectText(key_) + ": the store gave no upload id");
      initiate_.reset();
    }
    for (auto& flight : flights_) {
      if (!flight->call->done()) continue;
      IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key_), flight->call->status()));
      etags_[flight->part] = ETagOf(*flight->call);
      stored_ += flight->bytes.size();
      flight->bytes.clear();
      free_.push_back(std::move(flight->bytes));
      flight.reset();
    }
    std::erase(flights_, nullptr);
    while (!upload_id_.empty() && !waiting_.empty() && flights_.size() < kPartsInFlight) StartPart();
    return Status::Ok();
  }

  // Buffers are used again: freed ones would leave holes in the heap.
  std::vector<std::byte> TakeBuffer() {
    if (free_.empty()) return {};
    std::vector<std::byte> buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  void Drive(Clock::time_point deadline) {
    std::vector<S3Call*> calls;
    for (S3Call* call : {single_.get(), initiate_.get(), complete_.get(), head_.get()})
      if (call != nullptr) calls.push_back(call);
    for (const auto& flight : flights_) calls.push_back(flight->call.get());
    DriveCalls(connection_.get(), calls, deadline);
    progressed_ = std::any_of(calls.begin(), calls.end(), [](const S3Call* call) { return call->done(); });
  }

  std::unique_ptr<S3Call> Start(S3Request request) {
    request.path = path_;
    auto call = std::make_unique<S3Call>(connection_, std::move(request));
    call->Poll(Clock::now());
    return call;
  }

  void StartSingle() {
    S3Request request;
    request.method = "PUT";
    request.body = filling_;
    request.conditional = true;
    single_ = Start(std::move(request));
  }

  void StartInitiate() {
    S3Request request;
    request.method = "POST";
    request.query = {{"uploads", ""}};
    initiate_ = Start(std::move(request));
  }

  void StartPart() {
    auto flight = std::make_unique<Flight>();
    flight->part = etags_.size();
    etags_.emplace_back();
    flight->bytes = std::move(waiting_.front());
    waiting_.pop_front();
    S3Request request;
    request.method = "PUT";
    request.query = {{"partNumber", std::to_string(flight->part + 1)}, {"uploadId", upload_id_}};
    request.body = flight->bytes;
    flight->call = Start(std::move(request));
    flights_.push_back(std::move(flight));
  }

  void StartComplete() {
    complete_body_ = "<CompleteMultipartUpload>";
    for (size_t part = 0; part < etags_.size(); ++part)
      complete_body_ += "<Part><PartNumber>" + std::to_string(part + 1) + "</PartNumber><ETag>" +
                        EscapeXml(etags_[part]) + "</ETag></Part>";
    complete_body_ += "</CompleteMultipartUpload>";
    S3Request request;
    request.method = "POST";
    request.query = {{"uploadId", upload_id_}};
    request.body = std::as_bytes(std::span(complete_body_));
    request.conditional = true;
    complete_ = Start(std::move(request));
  }

  void StartHead() {
    S3Request request;
    request.method = "HEAD";
    head_ = Start(std::move(request));
  }

  // The object is what was sent: its size and ETag are those the store promised.
  Status CheckHead() {
    IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key_), head_->status()));
    const auto& headers = head_->response().headers;
    const auto length = headers.find("content-length");
    const auto etag = headers.find("etag");
    if (length == headers.end() || length->second != std::to_string(size_))
      return Status::Corrupt(ObjectText(key_) + " has " + (length == headers.end() ? "an unknown number of" : length->second) +
                             " bytes after writing " + std::to_string(size_));
    if (!etag_.empty() && etag != headers.end() && Unquoted(etag->second) != Unquoted(etag_))
      return Status::Corrupt(ObjectText(key_) + " is not the one just written: its ETag differs");
    return Status::Ok();
  }

  // The answer to an earlier try may have been lost: then the object is there already, and the upload is not. Names are
  // never used twice, so it is ours; its size is checked next, and its ETag where there was an answer with one.
  static bool PerhapsDone(const S3Call& call) {
    return (call.tries() > 1 || call.response().resent) && (call.status().code() == StatusCode::kAlreadyExists ||
                                call.status().code() == StatusCode::kNotFound);
  }

  static std::string ETagOf(const S3Call& call) {
    const auto found = call.response().headers.find("etag");
    return !call.status().ok() || found == call.response().headers.end() ? std::string() : found->second;
  }

  static std::string ResultETag(const std::string& text) {
    std::string etag;
    ParseXml(text, [&](std::string_view path, std::string_view value) {
      if (path == "CompleteMultipartUploadResult/ETag") etag = value;
    });
    return etag;
  }

  std::shared_ptr<Connection> connection_;
  std::string key_;
  std::string path_;
  uint64_t size_ = 0;
  uint64_t stored_ = 0;
  std::vector<std::byte> filling_;
  std::deque<std::vector<std::byte>> waiting_;  // full parts
  std::vector<std::unique_ptr<Flight>> flights_;
  std::vector<std::vector<std::byte>> free_;
  std::vector<std::string> etags_;  // by part
  std::string upload_id_;
  std::string complete_body_;
  std::string etag_;
  bool completed_ = false;
  bool finishing_ = false;
  bool progressed_ = false;
  std::unique_ptr<S3Call> single_, initiate_, complete_, head_;
};

}  // namespace

std::unique_ptr<Upload> MakeS3Upload(std::shared_ptr<S3Store::Connection> connection, std::string key) {
  return std::make_unique<S3Upload>(std::move(connection), std::move(key));
}

}  // namespace ivfremote
