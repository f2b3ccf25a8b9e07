#include "pg/tid_map.h"

#include "pg/compat.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

void CheckLeaf(Relation index, BlockNumber block, Bytes payload, uint32_t entries) {
  const CoreError error = RunCore([&] { return CheckTidMapPage(payload, entries); });
  if (error.sqlstate != 0) ThrowCorruptIndex(index, block, error.message);
}

struct Sweep {
  Relation index;
  uint64_t owner;
  bool (*visit)(void* argument, Tid tid);
  void* argument;
  BufferAccessStrategy strategy;
  uint64_t visited;
  uint64_t cleared;
};

void SweepLeaf(void* argument, BlockNumber block) {
  auto* sweep = static_cast<Sweep*>(argument);
  IVFREMOTE_VACUUM_DELAY();
  const Buffer buffer =
      ReadBufferExtended(sweep->index, MAIN_FORKNUM, block, RBM_NORMAL, sweep->strategy);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  CheckIndexPage(sweep->index, block, BufferGetPage(buffer), PageKind::kTidMap, sweep->owner);
  // On a copy of generic WAL's: it becomes the page only if something changed.
  GenericXLogState* state = GenericXLogStart(sweep->index);
  const Page page = GenericXLogRegisterBuffer(state, buffer, 0);
  const uint32_t entries = SpecialOf(page)->used;
  CheckLeaf(sweep->index, block, {PayloadOf(page), kPayloadBytes}, entries);
  const uint32_t cleared = VisitTidMap({PayloadOf(page), kPayloadBytes}, entries, [sweep](Tid tid) {
    ++sweep->visited;
    return sweep->visit(sweep->argument, tid);
  });
  if (cleared > 0)
    GenericXLogFinish(state);
  else
    GenericXLogAbort(state);
  UnlockReleaseBuffer(buffer);
  sweep->cleared += cleared;
}

struct Visit {
  Relation index;
  uint64_t owner;
  void (*visit)(void* argument, Tid tid);
  void* argument;
};

void VisitLeaf(void* argument, BlockNumber block) {
  auto* visit = static_cast<Visit*>(argument);
  CHECK_FOR_INTERRUPTS();
  PageCopy page;
  CopyPage(visit->index, block, PageKind::kTidMap, visit->owner, &page);
  CheckLeaf(visit->index, block, {page.payload, kPayloadBytes}, page.special.used);
  VisitTidMap({page.payload, kPayloadBytes}, page.special.used, [visit](Tid tid) {
    visit->visit(visit->argument, tid);
    return false;
  });
}

}  // namespace

bool TidMapHas(TreeReader* reader, Tid tid) {
  const BlockNumber block = TreeReaderFind(reader, tid.block);
  if (block == kNoBlock) return false;
  // In place: a scan asks for each of its candidates, and a copy of the page would cost more than the answer.
  const Buffer buffer = ReadBuffer(reader->index, block);
  LockBuffer(buffer, BUFFER_LOCK_SHARE);
  const Page page = BufferGetPage(buffer);
  CheckIndexPage(reader->index, block, page, PageKind::kTidMap, reader->owner);
  const TidMapAnswer answer = FindInTidMap({PayloadOf(page), kPayloadBytes}, SpecialOf(page)->used, tid);
  UnlockReleaseBuffer(buffer);
  if (answer == TidMapAnswer::kCorrupt)
    ThrowCorruptIndex(reader->index, block, "tid map page has an impossible entry");
  return answer == TidMapAnswer::kLive;
}

uint64_t SweepTidMap(Relation index, uint64_t owner, const StreamRef& tid_map,
                     bool (*visit)(void* argument, Tid tid), void* argument, BufferAccessStrategy strategy,
                     uint64_t* cleared) {
  Sweep sweep{index, owner, visit, argument, strategy, 0, 0};
  VisitLeaves(index, owner, tid_map, SweepLeaf, &sweep);
  *cleared += sweep.cleared;
  return sweep.visited;
}

void VisitLiveTids(Relation index, uint64_t owner, const StreamRef& tid_map, void (*visit)(void* argument, Tid tid),
                   void* argument) {
  Visit state{index, owner, visit, argument};
  VisitLeaves(index, owner, tid_map, VisitLeaf, &state);
}

}  // namespace ivfremote
