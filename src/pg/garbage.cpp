// ivfremote_gc(server, dry_run, retention) and ivfremote_adopt(server, incarnation): docs/architecture.md "Garbage
// collection" has the reasons for the order of things.
#include "core/garbage.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/tagged_text.h"
#include "pg/compat.h"
#include "pg/fencing.h"
#include "pg/garbage_marks.h"
#include "pg/incarnation.h"
#include "pg/server.h"
#include "pg/server_options.h"
#include "pg/test_point.h"
#include "pg/wall.h"

extern "C" {
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "storage/fd.h"
#include "storage/procarray.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
}

namespace ivfremote {
namespace {

constexpr std::chrono::milliseconds kStep{100};
constexpr size_t kListPage = 10000;
constexpr size_t kDeleteBatch = 1000;

// The C++ objects of a collection.
struct Work {
  std::set<SegmentName> marks;
  std::optional<GarbageSweep> sweep;  // of the incarnation at hand
  TaggedObject list;                  // its GARBAGE, as read or written last
  std::vector<ObjectInfo> page;
  std::vector<GarbageSweep::Finding> findings;  // but kKept
  std::vector<UploadInfo> uploads;              // abandoned ones
  std::map<std::string, uint64_t> others;       // bytes, by incarnation
  std::string after = "/";                      // where the search for them goes on
  std::unique_ptr<Operation> operation;
};

struct Run {
  const char* server;
  Oid owner;
  Held<ObjectStore>* store;
  Held<Work>* work;
  Claimant claimant;
  Uuid own;
  bool dry_run;
  Collection collection;
  ReturnSetInfo* result;
};

[[noreturn]] void ThrowStoreError(const Run* run, const CoreError& error) {
  CHECK_FOR_INTERRUPTS();
  ereport(ERROR, (errcode(error.sqlstate), errmsg("could not collect garbage in server \"%s\"", run->server),
                  errdetail("%s.", error.message),
                  // Else a file system's refusal.
                  error.code == StatusCode::kDenied && std::strstr(error.message, "HTTP ") != nullptr
                      ? errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET ...).",
                                UserMappingOwner(run->server, run->owner), quote_identifier(run->server))
                      : errhint("Check the server with SELECT * FROM ivfremote_check_server(%s), then try again.",
                                quote_literal_cstr(run->server))));
  pg_unreachable();
}

bool RunToEnd(void* argument, Operation* operation) {
  for (bool done = false; !done;) {
    const CoreError error = RunCore([&] { return operation->Step(Clock::now() + kStep, &done); });
    if (error.sqlstate != 0) ThrowStoreError(static_cast<Run*>(argument), error);
    CHECK_FOR_INTERRUPTS();
  }
  return true;
}

// `start` makes work->operation, which is run to its end.
template <typename Start>
void Operate(Run* run, Start start) {
  const CoreError error = RunCore(start);
  if (error.sqlstate != 0) ThrowStoreError(run, error);
  RunToEnd(run, (*run->work)->operation.get());
}

// --------------------------------------------------------------------------------------------------------------------
// What the collection rests on

int64 NowUs() {
  constexpr int64 kEpochs = (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
  return GetCurrentTimestamp() + kEpochs;
}

TimestampTz TimestampOf(int64 unix_us) {
  return unix_us - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

// The full id of one that is running or just ended, `next` being the next one as read later.
uint64_t WithEpoch(TransactionId xid, FullTransactionId next) {
  const uint64_t next_full = U64FromFullTransactionId(next);
  return next_full - static_cast<uint32_t>(XidFromFullTransactionId(next) - xid);
}

// Before the marks: what is committed or published later, is younger.
void TakeHorizon(Run* run) {
  const TransactionId oldest = GetOldestTransactionIdConsideredRunning();
  const FullTransactionId next = ReadNextFullTransactionId();
  run->collection.oldest_running = WithEpoch(oldest, next);
  run->collection.next_xid = U64FromFullTransactionId(next);
}

// --------------------------------------------------------------------------------------------------------------------
// One incarnation

void ReadList(Run* run) {
  Work* work = run->work->object;
  const Uuid& incarnation = run->collection.incarnation;
  Operate(run, [&] {
    return ReadText(run->store->object, FormatGarbageKey(incarnation), kMaxGarbageBytes, &work->list, &work->operation);
  });
  bool damaged = false;
  CallCore([&] {
    GarbageList before;
    damaged = !work->list.tag.empty() && !DecodeGarbage(work->list.text, &before).ok();
    if (damaged) before.clear();
    work->sweep.emplace(run->collection, std::move(before));
    return Status::Ok();
  });
  if (damaged)
    ereport(WARNING, (errmsg("object GARBAGE of incarnation %s is damaged; all garbage waits anew", IncarnationText(incarnation))));
}

void WriteList(Run* run) {
  Work* work = run->work->object;
  const Uuid& incarnation = run->collection.incarnation;
  bool replaced = false;
  Operate(run, [&] {
    return ReplaceText(run->store->object, FormatGarbageKey(incarnation), EncodeGarbage(work->sweep->after()), work->list.tag,
                       &replaced, &work->operation);
  });
  if (!replaced)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                    errmsg("object GARBAGE of incarnation %s was changed meanwhile", IncarnationText(incarnation)),
                    errhint("Another collection of the same place is running. Try again.")));
}

