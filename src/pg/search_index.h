// Runs one search over an index: ranks the lists, reads the directories, fetches the blocks in one wave and scores them
// with the pending rows.
#pragma once

#include "core/search.h"
#include "pg/last_scan.h"
#include "pg/page.h"
#include "pg/wall.h"

namespace ivfremote {

// How many lists a scan probes: ivfremote.probes, else the index's option, else max(8, round(sqrt(lists))); all, if there
// are fewer.
uint32_t ProbesOf(Relation index, uint32_t list_count);

struct Wave;

// What a scan sees: everything read from one copy of the meta page. Allocated in the scan's memory context.
struct IndexSearch {
  Relation index;
  MetaPage* meta;
  Held<Search>* search;
  const SegmentEntry* segments[MetaPage::kMaxSegments];  // by number in `search`
  Wave* wave;                                            // while SearchLists runs
};

// `query` has the index's dimensions.
void OpenSearch(IndexSearch* search, const float* query);

// Adds every live row in no order: for a query that has no distances.
void AddAllRows(IndexSearch* search);

// Fetches and scores what the probed lists hold. `query` has the index's dimensions.
void SearchLists(IndexSearch* search, const float* query, ScanRecord* record);

}  // namespace ivfremote
