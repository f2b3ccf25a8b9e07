// The blocks of one segment, read from its object or its pages, for who makes a new segment of its rows.
#pragma once

#include "core/segment_reader.h"
#include "pg/maintenance.h"
#include "pg/stream.h"

namespace ivfremote {

struct SegmentBlocks {
  Maintenance* maintenance;
  const SegmentEntry* segment;
  Held<SegmentReader>* reader;
  TreeReader pages;  // embedded

  const BlockEntry& entry() const { return (*reader)->entry(); }
  const BlockView& block() const { return (*reader)->block(); }
};

// Of all lists, or of those l for which wanted[l]. In the current memory context; `segment` must stay.
SegmentBlocks* OpenSegment(Maintenance* maintenance, const SegmentEntry* segment, const bool* wanted);

// The next block; false at the end, or if the store has failed in VACUUM (maintenance->gave_up). Waits for the store.
bool NextBlock(SegmentBlocks* blocks);

void CloseSegment(SegmentBlocks* blocks);

}  // namespace ivfremote