// Reads what this collection has written, for its tag.
void ReadTag(Run* run) {
  Work* work = run->work->object;
  Operate(run, [&] {
    return ReadText(run->store->object, FormatGarbageKey(run->collection.incarnation), kMaxGarbageBytes, &work->list,
                    &work->operation);
  });
}

void JudgeAll(Run* run) {
  Work* work = run->work->object;
  for (bool more = true; more;) {
    Operate(run, [&] {
      const std::string after = work->page.empty() ? std::string() : work->page.back().key;
      work->page.clear();
      return run->store->object->List(FormatIncarnation(run->collection.incarnation) + "/", after, kListPage, &work->page,
                                      &work->operation);
    });
    CallCore([&] {
      for (const ObjectInfo& object : work->page) {
        GarbageSweep::Finding finding = work->sweep->Judge(object);
        if (finding.verdict != Verdict::kKept) work->findings.push_back(std::move(finding));
      }
      more = work->page.size() == kListPage;
      return Status::Ok();
    });
  }
}

void FindAbandonedUploads(Run* run) {
  Work* work = run->work->object;
  Operate(run, [&] {
    return run->store->object->ListUploads(FormatIncarnation(run->collection.incarnation) + "/", &work->uploads,
                                           &work->operation);
  });
  CallCore([&] {
    std::erase_if(work->uploads, [&](const UploadInfo& upload) { return !work->sweep->IsAbandoned(upload); });
    return Status::Ok();
  });
}

size_t CountDue(const Run* run) {
  size_t due = 0;
  for (const GarbageSweep::Finding& finding : (*run->work)->findings) due += finding.verdict == Verdict::kDue;
  return due;
}

// Takes the keys of the next batch from the findings, from number *next on.
void DeleteBatch(Run* run, size_t* next) {
  Work* work = run->work->object;
  if (!StillOwns(run->claimant, run->own, run->collection.incarnation))
    ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                    errmsg("another cluster has adopted incarnation %s meanwhile", IncarnationText(run->collection.incarnation))));
  Operate(run, [&] {
    std::vector<std::string> keys;
    for (; *next < work->findings.size() && keys.size() < kDeleteBatch; ++*next) {
      const GarbageSweep::Finding& finding = work->findings[*next];
      if (finding.verdict != Verdict::kDue) continue;
      keys.push_back(finding.key);
      work->sweep->Forget(finding.key);
    }
    return run->store->object->Delete(std::move(keys), &work->operation);
  });
}

// What made objects garbage may have been committed without waiting for the disk. Up to a record's own end: the insert position is behind
// the next page's header where a record has just filled a page, which can't be flushed yet.
void FlushAllWal() {
  XLogBeginInsert();
  XLogFlush(XLogInsert(RM_XLOG_ID, XLOG_NOOP));
}

void Delete(Run* run) {
  Work* work = run->work->object;
  if (CountDue(run) > 0) {
    FlushAllWal();
    for (size_t next = 0; next < work->findings.size();) DeleteBatch(run, &next);
    TestPoint("gc.deleted");
    ReadTag(run);
    WriteList(run);
  }
  for (size_t i = 0; i < work->uploads.size(); ++i)
    Operate(run, [&] { return run->store->object->AbortUpload(work->uploads[i], &work->operation); });
}

