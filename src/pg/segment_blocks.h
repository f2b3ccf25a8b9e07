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

// The next block; false at the end, or when maintenance->limit has been met (StoreFailed). Waits for the store.
bool NextBlock(SegmentBlocks* blocks);

// Any bytes of a segment. False if maintenance->limit has been met.
bool ReadSegmentBytes(Maintenance* maintenance, const SegmentEntry& segment, uint64_t offset, size_t length, std::byte* to);

// What was decoded of these bytes: an error, or a failure of the store, if they are damaged.
void CheckSegmentBytes(Maintenance* maintenance, const SegmentEntry& segment, const CoreError& error);

void CloseSegment(SegmentBlocks* blocks);

}  // namespace ivfremote
