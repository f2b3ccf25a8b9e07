// Compaction: live rows of some segments become one. maintenance.h has CompactSegments.
#pragma once

#include "pg/maintenance.h"

namespace ivfremote {

uint64_t CountLiveRows(Relation index, const SegmentEntry& segment);
inline bool HasDeadRows(Relation index, const SegmentEntry& segment) {
  return CountLiveRows(index, segment) < segment.rows;
}

// How many rows a list should have, of `rows` alive in all segments: what a build would give it.
double TargetRows(const MetaPage& meta, uint64_t rows);
// Lists are not split where rows are in two lists each.
bool MayBeSplit(const MetaPage& meta);
// Of every list, about how many rows are alive in all segments; `live_rows`: of each segment.
Held<std::vector<uint64_t>>* RowsOfLists(Relation index, const MetaPage& meta, const uint64_t* live_rows);

// What VACUUM compacts, as far as its limits allow.
void CompactAsDue(Maintenance* maintenance);

// VACUUM leaves the segments as they are: says why, and that nothing more is wanted of the store.
void GiveUpCompaction(Maintenance* maintenance, int sqlstate, const char* why);

}  // namespace ivfremote
