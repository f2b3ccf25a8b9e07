// The live rows of a generation, chain by chain, from copies of its pages.
#pragma once

#include "pg/page.h"

namespace ivfremote {

struct PendingReader {
  Relation index;
  PendingGeneration generation;
  CodeFormat format;
  PendingLayout layout;
  std::byte* wide;  // [layout.code_bytes]; null if rows are in place
  float* values;    // [dimensions]; null if rows are codes
  PageCopy page;

  uint32_t next_group;
  uint32_t end_group;
  BlockNumber block;        // of the page; kNoBlock: none yet
  BlockNumber next_block;   // of the chain being read
  uint32_t position;        // the least the next page may have
  uint32_t row;             // next one of the page
};

// Allocated in the current context.
PendingReader* StartPendingReader(Relation index, const MetaPage& meta, const PendingGeneration& generation);

// Of its sample instead: rows as floats, which may be dead.
PendingReader* StartSampleReader(Relation index, const MetaPage& meta, const PendingGeneration& generation);

// The next live row; false at the end. Looks for interrupts, and delays VACUUM, between pages.
bool NextPendingRow(PendingReader* reader, PendingRow* row);

// The code, floats or bits of the row given last, layout.code_bytes, until the next call of either; not aligned.
const std::byte* PendingRowCode(PendingReader* reader);
// The row given last as floats, unless it is a code; until the next call.
const float* PendingRowFloats(PendingReader* reader);

void EndPendingReader(PendingReader* reader);

uint64_t CountLivePendingRows(Relation index, const MetaPage& meta, const PendingGeneration& generation);

}  // namespace ivfremote
