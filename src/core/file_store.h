// An object store in a directory: one file per object, for shared file systems, tests and looking at objects.
//
// An object is written to a hidden temporary file beside its name, synced, and linked to the name, so it appears whole
// and never replaces another. Directories are synced too: an object that Finish has reported survives a power cut.
// A read from a hung network file system can't be interrupted: that is the kernel's limit.
#pragma once

#include "core/object_store.h"

namespace ivfremote {

class FileStore : public ObjectStore {
 public:
  // `root` is an absolute path without a trailing slash; it is created when the first object is.
  explicit FileStore(std::string root) : root_(std::move(root)) {}

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

 private:
  Status DeleteOne(const std::string& key);
  // Walks the prefix's directory for files whose names are hidden (unfinished uploads) or not; whether their keys start with
  // the prefix, is the caller's to see.
  Status ListFiles(std::string_view prefix, bool hidden, std::vector<ObjectInfo>* files);

  std::string root_;
};

}  // namespace ivfremote
