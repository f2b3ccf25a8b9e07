#include "pg/search_wave.h"

#include "pg/read_error.h"
#include "pg/search_index.h"
#include "pg/server.h"
#include "pg/settings.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;

// The longest the core works or waits before we look for interrupts.
constexpr milliseconds kStep{100};
// How long blocks that have arrived may wait for local work.
constexpr milliseconds kLook{5};

// Whether a segment is still listed now.
bool StillListed(Relation index, const SegmentEntry& segment) {
  auto* now = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, now);
  bool listed = false;
  for (uint32_t i = 0; i < now->segment_count; ++i) listed |= now->segments[i].id == segment.id;
  pfree(now);
  return listed;
}

[[noreturn]] void ThrowStoreError(const IndexSearch* search, const char* server, const CoreError& error) {
  CHECK_FOR_INTERRUPTS();
  if (error.code == StatusCode::kNotFound)
    for (uint32_t i = 0; i < search->meta->segment_count; ++i)
      if (!StillListed(search->index, search->meta->segments[i]))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("index \"%s\" was rewritten during the scan", RelationGetRelationName(search->index)),
                        errhint("Run the statement again.")));
  const Search& core = **search->search;
  ThrowReadError(search->index, {server, core.requests_failed(), core.requests_in_wave(),
                                 "Set ivfremote.enable_scan = off to search the table itself."},
                 error);
}

}  // namespace

Wave NewWave() {
  return {Clock::time_point::max(), Clock::now() + kLook, {}, false, false};
}

void StartWave(IndexSearch* search) {
  const char* server = ServerNameOf(search->index, *search->meta);
  ObjectStore* store = SessionStore(server, search->index->rd_rel->relowner);
  const CoreError error = RunCore([&] {
    return (*search->search)->StartWave(store, static_cast<size_t>(settings.max_concurrent_requests));
  });
  if (error.sqlstate != 0) ThrowStoreError(search, server, error);
}

// Scores what has arrived, or arrives until `until`.
static void StepWave(IndexSearch* search, Clock::time_point until) {
  Search& core = **search->search;
  const char* server = ServerNameOf(search->index, *search->meta);
  const CoreError error = RunCore([&] { return core.StepWave(until); });
  CHECK_FOR_INTERRUPTS();
  if (error.code == StatusCode::kDenied && !search->wave.reread) {
    // The user mapping may have changed since it was read.
    search->wave.reread = true;
    ForgetSessionStore(server, search->index->rd_rel->relowner);
    StartWave(search);
    return;
  }
  if (error.sqlstate != 0) ThrowStoreError(search, server, error);
  if (settings.scan_timeout_ms > 0 && core.wave_running() && Clock::now() >= search->wave.deadline)
    ereport(ERROR, (errcode(ERRCODE_IO_ERROR),
                    errmsg("could not read index \"%s\" from server \"%s\"",
                           RelationGetRelationName(search->index), server),
                    errdetail("%zu of %zu requests were not answered within ivfremote.scan_timeout (%d ms).",
                              core.requests_outstanding(), core.requests_in_wave(), settings.scan_timeout_ms),
                    errhint("Set ivfremote.enable_scan = off to search the table itself.")));
}

void WaitForWave(IndexSearch* search) {
  search->wave.deadline = Clock::now() + milliseconds(settings.scan_timeout_ms);
  if (search->wave.failed) StartWave(search);
  search->wave.failed = false;
}

void LookAhead(IndexSearch* search) {
  CHECK_FOR_INTERRUPTS();
  Search& core = **search->search;
  const Clock::time_point now = Clock::now();
  if (!core.wave_running() || search->wave.failed || now < search->wave.next_look) return;
  const CoreError error = RunCore([&] { return core.StepWave(now); });
  switch (error.code) {
    case StatusCode::kUnavailable:
    case StatusCode::kDenied:
    case StatusCode::kNotFound:
      search->wave.failed = true;
      break;
    default:
      if (error.sqlstate != 0) ThrowStoreError(search, ServerNameOf(search->index, *search->meta), error);
  }
  search->wave.next_look = Clock::now() + kLook;
}

void LookAtWave(IndexSearch* search) {
  CHECK_FOR_INTERRUPTS();
  if (!(*search->search)->wave_running()) return;
  const Clock::time_point now = Clock::now();
  if (now < search->wave.next_look) return;
  StepWave(search, now);
  search->wave.next_look = Clock::now() + kLook;
  search->wave.look_time += Clock::now() - now;
}

void FinishWave(IndexSearch* search) {
  while ((*search->search)->wave_running()) StepWave(search, Clock::now() + kStep);
}

}  // namespace ivfremote
