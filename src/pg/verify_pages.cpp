// Pages as ivfremote_verify() reads them: what is wrong with one is reported, not raised. And what is a stream of pages and
// no more: the routing, the recall curve.
#include <algorithm>
#include <cstring>

#include "core/recall_curve.h"
#include "core/routing.h"
#include "pg/verify.h"

extern "C" {
#include "utils/resowner.h"
}

namespace ivfremote {
namespace {

// Copies a page as it stands. Postgres raises an error for one with a wrong checksum or header, which ends a
// subtransaction here, since the buffer's I/O is under way; null then, and the error's text is in *problem.
bool CopyRawPage(Relation index, BlockNumber block, std::byte* to, char** problem) {
  MemoryContext context = CurrentMemoryContext;
  ResourceOwner owner = CurrentResourceOwner;
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(context);
  PG_TRY();
  {
    const Buffer buffer = ReadBuffer(index, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    std::memcpy(to, BufferGetPage(buffer), kPageBytes);
    UnlockReleaseBuffer(buffer);
    ReleaseCurrentSubTransaction();
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    ErrorData* error = CopyErrorData();
    FlushErrorState();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_IO_ERROR) ReThrowError(error);
    *problem = pstrdup(error->message);
    FreeErrorData(error);
  }
  PG_END_TRY();
  MemoryContextSwitchTo(context);
  CurrentResourceOwner = owner;
  return *problem == nullptr;
}

// Whether the block is new to us; false if the index refers to it twice, or it lies beyond the end.
bool Mark(Verify* verify, BlockNumber block, char** problem) {
  if (block >= verify->page_count) {
    const BlockNumber count = RelationGetNumberOfBlocks(verify->index);
    auto* larger = static_cast<uint8_t*>(MemoryContextAllocExtended(verify->context, count / 8 + 1,
                                                                    MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    if (verify->reached != nullptr) {
      std::memcpy(larger, verify->reached, std::min(count, verify->page_count) / 8 + 1);
      pfree(verify->reached);
    }
    verify->reached = larger;
    verify->page_count = count;
  }
  if (block >= verify->page_count) {
    *problem = psprintf("page lies beyond the end of the index, which has %u", verify->page_count);
    return false;
  }
  uint8_t* bits = &verify->reached[block / 8];
  const auto bit = static_cast<uint8_t>(1 << block % 8);
  if ((*bits & bit) != 0) *problem = pstrdup("page is referred to twice");
  *bits |= bit;
  return *problem == nullptr;
}

bool CheckRawPage(const Verify* verify, std::byte* raw, PageKind kind, uint64_t owner, PageCopy* copy, char** problem) {
  const Page page = reinterpret_cast<Page>(raw);
  if (PageIsNew(page)) {
    *problem = pstrdup("page is empty");
    return false;
  }
  if (PageGetSpecialSize(page) != MAXALIGN(sizeof(PageSpecial))) {
    *problem = pstrdup("page has the wrong special area");
    return false;
  }
  std::memcpy(copy->payload, PayloadOf(page), kPayloadBytes);
  copy->special = *SpecialOf(page);
  // One deleted since we began is as good as before (docs/architecture.md "Concurrency" step 11).
  if ((copy->special.flags & PageSpecial::kDeleted) != 0 && copy->special.retire_xid < verify->start_xid) {
    *problem = pstrdup("page is in use but deleted");
    return false;
  }
  const CoreError error = RunCore([&] { return CheckPage(copy->special, kind, owner); });
  if (error.sqlstate != 0) *problem = pstrdup(error.message);
  return error.sqlstate == 0;
}

bool TryPage(const Verify* verify, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy, char** problem) {
  CHECK_FOR_INTERRUPTS();
  alignas(MAXIMUM_ALIGNOF) std::byte raw[kPageBytes];
  return CopyRawPage(verify->index, block, raw, problem) && CheckRawPage(verify, raw, kind, owner, copy, problem);
}

}  // namespace

bool ReachPage(Verify* verify, const char* part, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy) {
  char* problem = nullptr;
  if (Mark(verify, block, &problem) && TryPage(verify, block, kind, owner, copy, &problem)) return true;
  Report(verify, {part, block}, "%s", problem);
  pfree(problem);
  return false;
}

bool LookAgain(Verify* verify, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy) {
  char* problem = nullptr;
  if (TryPage(verify, block, kind, owner, copy, &problem)) return true;
  pfree(problem);
  return false;
}

// --------------------------------------------------------------------------------------------------------------------
// Streams

namespace {

struct WalkState {
  Verify* verify;
  const StreamWalk* walk;
  bool whole;            // so far
  uint64_t leaves;       // so far, while it is whole
};

void Complain(WalkState* state, BlockNumber block, const char* problem) {
  Report(state->verify, {state->walk->part, block}, "%s", problem);
  state->whole = false;
}

uint64_t BytesOnLeaf(const StreamRef& ref, uint32_t leaf) {
  const uint64_t before = std::min(ref.bytes, uint64_t{leaf} * kPayloadBytes);
  return std::min<uint64_t>(kPayloadBytes, ref.bytes - before);
}

void WalkLeaf(WalkState* state, BlockNumber block, uint32_t key) {
  const StreamWalk& walk = *state->walk;
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  if (!ReachPage(state->verify, walk.part, block, walk.kind, walk.owner, page)) {
    state->whole = false;
  } else {
    // The keys of byte streams are the numbers; a tid map's are known only as long as no page is missing.
    const bool numbered = walk.kind != PageKind::kTidMap;
    if ((numbered ? page->special.position != key : state->whole && page->special.position != state->leaves) ||
        (numbered && state->whole && key != state->leaves)) {
      Complain(state, block, "page of a stream is out of place");
    } else if (walk.kind == PageKind::kStream && page->special.used != BytesOnLeaf(walk.ref, key)) {
      Complain(state, block, "page of a stream has the wrong length");
    } else if (walk.leaf != nullptr) {
      walk.leaf(state->verify, walk.argument, block, page->special.position, *page);
    }
  }
  ++state->leaves;
  pfree(page);
}

void WalkBelow(WalkState* state, BlockNumber block, uint32_t level, uint32_t key, bool is_root) {
  if (level == 0) return WalkLeaf(state, block, key);
  const StreamWalk& walk = *state->walk;
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  if (!ReachPage(state->verify, walk.part, block, PageKind::kTree, walk.owner, page)) {
    state->whole = false;
  } else {
    const auto* entries = reinterpret_cast<const TreeEntry*>(page->payload);
    const uint32_t count = page->special.used;
    bool ordered = count > 0 && page->special.position == level && (is_root || entries[0].key == key);
    for (uint32_t i = 1; i < count; ++i) ordered &= entries[i - 1].key < entries[i].key;
    if (!ordered) Complain(state, block, "inner page of a stream is out of place or order");
    for (uint32_t i = 0; ordered && i < count; ++i) WalkBelow(state, entries[i].block, level - 1, entries[i].key, false);
  }
  pfree(page);
}

uint64_t LeavesOf(const StreamWalk& walk) {
  return walk.kind == PageKind::kStream ? (walk.ref.bytes + kPayloadBytes - 1) / kPayloadBytes : walk.ref.bytes;
}

}  // namespace

bool WalkStream(Verify* verify, const StreamWalk& walk) {
  if (walk.ref.root == kNoBlock) return true;
  WalkState state{verify, &walk, true, 0};
  WalkBelow(&state, walk.ref.root, walk.ref.depth, 0, true);
  if (state.whole && state.leaves != LeavesOf(walk)) {
    Report(verify, {walk.part, walk.ref.root}, "stream has " UINT64_FORMAT " pages instead of " UINT64_FORMAT,
           state.leaves, LeavesOf(walk));
    return false;
  }
  return state.whole;
}

namespace {

void CollectLeaf(Verify*, void* argument, BlockNumber, uint32_t number, const PageCopy& page) {
  std::memcpy(static_cast<std::byte*>(argument) + uint64_t{number} * kPayloadBytes, page.payload, page.special.used);
}

}  // namespace

std::byte* CollectStream(Verify* verify, const char* part, uint64_t owner, const StreamRef& ref) {
  if (ref.bytes > uint64_t{RelationGetNumberOfBlocks(verify->index)} * kPayloadBytes) {
    Report(verify, {part, ref.root}, "stream is longer than the index");
    return nullptr;
  }
  auto* bytes = static_cast<std::byte*>(palloc_extended(std::max<uint64_t>(ref.bytes, 1), MCXT_ALLOC_HUGE));
  if (WalkStream(verify, {part, owner, ref, PageKind::kStream, CollectLeaf, bytes})) return bytes;
  pfree(bytes);
  return nullptr;
}

void VerifyRouting(Verify* verify) {
  const MetaPage& meta = *verify->meta;
  if (!meta.trained()) return;
  if (std::byte* bytes = CollectStream(verify, "routing", meta.routing_id, meta.routing)) {
    const CoreError error = RunCore([&] {
      Routing routing;
      IVFREMOTE_RETURN_IF_ERROR(DecodeRouting({bytes, meta.routing.bytes}, &routing));
      if (routing.dimensions != meta.dimensions || routing.metric != meta.metric ||
          routing.list_count() != meta.list_count)
        return Status::Corrupt("routing is for other vectors or lists than the index");
      return Status::Ok();
    });
    if (error.sqlstate != 0) Report(verify, {"routing", meta.routing.root}, "%s", error.message);
    pfree(bytes);
  }
  if (meta.recall_curve.bytes == 0) return;
  if (std::byte* bytes = CollectStream(verify, "recall curve", meta.curve_owner(), meta.recall_curve)) {
    const CoreError error = RunCore([&] {
      RecallCurve curve;
      return DecodeRecallCurve({bytes, meta.recall_curve.bytes}, &curve);
    });
    if (error.sqlstate != 0) Report(verify, {"recall curve", meta.recall_curve.root}, "%s", error.message);
    pfree(bytes);
  }
}

}  // namespace ivfremote
