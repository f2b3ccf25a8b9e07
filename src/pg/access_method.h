// The access method's callbacks, one file each.
#pragma once

#include "pg/postgres_c.h"

namespace ivfremote {

IndexBuildResult* AmBuild(Relation heap, Relation index, IndexInfo* info);
void AmBuildEmpty(Relation index);
char* AmBuildPhaseName(int64 phase);
bool AmInsert(Relation index, Datum* values, bool* isnull, ItemPointer heap_tid, Relation heap,
              IndexUniqueCheck check_unique, bool unchanged, IndexInfo* info);
IndexBulkDeleteResult* AmBulkDelete(IndexVacuumInfo* info, IndexBulkDeleteResult* stats,
                                    IndexBulkDeleteCallback callback, void* callback_state);
IndexBulkDeleteResult* AmVacuumCleanup(IndexVacuumInfo* info, IndexBulkDeleteResult* stats);
void AmCostEstimate(struct PlannerInfo* root, struct IndexPath* path, double loop_count, Cost* startup, Cost* total,
                    Selectivity* selectivity, double* correlation, double* pages);
bool AmValidate(Oid opclass);
IndexScanDesc AmBeginScan(Relation index, int key_count, int order_by_count);
void AmRescan(IndexScanDesc scan, ScanKey keys, int key_count, ScanKey order_bys, int order_by_count);
bool AmGetTuple(IndexScanDesc scan, ScanDirection direction);
void AmEndScan(IndexScanDesc scan);
// So many rows of each search are not what the caller asked for: it asks for as many more, and no list is read for them.
void IgnoreRows(IndexScanDesc scan, uint32_t rows);

}  // namespace ivfremote
