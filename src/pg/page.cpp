#include "pg/page.h"

#include <algorithm>
#include <cstring>

#include "pg/wall.h"

extern "C" {
#include "access/xloginsert.h"
}

namespace ivfremote {

void ThrowCorruptIndex(Relation index, BlockNumber block, const char* detail) {
  ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                  errmsg("index \"%s\" is corrupted at block %u", RelationGetRelationName(index), block),
                  errdetail_internal("%s", detail), errhint("Please REINDEX it.")));
  pg_unreachable();
}

void CheckContent(Relation index, BlockNumber block, const CoreError& error) {
  if (error.sqlstate == 0) return;
  if (error.code == StatusCode::kCorrupt) ThrowCorruptIndex(index, block, error.message);
  if (error.code == StatusCode::kUnsupported)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("index \"%s\": %s", RelationGetRelationName(index), error.message),
                    errhint("Install the newer library on this server too.")));
  ThrowCoreError(error);
}

void CheckIndexPage(Relation index, BlockNumber block, Page page, PageKind kind, uint64_t owner) {
  if (PageIsNew(page)) ThrowCorruptIndex(index, block, "page is empty");
  if (PageGetSpecialSize(page) != MAXALIGN(sizeof(PageSpecial)))
    ThrowCorruptIndex(index, block, "page has the wrong special area");
  const PageSpecial* special = SpecialOf(page);
  const CoreError error = RunCore([&] { return CheckPage(*special, kind, owner); });
  if (error.code == StatusCode::kUnsupported)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("index \"%s\": %s", RelationGetRelationName(index), error.message),
                    errhint("Install the newer library on this server too.")));
  if (error.sqlstate != 0) ThrowCorruptIndex(index, block, error.message);
}

void CheckLivePage(Relation index, BlockNumber block, Page page, PageKind kind, uint64_t owner) {
  CheckIndexPage(index, block, page, kind, owner);
  if ((SpecialOf(page)->flags & PageSpecial::kDeleted) != 0) ThrowCorruptIndex(index, block, "page is deleted");
}

void CopyPage(Relation index, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy) {
  // ReadBuffer takes this number for a request to extend the relation.
  if (block == kNoBlock) ThrowCorruptIndex(index, block, "a reference to a page is missing");
  const Buffer buffer = ReadBuffer(index, block);
  LockBuffer(buffer, BUFFER_LOCK_SHARE);
  const Page page = BufferGetPage(buffer);
  CheckIndexPage(index, block, page, kind, owner);
  std::memcpy(copy->payload, PayloadOf(page), kPayloadBytes);
  copy->special = *SpecialOf(page);
  UnlockReleaseBuffer(buffer);
}

void InitIndexPage(Page page, const NewPage& what) {
  PageInit(page, kPageBytes, sizeof(PageSpecial));
  PageSpecial* special = SpecialOf(page);
  special->magic = PageSpecial::kMagic;
  special->version = PageSpecial::kVersion;
  special->kind = static_cast<uint16_t>(what.kind);
  special->next = kNoBlock;
  special->owner = what.owner;
  special->position = what.position;
  special->used = what.used;
  // The payload has no hole: WAL drops what lies between pd_lower and pd_upper.
  reinterpret_cast<PageHeader>(page)->pd_lower = static_cast<LocationIndex>(kPageHeaderBytes + kPayloadBytes);
}

BlockNumber WriteNewPage(Relation index, const NewPage& what, Bytes payload) {
  const Buffer buffer = AllocatePage(index);
  GenericXLogState* state = GenericXLogStart(index);
  const Page page = GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE);
  InitIndexPage(page, what);
  std::memcpy(PayloadOf(page), payload.data(), payload.size());
  // What follows a stream's bytes is never read: leave it out of the WAL.
  if (what.kind == PageKind::kStream)
    reinterpret_cast<PageHeader>(page)->pd_lower = static_cast<LocationIndex>(kPageHeaderBytes + payload.size());
  GenericXLogFinish(state);
  const BlockNumber block = BufferGetBlockNumber(buffer);
  UnlockReleaseBuffer(buffer);
  return block;
}

namespace {

void DecodeMeta(Relation index, Bytes payload, bool to_write, MetaPage* meta) {
  const CoreError error = RunCore([&] {
    IVFREMOTE_RETURN_IF_ERROR(DecodeMetaPage(payload, meta));
    return to_write ? CheckWritable(*meta) : Status::Ok();
  });
  if (error.code == StatusCode::kUnsupported)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("index \"%s\": %s", RelationGetRelationName(index), error.message),
                    errhint("Install the newer library on this server too.")));
  if (error.sqlstate != 0) ThrowCorruptIndex(index, kMetaBlock, error.message);
}

}  // namespace

void ReadMeta(Relation index, MetaPage* meta) {
  PageCopy copy;
  CopyPage(index, kMetaBlock, PageKind::kMeta, 0, &copy);
  DecodeMeta(index, {copy.payload, kPayloadBytes}, false, meta);
}

