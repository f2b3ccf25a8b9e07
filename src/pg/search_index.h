// Runs one search over an index: ranks the lists, reads the directories, fetches the blocks in one wave and scores them
// with the pending rows.
#pragma once

#include "core/search.h"
#include "pg/last_scan.h"
#include "pg/page.h"
#include "pg/search_wave.h"
#include "pg/stream.h"
#include "pg/wall.h"

namespace ivfremote {

// What a scan sees: everything read from one copy of the meta page. Allocated in the scan's memory context.
struct IndexSearch {
  Relation index;
  MetaPage* meta;
  bool float32_operator;  // set before: the query's operator sums in float32, as pgvector's do
  bool coded;
  bool exact;  // candidates come with their distances, or in no order; else with lower bounds
  Held<Search>* search;
  const SegmentEntry* segments[MetaPage::kMaxSegments];  // by number in `search`
  Wave* wave;                                            // while SearchLists runs
  TreeReader* routing;                                   // the same
};

// Adds every live row in no order: for a query that has no distances.
void AddAllRows(IndexSearch* search);

// Fetches and scores what the probed lists hold. `query` has the index's dimensions.
void SearchLists(IndexSearch* search, const float* query, ScanRecord* record);

}  // namespace ivfremote
