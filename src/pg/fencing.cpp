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
// How long a lock is waited for before the user is told.
constexpr std::chrono::seconds kQuietTime{10};
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

// Of OWNER: the one it had when it was read last, and those that were about to be written since.
struct Nonces {
  static constexpr int kMax = 8;
  int count;
  char text[kMax][kNonceBytes];
};

// False for a file of another cluster, or none.
bool ReadNonces(const char* path, const Uuid& own, Nonces* nonces) {
  nonces->count = 0;
  const char* text = ReadLocalFile(path);
  char cluster[kIncarnationBytes];
  int at = 0;
  if (text == nullptr || sscanf(text, "cluster %32[0-9a-f]\n%n", cluster, &at) != 1) return false;
  if (std::strcmp(cluster, IncarnationText(own)) != 0) return false;
  for (int end = 0; nonces->count < Nonces::kMax; at += end)
    if (sscanf(text + at, "nonce %32[0-9a-f]\n%n", nonces->text[nonces->count], &end) != 1) break;
    else ++nonces->count;
  return true;
}

bool Contains(const Nonces& nonces, const char* nonce) {
  for (int i = 0; i < nonces.count; ++i)
    if (std::strcmp(nonces.text[i], nonce) == 0) return true;
  return false;
}

// `current`: the known nonce that OWNER has; null: one that is not known, or none, or it can't be read. What was written before may show
// again, or arrive only now: a few are kept.
void WriteOwnerFile(const char* place, const Uuid& own, const Uuid& incarnation, const char* current, const char* writing) {
  OwnerFile file;
  NameFile(place, incarnation, &file);
  Nonces before;
  ReadNonces(file.path, own, &before);
  StringInfoData text;
  initStringInfo(&text);
  appendStringInfo(&text, "cluster %s\nnonce %s\n", IncarnationText(own), writing);
  int count = 1;
  if (current != nullptr) {
    appendStringInfo(&text, "nonce %s\n", current);
    ++count;
  }
  for (int i = 0; i < before.count && count < Nonces::kMax; ++i) {
    if (current != nullptr && std::strcmp(before.text[i], current) == 0) continue;
    appendStringInfo(&text, "nonce %s\n", before.text[i]);
    ++count;
  }
  WriteLocalFile(file.path, file.temporary, text.data);
}

List* LocalFiles() {
  MakeLocalDirectory();
  List* names = NIL;
  DIR* directory = AllocateDir(kLocalDirectory);
  while (const dirent* entry = ReadDir(directory, kLocalDirectory)) names = lappend(names, pstrdup(entry->d_name));
  FreeDir(directory);
  return names;
}

// Calls visit(path, place, incarnation) for each of the local files. It may end with an error that VACUUM outlives: the directory
// is not open then.
template <typename Visit>
void VisitOwnerFiles(Visit visit) {
  ListCell* cell;
  foreach (cell, LocalFiles()) {
    const char* name = static_cast<const char*>(lfirst(cell));
    char place[kPlaceDigits + 1];
    char incarnation[kIncarnationBytes];
    int end = 0;
    if (std::strncmp(name, kFilePrefix, std::strlen(kFilePrefix)) != 0) continue;
    const char* rest = name + std::strlen(kFilePrefix);
    if (sscanf(rest, "%16[0-9a-f].%32[0-9a-f]%n", place, incarnation, &end) != 2 || rest[end] != '\0') continue;
    visit(psprintf("%s/%s", kLocalDirectory, name), place, incarnation);
  }
}

// Whether this cluster wrote the nonce, or was about to: in any place, as objects may have been copied to another.
bool KnowsNonce(const Uuid& own, const Uuid& incarnation, const char* nonce) {
  const char* wanted = IncarnationText(incarnation);
  bool known = false;
  VisitOwnerFiles([&](const char* path, const char*, const char* id) {
    Nonces nonces;
    known = known || (std::strcmp(id, wanted) == 0 && ReadNonces(path, own, &nonces) && Contains(nonces, nonce));
  });
  return known;
}

void ForgetAdopted(const char* place, const Uuid& incarnation) {
  OwnerFile file;
  NameFile(place, incarnation, &file);
  durable_unlink(file.path, WARNING);
}

// Done when the file is locked, or at `until`.
class FileLock : public Operation {
 public:
  FileLock(int file, Clock::time_point until) : file_(file), until_(until) {}

  bool locked() const { return locked_; }

  Status Step(Clock::time_point deadline, bool* done) override {
    constexpr int kPauseMs = 20;
    while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return Status::Unavailable(std::string("could not lock a file: ") + std::strerror(errno));
      *done = Clock::now() >= until_;
      if (*done || Clock::now() >= deadline) return Status::Ok();
      ::poll(nullptr, 0, kPauseMs);
    }
    locked_ = *done = true;
    return Status::Ok();
  }

 private:
  int file_;
  Clock::time_point until_;
  bool locked_ = false;
};

