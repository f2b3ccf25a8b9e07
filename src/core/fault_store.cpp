#include "core/fault_store.h"

#include <poll.h>

#include <algorithm>
#include <utility>

namespace ivfremote {
namespace {

constexpr std::pair<std::string_view, Fault> kNames[] = {
    {"", Fault::kNone},
    {"get_stall", Fault::kGetStall},
    {"get_fail", Fault::kGetFail},
    {"get_fail_one", Fault::kGetFailOne},
    {"get_missing", Fault::kGetMissing},
    {"get_denied", Fault::kGetDenied},
    {"get_flip_byte", Fault::kGetFlipByte},
    {"get_reorder", Fault::kGetReorder},
    {"put_stall", Fault::kPutStall},
    {"put_fail", Fault::kPutFail},
    {"put_no_space", Fault::kPutNoSpace},
    {"tagged_fail", Fault::kTaggedFail},
    {"tagged_lost", Fault::kTaggedLost},
    {"delete_fail", Fault::kDeleteFail},
};

// Does nothing until the deadline; a signal ends it early, as it does a wait for the network.
void Stall(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  if (left.count() > 0) ::poll(nullptr, 0, static_cast<int>(left.count()));
}

class FaultWave : public RangeWave {
 public:
  FaultWave(std::unique_ptr<RangeWave> wave, size_t requests, Fault fault)
      : wave_(std::move(wave)), requests_(requests), fault_(fault) {}

  Status Step(Clock::time_point deadline, std::vector<RangeCompletion>* completions) override {
    if (fault_ == Fault::kGetStall) {
      Stall(deadline);
      return Status::Ok();
    }
    const size_t before = completions->size();
    IVFREMOTE_RETURN_IF_ERROR(wave_->Step(deadline, completions));
    for (size_t i = before; i < completions->size(); ++i) Spoil(&(*completions)[i]);
    if (fault_ == Fault::kGetReorder) {
      std::move(completions->begin() + static_cast<ptrdiff_t>(before), completions->end(), std::back_inserter(held_));
      completions->resize(before);
      if (held_.size() == requests_)
        std::move(held_.rbegin(), held_.rend(), std::back_inserter(*completions)), held_.clear();
    }
    return Status::Ok();
  }

 private:
  void Spoil(RangeCompletion* completion) {
    switch (fault_) {
      case Fault::kGetFailOne:
        if (completion->request + 1 != requests_) break;
        [[fallthrough]];
      case Fault::kGetFail:
        completion->status = Status::Unavailable("HTTP 503 SlowDown (injected)");
        break;
      case Fault::kGetMissing:
        completion->status = Status::NotFound("HTTP 404 NoSuchKey (injected)");
        break;
      case Fault::kGetDenied:
        completion->status = Status::Denied("HTTP 403 AccessDenied (injected)");
        break;
      case Fault::kGetFlipByte:
        if (completion->buffer.size() > 0) completion->buffer.data()[completion->buffer.size() / 2] ^= std::byte{1};
        break;
      default:
        break;
    }
  }

  std::unique_ptr<RangeWave> wave_;
  size_t requests_;
  Fault fault_;
  std::vector<RangeCompletion> held_;
};

class FaultUpload : public Upload {
 public:
  FaultUpload(std::unique_ptr<Upload> upload, Fault fault) : upload_(std::move(upload)), fault_(fault) {}

  Status Append(Bytes bytes) override {
    if (fault_ == Fault::kPutFail) return Status::Unavailable("HTTP 500 InternalError (injected)");
    if (fault_ == Fault::kPutNoSpace) return Status::NoSpace("No space left on device (injected)");
    return upload_->Append(bytes);
  }

  Status Step(Clock::time_point deadline, bool* ready) override {
    if (fault_ == Fault::kPutStall) {
      Stall(deadline);
      *ready = false;
      return Status::Ok();
    }
    return upload_->Step(deadline, ready);
  }

  Status Finish(Clock::time_point deadline, bool* done) override {
    if (fault_ == Fault::kPutStall) {
      Stall(deadline);
      *done = false;
      return Status::Ok();
    }
    return upload_->Finish(deadline, done);
  }

  uint64_t BytesStored() const override { return upload_->BytesStored(); }

