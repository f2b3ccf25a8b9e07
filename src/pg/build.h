// CREATE INDEX, phase by phase. Plain data shared by the phases; C++ objects are held by `context`.
#pragma once

#include "core/calibration.h"
#include "core/coding.h"
#include "core/routing.h"
#include "core/training.h"
#include "pg/page.h"
#include "pg/server_upload.h"
#include "pg/settings.h"
#include "pg/vectors.h"
#include "pg/wall.h"

extern "C" {
#include "executor/tuptable.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"
}

namespace ivfremote {

// In the order they run; names in AmBuildPhaseName. 1 is Postgres's own "initializing".
enum class BuildPhase : int64 {
  kSampling = 2,
  kTraining = 3,
  kAssigning = 4,
  kCalibrating = 5,
  kWriting = 6,
  kLoadingPending = 7
};

// The rows that training sees, in routing space: in table order, in a temporary file beyond its share of memory.
struct SampleStore {
  MemoryContext context;  // of all this
  Tuplestorestate* rows;  // (tid tid, row bytea)
  TupleTableSlot* slot;
  Held<SampleSummary>* summary;
};

struct BuildWorkers;  // build_parallel.h

struct Build {
  Relation heap;          // null in maintenance, which never reads the table
  Relation index;
  IndexInfo* info;        // the same
  // Where the rows come from: its sealed generation, whose rows have no lists. Null: from the table.
  const MetaPage* pending;
  MemoryContext context;      // everything of the build
  MemoryContext row_context;  // reset for every row
  Metric metric;
  ValueType value_type;       // where the table is read
  int requested_lists;   // 0: automatic
  const char* server;    // "" if embedded
  StoreLimit* limit;     // of VACUUM; null: none, see server_upload.h

  // What the sample says.
  uint32_t dimensions;    // 0: no row yet
  double estimated_rows;
  double rows_per_block;
  uint32_t lists;

  bool spill;
  CodeFormat format;       // bits 0: by dimension, until that is known
  uint64_t rotation_seed;

  Held<Routing>* routing;
  Held<RowCoder>* coder;
  Held<Calibration>* calibration;
  Held<RecallCurve>* curve;
  Held<SampleRows>* sample;  // for calibrations to come, from the segment; null: none

  double heap_rows;     // seen by the build's scan of the table
  double indexed_rows;

  uint64_t segment_id;
  uint64_t routing_id;
  SegmentEntry segment;
};

// In CREATE INDEX and REINDEX: what a build shares with a flush must leave VACUUM's progress view alone.
void ReportProgress(int parameter, int64 value);
void StartBuildPhase(BuildPhase phase);
// Of the segment, in the writing phase: how much is stored for good, of about how much.
void ReportBytesWritten(uint64_t stored, uint64_t expected);
int64_t MaintenanceBytes();
// What each holder of sample rows may have in memory before it takes to a temporary file.
int SampleKilobytes();

// The vector of an index tuple, or false if it is not to be indexed. Allocates in the current context. Fixes the build's
// dimensions by the first row alive, and checks every other against them.
bool BuildVector(Build* build, Datum* values, bool* isnull, bool alive, Vector* vector);

// Estimates the table's rows and dimensions, and chooses the number of lists.
void MeasureTable(Build* build);

// Chooses the number of lists for `build->estimated_rows`.
void ChooseLists(Build* build);

// Draws rows evenly from the table, or from all pending ones, for `build->lists` lists. At least one, or an error.
SampleStore* DrawSample(Build* build);
// The next row, in memory that lasts until the next call; false at the end.
bool NextSampleRow(SampleStore* sample, Tid* tid, const float** row);
void DropSample(SampleStore* sample);

// Reduces `lists` to what memory holds, draws a sample and trains `routing` on it. Some of its rows become the queries of
// `calibration`.
void TrainLists(Build* build);

// Makes `coder`, when there is a routing.
void StartCoding(Build* build);
// Makes `calibration`; takes the sample rows `queries` and their TIDs.
void StartCalibration(Build* build, std::vector<float>* queries, std::vector<Tid>* tids);

// What the rows being trained on may take in memory, and what the centroids of all lists may.
int64_t TrainingBytes();
int TrainingThreads();

// Finds `curve`, when all rows have passed by and the routing has its radii; `calibration` is gone afterwards.
void Calibrate(Build* build);

// Assigns every row to its list, codes it, sorts, finds the recall curve and writes the segment with its directory and
// tid map. False if build->limit has been met.
bool BuildSegment(Build* build);

// All phases after the number of lists is chosen. Puts into `meta` what they have made: format, routing, curve and the segment.
// False if build->limit has been met.
bool TrainAndBuild(Build* build, MetaPage* meta);

// TIDs in the sort.
inline int64 PackTid(Tid tid) { return static_cast<int64>(tid.block) << 16 | tid.offset; }
inline Tid UnpackTid(int64 packed) {
  return {static_cast<uint32_t>(packed >> 16), static_cast<uint16_t>(packed & 0xffff)};
}

// All rows as (list int4, centroid int4, tid int8, row bytea), in this order, ready to be read. `centroid` is the list whose
// centroid the row's code refers to.
struct AssignedRows {
  TupleDesc descriptor;
  Tuplesortstate* sort;
  BuildWorkers* workers;  // whose files the sort reads; null: there were none
};

// The last part of BuildSegment: turns the sorted rows into build->segment, in a server or in pages, and its directory. The tid map
// is not its matter. False if build->limit has been met.
bool WriteSegment(Build* build, const AssignedRows& rows);

}  // namespace ivfremote
