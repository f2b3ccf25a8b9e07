// ivfremote_recall(): what recall an index gives for queries, against one pass over the table. recall.cpp is the outline,
// recall_truth.cpp the pass, recall_scan.cpp the searches.
#pragma once

#include <vector>

#include "core/calibration.h"
#include "pg/page.h"
#include "pg/vectors.h"
#include "pg/wall.h"

namespace ivfremote {

inline constexpr uint32_t kMaxRecallQueries = 2000;

struct RecallQueries {
  std::vector<float> values;  // [n x dimensions], as the user gives them
  std::vector<Tid> tids;      // of queries that are rows of the table; else empty
};

// Plain data; C++ objects are held by `context`.
struct RecallRun {
  Relation heap;
  Relation index;
  Snapshot snapshot;
  ValueType value_type;
  MetaPage* meta;
  uint32_t k;
  MemoryContext context;
  MemoryContext row_context;  // reset for every row

  Held<RecallQueries>* queries;
  uint32_t query_count;
  Held<Routing>* routing;
  Held<Calibration>* calibration;  // knows the truth after FindTruth
  double rows;                     // of the index that FindTruth saw

  // What a row of the table is looked at with.
  TupleTableSlot* slot;
  struct IndexInfo* info;
  struct EState* executor;
  struct ExprState* predicate;  // of a partial index, else null

  const float* query(uint32_t i) const { return &(*queries)->values[size_t{i} * meta->dimensions]; }
};

// Sets up what the functions below look at rows with, and takes it down again.
void StartReadingRows(RecallRun* run);
void EndReadingRows(RecallRun* run);

// The indexed vector of the row in the slot, in `row_context` or the slot; false if the row is not in the index.
bool IndexedVector(RecallRun* run, Vector* vector);

// Draws up to `count` rows of random blocks as queries; may find none.
void SampleQueries(RecallRun* run, uint32_t count);

// Passes all rows of the table by the queries.
void FindTruth(RecallRun* run);

// Means of a query.
struct MeasuredRecall {
  bool known;  // false if no query has a neighbour: no rows, or distances too large for float32
  double recall;
  double lists;
  double rows_scored;
  double table_rows_read;
  double bytes;
};

// Searches for all queries with the settings as they are.
MeasuredRecall MeasureRecall(RecallRun* run);

}  // namespace ivfremote
