#include "pg/fencing.h"

#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "core/owner.h"
#include "core/tagged_text.h"
#include "pg/incarnation.h"
#include "pg/test_point.h"
#include "pg/wall.h"

extern "C" {
#include "access/xlog.h"
#include "storage/fd.h"
#include "storage/proc.h"
}

namespace ivfremote {
namespace {

constexpr char kLibraryVersion[] = "1.0";
constexpr char kFilePrefix[] = "pgsql_tmp_owner.";
constexpr size_t kNonceBytes = 33;         // with the terminator
constexpr size_t kIncarnationBytes = 33;
constexpr int kTries = 5;  // other backends may reach one place by another url, which is another lock

// One reading and replacement of OWNER.
struct Advance {
  TaggedObject found;
  Owner owner;
  std::unique_ptr<Operation> operation;
  bool replaced = false;
};

// The local file about one incarnation in one place. Its first line binds it to the cluster's own incarnation: a cluster that
// has had to mint another has lost what it adopted too.
struct OwnerFile {
  char path[MAXPGPATH];
  char temporary[MAXPGPATH];
};

void NameFile(const char* place, const Uuid& incarnation, OwnerFile* file) {
  const char* id = IncarnationText(incarnation);
  snprintf(file->path, MAXPGPATH, "%s/%s%s.%s", kLocalDirectory, kFilePrefix, place, id);
  snprintf(file->temporary, MAXPGPATH, "%s/%s%s.%s.new", kLocalDirectory, kFilePrefix, place, id);
}

// `written`: the nonce that OWNER has; "": one that is not ours, or none.
void WriteOwnerFile(const char* place, const Uuid& own, const Uuid& incarnation, const char* written, const char* writing) {
  OwnerFile file;
  NameFile(place, incarnation, &file);
  WriteLocalFile(file.path, file.temporary,
                 psprintf("cluster %s\nwritten %s\nwriting %s\n", IncarnationText(own), written[0] == '\0' ? "-" : written, writing));
}

// Whether a file is of this cluster, and then whether it has the nonce.
bool FileIsOurs(const char* path, const Uuid& own, const char* nonce, bool* known) {
  const char* text = ReadLocalFile(path);
  char cluster[kIncarnationBytes];
  char written[kNonceBytes] = "";
  char writing[kNonceBytes] = "";
  if (text == nullptr || sscanf(text, "cluster %32[0-9a-f]\nwritten %32s\nwriting %32[0-9a-f]\n", cluster, written, writing) != 3)
    return false;
  if (std::strcmp(cluster, IncarnationText(own)) != 0) return false;
  *known = *known || std::strcmp(nonce, written) == 0 || std::strcmp(nonce, writing) == 0;
  return true;
}

// Calls visit(path, place, incarnation) for each of the local files.
template <typename Visit>
void VisitOwnerFiles(Visit visit) {
  MakeLocalDirectory();
  DIR* directory = AllocateDir(kLocalDirectory);
  while (const dirent* entry = ReadDir(directory, kLocalDirectory)) {
    char place[kPlaceDigits + 1];
    char incarnation[kIncarnationBytes];
    int end = 0;
    if (std::strncmp(entry->d_name, kFilePrefix, std::strlen(kFilePrefix)) != 0) continue;
    const char* rest = entry->d_name + std::strlen(kFilePrefix);
    if (sscanf(rest, "%16[0-9a-f].%32[0-9a-f]%n", place, incarnation, &end) != 2 || rest[end] != '\0') continue;
    visit(psprintf("%s/%s", kLocalDirectory, entry->d_name), place, incarnation);
  }
  FreeDir(directory);
}

// Whether this cluster wrote the nonce, or was about to: in any place, as objects may have been copied to another.
bool KnowsNonce(const Uuid& own, const Uuid& incarnation, const char* nonce) {
  const char* wanted = IncarnationText(incarnation);
  bool known = false;
  VisitOwnerFiles([&](const char* path, const char*, const char* id) {
    if (std::strcmp(id, wanted) == 0) FileIsOurs(path, own, nonce, &known);
  });
  return known;
}

void ForgetAdopted(const char* place, const Uuid& incarnation) {
  OwnerFile file;
  NameFile(place, incarnation, &file);
  durable_unlink(file.path, WARNING);
}

class FileLock : public Operation {
 public:
  explicit FileLock(int file) : file_(file) {}

  Status Step(Clock::time_point deadline, bool* done) override {
    constexpr int kPauseMs = 20;
    while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return Status::Unavailable(std::string("could not lock a file: ") + std::strerror(errno));
      if (Clock::now() >= deadline) return Status::Ok();
      ::poll(nullptr, 0, kPauseMs);
    }
    *done = true;
    return Status::Ok();
  }

