// Flush: pending rows -> a segment. docs/architecture.md "Concurrency", steps 5 and 6. And ivfremote_flush(index).
#include <algorithm>
#include <cstring>

#include "pg/build_assign.h"
#include "pg/flush_sample.h"
#include "pg/maintenance.h"
#include "pg/open_index.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"
#include "pg/server_upload.h"
#include "pg/test_point.h"

extern "C" {
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace ivfremote {
namespace {

// From then on rows are appended to a new generation, and the one there was is complete.
void Seal(Maintenance* maintenance) {
  MetaPage* meta = maintenance->meta;
  const CodeKind code_kind = meta->trained() ? meta->code_kind : meta->raw_kind();
  const PendingGeneration next =
      CreateGeneration(maintenance->index, TakeIds(maintenance->index, 1), meta->list_count, code_kind);
  TestPoint("seal.directory");
  meta->sealed = meta->current;
  meta->current = next;
  PublishMeta(maintenance->index, meta);
  TestPoint("seal.published");
}

bool IsRaw(const PendingGeneration& generation) { return generation.list_count == 0; }

// Of rows that have lists.
AssignedRows SortCodedRows(const MetaPage& meta, Build* build) {
  RowSorts sorts = StartSorts(SortKilobytes(1), nullptr, nullptr);
  Held<SampleMatcher>* sample = meta.sealed.sampled() ? ReadSample(build, meta, meta.sealed) : nullptr;
  PendingReader* reader = StartPendingReader(build->index, meta, meta.sealed);
  PendingRow row;
  while (NextPendingRow(reader, &row)) {
    const Tid tid{row.tid_block, row.tid_offset};
    const std::byte* code = PendingRowCode(reader);
    if (row.list >= meta.list_count || row.centroid >= meta.list_count)
      ThrowCorruptIndex(build->index, reader->block, "a pending row is of a list that there is not");
    if (sample != nullptr)
      CallCore([&] {
        (*sample)->Offer(tid, row.centroid, code);
        return Status::Ok();
      });
    PutSortRow(&sorts, row.list, row.centroid, tid, code, reader->layout.code_bytes);
    PutSortTid(&sorts, tid);
    ++build->indexed_rows;
  }
  EndPendingReader(reader);
  if (sample != nullptr) TakeSample(build, sample);
  else DrawSampleOfRows(build, meta, meta.sealed);
  return FinishSorts(build, &sorts);
}

// Of rows as they are, which an index trained since has not given lists yet.
AssignedRows SortRawRows(const MetaPage& meta, Build* build) {
  build->pending = &meta;
  build->spill = GetIndexOptions(build->index)->spill;
  StartCoding(build);
  DrawSampleOfRows(build, meta, meta.sealed);
  return AssignRows(build);
}

void PublishWithoutSealed(Maintenance* maintenance) {
  maintenance->meta->sealed = PendingGeneration();
  PublishMeta(maintenance->index, maintenance->meta);
}

// Makes the sealed generation of a trained index a segment, or nothing if none of its rows is alive. False if the store has
// failed.
bool FlushSealed(Maintenance* maintenance, uint64_t* rows) {
  MetaPage* meta = maintenance->meta;
  if (CountPendingRows(maintenance->index, meta->sealed) == 0) {
    PublishWithoutSealed(maintenance);
    return true;
  }
  Build* build = NewSegmentBuild(maintenance);
  MemoryContext old = MemoryContextSwitchTo(build->context);
  AssignedRows assigned = IsRaw(meta->sealed) ? SortRawRows(*meta, build) : SortCodedRows(*meta, build);
  const bool any = build->indexed_rows > 0;
  const bool written = !any || WriteSegment(build, assigned);
  EndAssignedRows(&assigned);
  if (written) TestPoint("flush.uploaded");
  if (written) {
    if (any) {
      meta->segments[meta->segment_count++] = build->segment;
      meta->last_flush = GetCurrentTimestamp();
    }
    TestPoint("flush.pages");
    PublishWithoutSealed(maintenance);
    *rows += static_cast<uint64_t>(build->indexed_rows);
  }
  MemoryContextSwitchTo(old);
  MemoryContextDelete(build->context);
  if (written) TestPoint("flush.published");
  return written;
}

// Trains the index on its pending rows, and makes the sealed ones its first segment. What has been inserted meanwhile is then
// sealed. False if the store has failed.
bool TrainOnSealed(Maintenance* maintenance, uint64_t pending_rows, uint64_t* rows) {
  MetaPage* meta = maintenance->meta;
  Build* build = NewSegmentBuild(maintenance);
  MemoryContext old = MemoryContextSwitchTo(build->context);
  build->pending = meta;
  build->spill = GetIndexOptions(build->index)->spill;
  build->dimensions = meta->dimensions;
  build->requested_lists = static_cast<int>(meta->requested_lists);
  build->estimated_rows = static_cast<double>(pending_rows);
  build->routing_id = TakeIds(build->index, 2);
  const uint64_t generation = build->routing_id + 1;
  ChooseLists(build);
  auto* after = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  std::memcpy(static_cast<void*>(after), meta, sizeof *meta);
  const bool built = TrainAndBuild(build, after);
  if (built) {
    TestPoint("flush.uploaded");
    after->sealed = meta->current;
    after->current = CreateGeneration(build->index, generation, after->list_count, after->code_kind);
    after->last_flush = GetCurrentTimestamp();
    TestPoint("flush.pages");
    PublishMeta(build->index, after);
    std::memcpy(static_cast<void*>(meta), after, sizeof *after);
    *rows += static_cast<uint64_t>(build->indexed_rows);
  }
  MemoryContextSwitchTo(old);
  MemoryContextDelete(build->context);
  if (built) TestPoint("train.published");
  return built;
}

// By hand, why nothing is done.
void NoteTooFew(const Maintenance* maintenance, uint64_t rows, double threshold) {
  if (maintenance->in_vacuum) return;
  ereport(NOTICE, (errmsg("index \"%s\" is not flushed before it has %.0f rows", RelationGetRelationName(maintenance->index),
                          std::max(threshold, 1.0)),
                   errdetail("It has %llu, and is trained by its first flush. Until then every search looks at all rows.",
                             static_cast<unsigned long long>(rows)),
                   errhint("Use ALTER INDEX ... SET (flush_threshold = ...) to train it on fewer.")));
}

// Trains an untrained index, unless there are too few rows. False if the store has failed.
bool Train(Maintenance* maintenance, uint64_t* rows) {
  Relation index = maintenance->index;
  const MetaPage& meta = *maintenance->meta;
  const uint64_t sealed = CountLivePendingRows(index, meta, meta.sealed);
  const uint64_t alive = sealed + CountLivePendingRows(index, meta, meta.current);
  const double threshold = FlushThreshold(index, static_cast<double>(alive));
  if (alive == 0 || static_cast<double>(alive) < threshold) {
    NoteTooFew(maintenance, alive, threshold);
    return true;
  }
  if (maintenance->server[0] != '\0' && !CheckServerAnswers(index, maintenance->server, maintenance->limit)) return false;
  if (meta.sealed.id != 0 && sealed == 0) PublishWithoutSealed(maintenance);
  if (meta.sealed.id == 0) Seal(maintenance);
  return TrainOnSealed(maintenance, alive, rows);
}

bool HasRoom(Maintenance* maintenance) {
  if (maintenance->meta->segment_count < MetaPage::kMaxSegments) return true;
  const char* index = RelationGetRelationName(maintenance->index);
  ereport(maintenance->in_vacuum ? WARNING : ERROR,
          (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
           errmsg("index \"%s\" has %u segments, as many as there can be", index, MetaPage::kMaxSegments),
           maintenance->in_vacuum ? errdetail("Its rows stay pending and are searched; the next VACUUM will try again.") : 0,
           maintenance->in_vacuum ? errhint("CALL ivfremote_compact(%s).", quote_literal_cstr(index))
                                  : errhint("Run VACUUM, or CALL ivfremote_compact().")));
  return false;
}

bool TryFlush(Maintenance* maintenance, uint64_t* rows) {
  const MetaPage* meta = maintenance->meta;
  if (!FindServer(maintenance)) return false;
  const bool training = !meta->trained();
  if (training && !Train(maintenance, rows)) return false;
  if (!meta->trained()) return true;
  // What was inserted during training; or an earlier flush failed after it had sealed.
  if (meta->sealed.id != 0) {
    if (!HasRoom(maintenance)) return true;
    if (!FlushSealed(maintenance, rows)) return false;
  }
  // Samples of rows that have gone must go, too: they are floats.
  if (training || CountPendingRows(maintenance->index, meta->current) + CountSampleRows(maintenance->index, meta->current) == 0 ||
      !HasRoom(maintenance))
    return true;
  Seal(maintenance);
  return FlushSealed(maintenance, rows);
}

}  // namespace

bool FlushPending(Maintenance* maintenance, uint64_t* rows) {
  *rows = 0;
  if (TryFlush(maintenance, rows)) return true;
  maintenance->gave_up = true;
  ereport(WARNING, (errcode(maintenance->limit->sqlstate),
                    errmsg("could not flush index \"%s\"", RelationGetRelationName(maintenance->index)),
                    errdetail_internal("%s.", maintenance->limit->why),
                    errhint("Its rows stay pending and are searched; VACUUM will try again.")));
  return false;
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_flush);
Datum ivfremote_flush(PG_FUNCTION_ARGS) {
  PreventCommandDuringRecovery("ivfremote_flush()");
  PreventCommandIfReadOnly("ivfremote_flush()");
  const IndexAndTable opened = OpenIndexForMaintenance(PG_GETARG_OID(0), ShareUpdateExclusiveLock);
  Maintenance* maintenance = StartMaintenance(opened.index, false);
  uint64_t rows;
  FlushPending(maintenance, &rows);
  SweepPages(maintenance);
  EndMaintenance(maintenance);
  // As VACUUM's, the locks are kept to the end of the transaction.
  CloseIndexAndTable(opened, NoLock);
  PG_RETURN_INT64(static_cast<int64>(rows));
}

}  // extern "C"
