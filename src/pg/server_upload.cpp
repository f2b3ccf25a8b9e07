#include "pg/server_upload.h"

#include <algorithm>
#include <cstring>

#include "core/owner.h"
#include "core/tagged_text.h"
#include "pg/build.h"
#include "pg/fencing.h"
#include "pg/incarnation.h"
#include "pg/server.h"
#include "pg/settings.h"

extern "C" {
#include "storage/latch.h"
#include "utils/wait_event.h"
}

namespace ivfremote {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The longest the core works or waits before we look for interrupts.
constexpr milliseconds kStep{100};
// How long requests fail before the user is told.
constexpr seconds kQuietTime{10};

// Between attempts to claim the incarnation.
constexpr milliseconds kLongestPause{10000};

constexpr double kMegabyte = 1024 * 1024;

// VACUUM waits longer for more bytes, but not for a store that takes or gives fewer in a second.
constexpr double kLeastBytesPerSecond = 4 * kMegabyte;

}  // namespace

struct ServerUpload {
  Relation index;
  const char* server;
  Held<ObjectStore>* store;
  Held<SegmentUpload>* upload;  // null while the server is only being checked
  StoreLimit* limit;
  uint64_t expected_bytes;
  bool warned;  // of the trouble there is
};

namespace {

// How the store does, in plain data.
struct Look {
  int failures;
  Clock::time_point since;
  bool denied;
  bool awaits_credentials;
  char last[256];
};

void LookAt(const ObjectStore* store, Look* look) {
  const StoreTrouble trouble = store->Trouble();
  look->failures = trouble.failures;
  look->since = trouble.since;
  look->denied = trouble.denied;
  look->awaits_credentials = store->AwaitsCredentials();
  strlcpy(look->last, trouble.last.c_str(), sizeof look->last);
}

const char* OwnerName(const ServerUpload* state) { return GetUserNameFromId(state->index->rd_rel->relowner, false); }

// Of failed builds: what to do, or nothing.
const char* WriteHint(const ServerUpload* state, const CoreError& error) {
  switch (error.code) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
      return psprintf("Check the server with SELECT * FROM ivfremote_check_server(%s), then run the statement again%s.",
                      quote_literal_cstr(state->server),
                      state->upload == nullptr ? "" : "; nothing refers to what was stored");
    case StatusCode::kDenied:
      if (std::strstr(error.message, "RequestTimeTooSkewed") != nullptr) return "Set the clock of this machine.";
      // Else a file system's refusal.
      if (std::strstr(error.message, "HTTP ") == nullptr) return nullptr;
      return psprintf("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET ...), then run the statement again.",
                      UserMappingOwner(state->server, state->index->rd_rel->relowner), quote_identifier(state->server));
    case StatusCode::kNoSpace:
      return "Free space in the store, then run the statement again.";
    default:
      return nullptr;
  }
}

[[noreturn]] void ThrowWriteError(const ServerUpload* state, const CoreError& error) {
  CHECK_FOR_INTERRUPTS();
  const char* progress = "Nothing had been stored";
  if (state->upload != nullptr) {
    const uint64_t stored = (*state->upload)->BytesStored();
    progress = psprintf("%.1f of about %.1f MB had been stored", static_cast<double>(stored) / kMegabyte,
                        static_cast<double>(std::max(stored, state->expected_bytes)) / kMegabyte);
  }
  const char* hint = WriteHint(state, error);
  ereport(ERROR, (errcode(error.sqlstate),
                  errmsg("could not write index \"%s\" to server \"%s\"", RelationGetRelationName(state->index),
                         state->server),
                  errdetail("%s; last: %s.", progress, error.message),
                  hint == nullptr ? 0 : errhint("%s", hint)));
  pg_unreachable();
}

void WarnOfTrouble(ServerUpload* state, const Look& look) {
  if (look.failures == 0) state->warned = false;
  const auto lasting = Clock::now() - look.since;
  if (look.failures == 0 || state->warned || lasting < kQuietTime) return;
  state->warned = true;
  const long lasting_s = static_cast<long>(std::chrono::duration_cast<seconds>(lasting).count());
  char* patience = settings.write_timeout_ms == 0
                       ? pstrdup("until the statement is cancelled")
                       : psprintf("until a request has failed for ivfremote.write_timeout (%d s)",
                                  (settings.write_timeout_ms + 999) / 1000);
  ereport(WARNING, (look.denied ? errmsg("server \"%s\" refuses the user mapping of role \"%s\", else of PUBLIC",
                                         state->server, OwnerName(state))
                                : errmsg("server \"%s\" is not answering", state->server),
                    errdetail("%d attempts have failed in %ld s; last: %s.", look.failures, lasting_s, look.last),
                    errhint("Writing index \"%s\" is tried %s.", RelationGetRelationName(state->index), patience)));
  pfree(patience);
}

