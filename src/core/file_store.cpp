#include "core/file_store.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/range_text.h"
#include "core/sigv4.h"

namespace ivfremote {
namespace {

namespace fs = std::filesystem;

// The most that is read or written between two looks at the deadline.
constexpr size_t kChunk = 1 << 20;
constexpr size_t kSyncBytes = 32 << 20;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

Status ErrnoStatus(int error, const std::string& doing, std::string_view key) {
  const std::string message = "could not " + doing + " object \"" + std::string(key) + "\": " + std::strerror(error);
  switch (error) {
    case ENOENT:
      return Status::NotFound(MissingObjectText(key));
    case EEXIST:
      return Status::AlreadyExists(ExistingObjectText(key));
    case EACCES:
    case EPERM:
    case EROFS:
      return Status::Denied(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Status::NoSpace(message);
    default:
      return Status::Unavailable(message);
  }
}

Status CheckKey(std::string_view key) {
  // Keys come from object_key.h, but a store must not be talked out of its root whatever the caller.
  for (size_t start = 0; start <= key.size();) {
    const size_t end = std::min(key.find('/', start), key.size());
    const std::string_view component = key.substr(start, end - start);
    if (component.empty() || component.front() == '.' || component.find('\0') != std::string_view::npos)
      return Status::Invalid("invalid object key \"" + std::string(key) + "\"");
    start = end + 1;
  }
  return Status::Ok();
}

class FileWave : public RangeWave {
 public:
  FileWave(std::string root, std::vector<RangeRequest> requests)
      : root_(std::move(root)), requests_(std::move(requests)) {}

  Status Step(Clock::time_point deadline, std::vector<RangeCompletion>* completions) override {
    if (next_ == requests_.size()) return Status::Ok();
    if (!current_started_) {
      current_ = RangeCompletion{};
      current_.request = next_;
      current_.started = Clock::now();
      current_started_ = true;
      filled_ = 0;
      if (requests_[next_].key != open_key_) file_ = FileDescriptor();
    }
    bool done = false;
    current_.status = Read(requests_[next_], deadline, &done);
    if (!current_.status.ok()) current_.buffer = RangeBuffer();
    if (done || !current_.status.ok()) {
      current_.finished = Clock::now();
      completions->push_back(std::move(current_));
      current_started_ = false;
      ++next_;
    }
    return Status::Ok();
  }

 private:
  Status Read(const RangeRequest& request, Clock::time_point deadline, bool* done) {
    if (!file_) {
      IVFREMOTE_RETURN_IF_ERROR(CheckKey(request.key));
      file_ = FileDescriptor(::open((root_ + "/" + request.key).c_str(), O_RDONLY | O_CLOEXEC));
      if (!file_) return ErrnoStatus(errno, "open", request.key);
      struct stat info;
      if (::fstat(file_.get(), &info) != 0) return ErrnoStatus(errno, "read", request.key);
      open_key_ = request.key;
      open_size_ = static_cast<uint64_t>(info.st_size);
    }
    if (current_.buffer.size() == 0) {
      if (request.offset > open_size_ || request.length > open_size_ - request.offset)
        return Status::Corrupt(ShortObjectText(request, open_size_));
      current_.buffer = RangeBuffer(request.length);
    }
    while (filled_ < request.length) {
      const ssize_t got = ::pread(file_.get(), current_.buffer.data() + filled_,
                                  std::min<size_t>(kChunk, request.length - filled_),
                                  static_cast<off_t>(request.offset + filled_));
      if (got < 0 && errno != EINTR) return ErrnoStatus(errno, "read", request.key);
      if (got == 0) {
        struct stat info;
        const uint64_t size = ::fstat(file_.get(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
        return Status::Corrupt(ShortObjectText(request, size));
      }
      if (got > 0) filled_ += static_cast<size_t>(got);
      if (filled_ < request.length && Clock::now() >= deadline) return Status::Ok();
    }
    *done = true;
    return Status::Ok();
  }

  std::string root_;
  std::vector<RangeRequest> requests_;
  size_t next_ = 0;

  // The request under way: a local file gains nothing from more than one at a time.
  bool current_started_ = false;
  RangeCompletion current_;
  size_t filled_ = 0;
  // Most requests of a wave are for the same object.
  FileDescriptor file_;
  std::string open_key_;
  uint64_t open_size_ = 0;
};

Status WriteAll(int fd, Bytes bytes, std::string_view key) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), std::min(kChunk, bytes.size()));
    if (put < 0 && errno != EINTR) return ErrnoStatus(errno, "write", key);
    if (put > 0) bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return Status::Ok();
}

Status SyncDirectory(const std::string& path, std::string_view key) {
  const FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return ErrnoStatus(errno, "sync the directory of", key);
  return Status::Ok();
}

// Creates `path` and the directories above it, syncing the parent of each new one.
Status CreateDirectories(const std::string& path, std::string_view key) {
  if (::mkdir(path.c_str(), 0700) == 0) return SyncDirectory(fs::path(path).parent_path(), key);
  if (errno == EEXIST) return Status::Ok();
  if (errno != ENOENT) return ErrnoStatus(errno, "create the directory of", key);
  IVFREMOTE_RETURN_IF_ERROR(CreateDirectories(fs::path(path).parent_path(), key));
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, "create the directory of", key);
  return SyncDirectory(fs::path(path).parent_path(), key);
}

class FileUpload : public Upload {
 public:
  FileUpload(std::string directory, std::string path, std::string temporary, std::string key, FileDescriptor file)
      : directory_(std::move(directory)),
        path_(std::move(path)),
        temporary_(std::move(temporary)),
        key_(std::move(key)),
        file_(std::move(file)) {}

