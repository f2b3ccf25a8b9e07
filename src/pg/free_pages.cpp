// Which pages can be used, again or for the first time.
#include "pg/compat.h"
#include "pg/page.h"

extern "C" {
#include "access/nbtxlog.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "storage/indexfsm.h"
}

namespace ivfremote {
namespace {

// Standbys end queries that may still come across the page, or wait for them, before they replay what is written on it next.
void LogReuse(Relation index, BlockNumber block, FullTransactionId retired) {
  xl_btree_reuse_page record{};
  IVFREMOTE_SET_REUSE_PAGE(record, index, block, retired);
  XLogBeginInsert();
  XLogRegisterData(reinterpret_cast<char*>(&record), SizeOfBtreeReusePage);
  XLogInsert(RM_BTREE_ID, XLOG_BTREE_REUSE_PAGE);
}

// A page from the free space map, which may be wrong: pages say themselves what they are.
Buffer ReusePage(Relation index) {
  for (;;) {
    const BlockNumber block = GetFreeIndexPage(index);
    if (block == InvalidBlockNumber) return InvalidBuffer;
    // A crash may leave the map with more pages than the relation.
    if (block == kMetaBlock || block >= RelationGetNumberOfBlocks(index)) continue;
    const Buffer buffer = ReadBuffer(index, block);
    if (!ConditionalLockBuffer(buffer)) {
      ReleaseBuffer(buffer);
      continue;
    }
    const Page page = BufferGetPage(buffer);
    if (PageIsNew(page)) return buffer;
    const PageSpecial* special = SpecialOf(page);
    const bool deleted =
        special->magic == PageSpecial::kMagic && (special->flags & PageSpecial::kDeleted) != 0;
    if (deleted && IsReusable(*special)) {
      if (XLogStandbyInfoActive() && RelationNeedsWAL(index))
        LogReuse(index, block, FullTransactionIdFromU64(special->retire_xid));
      return buffer;
    }
    UnlockReleaseBuffer(buffer);
    if (deleted) {
      // Too early, as others offered with it probably are.
      RecordFreeIndexPage(index, block);
      return InvalidBuffer;
    }
  }
}

Buffer ExtendRelation(Relation index) {
#ifdef IVFREMOTE_EXTEND
  return IVFREMOTE_EXTEND(index);
#else
  const bool shared = !RELATION_IS_LOCAL(index);
  if (shared) LockRelationForExtension(index, ExclusiveLock);
  const Buffer buffer = ReadBuffer(index, P_NEW);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  if (shared) UnlockRelationForExtension(index, ExclusiveLock);
  return buffer;
#endif
}

}  // namespace

Buffer AllocatePage(Relation index) {
  for (;;) {
    // A relation made by this transaction has nothing to reuse, and no map: looking for one is a system call each time.
    Buffer buffer = IVFREMOTE_IS_NEW_RELATION(index) ? InvalidBuffer : ReusePage(index);
    if (buffer != InvalidBuffer) return buffer;
    buffer = ExtendRelation(index);
    // The map may have offered it to somebody else before it was locked here.
    if (PageIsNew(BufferGetPage(buffer))) return buffer;
    UnlockReleaseBuffer(buffer);
  }
}

void ReleaseUnusedPage(Relation index, Buffer buffer) {
  const BlockNumber block = BufferGetBlockNumber(buffer);
  UnlockReleaseBuffer(buffer);
  RecordFreeIndexPage(index, block);
}

void MarkDeleted(Page page, DeletedPages* deleted) {
  PageSpecial* special = SpecialOf(page);
  special->flags |= PageSpecial::kDeleted;
  special->retire_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
  if (deleted->count++ == 0) deleted->oldest_xid = special->retire_xid;
}

bool IsReusable(const PageSpecial& special) {
  return GlobalVisCheckRemovableFullXid(nullptr, FullTransactionIdFromU64(special.retire_xid));
}

}  // namespace ivfremote
