// Finds the pages that can be used again: docs/architecture.md "Concurrency" step 9.
#include "pg/compat.h"
#include "pg/maintenance.h"
#include "pg/test_point.h"

extern "C" {
#include "storage/indexfsm.h"
}

namespace ivfremote {
namespace {

// Deleted pages are worth reading the whole index for if they are more than this part of it.
constexpr BlockNumber kWaitingPart = 20;

struct Sweep {
  Relation index;
  const MetaPage* meta;
  BufferAccessStrategy strategy;
  DeletedPages waiting;
  uint32_t newly_deleted;
  uint32_t reusable;
};

enum class PageState { kKeep, kUnowned, kWaiting, kReusable };

PageState StateOf(const MetaPage& meta, Page page) {
  if (PageIsNew(page)) return PageState::kReusable;
  const PageSpecial* special = SpecialOf(page);
  // Of what it doesn't know a sweep keeps its hands off.
  if (PageGetSpecialSize(page) != MAXALIGN(sizeof(PageSpecial)) || special->magic != PageSpecial::kMagic ||
      special->version > PageSpecial::kVersion)
    return PageState::kKeep;
  if ((special->flags & PageSpecial::kDeleted) != 0)
    return IsReusable(*special) ? PageState::kReusable : PageState::kWaiting;
  return IsLive(meta, special->owner) ? PageState::kKeep : PageState::kUnowned;
}

void SweepPage(Sweep* sweep, BlockNumber block) {
  IVFREMOTE_VACUUM_DELAY();
  const Buffer buffer = ReadBufferExtended(sweep->index, MAIN_FORKNUM, block, RBM_NORMAL, sweep->strategy);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  const Page page = BufferGetPage(buffer);
  const PageState state = StateOf(*sweep->meta, page);
  if (state == PageState::kUnowned) {
    GenericXLogState* record = GenericXLogStart(sweep->index);
    MarkDeleted(GenericXLogRegisterBuffer(record, buffer, 0), &sweep->waiting);
    GenericXLogFinish(record);
    ++sweep->newly_deleted;
  } else if (state == PageState::kWaiting) {
    const uint64_t xid = SpecialOf(page)->retire_xid;
    if (sweep->waiting.count++ == 0 || xid < sweep->waiting.oldest_xid) sweep->waiting.oldest_xid = xid;
  }
  UnlockReleaseBuffer(buffer);
  if (state == PageState::kReusable) {
    RecordFreeIndexPage(sweep->index, block);
    ++sweep->reusable;
  }
  if (state == PageState::kUnowned) TestPoint("sweep.page");
}

// Extending processes lock a new page before they let others extend: so none of those counted here is still on its way to one.
BlockNumber CountBlocks(Relation index) {
  const bool shared = !RELATION_IS_LOCAL(index);
  if (shared) LockRelationForExtension(index, ExclusiveLock);
  const BlockNumber blocks = RelationGetNumberOfBlocks(index);
  if (shared) UnlockRelationForExtension(index, ExclusiveLock);
  return blocks;
}

bool IsWorthwhile(const SweepState& swept, const MetaPage& meta, BlockNumber blocks) {
  if (swept.epoch != meta.epoch || swept.next_id != meta.next_id) return true;
  PageSpecial oldest{};
  oldest.retire_xid = swept.oldest_xid;
  return swept.waiting_pages > blocks / kWaitingPart && IsReusable(oldest);
}

}  // namespace

void SweepPages(Maintenance* maintenance) {
  Relation index = maintenance->index;
  MemoryContext old = MemoryContextSwitchTo(maintenance->context);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMetaToWrite(index, meta);
  const BlockNumber blocks = CountBlocks(index);
  if (IsWorthwhile(meta->swept, *meta, blocks)) {
    Sweep sweep{index, meta, GetAccessStrategy(BAS_VACUUM), {}, 0, 0};
    for (BlockNumber block = kMetaBlock + 1; block < blocks; ++block) SweepPage(&sweep, block);
    RecordSweep(index, sweep.waiting);
    IndexFreeSpaceMapVacuum(index);
    FreeAccessStrategy(sweep.strategy);
    maintenance->pages_newly_deleted = sweep.newly_deleted;
    maintenance->pages_free = sweep.reusable;
    maintenance->pages_deleted = sweep.waiting.count + sweep.reusable;
  } else {
    maintenance->pages_deleted = meta->swept.waiting_pages;
  }
  pfree(meta);
  MemoryContextSwitchTo(old);
}

}  // namespace ivfremote
