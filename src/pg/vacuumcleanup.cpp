// amvacuumcleanup.
#include "pg/access_method.h"
#include "pg/maintenance.h"
#include "pg/pending.h"

namespace ivfremote {

IndexBulkDeleteResult* AmVacuumCleanup(IndexVacuumInfo* info, IndexBulkDeleteResult* stats) {
  if (info->analyze_only) return stats;
  if (stats == nullptr) {
    // Nothing was deleted, so nothing was counted: dead rows from before are in these figures.
    stats = static_cast<IndexBulkDeleteResult*>(palloc0(sizeof(IndexBulkDeleteResult)));
    auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
    ReadMeta(info->index, meta);
    uint64_t rows = CountPendingRows(info->index, meta->current) + CountPendingRows(info->index, meta->sealed);
    for (uint32_t i = 0; i < meta->segment_count; ++i) rows += meta->segments[i].rows;
    pfree(meta);
    stats->num_index_tuples = static_cast<double>(rows);
    stats->estimated_count = true;
  }
  Maintenance* maintenance = StartMaintenance(info->index, true);
  SweepPages(maintenance);
  stats->pages_newly_deleted += maintenance->pages_newly_deleted;
  stats->pages_deleted = maintenance->pages_deleted;
  stats->pages_free = maintenance->pages_free;
  EndMaintenance(maintenance);
  stats->num_pages = RelationGetNumberOfBlocks(info->index);
  return stats;
}

}  // namespace ivfremote
