// ivfremote_verify(): what an index says of itself, held against its pages, its objects and its table. verify.cpp is the
// outline, verify_pages.cpp reads pages, verify_pending.cpp and verify_segment.cpp what they hold, verify_rows.cpp compares
// with the table.
//
// What is wrong becomes a row of the result, and the check goes on with what else can be reached. It runs beside inserts and
// a maintainer: all of it is about what one copy of the meta page names, which nobody reuses while our snapshot lasts.
#pragma once

#include "pg/page.h"
#include "pg/stream.h"
#include "pg/wall.h"

extern "C" {
#include "executor/tuptable.h"
#include "utils/tuplesort.h"
}

namespace ivfremote {

// Pairs of a TID and a number, sorted; on disk beyond a share of maintenance_work_mem.
struct TidSort {
  TupleDesc descriptor;
  Tuplesortstate* sort;
  TupleTableSlot* slot;
};

TidSort* NewTidSort();
void PutTid(TidSort* sort, Tid tid, int64 number);
void StartReadingTids(TidSort* sort);
bool NextTid(TidSort* sort, Tid* tid, int64* number);
void EndTidSort(TidSort* sort);

struct Verify {
  Relation heap;
  Relation index;
  MetaPage* meta;
  ReturnSetInfo* result;
  MemoryContext context;
  MemoryContext row_context;  // reset for every row of the result or of the table
  uint64_t start_xid;         // the next transaction id before the meta page was copied
  BlockNumber page_count;
  uint8_t* reached;           // a bit for each page
  TidSort* rows;              // every live TID with its place (verify_rows.cpp)
  bool* tid_map_whole;        // for each segment: its live bits can be read
};

// Where a problem is; what isn't known is left out.
struct Spot {
  const char* part;  // of the index
  BlockNumber block = kNoBlock;
  const char* object = nullptr;
  Tid tid{};
};

void Report(Verify* verify, const Spot& spot, const char* format, ...) pg_attribute_printf(3, 4);

// Copies a page that is reached for the first time and checks that it is the one expected; else reports, and false.
bool ReachPage(Verify* verify, const char* part, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy);
// The same for a page that is looked at again; reports nothing.
bool LookAgain(Verify* verify, BlockNumber block, PageKind kind, uint64_t owner, PageCopy* copy);

// A stream of pages below one root. `leaf` is called for each leaf of `kind` that can be read, in order, with its number.
struct StreamWalk {
  const char* part;
  uint64_t owner;
  StreamRef ref;
  PageKind kind;
  void (*leaf)(Verify* verify, void* argument, BlockNumber block, uint32_t number, const PageCopy& page);
  void* argument;
};
// Whether all of it can be read.
bool WalkStream(Verify* verify, const StreamWalk& walk);
// The bytes of a stream, walked; null if they can't be read, which has been reported.
std::byte* CollectStream(Verify* verify, const char* part, uint64_t owner, const StreamRef& ref);

void VerifyRouting(Verify* verify);
void VerifyPending(Verify* verify, const PendingGeneration& generation, const char* part);
void VerifySegment(Verify* verify, uint32_t number);

// Note a live row of the segment with this number, or of a pending page.
void PutSegmentRow(Verify* verify, uint32_t number, Tid tid);
void PutPendingRow(Verify* verify, BlockNumber block, uint32_t row, Tid tid);
// After all rows: each TID is in one place; with a snapshot, every row of the table that it sees is in one, and every place
// names a row of the table, be it dead.
void VerifyRows(Verify* verify, Snapshot snapshot);

}  // namespace ivfremote