// Runs `body` with the place locked; false if the runner gave up before.
template <typename Body>
bool WithPlaceLocked(const Claimant& claimant, const char* place, Body body) {
  int lock;
  if (!LockLocally(claimant, psprintf("%s/%s%s.lock", kLocalDirectory, kFilePrefix, place), &lock)) return false;
  PG_TRY();
  {
    TestPoint("owner.locked");
    body();
  }
  PG_FINALLY();
  {
    CloseTransientFile(lock);
  }
  PG_END_TRY();
  return true;
}

bool LockUntil(const Claimant& claimant, int file, Clock::time_point until, bool* locked) {
  Held<FileLock>* lock = Hold<FileLock>(CurrentMemoryContext, [&] { return new FileLock(file, until); });
  const bool ran = claimant.run(claimant.run_argument, lock->object);
  *locked = ran && (*lock)->locked();
  Drop(lock);
  return ran;
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
    WriteOwnerFile(place, own, incarnation, known ? seen->nonce : nullptr, nonce);
    if (!WriteOwner(claimant, incarnation, seen->token + 1, nonce, advance)) return Claim::kGaveUp;
    TestPoint("owner.written");
    ReportNotice(claimant.server, claimant.store);
    if (advance->replaced) return Claim::kOurs;
    // It is there, and was not to be seen: trying again does not help.
    if (!seen->exists && i > 0) break;
  }
  if (!seen->exists)
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                    errmsg("object OWNER of incarnation %s exists, but cannot be read", IncarnationText(incarnation)),
                    errhint("Let the keys of the user mapping read objects, too.")));
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
  bool locked;
  bool ran = LockUntil(claimant, *file, Clock::now() + kQuietTime, &locked);
  if (ran && !locked) {
    ereport(WARNING, (errmsg("another backend holds file \"%s\" locked", path),
                      errdetail("It is writing or collecting objects of the place of server \"%s\".", claimant.server),
                      errhint("The statement goes on when that one is done.")));
    ran = LockUntil(claimant, *file, Clock::time_point::max(), &locked);
  }
  if (!locked) CloseTransientFile(*file);
  return locked;
}

bool ClaimIncarnation(const Claimant& claimant, Uuid* incarnation) {
  *incarnation = GetIncarnation();
  char place[kPlaceDigits + 1];
  NamePlace(claimant.server, place);
  Claim claim = Claim::kGaveUp;
  WithPlaceLocked(claimant, place, [&] {
    Held<Advance>* advance = NewAdvance();
    OwnerSeen seen;
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
  });
  return claim == Claim::kOurs;
}

Uuid* AdoptedIncarnations(const char* server, const Uuid& own, int* count) {
  char place[kPlaceDigits + 1];
  NamePlace(server, place);
  const char* own_id = IncarnationText(own);
  List* ids = NIL;
  VisitOwnerFiles([&](const char* path, const char* its_place, const char* id) {
    Nonces nonces;
    if (std::strcmp(its_place, place) == 0 && std::strcmp(id, own_id) != 0 && ReadNonces(path, own, &nonces))
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
  Claim claim = Claim::kGaveUp;
  WithPlaceLocked(claimant, place, [&] {
    Held<Advance>* advance = NewAdvance();
    OwnerSeen seen;
    claim = AdvanceOwner(claimant, place, own, incarnation, false, advance->object, &seen);
    if (claim == Claim::kOthers) {
      ForgetAdopted(place, incarnation);
      ereport(WARNING, (errmsg("the adopted incarnation %s belongs to another cluster now", IncarnationText(incarnation)),
                        errdetail("%s", WhoWrote(seen)), errhint("Nothing of it was deleted.")));
    }
    Drop(advance);
  });
  return claim == Claim::kOurs;
}

char* AdoptIncarnation(const Claimant& claimant, const Uuid& own, const Uuid& incarnation) {
  char place[kPlaceDigits + 1];
  NamePlace(claimant.server, place);
  char* before = nullptr;
  WithPlaceLocked(claimant, place, [&] {
    Held<Advance>* advance = NewAdvance();
    OwnerSeen seen;
    AdvanceOwner(claimant, place, own, incarnation, true, advance->object, &seen);
    if (seen.exists) {
      before = static_cast<char*>(palloc((*advance)->found.text.size() + 1));
      strlcpy(before, (*advance)->found.text.c_str(), (*advance)->found.text.size() + 1);
    }
    Drop(advance);
  });
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
