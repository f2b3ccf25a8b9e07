// The index's pages: reading checked copies, allocating and writing new ones. core/page_format.h has the layouts.
//
// Every read copies one page out under a share lock, so no lock or pin of ours outlives a call here except where a
// function says so.
#pragma once

#include "core/page_format.h"
#include "pg/postgres_c.h"
#include "pg/wall.h"

namespace ivfremote {

static_assert(BLCKSZ == kPageBytes, "ivfremote needs Postgres's default block size");

inline constexpr BlockNumber kMetaBlock = 0;

// A copy of one page.
struct PageCopy {
  alignas(8) std::byte payload[kPayloadBytes];  // palloc aligns no further
  PageSpecial special;

  Bytes used_bytes() const { return {payload, special.used}; }
};

inline std::byte* PayloadOf(Page page) { return reinterpret_cast<std::byte*>(page) + kPageHeaderBytes; }
inline PageSpecial* SpecialOf(Page page) {
  return reinterpret_cast<PageSpecial*>(page + kPageBytes - sizeof(PageSpecial));
}

// Raises INDEX_CORRUPTED unless the page is what the caller expects. The buffer may be locked: the error releases it.
void CheckIndexPage(Relation index, BlockNumber block, Page page, PageKind kind, uint64_t owner);
// The same for a page that will be changed: a deleted one won't.
void CheckLivePage(Relation index, BlockNumber block, Page page, PageKind kind, uint64_t owner);
[[noreturn]] void ThrowCorruptIndex(Relation index, BlockNumber block, const char* detail);
// Ends with an error unless the core could make sense of what was read from pages of the index; `block` is the root of its stream.
void CheckContent(Relation index, BlockNumber block, const CoreError& error);

void CopyPage(Relation index, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy);

// --------------------------------------------------------------------------------------------------------------------
// Pages that nothing refers to; docs/architecture.md "Concurrency" steps 9 and 10.

// A page nothing refers to, pinned and exclusively locked: one of those offered, or a new one. Its content is undefined: it
// must be initialised in the first record about it.
Buffer AllocatePage(Relation index);
// Unlocks, unpins and offers again a page from AllocatePage on which nothing was written.
void ReleaseUnusedPage(Relation index, Buffer buffer);
// Pages marked as deleted that the free space map doesn't have.
struct DeletedPages {
  uint32_t count;
  uint64_t oldest_xid;  // smallest retire_xid
};
// Marks as deleted, as of now, a page that readers yet to come find no reference to. `page`: a record's image.
void MarkDeleted(Page page, DeletedPages* deleted);
// Whether nobody can come across a deleted page any more: no snapshot of any database is as old as its deletion.
bool IsReusable(const PageSpecial& special);

// --------------------------------------------------------------------------------------------------------------------

struct NewPage {
  PageKind kind;
  uint64_t owner;
  uint32_t position;
  uint32_t used;
};

// Extends a fork by one page, at `block`, and logs it whole, for unlogged tables' init forks too: these are copied back
// after a crash, and generic WAL leaves them out.
void WriteForkPage(Relation index, ForkNumber fork, BlockNumber block, const NewPage& what, Bytes payload);

// Lays out an empty page with a zeroed payload.
void InitIndexPage(Page page, const NewPage& what);

// Allocates, fills and logs one page; returns its block. `payload` is at most kPayloadBytes.
BlockNumber WriteNewPage(Relation index, const NewPage& what, Bytes payload);

// --------------------------------------------------------------------------------------------------------------------
// Meta page

// A checked copy of the meta page: one consistent view of what is live.
void ReadMeta(Relation index, MetaPage* meta);
// The same, for who will change the index.
void ReadMetaToWrite(Relation index, MetaPage* meta);
// The same for those who go on without an index that is damaged, or of a newer library: a WARNING, and false.
bool ReadMetaIfSound(Relation index, MetaPage* meta);
// Whether it has no meta page yet: a build is under way, or a concurrent one did not get to its end.
bool IsUnbuilt(Relation index);
// The meta page in a locked buffer, checked, to be changed.
MetaPage* MetaOn(Relation index, Page page);
// Writes block 0 of a new index.
void WriteFirstMeta(Relation index, const MetaPage& meta);

// The maintainer's part, who holds ShareUpdateExclusiveLock on the table, or is alone with a new index;
// docs/architecture.md "Concurrency" steps 3 and 4.

// The first of `count` ids that nobody else is given, in a record of its own.
uint64_t TakeIds(Relation index, uint32_t count);
// Makes `after` what is live, in one record, with the next epoch: from then on that is what scans, inserts and standbys
// see. Everything it refers to has been logged, and its objects are stored. `*after` becomes what is on the page, which
// keeps what inserts and TakeIds have changed since `after` was read.
void PublishMeta(Relation index, MetaPage* after);

// For who vacuums, in a record of its own: from now on the index needs a library with this feature.
void RequireFeature(Relation index, uint32_t feature);
// Says in the meta page which deleted pages a later sweep may offer for use: besides those it knows of (bulk delete), or all
// there are (a sweep, which has looked at every page).
void AddWaitingPages(Relation index, const DeletedPages& waiting);
void RecordSweep(Relation index, const DeletedPages& waiting);

}  // namespace ivfremote
