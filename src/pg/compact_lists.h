// What a compaction of all segments does besides: splits lists that have grown too large, and finds the recall curve anew.
#pragma once

#include "core/coding.h"
#include "core/list_splitter.h"
#include "pg/compact.h"
#include "pg/segment_blocks.h"

namespace ivfremote {

// Rows of one block on their way into the sorts. Arrays of `capacity`.
struct RowBatch {
  size_t capacity;
  size_t filled;
  Tid* tids;
  std::byte* codes;  // RowBytes each
  uint32_t* lists;
  float* centred;  // decoded, less the mean; null where no row is decoded
  float* excess;
};

struct ListWork {
  Held<RowDecoder>* decoder;
  Held<ListSplitter>* splitter;  // null: lists stay
  Held<Assigner>* assigner;      // where lists are split
  bool calibrates;
  size_t batch_rows;  // at most, of a batch
};

// Splits lists, if there are any to be split, in compaction->build->routing; starts a calibration with the sample's rows, if they
// are enough. compaction->work stays null if there is nothing to do. False if the store has failed.
bool StartListWork(Compaction* compaction);

// A batch of rows of `list`, whose codes refer to `centroid`: decodes them and sets their lists.
void WorkOnBatch(Compaction* compaction, RowBatch* batch, uint32_t list, uint32_t centroid);

// After all rows: radii, then the curve.
void FinishListWork(Compaction* compaction);

// Writes what has changed to pages and into maintenance->meta, to be published.
void WriteListWork(Compaction* compaction);

}  // namespace ivfremote