 private:
  int file_;
};

bool LockPlace(const Claimant& claimant, const char* place, int* file) {
  return LockLocally(claimant, psprintf("%s/%s%s.lock", kLocalDirectory, kFilePrefix, place), file);
}

// What OWNER says, as plain data.
struct OwnerSeen {
  bool exists;
  bool damaged;
  uint64_t token;
  char nonce[kNonceBytes];
  char host[256];
  char cluster[64];
  char written[64];
};

bool ReadOwner(const Claimant& claimant, const Uuid& incarnation, Advance* advance, OwnerSeen* seen) {
  CallCore([&] {
    return ReadText(claimant.store, FormatOwnerKey(incarnation), Owner::kMaxBytes, &advance->found, &advance->operation);
  });
  if (!claimant.run(claimant.run_argument, advance->operation.get())) return false;
  *seen = {};
  CallCore([&] {
    advance->owner = {};
    seen->exists = !advance->found.tag.empty();
    seen->damaged = seen->exists && !DecodeOwner(advance->found.text, &advance->owner).ok();
    seen->token = advance->owner.token;
    strlcpy(seen->nonce, advance->owner.nonce.c_str(), sizeof seen->nonce);
    strlcpy(seen->host, advance->owner.host.c_str(), sizeof seen->host);
    strlcpy(seen->cluster, advance->owner.cluster.c_str(), sizeof seen->cluster);
    strlcpy(seen->written, advance->owner.written.c_str(), sizeof seen->written);
    return Status::Ok();
  });
  return true;
}

void NewNonce(char* nonce) {
  uint8_t bytes[(kNonceBytes - 1) / 2];
  if (!pg_strong_random(bytes, sizeof bytes))
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
  for (size_t i = 0; i < sizeof bytes; ++i) snprintf(nonce + 2 * i, 3, "%02x", bytes[i]);
}

// Replaces what ReadOwner has read by this cluster's OWNER.
bool WriteOwner(const Claimant& claimant, const Uuid& incarnation, uint64_t token, const char* nonce, Advance* advance) {
  char host[256];
  if (gethostname(host, sizeof host) != 0) strlcpy(host, "unknown", sizeof host);
  host[sizeof host - 1] = '\0';
  const uint64 system_identifier = GetSystemIdentifier();
  CallCore([&] {
    char written[32];
    const time_t now = time(nullptr);
    tm utc;
    strftime(written, sizeof written, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    const Owner owner{cluster_name, std::to_string(system_identifier), host, DataDir, kLibraryVersion, written, token, nonce};
    return ReplaceText(claimant.store, FormatOwnerKey(incarnation), EncodeOwner(owner), advance->found.tag,
                       &advance->replaced, &advance->operation);
  });
  return claimant.run(claimant.run_argument, advance->operation.get());
}

enum class Claim { kOurs, kOthers, kGaveUp };

// `take_over`: whosever it was. `seen` becomes what was there before.
Claim AdvanceOwner(const Claimant& claimant, const char* place, const Uuid& own, const Uuid& incarnation, bool take_over,
                   Advance* advance, OwnerSeen* seen) {
  for (int i = 0; i < kTries; ++i) {
    if (!ReadOwner(claimant, incarnation, advance, seen)) return Claim::kGaveUp;
    const bool known = seen->exists && !seen->damaged && KnowsNonce(own, incarnation, seen->nonce);
    if (seen->exists && !known && !take_over) return Claim::kOthers;
    char nonce[kNonceBytes];
    NewNonce(nonce);
    // Before the PUT: whatever becomes of it, the nonce that is found next is known.
    WriteOwnerFile(place, own, incarnation, known ? seen->nonce : "", nonce);
    if (!WriteOwner(claimant, incarnation, seen->token + 1, nonce, advance)) return Claim::kGaveUp;
    TestPoint("owner.written");
    ReportNotice(claimant.server, claimant.store);
    if (advance->replaced) return Claim::kOurs;
  }
  ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                  errmsg("object OWNER of incarnation %s changes all the time", IncarnationText(incarnation)),
                  errhint("Other backends or clusters are writing it. Try again.")));
  pg_unreachable();
}

const char* WhoWrote(const OwnerSeen& seen) {
  if (seen.damaged) return "Its object OWNER cannot be read.";
  return psprintf("Host \"%s\"%s wrote its object OWNER last, at %s, with token " UINT64_FORMAT ".", seen.host,
                  seen.cluster[0] == '\0' ? "" : psprintf(" (cluster \"%s\")", seen.cluster), seen.written,
                  static_cast<uint64>(seen.token));
}

Held<Advance>* NewAdvance() {
  return Hold<Advance>(CurrentMemoryContext, [] { return new Advance(); });
}

}  // namespace

char* IncarnationText(const Uuid& incarnation) {
  auto* text = static_cast<char*>(palloc(kIncarnationBytes));
  CallCore([&] {
    strlcpy(text, FormatIncarnation(incarnation).c_str(), kIncarnationBytes);
    return Status::Ok();
  });
  return text;
}

