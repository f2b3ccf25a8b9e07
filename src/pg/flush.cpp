// Flush: pending rows -> a segment. docs/architecture.md "Concurrency", steps 5 and 6. And ivfremote_flush(index).
#include "pg/build_assign.h"
#include "pg/maintenance.h"
#include "pg/open_index.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"
#include "pg/test_point.h"

extern "C" {
#include "utils/timestamp.h"
}

namespace ivfremote {
namespace {

// From then on rows are appended to a new generation, and the one there was is complete.
void Seal(Maintenance* maintenance) {
  MetaPage* meta = maintenance->meta;
  PendingGeneration next = CreateGeneration(maintenance->index, TakeIds(maintenance->index, 1), meta->list_count);
  if (meta->trained()) next.code_kind = meta->code_kind;
  TestPoint("seal.directory");
  meta->sealed = meta->current;
  meta->current = next;
  PublishMeta(maintenance->index, meta);
  maintenance->published = true;
  TestPoint("seal.published");
}

// Puts the sealed rows, which are coded, into sorts.
RowSorts SortCodedRows(Maintenance* maintenance, Build* build) {
  RowSorts sorts = StartSorts(SortKilobytes(1), nullptr, nullptr);
  PendingReader* reader = StartPendingReader(maintenance->index, *maintenance->meta, maintenance->meta->sealed);
  PendingRow row;
  while (NextPendingRow(reader, &row)) {
    PutSortRow(&sorts, row.list, row.centroid, {row.tid_block, row.tid_offset}, PendingRowCode(reader),
               reader->layout.code_bytes);
    PutSortTid(&sorts, {row.tid_block, row.tid_offset});
    ++build->indexed_rows;
  }
  EndPendingReader(reader);
  return sorts;
}

// Makes the sealed generation a segment, or nothing if none of its rows is alive.
void FlushSealed(Maintenance* maintenance, uint64_t* rows) {
  MetaPage* meta = maintenance->meta;
  Build* build = NewSegmentBuild(maintenance);
  MemoryContext old = MemoryContextSwitchTo(build->context);
  RowSorts sorts = SortCodedRows(maintenance, build);
  AssignedRows assigned = FinishSorts(build, &sorts);
  const bool any = build->indexed_rows > 0;
  if (any) {
    WriteSegment(build, assigned);
    meta->segments[meta->segment_count++] = build->segment;
    meta->last_flush = GetCurrentTimestamp();
    TestPoint("flush.uploaded");
  }
  EndAssignedRows(&assigned);
  TestPoint("flush.pages");
  meta->sealed = PendingGeneration();
  PublishMeta(maintenance->index, meta);
  maintenance->published = true;
  *rows += static_cast<uint64_t>(build->indexed_rows);
  MemoryContextSwitchTo(old);
  MemoryContextDelete(build->context);
  TestPoint("flush.published");
}

bool HasRoom(Maintenance* maintenance) {
  if (maintenance->meta->segment_count < MetaPage::kMaxSegments) return true;
  if (!maintenance->in_vacuum)
    ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                    errmsg("index \"%s\" has %u segments, as many as there can be",
                           RelationGetRelationName(maintenance->index), MetaPage::kMaxSegments),
                    errhint("Run VACUUM, or CALL ivfremote_compact().")));
  return false;
}

}  // namespace

bool FlushPending(Maintenance* maintenance, uint64_t* rows) {
  *rows = 0;
  const MetaPage* meta = maintenance->meta;
  if (!meta->trained()) return true;
  // An earlier flush may have failed after it had sealed.
  if (meta->sealed.id != 0) {
    if (!HasRoom(maintenance)) return true;
    FlushSealed(maintenance, rows);
  }
  if (CountPendingRows(maintenance->index, meta->current) == 0 || !HasRoom(maintenance)) return true;
  Seal(maintenance);
  FlushSealed(maintenance, rows);
  return true;
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_flush);
Datum ivfremote_flush(PG_FUNCTION_ARGS) {
  PreventCommandDuringRecovery("ivfremote_flush()");
  const IndexAndTable opened = OpenIndexForMaintenance(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
  Maintenance* maintenance = StartMaintenance(opened.index, false);
  uint64_t rows;
  FlushPending(maintenance, &rows);
  if (maintenance->published) SweepPages(maintenance);
  EndMaintenance(maintenance);
  // As VACUUM's, the locks are kept to the end of the transaction.
  CloseIndexAndTable(opened, NoLock);
  PG_RETURN_INT64(static_cast<int64>(rows));
}

}  // extern "C"

namespace ivfremote {
// Until there is a sweep.
void SweepPages(Maintenance*) {}
}  // namespace ivfremote
