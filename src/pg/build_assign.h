// The assigning phase of a build: every row to its list, coded, sorted. Several processes may share it (build_parallel.h).
#pragma once

#include "core/assignment.h"
#include "pg/build.h"

namespace ivfremote {

// The phase itself, with as many workers as there should be. Also writes the tid map; if there is a calibration completes it,
// and sets the routing's radii.
AssignedRows AssignRows(Build* build);
void EndAssignedRows(AssignedRows* rows);

// ---------------------------------------------------------------------------------------------------------------------
// What one process does of it.

// The rows, and their TIDs once each for the tid map, which is written in the table's order.
struct RowSorts {
  TupleDesc descriptor;
  Tuplesortstate* rows;
  Tuplesortstate* tids;
  TupleTableSlot* slot;  // of the row being put
  MemoryContext row_context;
};

// How many kilobytes each of `participants` may sort in: half of maintenance_work_mem is for all of them.
int SortKilobytes(int participants);

// The coordinates are null where one process does it all.
RowSorts StartSorts(int kilobytes, SortCoordinate rows, SortCoordinate tids);

void PutSortRow(RowSorts* sorts, uint32_t list, uint32_t centroid, Tid tid, const std::byte* row, size_t row_bytes);
void PutSortTid(RowSorts* sorts, Tid tid);

// Writes the tid map of `build->segment`; the rows are ready to be read. Nothing more may be put.
AssignedRows FinishSorts(Build* build, RowSorts* sorts);
// Instead, where the rows are not wanted any more.
void DropSorts(RowSorts* sorts);

struct Participant {
  Build* build;
  Held<Assigner>* assigner;
  RowSorts sorts;
  pg_atomic_uint64* rows_done;  // of all participants

  // The batch being filled.
  size_t capacity;
  size_t filled;
  float* rows;    // as they are
  float* routed;  // in routing space; after they are assigned less the mean
  Tid* tids;
  uint32_t* lists;
  uint32_t* second_lists;  // spill only
  std::byte* codes;        // RowBytes each
};

Participant* StartParticipant(Build* build, const RowSorts& sorts, pg_atomic_uint64* rows_done);

// Takes the rows of `scan` (ended afterwards) through the batches into the sorts, build->calibration and the assigner; null:
// of the whole table. Adds to the build's row counts.
void AssignScannedRows(Participant* participant, TableScanDesc scan);

// The same with a generation of rows as they are.
void AssignPendingRows(Participant* participant, const PendingGeneration& generation);

// Frees what only batches need; returns the assigner. The sorts stay.
Held<Assigner>* EndParticipant(Participant* participant);

}  // namespace ivfremote
