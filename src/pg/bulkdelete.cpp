// ambulkdelete: marks dead what the callback names, among every live TID of the index. It needs no store and no cleanup
// lock, and never needs space: a scan that has already read a row dies on its own snapshot.
#include "pg/access_method.h"
#include "pg/compat.h"
#include "pg/pending.h"
#include "pg/tid_map.h"

namespace ivfremote {
namespace {

struct BulkDelete {
  IndexVacuumInfo* info;
  IndexBulkDeleteCallback callback;
  void* callback_state;
  IndexBulkDeleteResult* stats;
};

bool IsDead(void* argument, Tid tid) {
  auto* state = static_cast<BulkDelete*>(argument);
  ItemPointerData pointer;
  SetItemPointer(&pointer, tid);
  return state->callback(&pointer, state->callback_state);
}

void DeleteFromSegment(BulkDelete* state, const SegmentEntry& segment) {
  uint64_t cleared = 0;
  const uint64_t visited = SweepTidMap(state->info->index, segment.id, segment.tid_map, IsDead, state,
                                       state->info->strategy, &cleared);
  state->stats->tuples_removed += static_cast<double>(cleared);
  state->stats->num_index_tuples += static_cast<double>(visited - cleared);
}

// Returns the next page of the chain.
BlockNumber DeleteFromPendingPage(BulkDelete* state, const PendingLayout& layout, uint64_t generation,
                                  BlockNumber block, uint32_t number) {
  Relation index = state->info->index;
  IVFREMOTE_VACUUM_DELAY();
  const Buffer buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, state->info->strategy);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  CheckIndexPage(index, block, BufferGetPage(buffer), PageKind::kPending, generation);
  GenericXLogState* xlog = GenericXLogStart(index);
  const Page page = GenericXLogRegisterBuffer(xlog, buffer, 0);
  const PageSpecial* special = SpecialOf(page);
  CheckPendingRows(index, block, layout, *special, number);
  bool changed = false;
  for (uint32_t i = 0; i < special->used; ++i) {
    auto* row = reinterpret_cast<PendingRow*>(PayloadOf(page) + layout.RowOffset(i));
    if ((row->flags & PendingRow::kDead) != 0) continue;
    if (IsDead(state, {row->tid_block, row->tid_offset})) {
      row->flags |= PendingRow::kDead;
      changed = true;
      ++state->stats->tuples_removed;
    } else {
      ++state->stats->num_index_tuples;
    }
  }
  const BlockNumber next = special->next;
  if (changed)
    GenericXLogFinish(xlog);
  else
    GenericXLogAbort(xlog);
  UnlockReleaseBuffer(buffer);
  return next;
}

void DeleteFromGeneration(BulkDelete* state, const PendingGeneration& generation, const MetaPage& meta) {
  if (generation.id == 0 || meta.dimensions == 0) return;
  const PendingLayout layout = PendingLayoutFor(meta.FormatOf(generation), generation.row_bytes);
  for (uint32_t group = 0; group < generation.group_count; ++group) {
    BlockNumber block = PendingChainHead(state->info->index, generation, group);
    for (uint32_t number = 0; block != kNoBlock; ++number)
      block = DeleteFromPendingPage(state, layout, generation.id, block, number);
  }
}

}  // namespace

IndexBulkDeleteResult* AmBulkDelete(IndexVacuumInfo* info, IndexBulkDeleteResult* stats,
                                    IndexBulkDeleteCallback callback, void* callback_state) {
  if (stats == nullptr) stats = static_cast<IndexBulkDeleteResult*>(palloc0(sizeof(IndexBulkDeleteResult)));
  stats->num_index_tuples = 0;
  BulkDelete state{info, callback, callback_state, stats};
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMetaToWrite(info->index, meta);
  DeleteFromGeneration(&state, meta->sealed, *meta);
  DeleteFromGeneration(&state, meta->current, *meta);
  for (uint32_t i = 0; i < meta->segment_count; ++i) DeleteFromSegment(&state, meta->segments[i]);
  pfree(meta);
  return stats;
}

}  // namespace ivfremote
