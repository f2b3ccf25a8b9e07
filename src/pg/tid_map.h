// Tid maps on pages: whether a segment's row is alive, and which TIDs it holds.
#pragma once

#include "core/page_format.h"
#include "pg/page.h"
#include "pg/stream.h"

namespace ivfremote {

// Whether `tid` is alive in the tid map.
bool TidMapHas(TreeReader* reader, Tid tid);

// Calls visit(argument, tid) for every live TID of a segment; where it returns true the TID is marked dead, in place,
// in one record a page. Returns the number of TIDs visited; adds the number marked to *cleared. The callback runs under
// the page's exclusive lock.
uint64_t SweepTidMap(Relation index, uint64_t owner, const StreamRef& tid_map,
                     bool (*visit)(void* argument, Tid tid), void* argument, BufferAccessStrategy strategy,
                     uint64_t* cleared);

// Calls visit(argument, tid) for every live TID, page by page, under no lock.
void VisitLiveTids(Relation index, uint64_t owner, const StreamRef& tid_map, void (*visit)(void* argument, Tid tid),
                   void* argument);

}  // namespace ivfremote