 private:
  std::unique_ptr<Upload> upload_;
  Fault fault_;
};

// Ends as `status` says once the operation has succeeded.
class OtherEnd : public Operation {
 public:
  OtherEnd(std::unique_ptr<Operation> operation, Status status)
      : operation_(std::move(operation)), status_(std::move(status)) {}

  Status Step(Clock::time_point deadline, bool* done) override {
    bool ended = false;
    IVFREMOTE_RETURN_IF_ERROR(operation_->Step(deadline, &ended));
    if (!ended) return Status::Ok();
    *done = status_.ok();
    return status_;
  }

 private:
  std::unique_ptr<Operation> operation_;
  Status status_;
};

class FaultStore : public ObjectStore {
 public:
  FaultStore(std::unique_ptr<ObjectStore> store, Fault fault) : store_(std::move(store)), fault_(fault) {}

  Status GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                   std::unique_ptr<RangeWave>* wave) override {
    const size_t count = requests.size();
    std::unique_ptr<RangeWave> inner;
    IVFREMOTE_RETURN_IF_ERROR(store_->GetRanges(std::move(requests), max_concurrent, &inner));
    *wave = std::make_unique<FaultWave>(std::move(inner), count, fault_);
    return Status::Ok();
  }

  Status Create(std::string_view key, std::unique_ptr<Upload>* upload) override {
    std::unique_ptr<Upload> inner;
    IVFREMOTE_RETURN_IF_ERROR(store_->Create(key, &inner));
    *upload = std::make_unique<FaultUpload>(std::move(inner), fault_);
    return Status::Ok();
  }

  Status ReadTagged(std::string key, size_t limit, TaggedObject* object,
                    std::unique_ptr<Operation>* operation) override {
    if (fault_ == Fault::kTaggedFail) return Fail(operation);
    return store_->ReadTagged(std::move(key), limit, object, operation);
  }

  Status WriteTagged(std::string key, std::string text, std::string tag,
                     std::unique_ptr<Operation>* operation) override {
    if (fault_ == Fault::kTaggedFail) return Fail(operation);
    IVFREMOTE_RETURN_IF_ERROR(store_->WriteTagged(std::move(key), std::move(text), std::move(tag), operation));
    if (fault_ == Fault::kTaggedLost)
      *operation = std::make_unique<OtherEnd>(std::move(*operation), Status::Precondition("HTTP 412 PreconditionFailed (injected)"));
    return Status::Ok();
  }

  Status Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) override {
    if (fault_ == Fault::kDeleteFail) return Fail(operation);
    return store_->Delete(std::move(keys), operation);
  }

  Status List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
              std::unique_ptr<Operation>* operation) override {
    return store_->List(std::move(prefix), std::move(start_after), limit, objects, operation);
  }

  Status ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                     std::unique_ptr<Operation>* operation) override {
    return store_->ListUploads(std::move(prefix), uploads, operation);
  }

  Status AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) override {
    return store_->AbortUpload(upload, operation);
  }

  Status CheckTransport(InterruptCheck interrupted, std::vector<CheckResult>* results) override {
    return store_->CheckTransport(interrupted, results);
  }

  StoreTrouble Trouble() const override { return store_->Trouble(); }
  bool AwaitsCredentials() const override { return store_->AwaitsCredentials(); }
  void SetCredentials(const AwsCredentials& credentials) override { store_->SetCredentials(credentials); }
  void KeepCredentials() override { store_->KeepCredentials(); }
  void SetPatient(bool patient) override { store_->SetPatient(patient); }
  std::string TakeNotice() override { return store_->TakeNotice(); }

 private:
  static Status Fail(std::unique_ptr<Operation>* operation) {
    *operation = std::make_unique<FinishedOperation>(Status::Unavailable("HTTP 500 InternalError (injected)"));
    return Status::Ok();
  }

  std::unique_ptr<ObjectStore> store_;
  Fault fault_;
};

}  // namespace

std::optional<Fault> ParseFault(std::string_view name) {
  const auto found = std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& n) { return n.first == name; });
  if (found == std::end(kNames)) return std::nullopt;
  return found->second;
}

std::unique_ptr<ObjectStore> MakeFaultStore(std::unique_ptr<ObjectStore> store, Fault fault) {
  return std::make_unique<FaultStore>(std::move(store), fault);
}

}  // namespace ivfremote
