// What a maintainer does: flush, compaction, sweep. One at a time for each index; the protocol is in docs/architecture.md
// "Concurrency", steps 3 to 9.
#pragma once

#include "pg/build.h"
#include "pg/page.h"

namespace ivfremote {

// One round of maintenance of one index, whose table is locked in ShareUpdateExclusiveLock. Plain data; C++ objects are held by
// `context`. The table is not looked at: VACUUM has no snapshot that protects its rows.
struct Maintenance {
  Relation index;
  MemoryContext context;
  MetaPage* meta;      // what is live; changed here, then published
  const char* server;  // where new segments go; "": pages of the index

  // What VACUUM may want of a store. By hand there is no limit, and failures are errors.
  bool in_vacuum;
  Clock::time_point deadline;
  uint64_t bytes_left;
  StoreLimit* limit;  // for what it writes; null by hand
  bool gave_up;  // the store has failed, and a WARNING said so: nothing more is wanted of it in this round

  // What SweepPages found: marked now; deleted in all; and of these offered for use.
  uint32_t pages_newly_deleted;
  uint32_t pages_deleted;
  uint32_t pages_free;
};

Maintenance* StartMaintenance(Relation index, bool in_vacuum);
void EndMaintenance(Maintenance* maintenance);

// In VACUUM, before the store is needed: whether it can be asked at all. If not, maintenance->limit says why.
bool FindServer(Maintenance* maintenance);

// A segment to be made for this index as it is trained now: format, routing (all of it) and an id of its own, in a memory context of
// its own. Its rows go into sorts (StartSorts), and WriteSegment makes the rest.
Build* NewSegmentBuild(Maintenance* maintenance);

// Makes the pending rows a segment, which trains an untrained index. False if the store has failed (gave_up). `*rows`: flushed.
bool FlushPending(Maintenance* maintenance, uint64_t* rows);

// Makes one segment of the live rows of those numbered `inputs` in the segment table, ascending. With all segments as
// inputs, lists that have grown too large are split and the recall curve is found anew. False if the store has failed.
bool CompactSegments(Maintenance* maintenance, const uint32_t* inputs, uint32_t count);

// Marks pages whose owner is not live as deleted, and offers deleted ones for use that nobody can come across any more. Reads the
// whole index, if something was published or made since the last time, or bulk delete has left enough; else nothing.
void SweepPages(Maintenance* maintenance);

}  // namespace ivfremote