void Emit(Run* run, const char* key, bool has_bytes, uint64_t bytes, const char* state, bool has_since, int64 since_us) {
  Datum values[] = {CStringGetTextDatum(key), Int64GetDatum(static_cast<int64>(bytes)), CStringGetTextDatum(state),
                    TimestampTzGetDatum(TimestampOf(since_us))};
  bool nulls[] = {false, !has_bytes, false, !has_since};
  tuplestore_putvalues(run->result->setResult, run->result->setDesc, values, nulls);
}

void EmitAll(Run* run) {
  const Work* work = run->work->object;
  for (size_t i = 0; i < work->findings.size(); ++i) {
    CHECK_FOR_INTERRUPTS();
    const GarbageSweep::Finding& finding = work->findings[i];
    const bool due = finding.verdict == Verdict::kDue;
    const char* state = finding.verdict == Verdict::kUnknown ? "unknown" : !due ? "waiting" : run->dry_run ? "would delete" : "deleted";
    Emit(run, finding.key.c_str(), true, finding.bytes, state, finding.verdict != Verdict::kUnknown, finding.since_us);
  }
  for (size_t i = 0; i < work->uploads.size(); ++i)
    Emit(run, work->uploads[i].key.c_str(), false, 0, run->dry_run ? "would abort upload" : "upload aborted", false, 0);
}

void Collect(Run* run, const Uuid& incarnation) {
  Work* work = run->work->object;
  run->collection.incarnation = incarnation;
  run->collection.adopted = incarnation != run->own;
  work->findings.clear();
  work->uploads.clear();
  work->page.clear();
  ReadList(run);
  JudgeAll(run);
  FindAbandonedUploads(run);
  TestPoint("gc.listed");
  if (!run->dry_run) {
    if (work->sweep->changed()) WriteList(run);
    Delete(run);
  }
  EmitAll(run);
}

// --------------------------------------------------------------------------------------------------------------------
// Other incarnations

constexpr size_t kIncarnationDigits = 32;
constexpr size_t kOthersPage = 1000;  // a request to a store

// Adds the page's objects up to the first of an incarnation that is collected; *after is where to go on, empty: nowhere.
void AddOthers(Work* work, const std::vector<Uuid>& collected, std::string* after) {
  *after = work->page.size() == kOthersPage ? work->page.back().key : std::string();
  for (const ObjectInfo& object : work->page) {
    const std::string prefix = object.key.substr(0, object.key.find('/'));
    const std::optional<Uuid> incarnation = ParseIncarnation(prefix);
    if (!incarnation || prefix.size() == object.key.size()) continue;
    if (std::find(collected.begin(), collected.end(), *incarnation) == collected.end()) {
      work->others[prefix] += object.size;
      continue;
    }
    // Past all of it: '0' comes after '/'.
    *after = prefix + "0";
    return;
  }
}

// What other clusters of the place have, or had: nobody collects a predecessor that nobody has adopted.
void EmitOthers(Run* run, const Uuid* collected, int count) {
  Work* work = run->work->object;
  for (bool more = true; more;) {
    Operate(run, [&] {
      work->page.clear();
      return run->store->object->List("", work->after, kOthersPage, &work->page, &work->operation);
    });
    CallCore([&] {
      AddOthers(work, std::vector<Uuid>(collected, collected + count), &work->after);
      // Incarnations begin with a hexadecimal digit.
      more = !work->after.empty() && work->after < "g";
      return Status::Ok();
    });
  }
  struct Row {
    char prefix[kIncarnationDigits + 2];
    uint64_t bytes;
  };
  const size_t rows = work->others.size();
  auto* row = static_cast<Row*>(palloc(sizeof(Row) * (rows + 1)));
  CallCore([&] {
    for (size_t i = 0; const auto& [prefix, bytes] : work->others) {
      strlcpy(row[i].prefix, (prefix + "/").c_str(), sizeof row[i].prefix);
      row[i++].bytes = bytes;
    }
    return Status::Ok();
  });
  for (size_t i = 0; i < rows; ++i) Emit(run, row[i].prefix, true, row[i].bytes, "other incarnation", false, 0);
}

// --------------------------------------------------------------------------------------------------------------------

// One collection of a place at a time.
int LockCollection(const Run* run) {
  char place[kPlaceDigits + 1];
  NamePlace(run->server, place);
  int file;
  LockLocally(run->claimant, psprintf("%s/pgsql_tmp_gc.%s.lock", kLocalDirectory, place), &file);
  return file;
}

