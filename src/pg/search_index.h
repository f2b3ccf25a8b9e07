// Runs one search over an index: ranks the lists, reads the directories, fetches the blocks in one wave and scores them
// with the pending rows; and goes on with further lists, a wave each, as long as rows are asked for.
#pragma once

#include "core/search.h"
#include "pg/last_scan.h"
#include "pg/page.h"
#include "pg/scan_lists.h"
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
  int numbers[MetaPage::kMaxSegments];                   // the other way; -1: it has no number yet

  ScanLists lists;
  uint32_t waves;       // in order
  double rows_covered;  // that their lists are for

  // Of the wave under way, or being planned; what it allocates is in the context.
  MemoryContext wave_context;
  bool under_way;
  Wave wave;
  const ProbedLists* wave_lists;  // null: the index is untrained
  TreeReader* routing;

  // For ivfremote_last_scan().
  Clock::time_point start;
  SearchStatistics recorded;
  size_t requests_recorded;
};

// Before anything else, in the scan's memory context.
void InitSearch(IndexSearch* search, Relation index);

// Adds every live row in no order: for a query that has no distances.
void AddAllRows(IndexSearch* search);

// Fetches and scores what the lists of the first wave hold. `query` has the index's dimensions and lives as long as the
// search. Candidates are in order afterwards.
void SearchLists(IndexSearch* search, const float* query, ScanRecord* record);

// Starts the next wave, of which the store is asked at once. False if there is none: search->lists.end says why.
bool StartNextWave(IndexSearch* search, ScanRecord* record);

// Waits for the wave that was started, and scores it. Candidates are in order afterwards.
void FinishNextWave(IndexSearch* search, ScanRecord* record);

// -- Its parts: search_blocks.cpp and search_pending.cpp

// The blocks of these lists, in place of those planned before.
void PlanBlocks(IndexSearch* search, const ProbedLists& lists);

// In place of the lists probed: all rows, without a distance.
inline constexpr ProbedLists kAllRows;

// `lists`: those of the wave, kAllRows, or null for all rows of an untrained index.
void AddPendingRows(IndexSearch* search, const PendingGeneration& generation, const ProbedLists* lists);

// Gives the search the centroid of a list that is not probed, for codes that refer to it: from the session's copy, or pages.
void AddCentroid(IndexSearch* search, uint32_t list);

void AddUnordered(IndexSearch* search, Tid tid);

}  // namespace ivfremote
