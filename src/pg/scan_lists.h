// Which lists a scan reads: those of its first wave, and those of each further one, best first, up to a bound.
//
// The curve says which lists hold the first n rows. A filter that keeps the share s of the rows needs, for k of them, what
// k / s rows need without it, and an executor that asks for row n has not filled its LIMIT yet: so before row n is given,
// the lists for n rows are read (decision 0012).
#pragma once

#include "core/list_ranker.h"
#include "core/search.h"
#include "pg/page.h"
#include "pg/stream.h"

namespace ivfremote {

// What ivfremote.max_probes = -1 stands for, in lists of the first wave.
inline constexpr uint64_t kDefaultMaxWaves = 8;

// What ended a scan: no list, or no request, was left to it.
enum class ScanEnd : int { kNone, kAllLists, kMaxProbes, kMaxScanRequests, kOff };

// As ivfremote_last_scan() has it; null: none.
const char* ScanEndName(ScanEnd end);

// Plain data, in the scan's memory context.
struct ScanLists {
  MemoryContext context;
  const float* query;
  bool goes_on;         // ivfremote.iterative_scan, when the scan started
  double rows;          // that the lists taken so far are for
  uint32_t taken;       // lists, of all waves
  uint32_t first_count;
  uint32_t* first;      // the first wave's, ascending
  uint32_t most;        // lists the scan may take
  RankedList* further;  // best first: those after the first wave; null before it is needed
  uint32_t further_count;
  uint32_t next;        // of further
  ScanEnd end;          // what there is no further wave for
};

// The lists of the first wave, ascending, without centroids. In the current context, but for what `lists` keeps.
ProbedLists TakeFirstLists(Relation index, const MetaPage& meta, ScanLists* lists);

// How many lists the next wave would take, 0 if there is none: `end` says why.
uint32_t CountFurtherLists(Relation index, const MetaPage& meta, ScanLists* lists);

// Of those the best `count`, ascending, without centroids; in the current context. May be called again with another
// count, and then TookFurtherLists with the one it comes to.
ProbedLists FurtherLists(const ScanLists& lists, uint32_t count);
void TookFurtherLists(ScanLists* lists, uint32_t count);

// Their centroids, copied: the session's index may be replaced while the scan runs.
void CopyCentroids(Relation index, const MetaPage& meta, TreeReader* routing, ProbedLists* lists);

// The routing's mean, copied.
float* CopyMean(Relation index, const MetaPage& meta, TreeReader* routing);

}  // namespace ivfremote