// Waits, interruptibly, until `step` (which sets its second argument) says it is done. False if the limit ends it.
template <typename Step>
bool StepUntilDone(ServerUpload* state, Step step) {
  const ObjectStore* store = state->store->object;
  StoreLimit* limit = state->limit;
  if (limit != nullptr && limit->failed) return false;
  for (bool done = false; !done;) {
    Look look{};
    const Clock::time_point start = Clock::now();
    const CoreError error = RunCore([&] {
      Status status = step(start + kStep, &done);
      LookAt(store, &look);
      return status;
    });
    if (limit != nullptr) {
      limit->time_left -= Clock::now() - start;
      if (error.sqlstate != 0) {
        RecordFailure(limit, error.sqlstate, error.message);
        return false;
      }
      if (!done && limit->time_left <= Clock::duration::zero()) {
        RecordFailure(limit, ERRCODE_IO_ERROR, look.failures > 0 ? look.last : "it takes too long");
        return false;
      }
    } else if (error.sqlstate != 0) {
      ThrowWriteError(state, error);
    }
    CHECK_FOR_INTERRUPTS();
    if (look.awaits_credentials)
      RefreshCredentials(state->server, state->index->rd_rel->relowner, state->store->object);
    if (limit == nullptr) WarnOfTrouble(state, look);
    if (state->upload != nullptr) ReportBytesWritten((*state->upload)->BytesStored(), state->expected_bytes);
  }
  return true;
}

// The read of an object that is not there.
struct Probe {
  std::unique_ptr<RangeWave> wave;
  std::vector<RangeCompletion> completions;
};

Status StepProbe(Probe* probe, Clock::time_point deadline, bool* done) {
  IVFREMOTE_RETURN_IF_ERROR(probe->wave->Step(deadline, &probe->completions));
  if (probe->completions.empty()) return Status::Ok();
  *done = true;
  const Status& status = probe->completions[0].status;
  // Who may not list a bucket is not told that an object is missing.
  const bool answered = status.code() == StatusCode::kNotFound ||
                        (status.code() == StatusCode::kDenied && status.message().find("AccessDenied") != std::string::npos);
  return answered ? Status::Ok() : status;
}

bool RunOperation(void* argument, Operation* operation) {
  return StepUntilDone(static_cast<ServerUpload*>(argument),
                       [operation](Clock::time_point deadline, bool* done) { return operation->Step(deadline, done); });
}

bool WithinPatience(Clock::time_point failing_since) {
  return settings.write_timeout_ms == 0 || Clock::now() - failing_since < milliseconds(settings.write_timeout_ms);
}

