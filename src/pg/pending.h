// Pending rows: what was inserted since the last segment was written, as chains of pages, one chain for each group of
// neighbouring lists. docs/architecture.md "Concurrency" has the protocol.
#pragma once

#include "core/page_format.h"
#include "pg/page.h"
#include "pg/vectors.h"

namespace ivfremote {

// Writes the empty directory of a new generation of an index with so many lists (0: untrained), of rows of this kind.
PendingGeneration CreateGeneration(Relation index, uint64_t id, uint32_t list_count, CodeKind code_kind);

// Writes the meta page and the empty directory of an untrained index into an unlogged index's init fork.
void WriteInitFork(Relation index, MetaPage* meta);

// Codes a row and appends it to the current generation, fixing the index's dimensions if it is the first. False if the
// row is not indexed (a zero vector under cosine). Never touches the store.
bool InsertPendingRow(Relation index, ItemPointer tid, const Vector& vector);

// Of an index with so many rows, the share that is kept for calibrations.
double SampledShare(double rows, uint32_t dimensions);

// The first page of a group's chain, or kNoBlock. The group after the last is the sample of a generation that has one.
BlockNumber PendingChainHead(Relation index, const PendingGeneration& generation, uint32_t group);
// Its page of the generation's directory.
BlockNumber PendingDirectoryBlock(Relation index, const PendingGeneration& generation, uint32_t group);
// Rows in the generation's pages, dead ones included: at least those alive.
uint64_t CountPendingRows(Relation index, const PendingGeneration& generation);
// Rows of its sample, which may be of rows long gone.
uint64_t CountSampleRows(Relation index, const PendingGeneration& generation);

// Ends with an error unless the page may come next in its chain and its rows fit. `*position` is 0 for the first page.
void CheckPendingRows(Relation index, BlockNumber block, const PendingLayout& layout, const PageSpecial& special,
                      uint32_t* position);

// A page of a chain and its neighbours, or kNoBlock.
struct PendingPlace {
  uint32_t group;
  BlockNumber previous;
  BlockNumber block;
  BlockNumber next;
};
// For bulk delete, which has found all rows of a page dead. The tail is emptied: insertion goes on there. Any other page
// leaves its chain and is marked as deleted: readers on their way through the chain may still come across it. Whether the
// page has left. Nothing is done if it is no longer the tail that it was.
bool DropDeadPage(Relation index, const PendingGeneration& generation, const PendingPlace& place,
                  const PendingLayout& layout, DeletedPages* deleted);

inline Tid TidOf(ItemPointer pointer) {
  return {ItemPointerGetBlockNumberNoCheck(pointer), ItemPointerGetOffsetNumberNoCheck(pointer)};
}
inline void SetItemPointer(ItemPointer pointer, Tid tid) { ItemPointerSet(pointer, tid.block, tid.offset); }

}  // namespace ivfremote