  ~FileUpload() override {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  Status Append(Bytes bytes) override {
    IVFREMOTE_RETURN_IF_ERROR(WriteAll(file_.get(), bytes, key_));
    unsynced_ += bytes.size();
    // Bit by bit, so that Finish does not wait for a gigabyte to reach the disk.
    if (unsynced_ >= kSyncBytes) {
      if (::fdatasync(file_.get()) != 0) return ErrnoStatus(errno, "sync", key_);
      stored_ += std::exchange(unsynced_, 0);
    }
    return Status::Ok();
  }

  uint64_t BytesStored() const override { return stored_; }

  Status Step(Clock::time_point, bool* ready) override {
    *ready = true;
    return Status::Ok();
  }

  Status Finish(Clock::time_point, bool* done) override {
    if (::fsync(file_.get()) != 0) return ErrnoStatus(errno, "sync", key_);
    stored_ += std::exchange(unsynced_, 0);
    IVFREMOTE_RETURN_IF_ERROR(Publish());
    IVFREMOTE_RETURN_IF_ERROR(SyncDirectory(directory_, key_));
    file_ = FileDescriptor();
    *done = true;
    return Status::Ok();
  }

 private:
  // Gives the finished file its name unless the name is taken.
  Status Publish() {
    if (::link(temporary_.c_str(), path_.c_str()) == 0) {
      ::unlink(temporary_.c_str());
    } else if (errno == EPERM || errno == EOPNOTSUPP) {
      // File systems without hard links.
      if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0)
        return ErrnoStatus(errno, "name", key_);
    } else {
      return ErrnoStatus(errno, "name", key_);
    }
    temporary_.clear();
    return Status::Ok();
  }

  std::string directory_;
  std::string path_;
  std::string temporary_;
  std::string key_;
  FileDescriptor file_;
  size_t unsynced_ = 0;
  uint64_t stored_ = 0;
};

// Tags are of the content.
Status ReadWhole(const std::string& path, const std::string& key, size_t limit, TaggedObject* object) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return ErrnoStatus(errno, "open", key);
  std::string text;
  for (ssize_t got = 1; got > 0;) {
    const size_t filled = text.size();
    text.resize(filled + kChunk);
    do got = ::read(file.get(), text.data() + filled, kChunk);
    while (got < 0 && errno == EINTR);
    if (got < 0) return ErrnoStatus(errno, "read", key);
    text.resize(filled + static_cast<size_t>(got));
    if (text.size() > limit) return Status::Corrupt(LongObjectText(key, limit));
  }
  object->tag = Sha256Hex(std::as_bytes(std::span(text)));
  object->text = std::move(text);
  return Status::Ok();
}