void Pause(milliseconds duration) {
  const Clock::time_point end = Clock::now() + duration;
  while (Clock::now() < end) {
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kStep.count(), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
}

// An attempt to claim: others of this cluster wait for it. The argument is the CoreError of its failure.
bool RunOnce(void* argument, Operation* operation) {
  auto* error = static_cast<CoreError*>(argument);
  for (bool done = false; !done;) {
    *error = RunCore([&] { return operation->Step(Clock::now() + kStep, &done); });
    CHECK_FOR_INTERRUPTS();
    if (error->sqlstate != 0) return false;
  }
  return true;
}

// Waits as long as writes do for the store to answer, and for other credentials if it refuses these.
void AwaitStore(ServerUpload* state) {
  struct Reading {
    TaggedObject object;
    std::unique_ptr<Operation> operation;
  };
  const Uuid incarnation = GetIncarnation();
  Held<Reading>* reading = Hold<Reading>(CurrentMemoryContext, [] { return new Reading(); });
  ObjectStore* store = state->store->object;
  CallCore([&] {
    return ReadText(store, FormatOwnerKey(incarnation), Owner::kMaxBytes, &(*reading)->object, &(*reading)->operation);
  });
  RunOperation(state, (*reading)->operation.get());
  Drop(reading);
}

// Waits for the store between attempts, and not with the place locked.
void ClaimPatiently(ServerUpload* state, Uuid* incarnation) {
  ObjectStore* store = state->store->object;
  Look look{};
  milliseconds pause{100};
  bool warned = false;
  for (;;) {
    CoreError error{};
    store->SetPatient(false);
    const bool claimed = ClaimIncarnation({state->server, store, RunOnce, &error}, incarnation);
    store->SetPatient(true);
    if (claimed) return;
    if (look.failures++ == 0) look.since = Clock::now();
    const bool outage = error.code == StatusCode::kUnavailable || error.code == StatusCode::kTimeout;
    const bool refused_again = look.denied && error.code == StatusCode::kDenied;
    look.denied = error.code == StatusCode::kDenied;
    if ((!outage && !look.denied) || refused_again || !WithinPatience(look.since)) ThrowWriteError(state, error);
    strlcpy(look.last, error.message, sizeof look.last);
    state->warned = warned;
    WarnOfTrouble(state, look);
    warned = state->warned;
    AwaitStore(state);
    Pause(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
}

// Trouble with local files, and a server that has been dropped or changed meanwhile.
bool IsLocalTrouble(int sqlstate) {
  switch (sqlstate) {
    case ERRCODE_DISK_FULL:
    case ERRCODE_INSUFFICIENT_RESOURCES:
    case ERRCODE_INSUFFICIENT_PRIVILEGE:
    case ERRCODE_WRONG_OBJECT_TYPE:
    case ERRCODE_UNDEFINED_OBJECT:
    case ERRCODE_OBJECT_IN_USE:
      return true;
    default:
      return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR);
  }
}

// With a limit, local trouble is recorded as a failure too. Not in a subtransaction, which VACUUM can't have: what `body` calls
// holds nothing but memory and files when it ends with such an error.
template <typename Body>
bool RunWithin(StoreLimit* limit, Body body) {
  if (limit == nullptr) return body();
  MemoryContext context = CurrentMemoryContext;
  bool done = false;
  bool* const result = &done;
  PG_TRY();
  {
    *result = body();
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    const ErrorData* error = CopyErrorData();
    if (!IsLocalTrouble(error->sqlerrcode)) PG_RE_THROW();
    FlushErrorState();
    RecordFailure(limit, error->sqlerrcode, error->message);
  }
  PG_END_TRY();
  return done;
}

ServerUpload* OpenServer(Relation index, const char* server, bool keys_worked, StoreLimit* limit) {
  auto* state = static_cast<ServerUpload*>(palloc0(sizeof(ServerUpload)));
  const Oid owner = index->rd_rel->relowner;
  state->index = index;
  state->server = server;
  state->limit = limit;
  state->store = limit == nullptr ? OpenPatientStore(server, owner, keys_worked) : OpenStore(server, owner);
  return state;
}

}  // namespace

void RecordFailure(StoreLimit* limit, int sqlstate, const char* why) {
  CHECK_FOR_INTERRUPTS();
  limit->failed = true;
  limit->sqlstate = sqlstate;
  strlcpy(limit->why, why, sizeof limit->why);
}

void AllowTimeFor(StoreLimit* limit, uint64_t bytes) {
  if (limit == nullptr) return;
  limit->time_left += milliseconds(static_cast<int64_t>(1000 * static_cast<double>(bytes) / kLeastBytesPerSecond));
}

namespace {

bool ProbeServer(Relation index, const char* server, StoreLimit* limit) {
  const Uuid incarnation = GetIncarnation();
  ServerUpload* state = OpenServer(index, server, false, limit);
  ObjectStore* store = state->store->object;
  Held<Probe>* held = Hold<Probe>(CurrentMemoryContext, [] { return new Probe(); });
  Probe* probe = held->object;
  CallCore([&] { return store->GetRanges({{FormatIncarnation(incarnation) + "/check/none", 0, 1}}, 1, &probe->wave); });
  const bool answers =
      StepUntilDone(state, [probe](Clock::time_point deadline, bool* done) { return StepProbe(probe, deadline, done); });
  Drop(held);
  Drop(state->store);
  return answers;
}

}  // namespace

bool CheckServerAnswers(Relation index, const char* server, StoreLimit* limit) {
  return RunWithin(limit, [&] { return ProbeServer(index, server, limit); });
}

ServerUpload* StartUpload(Relation index, const char* server, uint64_t part_bytes, uint64_t expected_bytes,
                          StoreLimit* limit, SegmentName* name) {
  AllowTimeFor(limit, expected_bytes);
  ServerUpload* state = nullptr;
  Uuid incarnation;
  const bool claimed = RunWithin(limit, [&] {
    state = OpenServer(index, server, true, limit);
    state->expected_bytes = expected_bytes;
    if (limit != nullptr) return ClaimIncarnation({server, state->store->object, RunOperation, state}, &incarnation);
    ClaimPatiently(state, &incarnation);
    return true;
  });
  if (!claimed) {
    if (state != nullptr) Drop(state->store);
    return nullptr;
  }
  NameSegment(incarnation, name);
  state->upload = Hold<SegmentUpload>(CurrentMemoryContext, [&] {
    return new SegmentUpload(state->store->object, *name, part_bytes);
  });
  return state;
}

bool UploadOutput(ServerUpload* state, SegmentWriter* writer) {
  SegmentUpload* upload = state->upload->object;
  CallCore([&] {
    upload->Add(writer->TakeOutput());
    return Status::Ok();
  });
  return StepUntilDone(state, [upload](Clock::time_point deadline, bool* done) { return upload->Step(deadline, done); });
}

bool FinishUpload(ServerUpload* state, uint64_t bytes) {
  state->expected_bytes = bytes;
  SegmentUpload* upload = state->upload->object;
  const bool stored =
      StepUntilDone(state, [upload](Clock::time_point deadline, bool* done) { return upload->Finish(deadline, done); });
  if (stored) ReportNotice(state->server, state->store->object);
  Drop(state->upload);
  Drop(state->store);
  return stored;
}

}  // namespace ivfremote
