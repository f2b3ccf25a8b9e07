// ambulkdelete: marks dead what the callback names, among every live TID of the index, and gives back pages of pending rows that
// are all dead. It needs no store and no cleanup lock, and never needs space: a scan that has already read a row dies on its
// own snapshot.
#include "pg/access_method.h"
#include "pg/compat.h"
#include "pg/pending.h"
#include "pg/stream.h"
#include "pg/tid_map.h"

namespace ivfremote {
namespace {

struct BulkDelete {
  IndexVacuumInfo* info;
  IndexBulkDeleteCallback callback;
  void* callback_state;
  IndexBulkDeleteResult* stats;
  uint32_t features;  // required by the index
  DeletedPages deleted;
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

struct Chain {
  const PendingGeneration* generation;
  PendingLayout layout;
  uint32_t group;
  uint32_t position;
  StreamRef* dead_streams;  // [rows_per_page], of wide rows
};

// What a pending page has turned out to be.
struct VisitedPage {
  BlockNumber next;
  bool dead;  // it has rows, and all are dead
};

// Marks in one record; `*dead_streams`: how many rows that died now had a stream.
VisitedPage DeleteFromPendingPage(BulkDelete* state, Chain* chain, BlockNumber block, uint32_t* dead_streams) {
  Relation index = state->info->index;
  const PendingLayout& layout = chain->layout;
  IVFREMOTE_VACUUM_DELAY();
  const Buffer buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL, state->info->strategy);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  CheckIndexPage(index, block, BufferGetPage(buffer), PageKind::kPending, chain->generation->id);
  GenericXLogState* xlog = GenericXLogStart(index);
  const Page page = GenericXLogRegisterBuffer(xlog, buffer, 0);
  const PageSpecial* special = SpecialOf(page);
  CheckPendingRows(index, block, layout, *special, &chain->position);
  bool changed = false;
  bool alive = false;
  *dead_streams = 0;
  for (uint32_t i = 0; i < special->used; ++i) {
    auto* row = reinterpret_cast<PendingRow*>(PayloadOf(page) + layout.RowOffset(i));
    if ((row->flags & PendingRow::kDead) != 0) continue;
    if (IsDead(state, {row->tid_block, row->tid_offset})) {
      row->flags |= PendingRow::kDead;
      changed = true;
      ++state->stats->tuples_removed;
      if (layout.wide) chain->dead_streams[(*dead_streams)++] = *reinterpret_cast<StreamRef*>(row + 1);
    } else {
      alive = true;
      ++state->stats->num_index_tuples;
    }
  }
  const VisitedPage visited{special->next, special->used > 0 && !alive};
  if (changed)
    GenericXLogFinish(xlog);
  else
    GenericXLogAbort(xlog);
  UnlockReleaseBuffer(buffer);
  return visited;
}

void DeleteFromChain(BulkDelete* state, Chain* chain) {
  Relation index = state->info->index;
  BlockNumber previous = kNoBlock;
  BlockNumber block = PendingChainHead(index, *chain->generation, chain->group);
  while (block != kNoBlock) {
    uint32_t dead_streams = 0;
    const VisitedPage visited = DeleteFromPendingPage(state, chain, block, &dead_streams);
    // No row refers to them from here on. What a crash leaves is freed with the generation.
    for (uint32_t i = 0; i < dead_streams; ++i)
      DeleteStream(index, chain->generation->id, chain->dead_streams[i], &state->deleted);
    if (visited.dead && visited.next != kNoBlock && (state->features & MetaPage::kPendingGaps) == 0) {
      RequireFeature(index, MetaPage::kPendingGaps);
      state->features |= MetaPage::kPendingGaps;
    }
    const bool left = visited.dead && DropDeadPage(index, *chain->generation, {chain->group, previous, block, visited.next},
                                                   chain->layout, &state->deleted);
    if (!left) previous = block;
    block = visited.next;
  }
}

void DeleteFromGeneration(BulkDelete* state, const PendingGeneration& generation, const MetaPage& meta) {
  if (generation.id == 0 || meta.dimensions == 0) return;
  Chain chain{&generation, PendingLayoutFor(meta.FormatOf(generation), generation.row_bytes), 0, 0, nullptr};
  if (chain.layout.wide)
    chain.dead_streams = static_cast<StreamRef*>(palloc(chain.layout.rows_per_page * sizeof(StreamRef)));
  for (chain.group = 0; chain.group < generation.group_count; ++chain.group) {
    chain.position = 0;
    DeleteFromChain(state, &chain);
  }
  if (chain.dead_streams != nullptr) pfree(chain.dead_streams);
}

}  // namespace

IndexBulkDeleteResult* AmBulkDelete(IndexVacuumInfo* info, IndexBulkDeleteResult* stats,
                                    IndexBulkDeleteCallback callback, void* callback_state) {
  if (stats == nullptr) stats = static_cast<IndexBulkDeleteResult*>(palloc0(sizeof(IndexBulkDeleteResult)));
  stats->num_index_tuples = 0;
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMetaToWrite(info->index, meta);
  BulkDelete state{info, callback, callback_state, stats, meta->required_features, {}};
  DeleteFromGeneration(&state, meta->sealed, *meta);
  DeleteFromGeneration(&state, meta->current, *meta);
  for (uint32_t i = 0; i < meta->segment_count; ++i) DeleteFromSegment(&state, meta->segments[i]);
  pfree(meta);
  if (state.deleted.count > 0) AddWaitingPages(info->index, state.deleted);
  stats->pages_newly_deleted += state.deleted.count;
  return stats;
}

}  // namespace ivfremote
