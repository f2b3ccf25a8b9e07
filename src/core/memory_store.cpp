#include "core/memory_store.h"

#include <cstring>

#include "core/range_text.h"
#include "core/sigv4.h"

namespace ivfremote {
namespace {

using Objects = std::map<std::string, std::vector<std::byte>, std::less<>>;

class MemoryWave : public RangeWave {
 public:
  MemoryWave(const Objects* objects, std::vector<RangeRequest> requests)
      : objects_(objects), requests_(std::move(requests)) {}

  Status Step(Clock::time_point, std::vector<RangeCompletion>* completions) override {
    if (next_ == requests_.size()) return Status::Ok();
    RangeCompletion completion;
    completion.request = next_;
    completion.started = Clock::now();
    completion.status = Read(requests_[next_++], &completion.buffer);
    completion.finished = Clock::now();
    completions->push_back(std::move(completion));
    return Status::Ok();
  }

 private:
  Status Read(const RangeRequest& request, RangeBuffer* buffer) {
    const auto found = objects_->find(request.key);
    if (found == objects_->end()) return Status::NotFound(MissingObjectText(request.key));
    const std::vector<std::byte>& object = found->second;
    if (request.offset > object.size() || request.length > object.size() - request.offset)
      return Status::Corrupt(ShortObjectText(request, object.size()));
    *buffer = RangeBuffer(request.length);
    std::memcpy(buffer->data(), object.data() + request.offset, request.length);
    return Status::Ok();
  }

  const Objects* objects_;
  std::vector<RangeRequest> requests_;
  size_t next_ = 0;
};

class MemoryUpload : public Upload {
 public:
  MemoryUpload(Objects* objects, std::string key) : objects_(objects), key_(std::move(key)) {}

  Status Append(Bytes bytes) override {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return Status::Ok();
  }

  Status Step(Clock::time_point, bool* ready) override {
    *ready = true;
    return Status::Ok();
  }

  uint64_t BytesStored() const override { return stored_; }

  Status Finish(Clock::time_point, bool* done) override {
    stored_ = bytes_.size();
    if (!objects_->try_emplace(key_, std::move(bytes_)).second)
      return Status::AlreadyExists(ExistingObjectText(key_));
    *done = true;
    return Status::Ok();
  }

 private:
  Objects* objects_;
  std::string key_;
  std::vector<std::byte> bytes_;
  uint64_t stored_ = 0;
};

}  // namespace

Status MemoryStore::GetRanges(std::vector<RangeRequest> requests, size_t, std::unique_ptr<RangeWave>* wave) {
  *wave = std::make_unique<MemoryWave>(&objects_, std::move(requests));
  return Status::Ok();
}

Status MemoryStore::Create(std::string_view key, std::unique_ptr<Upload>* upload) {
  if (objects_.contains(key)) return Status::AlreadyExists(ExistingObjectText(key));
  *upload = std::make_unique<MemoryUpload>(&objects_, std::string(key));
  return Status::Ok();
}

Status MemoryStore::ReadTagged(std::string key, size_t limit, TaggedObject* object,
                               std::unique_ptr<Operation>* operation) {
  const auto found = objects_.find(key);
  Status status;
  if (found == objects_.end()) {
    status = Status::NotFound(MissingObjectText(key));
  } else if (found->second.size() > limit) {
    status = Status::Corrupt(LongObjectText(key, limit));
  } else {
    object->text.assign(reinterpret_cast<const char*>(found->second.data()), found->second.size());
    object->tag = Sha256Hex(found->second);
  }
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

Status MemoryStore::WriteTagged(std::string key, std::string text, std::string tag,
                                std::unique_ptr<Operation>* operation) {
  const auto found = objects_.find(key);
  const std::string now = found == objects_.end() ? std::string() : Sha256Hex(found->second);
  if (now == tag) {
    const Bytes bytes = std::as_bytes(std::span(text));
    objects_[key] = {bytes.begin(), bytes.end()};
  }
  *operation = std::make_unique<FinishedOperation>(now == tag ? Status::Ok() : Status::Precondition(ChangedObjectText(key)));
  return Status::Ok();
}

Status MemoryStore::Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) {
  for (const std::string& key : keys) objects_.erase(key);
  *operation = std::make_unique<FinishedOperation>(Status::Ok());
  return Status::Ok();
}

Status MemoryStore::List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
                         std::unique_ptr<Operation>* operation) {
  const size_t most = objects->size() + limit;
  for (auto at = objects_.lower_bound(prefix); at != objects_.end() && objects->size() < most; ++at) {
    if (!at->first.starts_with(prefix)) break;
    if (at->first > start_after) objects->push_back({at->first, at->second.size()});
  }
  *operation = std::make_unique<FinishedOperation>(Status::Ok());
  return Status::Ok();
}

// An unfinished upload is nowhere but in its own object.
Status MemoryStore::ListUploads(std::string, std::vector<UploadInfo>*, std::unique_ptr<Operation>* operation) {
  *operation = std::make_unique<FinishedOperation>(Status::Ok());
  return Status::Ok();
}

Status MemoryStore::AbortUpload(const UploadInfo&, std::unique_ptr<Operation>* operation) {
  *operation = std::make_unique<FinishedOperation>(Status::Ok());
  return Status::Ok();
}

}  // namespace ivfremote
