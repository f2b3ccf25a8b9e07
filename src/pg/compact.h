// Compaction: live rows of some segments become one. maintenance.h has CompactSegments.
#pragma once

#include "pg/maintenance.h"

namespace ivfremote {

uint64_t CountLiveRows(Relation index, const SegmentEntry& segment);
inline bool HasDeadRows(Relation index, const SegmentEntry& segment) {
  return CountLiveRows(index, segment) < segment.rows;
}

// VACUUM leaves the segments as they are: says why, and that nothing more is wanted of the store.
void GiveUpCompaction(Maintenance* maintenance, int sqlstate, const char* why);

}  // namespace ivfremote
