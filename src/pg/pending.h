// Pending rows: what was inserted since the last segment was written, as chains of pages, one chain for each group of
// neighbouring lists. docs/architecture.md "Concurrency" has the protocol.
#pragma once

#include "core/page_format.h"
#include "pg/page.h"
#include "pg/vectors.h"

namespace ivfremote {

// Writes the empty directory of a new generation of an index with so many lists; 0: untrained.
PendingGeneration CreateGeneration(Relation index, uint64_t id, uint32_t list_count);

// Writes the meta page and the empty directory of an untrained index into an unlogged index's init fork.
void WriteInitFork(Relation index, MetaPage* meta);

// Codes a row and appends it to the current generation, fixing the index's dimensions if it is the first. False if the
// row is not indexed (a zero vector under cosine). Never touches the store.
bool InsertPendingRow(Relation index, ItemPointer tid, const Vector& vector);

// The first page of a group's chain, or kNoBlock.
BlockNumber PendingChainHead(Relation index, const PendingGeneration& generation, uint32_t group);
// Rows appended to the generation, dead ones included.
uint64_t CountPendingRows(Relation index, const PendingGeneration& generation);

// Ends with an error unless the page is number `number` of its chain and its rows fit.
void CheckPendingRows(Relation index, BlockNumber block, const PendingLayout& layout, const PageSpecial& special,
                      uint32_t number);

inline Tid TidOf(ItemPointer pointer) {
  return {ItemPointerGetBlockNumberNoCheck(pointer), ItemPointerGetOffsetNumberNoCheck(pointer)};
}
inline void SetItemPointer(ItemPointer pointer, Tid tid) { ItemPointerSet(pointer, tid.block, tid.offset); }

}  // namespace ivfremote