bool ReadMetaIfSound(Relation index, MetaPage* meta) {
  PGAlignedBlock copy{};
  const Page page = copy.data;
  if (RelationGetNumberOfBlocks(index) > 0) {
    const Buffer buffer = ReadBuffer(index, kMetaBlock);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    std::memcpy(copy.data, BufferGetPage(buffer), kPageBytes);
    UnlockReleaseBuffer(buffer);
  }
  const CoreError error = RunCore([&] {
    if (PageIsNew(page) || PageGetSpecialSize(page) != MAXALIGN(sizeof(PageSpecial)))
      return Status::Corrupt("page is empty or has the wrong special area");
    IVFREMOTE_RETURN_IF_ERROR(CheckPage(*SpecialOf(page), PageKind::kMeta, 0));
    return DecodeMetaPage(Bytes(reinterpret_cast<const std::byte*>(PayloadOf(page)), kPayloadBytes), meta);
  });
  if (error.sqlstate == 0) return true;
  ereport(WARNING, (errcode(error.code == StatusCode::kCorrupt ? ERRCODE_INDEX_CORRUPTED : error.sqlstate),
                    errmsg("index \"%s\" is left out: its meta page can't be read", RelationGetRelationName(index)),
                    errdetail_internal("%s", error.message)));
  return false;
}

bool IsUnbuilt(Relation index) {
  if (index->rd_index->indisready) return false;
  if (RelationGetNumberOfBlocks(index) == 0) return true;
  const Buffer buffer = ReadBuffer(index, kMetaBlock);
  LockBuffer(buffer, BUFFER_LOCK_SHARE);
  const bool empty = PageIsNew(BufferGetPage(buffer));
  UnlockReleaseBuffer(buffer);
  return empty;
}

void ReadMetaToWrite(Relation index, MetaPage* meta) {
  PageCopy copy;
  CopyPage(index, kMetaBlock, PageKind::kMeta, 0, &copy);
  DecodeMeta(index, {copy.payload, kPayloadBytes}, true, meta);
}

MetaPage* MetaOn(Relation index, Page page) {
  CheckIndexPage(index, kMetaBlock, page, PageKind::kMeta, 0);
  MetaPage checked;
  DecodeMeta(index, {PayloadOf(page), kPayloadBytes}, true, &checked);
  return reinterpret_cast<MetaPage*>(PayloadOf(page));
}

namespace {

constexpr NewPage kMetaPage{PageKind::kMeta, 0, 0, sizeof(MetaPage)};

}  // namespace

void WriteForkPage(Relation index, ForkNumber fork, BlockNumber block, const NewPage& what, Bytes payload) {
  const Buffer buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, nullptr);
  if (BufferGetBlockNumber(buffer) != block)
    elog(ERROR, "index \"%s\" has pages already", RelationGetRelationName(index));
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  START_CRIT_SECTION();
  InitIndexPage(BufferGetPage(buffer), what);
  std::memcpy(PayloadOf(BufferGetPage(buffer)), payload.data(), payload.size());
  MarkBufferDirty(buffer);
  if (RelationNeedsWAL(index) || fork == INIT_FORKNUM) log_newpage_buffer(buffer, false);
  END_CRIT_SECTION();
  UnlockReleaseBuffer(buffer);
}

void WriteFirstMeta(Relation index, const MetaPage& meta) {
  WriteForkPage(index, MAIN_FORKNUM, kMetaBlock, kMetaPage, std::as_bytes(std::span(&meta, 1)));
}

namespace {

template <typename Change>
void ChangeMeta(Relation index, Change change) {
  const Buffer buffer = ReadBuffer(index, kMetaBlock);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  GenericXLogState* state = GenericXLogStart(index);
  change(MetaOn(index, GenericXLogRegisterBuffer(state, buffer, 0)));
  GenericXLogFinish(state);
  UnlockReleaseBuffer(buffer);
}

}  // namespace

uint64_t TakeIds(Relation index, uint32_t count) {
  uint64_t first = 0;
  ChangeMeta(index, [&](MetaPage* meta) {
    first = meta->next_id;
    meta->next_id += count;
  });
  return first;
}

void PublishMeta(Relation index, MetaPage* after) {
  ChangeMeta(index, [&](MetaPage* meta) {
    if (meta->epoch != after->epoch)
      elog(ERROR, "index \"%s\" was changed by another maintainer", RelationGetRelationName(index));
    ++after->epoch;
    after->next_id = std::max(after->next_id, meta->next_id);
    after->swept = meta->swept;
    if (meta->dimensions != 0) after->dimensions = meta->dimensions;
    std::memcpy(static_cast<void*>(meta), after, sizeof *after);
  });
}

void RequireFeature(Relation index, uint32_t feature) {
  ChangeMeta(index, [feature](MetaPage* meta) { meta->required_features |= feature; });
}

void AddWaitingPages(Relation index, const DeletedPages& waiting) {
  ChangeMeta(index, [&waiting](MetaPage* meta) {
    if (meta->swept.waiting_pages == 0) meta->swept.oldest_xid = waiting.oldest_xid;
    meta->swept.waiting_pages += waiting.count;
  });
}

void RecordSweep(Relation index, const DeletedPages& waiting) {
  ChangeMeta(index, [&waiting](MetaPage* meta) {
    meta->swept.epoch = meta->epoch;
    meta->swept.next_id = meta->next_id;
    meta->swept.waiting_pages = waiting.count;
    meta->swept.oldest_xid = waiting.count > 0 ? waiting.oldest_xid : 0;
  });
}

}  // namespace ivfremote
