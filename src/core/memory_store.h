// An object store in memory, for tests.
#pragma once

#include <map>

#include "core/object_store.h"

namespace ivfremote {

class MemoryStore : public ObjectStore {
 public:
  Status GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                   std::unique_ptr<RangeWave>* wave) override;
  Status Create(std::string_view key, std::unique_ptr<Upload>* upload) override;
  Status ReadTagged(std::string key, size_t limit, TaggedObject* object,
                    std::unique_ptr<Operation>* operation) override;
  Status WriteTagged(std::string key, std::string text, std::string tag,
                     std::unique_ptr<Operation>* operation) override;
  Status Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) override;
  Status List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
              std::unique_ptr<Operation>* operation) override;
  Status ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                     std::unique_ptr<Operation>* operation) override;
  Status AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) override;

  std::map<std::string, std::vector<std::byte>, std::less<>>& objects() { return objects_; }

 private:
  std::map<std::string, std::vector<std::byte>, std::less<>> objects_;
};

}  // namespace ivfremote