// Compares and renames while it holds a lock file beside the object, which stays.
class FileReplacement : public Operation {
 public:
  FileReplacement(std::string path, std::string key, std::string text, std::string tag)
      : path_(std::move(path)), key_(std::move(key)), text_(std::move(text)), tag_(std::move(tag)) {}

  Status Step(Clock::time_point deadline, bool* done) override {
    bool locked = false;
    IVFREMOTE_RETURN_IF_ERROR(Lock(deadline, &locked));
    if (!locked) return Status::Ok();
    TaggedObject now;
    const Status read = ReadWhole(path_, key_, SIZE_MAX - kChunk, &now);
    if (!read.ok() && read.code() != StatusCode::kNotFound) return read;
    if (now.tag != tag_) return Status::Precondition(ChangedObjectText(key_));
    const std::string temporary = Beside(".tmp");
    const FileDescriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file) return ErrnoStatus(errno, "create", key_);
    IVFREMOTE_RETURN_IF_ERROR(WriteAll(file.get(), std::as_bytes(std::span(text_)), key_));
    if (::fsync(file.get()) != 0) return ErrnoStatus(errno, "sync", key_);
    if (::rename(temporary.c_str(), path_.c_str()) != 0) return ErrnoStatus(errno, "name", key_);
    IVFREMOTE_RETURN_IF_ERROR(SyncDirectory(Directory(), key_));
    *done = true;
    return Status::Ok();
  }

 private:
  std::string Directory() const { return fs::path(path_).parent_path(); }
  std::string Beside(const char* suffix) const {
    return Directory() + "/." + fs::path(path_).filename().string() + suffix;
  }

  Status Lock(Clock::time_point deadline, bool* locked) {
    constexpr int kPauseMs = 10;
    if (!lock_) {
      IVFREMOTE_RETURN_IF_ERROR(CreateDirectories(Directory(), key_));
      lock_ = FileDescriptor(::open(Beside(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (!lock_) return ErrnoStatus(errno, "lock", key_);
    }
    while (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return ErrnoStatus(errno, "lock", key_);
      if (Clock::now() >= deadline) return Status::Ok();
      ::poll(nullptr, 0, kPauseMs);
    }
    *locked = true;
    return Status::Ok();
  }

  std::string path_;
  std::string key_;
  std::string text_;
  std::string tag_;
  FileDescriptor lock_;
};

}  // namespace

Status FileStore::ReadTagged(std::string key, size_t limit, TaggedObject* object,
                             std::unique_ptr<Operation>* operation) {
  Status status = CheckKey(key);
  if (status.ok()) status = ReadWhole(root_ + "/" + key, key, limit, object);
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

Status FileStore::WriteTagged(std::string key, std::string text, std::string tag,
                              std::unique_ptr<Operation>* operation) {
  IVFREMOTE_RETURN_IF_ERROR(CheckKey(key));
  *operation = std::make_unique<FileReplacement>(root_ + "/" + key, key, std::move(text), std::move(tag));
  return Status::Ok();
}

Status FileStore::GetRanges(std::vector<RangeRequest> requests, size_t, std::unique_ptr<RangeWave>* wave) {
  *wave = std::make_unique<FileWave>(root_, std::move(requests));
  return Status::Ok();
}

Status FileStore::Create(std::string_view key, std::unique_ptr<Upload>* upload) {
  static std::atomic<uint64_t> counter{0};
  IVFREMOTE_RETURN_IF_ERROR(CheckKey(key));
  const fs::path path = root_ + "/" + std::string(key);
  const std::string directory = path.parent_path();
  IVFREMOTE_RETURN_IF_ERROR(CreateDirectories(directory, key));
  if (::access(path.c_str(), F_OK) == 0) return Status::AlreadyExists(ExistingObjectText(key));
  const std::string temporary = directory + "/." + path.filename().string() + "." + std::to_string(::getpid()) + "." +
                                std::to_string(counter++) + ".tmp";
  FileDescriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return ErrnoStatus(errno, "create", key);
  *upload = std::make_unique<FileUpload>(directory, path, temporary, std::string(key), std::move(file));
  return Status::Ok();
}

Status FileStore::DeleteOne(const std::string& key) {
  IVFREMOTE_RETURN_IF_ERROR(CheckKey(key));
  const fs::path path = root_ + "/" + key;
  if (::unlink(path.c_str()) != 0) return errno == ENOENT ? Status::Ok() : ErrnoStatus(errno, "delete", key);
  return SyncDirectory(path.parent_path(), key);
}

Status FileStore::Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) {
  Status status;
  for (const std::string& key : keys)
    if (status.ok()) status = DeleteOne(key);
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

Status FileStore::ListFiles(std::string_view prefix, bool hidden, std::vector<ObjectInfo>* files) {
  const size_t slash = prefix.rfind('/');
  const std::string directory = slash == std::string_view::npos ? "" : "/" + std::string(prefix.substr(0, slash));
  // What lies beside our objects, such as a file system's lost+found, may be closed to us; what lies among them may not.
  const auto options = directory.empty() ? fs::directory_options::skip_permission_denied : fs::directory_options::none;
  std::error_code error;
  const fs::directory_iterator readable(root_ + directory, error);
  if (error && error != std::errc::no_such_file_or_directory) return ErrnoStatus(error.value(), "list", prefix);
  for (fs::recursive_directory_iterator at(root_ + directory, options, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    const bool is_hidden = at->path().filename().native().front() == '.';
    if (is_hidden && at->is_directory(ignored)) at.disable_recursion_pending();
    if (is_hidden != hidden || !at->is_regular_file(ignored)) continue;
    const std::string key = at->path().native().substr(root_.size() + 1);
    const uint64_t size = at->file_size(ignored);
    if (!ignored) files->push_back({key, size});
  }
  if (error && error != std::errc::no_such_file_or_directory) return ErrnoStatus(error.value(), "list", prefix);
  std::sort(files->begin(), files->end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  return Status::Ok();
}

Status FileStore::List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
                       std::unique_ptr<Operation>* operation) {
  std::vector<ObjectInfo> found;
  Status status = ListFiles(prefix, false, &found);
  if (!status.ok()) found.clear();
  const size_t most = objects->size() + limit;
  for (ObjectInfo& object : found)
    if (object.key.starts_with(prefix) && object.key > start_after && objects->size() < most)
      objects->push_back(std::move(object));
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

// The temporary file of an upload, as its id.
Status FileStore::ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                              std::unique_ptr<Operation>* operation) {
  std::vector<ObjectInfo> found;
  Status status = ListFiles(prefix, true, &found);
  for (const ObjectInfo& file : found) {
    // directory/.name.pid.counter.tmp -> directory/name
    const size_t slash = file.key.rfind('/');
    const size_t start = slash == std::string::npos ? 0 : slash + 1;
    std::string key = file.key.substr(0, start) + file.key.substr(start + 1);
    for (int i = 0; i < 3; ++i) key.resize(std::min(key.rfind('.'), key.size()));
    if (file.key.ends_with(".tmp") && key.starts_with(prefix)) uploads->push_back({key, file.key});
  }
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

Status FileStore::AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) {
  const fs::path path = upload.id;
  Status status = path.filename().native().front() == '.' && upload.id.find("..") == std::string::npos
                      ? Status::Ok()
                      : Status::Invalid("invalid upload \"" + upload.id + "\"");
  if (status.ok() && ::unlink((root_ + "/" + upload.id).c_str()) != 0 && errno != ENOENT)
    status = ErrnoStatus(errno, "abort the upload of", upload.key);
  *operation = std::make_unique<FinishedOperation>(std::move(status));
  return Status::Ok();
}

}  // namespace ivfremote
