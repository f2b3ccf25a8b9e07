#include "pg/incarnation.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "pg/postgres_c.h"
#include "pg/wall.h"

extern "C" {
#include "access/xlog.h"
#include "common/file_perm.h"
#include "storage/fd.h"
}

namespace ivfremote {
namespace {

constexpr char kFile[] = "ivfremote/pgsql_tmp_incarnation";
constexpr char kTemporary[] = "ivfremote/pgsql_tmp_incarnation.new";
constexpr size_t kMaxText = 4096;

[[noreturn]] void ThrowFileError(const char* doing, const char* path) {
  ereport(ERROR, (errcode_for_file_access(), errmsg("could not %s file \"%s\": %m", doing, path)));
  pg_unreachable();
}

void WriteAndClose(int fd, const char* path, const char* text) {
  errno = 0;
  if (write(fd, text, std::strlen(text)) != static_cast<ssize_t>(std::strlen(text))) {
    const int error = errno == 0 ? ENOSPC : errno;
    CloseTransientFile(fd);
    errno = error;
    ThrowFileError("write", path);
  }
  CloseTransientFile(fd);
}

// What the incarnation is valid with, and the file's own inode: a copied file does not count.
char* Surroundings(ino_t inode) {
  char host[256];
  if (gethostname(host, sizeof host) != 0) strlcpy(host, "unknown", sizeof host);
  host[sizeof host - 1] = '\0';
  return psprintf("system_identifier %llu\ntimeline %u\nhost %s\npath %s\ninode %llu\n",
                  static_cast<unsigned long long>(GetSystemIdentifier()), GetWALInsertionTimeLine(), host, DataDir,
                  static_cast<unsigned long long>(inode));
}

char* Contents(const char* incarnation, ino_t inode) {
  return psprintf("incarnation %s\n%s", incarnation, Surroundings(inode));
}

bool ReadIncarnation(Uuid* incarnation) {
  const int fd = OpenTransientFile(kFile, O_RDONLY);
  if (fd < 0) {
    if (errno == ENOENT) return false;
    ThrowFileError("open", kFile);
  }
  struct stat info;
  char text[kMaxText + 1];
  const ssize_t got = read(fd, text, kMaxText);
  if (got < 0 || fstat(fd, &info) != 0) ThrowFileError("read", kFile);
  CloseTransientFile(fd);
  text[got] = '\0';
  char id[33];
  if (sscanf(text, "incarnation %32[0-9a-f]\n", id) != 1) return false;
  if (std::strcmp(text, Contents(id, info.st_ino)) != 0) return false;
  bool valid = false;
  CallCore([&] {
    if (const std::optional<Uuid> parsed = ParseIncarnation(id)) {
      *incarnation = *parsed;
      valid = true;
    }
    return Status::Ok();
  });
  return valid;
}

Uuid MintIncarnation() {
  Uuid incarnation;
  if (!pg_strong_random(incarnation.data(), incarnation.size()))
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
  char id[33];
  for (size_t i = 0; i < incarnation.size(); ++i) snprintf(id + 2 * i, 3, "%02x", incarnation[i]);
  const int fd = OpenTransientFile(kTemporary, O_WRONLY | O_CREAT | O_TRUNC);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) ThrowFileError("create", kTemporary);
  WriteAndClose(fd, kTemporary, Contents(id, info.st_ino));
  durable_rename(kTemporary, kFile, ERROR);
  return incarnation;
}

}  // namespace

void MakeLocalDirectory() {
  if (MakePGDirectory(kLocalDirectory) == 0) fsync_fname(".", /*isdir=*/true);
  else if (errno != EEXIST) ThrowFileError("create", kLocalDirectory);
}

int OpenLockFile(const char* path) {
  MakeLocalDirectory();
  const int fd = OpenTransientFile(path, O_RDWR | O_CREAT);
  if (fd < 0) ThrowFileError("open", path);
  return fd;
}

void WriteLocalFile(const char* path, const char* temporary, const char* text) {
  const int fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (fd < 0) ThrowFileError("create", temporary);
  WriteAndClose(fd, temporary, text);
  durable_rename(temporary, path, ERROR);
}

char* ReadLocalFile(const char* path) {
  const int fd = OpenTransientFile(path, O_RDONLY);
  if (fd < 0) {
    if (errno == ENOENT) return nullptr;
    ThrowFileError("open", path);
  }
  auto* text = static_cast<char*>(palloc0(kMaxText + 1));
  if (read(fd, text, kMaxText) < 0) ThrowFileError("read", path);
  CloseTransientFile(fd);
  return text;
}

namespace {

// `old`: the one that must not stay; null: any may.
Uuid ReadOrMintIncarnation(const Uuid* old) {
  Uuid incarnation;
  MakeLocalDirectory();
  // One backend mints; the others wait for it here and read what it wrote.
  const int lock = OpenTransientFile(kLocalDirectory, O_RDONLY);
  if (lock < 0 || flock(lock, LOCK_EX) != 0) ThrowFileError("lock", kLocalDirectory);
  PG_TRY();
  {
    if (!ReadIncarnation(&incarnation) || (old != nullptr && incarnation == *old)) incarnation = MintIncarnation();
  }
  PG_FINALLY();
  {
    CloseTransientFile(lock);
  }
  PG_END_TRY();
  return incarnation;
}

}  // namespace

Uuid GetIncarnation() {
  Uuid incarnation;
  if (RecoveryInProgress())
    ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("cannot write objects during recovery")));
  if (ReadIncarnation(&incarnation)) return incarnation;
  return ReadOrMintIncarnation(nullptr);
}

bool FindIncarnation(Uuid* incarnation) { return !RecoveryInProgress() && ReadIncarnation(incarnation); }

Uuid ReplaceIncarnation(const Uuid& old) { return ReadOrMintIncarnation(&old); }

}  // namespace ivfremote