void RefuseInRecovery() {
  if (RecoveryInProgress())
    ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("recovery is in progress"),
                    errhint("Objects are collected and adopted by the primary.")));
}

void OpenPlace(Run* run, const char* server) {
  run->server = server;
  run->owner = CheckServerOwner(server);
  RefuseInRecovery();
  run->store = OpenStore(server, run->owner);
  run->claimant = {server, run->store->object, RunToEnd, run};
}

// The incarnations to collect; all of them are claimed, unless this is a dry run.
Uuid* ClaimAll(Run* run, int* count) {
  if (run->dry_run) run->own = GetIncarnation();
  else ClaimIncarnation(run->claimant, &run->own);
  int adopted;
  Uuid* incarnations = AdoptedIncarnations(run->server, run->own, &adopted);
  *count = 0;
  for (int i = 0; i < adopted; ++i)
    if (run->dry_run || ClaimAdopted(run->claimant, run->own, incarnations[i])) incarnations[(*count)++] = incarnations[i];
  incarnations[(*count)++] = run->own;
  return incarnations;
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_gc);
Datum ivfremote_gc(PG_FUNCTION_ARGS) {
  if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("server and dry_run must not be null")));
  auto* run = static_cast<Run*>(palloc0(sizeof(Run)));
  OpenPlace(run, NameStr(*PG_GETARG_NAME(0)));
  run->dry_run = PG_GETARG_BOOL(1);
  run->collection.retention_us = PG_ARGISNULL(2) ? ServerRetention(run->server) : IntervalUs(PG_GETARG_INTERVAL_P(2));
  if (run->collection.retention_us < 0)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("retention must not be negative")));
  InitMaterializedSRF(fcinfo, 0);
  run->result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  run->work = Hold<Work>(CurrentMemoryContext, [] { return new Work(); });
  const int lock = LockCollection(run);
  int count;
  const Uuid* incarnations = ClaimAll(run, &count);
  TakeHorizon(run);
  CollectMarks(&(*run->work)->marks);
  TestPoint("gc.marked");
  run->collection.marks = &(*run->work)->marks;
  run->collection.now_us = NowUs();
  for (int i = 0; i < count; ++i) Collect(run, incarnations[i]);
  EmitOthers(run, incarnations, count);
  // Transactions must pass for what was found now to be deleted, in an idle cluster too.
  if (!run->dry_run) GetCurrentTransactionId();
  CloseTransientFile(lock);
  Drop(run->work);
  Drop(run->store);
  return Datum{0};
}

PG_FUNCTION_INFO_V1(ivfremote_adopt);
Datum ivfremote_adopt(PG_FUNCTION_ARGS) {
  const char* id = text_to_cstring(PG_GETARG_TEXT_PP(1));
  auto* run = static_cast<Run*>(palloc0(sizeof(Run)));
  OpenPlace(run, NameStr(*PG_GETARG_NAME(0)));
  Uuid incarnation;
  bool valid = false;
  CallCore([&] {
    const std::optional<Uuid> parsed = ParseIncarnation(id);
    valid = parsed.has_value();
    if (valid) incarnation = *parsed;
    return Status::Ok();
  });
  if (!valid)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid incarnation \"%s\"", id),
                    errhint("It is the first part of an object's key: 32 hexadecimal digits.")));
  run->work = Hold<Work>(CurrentMemoryContext, [] { return new Work(); });
  // Its own is claimed, too: what is adopted is bound to it.
  ClaimIncarnation(run->claimant, &run->own);
  if (incarnation == run->own)
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("incarnation %s is this cluster's own", id)));
  Work* work = run->work->object;
  Operate(run, [&] {
    return run->store->object->List(FormatIncarnation(incarnation) + "/", "", 1, &work->page, &work->operation);
  });
  if (work->page.empty())
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                    errmsg("server \"%s\" has no objects of incarnation %s", run->server, id)));
  char* before = AdoptIncarnation(run->claimant, run->own, incarnation);
  // What it found to be garbage, it dated by transaction ids of its own: all waits anew.
  Operate(run, [&] { return run->store->object->Delete({FormatGarbageKey(incarnation)}, &work->operation); });
  Drop(run->work);
  Drop(run->store);
  if (before == nullptr) PG_RETURN_NULL();
  PG_RETURN_TEXT_P(cstring_to_text(before));
}

}  // extern "C"