bool LockLocally(const Claimant& claimant, const char* path, int* file) {
  *file = OpenLockFile(path);
  Held<Operation>* lock = Hold<Operation>(CurrentMemoryContext, [&] { return new FileLock(*file); });
  const bool locked = claimant.run(claimant.run_argument, lock->object);
  if (!locked) CloseTransientFile(*file);
  Drop(lock);
  return locked;
}

bool ClaimIncarnation(const Claimant& claimant, Uuid* incarnation) {
  *incarnation = GetIncarnation();
  char place[kPlaceDigits + 1];
  NamePlace(claimant.server, place);
  int lock;
  if (!LockPlace(claimant, place, &lock)) return false;
  Held<Advance>* advance = NewAdvance();
  OwnerSeen seen;
  Claim claim;
  while ((claim = AdvanceOwner(claimant, place, *incarnation, *incarnation, false, advance->object, &seen)) == Claim::kOthers) {
    const Uuid old = *incarnation;
    *incarnation = ReplaceIncarnation(old);
    ereport(WARNING,
            (errmsg("another cluster writes under incarnation %s, too; this one uses %s from now on", IncarnationText(old),
                    IncarnationText(*incarnation)),
             errdetail("%s", WhoWrote(seen)),
             errhint("Nothing was deleted. Objects that only this cluster uses can be collected after "
                     "ivfremote_adopt(%s, '%s'), once the other one is gone.",
                     quote_literal_cstr(claimant.server), IncarnationText(old))));
  }
  Drop(advance);
  CloseTransientFile(lock);
  return claim == Claim::kOurs;
}

Uuid* AdoptedIncarnations(const char* server, const Uuid& own, int* count) {
  char place[kPlaceDigits + 1];
  NamePlace(server, place);
  const char* own_id = IncarnationText(own);
  List* ids = NIL;
  VisitOwnerFiles([&](const char* path, const char* its_place, const char* id) {
    bool known = false;
    if (std::strcmp(its_place, place) == 0 && std::strcmp(id, own_id) != 0 && FileIsOurs(path, own, "", &known))
      ids = lappend(ids, pstrdup(id));
  });
  *count = 0;
  auto* found = static_cast<Uuid*>(palloc(sizeof(Uuid) * (static_cast<size_t>(list_length(ids)) + 1)));
  ListCell* cell;
  foreach (cell, ids) {
    const char* id = static_cast<const char*>(lfirst(cell));
    CallCore([&] {
      found[(*count)++] = ParseIncarnation(id).value();
      return Status::Ok();
    });
  }
  return found;
}

bool ClaimAdopted(const Claimant& claimant, const Uuid& own, const Uuid& incarnation) {
  char place[kPlaceDigits + 1];
  NamePlace(claimant.server, place);
  int lock;
  if (!LockPlace(claimant, place, &lock)) return false;
  Held<Advance>* advance = NewAdvance();
  OwnerSeen seen;
  const Claim claim = AdvanceOwner(claimant, place, own, incarnation, false, advance->object, &seen);
  if (claim == Claim::kOthers) {
    ForgetAdopted(place, incarnation);
    ereport(WARNING, (errmsg("the adopted incarnation %s belongs to another cluster now", IncarnationText(incarnation)),
                      errdetail("%s", WhoWrote(seen)), errhint("Nothing of it was deleted.")));
  }
  Drop(advance);
  CloseTransientFile(lock);
  return claim == Claim::kOurs;
}

char* AdoptIncarnation(const Claimant& claimant, const Uuid& own, const Uuid& incarnation) {
  char place[kPlaceDigits + 1];
  NamePlace(claimant.server, place);
  int lock;
  if (!LockPlace(claimant, place, &lock)) return nullptr;
  Held<Advance>* advance = NewAdvance();
  OwnerSeen seen;
  AdvanceOwner(claimant, place, own, incarnation, true, advance->object, &seen);
  char* before = nullptr;
  if (seen.exists) {
    before = static_cast<char*>(palloc((*advance)->found.text.size() + 1));
    strlcpy(before, (*advance)->found.text.c_str(), (*advance)->found.text.size() + 1);
  }
  Drop(advance);
  CloseTransientFile(lock);
  return before;
}

bool StillOwns(const Claimant& claimant, const Uuid& own, const Uuid& incarnation) {
  Held<Advance>* advance = NewAdvance();
  OwnerSeen seen;
  ReadOwner(claimant, incarnation, advance->object, &seen);
  Drop(advance);
  return seen.exists && !seen.damaged && KnowsNonce(own, incarnation, seen.nonce);
}

void NameSegment(const Uuid& incarnation, SegmentName* name) {
  // A snapshot of the catalogs does not count: it may go at any time.
  if (!TransactionIdIsValid(MyProc->xid) && !ActiveSnapshotSet())
    elog(ERROR, "cannot name an object without a transaction id or an active snapshot");
  name->incarnation = incarnation;
  name->mint_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
  if (!pg_strong_random(&name->random, sizeof name->random))
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
}

}  // namespace ivfremote
