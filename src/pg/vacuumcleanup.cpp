// amvacuumcleanup: maintenance, as far as it is due, and statistics. May run in parallel mode: assigns no transaction id,
// starts no subtransaction, writes no catalog; and never looks at the table.
#include <algorithm>

#include "pg/access_method.h"
#include "pg/compact.h"
#include "pg/maintenance.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"
#include "pg/settings.h"

extern "C" {
#include "storage/proc.h"
}

namespace ivfremote {
namespace {

bool PreventsWraparound() { return (MyProc->statusFlags & PROC_VACUUM_FOR_WRAPAROUND) != 0; }

// Whether there are as many pending rows as FlushPending is for.
bool FlushIsDue(const Maintenance* maintenance) {
  Relation index = maintenance->index;
  const MetaPage& meta = *maintenance->meta;
  const uint64_t appended = CountPendingRows(index, meta.sealed) + CountPendingRows(index, meta.current);
  uint64_t rows = appended;
  for (uint32_t i = 0; i < meta.segment_count; ++i) rows += meta.segments[i].rows;
  const double threshold = FlushThreshold(index, static_cast<double>(rows));
  // Cheaper than looking at them all.
  if (appended == 0 || static_cast<double>(appended) < threshold) return false;
  const uint64_t alive =
      CountLivePendingRows(index, meta, meta.sealed) + CountLivePendingRows(index, meta, meta.current);
  return alive > 0 && static_cast<double>(alive) >= threshold;
}

void Flush(Maintenance* maintenance) {
  const auto full = [&] { return maintenance->meta->segment_count >= MetaPage::kMaxSegments; };
  if (full()) CompactAsDue(maintenance);
  // If it is full in spite of that, a warning says so.
  uint64_t rows;
  if (!maintenance->gave_up || full()) FlushPending(maintenance, &rows);
}

void Maintain(Relation index, IndexBulkDeleteResult* stats) {
  Maintenance* maintenance = StartMaintenance(index, true);
  if (FlushIsDue(maintenance)) Flush(maintenance);
  CompactAsDue(maintenance);
  SweepPages(maintenance);
  stats->pages_newly_deleted += maintenance->pages_newly_deleted;
  stats->pages_deleted = maintenance->pages_deleted;
  stats->pages_free = maintenance->pages_free;
  EndMaintenance(maintenance);
}

}  // namespace

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
  if (!PreventsWraparound()) Maintain(info->index, stats);
  stats->num_pages = RelationGetNumberOfBlocks(info->index);
  return stats;
}

}  // namespace ivfremote
