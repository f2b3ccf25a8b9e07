#include "pg/build_assign.h"

#include <algorithm>
#include <cstring>

#include "pg/build_parallel.h"
#include "pg/compat.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"
#include "pg/probes.h"
#include "pg/stream.h"

extern "C" {
#include "access/parallel.h"
#include "catalog/pg_operator_d.h"
#include "executor/tuptable.h"
}

namespace ivfremote {
namespace {

// Rows compared with all queries of the calibration between two looks for interrupts.
constexpr size_t kComparedRows = 256;
constexpr int kSortColumns = 4;

// Of the memory of both sorts that of TIDs gets this share.
constexpr int kTidShare = 8;

TupleDesc SortDescriptor() {
  TupleDesc descriptor = CreateTemplateTupleDesc(kSortColumns);
  TupleDescInitEntry(descriptor, 1, "list", INT4OID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "centroid", INT4OID, -1, 0);
  TupleDescInitEntry(descriptor, 3, "tid", INT8OID, -1, 0);
  TupleDescInitEntry(descriptor, 4, "row", BYTEAOID, -1, 0);
  return descriptor;
}

// ---------------------------------------------------------------------------------------------------------------------
// A batch: rows in table order -> (list, centroid, tid, row) in the sort, and the calibration.

void EncodeRows(Participant* participant, const uint32_t* lists) {
  const Build* build = participant->build;
  const size_t d = build->dimensions;
  const size_t row_bytes = build->format.RowBytes();
  CallCore([&] {
    for (size_t i = 0; i < participant->filled; ++i)
      (*build->coder)
          ->Encode(participant->rows + i * d, &(*build->routing)->centroids[lists[i] * d],
                   participant->codes + i * row_bytes);
    return Status::Ok();
  });
  CHECK_FOR_INTERRUPTS();
}

// Hands the batch's rows to the sort, with their codes; all, or those for which `lists` differs from `but_lists`.
void PutRows(Participant* participant, const uint32_t* lists, const uint32_t* but_lists) {
  const Build* build = participant->build;
  const size_t row_bytes = build->format.RowBytes();
  for (size_t i = 0; i < participant->filled; ++i)
    if (but_lists == nullptr || lists[i] != but_lists[i])
      PutSortRow(&participant->sorts, lists[i], lists[i], participant->tids[i], participant->codes + i * row_bytes,
                 row_bytes);
}

void CompareRows(Participant* participant) {
  const Build* build = participant->build;
  if (build->calibration == nullptr) return;
  const size_t row_bytes = build->format.RowBytes();
  for (size_t first = 0; first < participant->filled; first += kComparedRows) {
    CHECK_FOR_INTERRUPTS();
    CallCore([&] {
      (*build->calibration)
          ->Add(participant->routed + first * build->dimensions, std::min(kComparedRows, participant->filled - first),
                participant->lists + first, build->spill ? participant->second_lists + first : nullptr,
                participant->tids + first, participant->codes + first * row_bytes);
      return Status::Ok();
    });
  }
}

void AssignBatch(Participant* participant) {
  Build* build = participant->build;
  CallCore([&] {
    Assigner& assigner = **participant->assigner;
    if (build->spill)
      assigner.AssignTwo(participant->routed, participant->filled, participant->lists, participant->second_lists);
    else
      assigner.Assign(participant->routed, participant->filled, participant->lists);
    return Status::Ok();
  });
  CHECK_FOR_INTERRUPTS();
  EncodeRows(participant, participant->lists);
  PutRows(participant, participant->lists, nullptr);
  CompareRows(participant);
  if (build->spill) {
    EncodeRows(participant, participant->second_lists);
    PutRows(participant, participant->second_lists, participant->lists);
  }
  for (size_t i = 0; i < participant->filled; ++i) PutSortTid(&participant->sorts, participant->tids[i]);
  build->indexed_rows += static_cast<double>(participant->filled);
  const uint64 done = pg_atomic_add_fetch_u64(participant->rows_done, static_cast<int64>(participant->filled));
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(done));
  participant->filled = 0;
}

// `vector`: [dimensions].
void AddToBatch(Participant* participant, Tid tid, const float* vector) {
  const Build* build = participant->build;
  const size_t d = build->dimensions;
  float* row = participant->rows + participant->filled * d;
  std::memcpy(row, vector, d * sizeof(float));
  CallCore([&] {
    ToRoutingSpace(build->metric, row, d, participant->routed + participant->filled * d);
    return Status::Ok();
  });
  participant->tids[participant->filled++] = tid;
  if (participant->filled == participant->capacity) AssignBatch(participant);
}

void AssignRow(Relation, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* participant = static_cast<Participant*>(argument);
  Build* build = participant->build;
  MemoryContext old = MemoryContextSwitchTo(build->row_context);
  Vector vector;
  if (BuildVector(build, values, isnull, alive, &vector)) AddToBatch(participant, TidOf(tid), vector.values);
  MemoryContextSwitchTo(old);
  MemoryContextReset(build->row_context);
}

// ---------------------------------------------------------------------------------------------------------------------
// The tid map: sorted TIDs -> pages.

struct TidMapWriter {
  Held<TidMapBuilder>* builder;
  TreeWriter tree;
  std::byte* page;  // [kPayloadBytes]
};

void WriteTidMapPage(TidMapWriter* writer) {
  uint32_t first_block = 0;
  uint32_t entries = 0;
  CallCore([&] {
    const TidMapBuilder::Page page = (*writer->builder)->TakePage();
    std::memcpy(writer->page, page.payload.data(), kPayloadBytes);
    first_block = page.first_block;
    entries = page.entries;
    return Status::Ok();
  });
  TreeWriterAddLeaf(&writer->tree, PageKind::kTidMap, first_block, entries, {writer->page, kPayloadBytes});
}

StreamRef WriteTidMap(const Build* build, Tuplesortstate* tids) {
  TidMapWriter writer;
  writer.builder = Hold<TidMapBuilder>(build->context, [] { return new TidMapBuilder(); });
  TreeWriterInit(&writer.tree, build->index, build->segment_id);
  writer.page = static_cast<std::byte*>(palloc(kPayloadBytes));
  Datum packed;
  bool isnull;
  while (IVFREMOTE_GET_DATUM(tids, &packed, &isnull)) {
    CHECK_FOR_INTERRUPTS();
    bool page_full = false;
    CallCore([&] { return (*writer.builder)->Add(UnpackTid(DatumGetInt64(packed)), &page_full); });
    if (page_full) WriteTidMapPage(&writer);
  }
  for (bool more = true; more;) {
    CallCore([&] {
      more = (*writer.builder)->Finish();
      return Status::Ok();
    });
    if (more) WriteTidMapPage(&writer);
  }
  Drop(writer.builder);
  pfree(writer.page);
  return TreeWriterFinish(&writer.tree, writer.tree.leaves);
}

}  // namespace

int SortKilobytes(int participants) { return maintenance_work_mem / 2 / participants; }

RowSorts StartSorts(int kilobytes, SortCoordinate rows, SortCoordinate tids) {
  constexpr int kKeys = kSortColumns - 1;
  AttrNumber columns[kKeys] = {1, 2, 3};
  Oid operators[kKeys] = {Int4LessOperator, Int4LessOperator, Int8LessOperator};
  Oid collations[kKeys] = {};
  bool nulls_first[kKeys] = {};
  const int tid_kilobytes = kilobytes / kTidShare;
  RowSorts sorts;
  sorts.descriptor = SortDescriptor();
  sorts.rows = tuplesort_begin_heap(sorts.descriptor, kKeys, columns, operators, collations, nulls_first,
                                    kilobytes - tid_kilobytes, rows, TUPLESORT_NONE);
  sorts.tids =
      tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid, false, tid_kilobytes, tids, TUPLESORT_NONE);
  sorts.slot = MakeSingleTupleTableSlot(sorts.descriptor, &TTSOpsVirtual);
  sorts.row_context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote sorted row", ALLOCSET_DEFAULT_SIZES);
  return sorts;
}

void PutSortRow(RowSorts* sorts, uint32_t list, uint32_t centroid, Tid tid, const std::byte* row, size_t row_bytes) {
  MemoryContext old = MemoryContextSwitchTo(sorts->row_context);
  auto* bytes = static_cast<bytea*>(palloc(VARHDRSZ + row_bytes));
  SET_VARSIZE(bytes, VARHDRSZ + row_bytes);
  std::memcpy(VARDATA(bytes), row, row_bytes);
  TupleTableSlot* slot = sorts->slot;
  ExecClearTuple(slot);
  slot->tts_values[0] = Int32GetDatum(static_cast<int32>(list));
  slot->tts_values[1] = Int32GetDatum(static_cast<int32>(centroid));
  slot->tts_values[2] = Int64GetDatum(PackTid(tid));
  slot->tts_values[3] = PointerGetDatum(bytes);
  std::fill_n(slot->tts_isnull, kSortColumns, false);
  ExecStoreVirtualTuple(slot);
  tuplesort_puttupleslot(sorts->rows, slot);
  ExecClearTuple(slot);
  MemoryContextSwitchTo(old);
  MemoryContextReset(sorts->row_context);
}

void PutSortTid(RowSorts* sorts, Tid tid) { tuplesort_putdatum(sorts->tids, Int64GetDatum(PackTid(tid)), false); }

AssignedRows FinishSorts(Build* build, RowSorts* sorts) {
  ExecDropSingleTupleTableSlot(sorts->slot);
  MemoryContextDelete(sorts->row_context);
  tuplesort_performsort(sorts->tids);
  build->segment.tid_map = WriteTidMap(build, sorts->tids);
  tuplesort_end(sorts->tids);
  tuplesort_performsort(sorts->rows);
  return {sorts->descriptor, sorts->rows, nullptr};
}

void StartCoding(Build* build) {
  build->coder = Hold<RowCoder>(build->context, [&] {
    return new RowCoder(build->metric, build->format, build->rotation_seed, (*build->routing)->mean.data());
  });
}

void DropSorts(RowSorts* sorts) {
  ExecDropSingleTupleTableSlot(sorts->slot);
  MemoryContextDelete(sorts->row_context);
  tuplesort_end(sorts->tids);
  tuplesort_end(sorts->rows);
}

void StartCalibration(Build* build, std::vector<float>* queries, std::vector<Tid>* tids) {
  const Routing* routing = build->routing->object;
  CalibrationOptions options;
  options.metric = build->metric;
  options.format = build->format;
  options.rotation_seed = build->rotation_seed;
  options.epsilon = DefaultEpsilon(build->format.bits);
  build->calibration = Hold<Calibration>(build->context, [&] {
    return new Calibration(options, routing, std::move(*queries), std::move(*tids));
  });
}

Participant* StartParticipant(Build* build, const RowSorts& sorts, pg_atomic_uint64* rows_done) {
  auto* participant = static_cast<Participant*>(palloc0(sizeof(Participant)));
  participant->build = build;
  participant->assigner =
      Hold<Assigner>(build->context, [&] { return new Assigner(build->routing->object); });
  participant->sorts = sorts;
  participant->rows_done = rows_done;
  const size_t capacity = (*participant->assigner)->batch_rows();
  const size_t row_bytes = build->dimensions * sizeof(float);
  participant->capacity = capacity;
  participant->rows = static_cast<float*>(palloc(capacity * row_bytes));
  participant->routed = static_cast<float*>(palloc(capacity * row_bytes));
  participant->tids = static_cast<Tid*>(palloc(capacity * sizeof(Tid)));
  participant->lists = static_cast<uint32_t*>(palloc(capacity * sizeof(uint32_t)));
  if (build->spill) participant->second_lists = static_cast<uint32_t*>(palloc(capacity * sizeof(uint32_t)));
  participant->codes = static_cast<std::byte*>(palloc(capacity * build->format.RowBytes()));
  return participant;
}

void AssignScannedRows(Participant* participant, TableScanDesc scan) {
  Build* build = participant->build;
  build->heap_rows += table_index_build_scan(build->heap, build->index, build->info, true, !IsParallelWorker(), AssignRow,
                                             participant, scan);
  if (participant->filled > 0) AssignBatch(participant);
}

void AssignPendingRows(Participant* participant, const PendingGeneration& generation) {
  const Build* build = participant->build;
  PendingReader* reader = StartPendingReader(build->index, *build->pending, generation);
  PendingRow row;
  while (NextPendingRow(reader, &row))
    AddToBatch(participant, {row.tid_block, row.tid_offset}, PendingRowFloats(reader));
  EndPendingReader(reader);
  if (participant->filled > 0) AssignBatch(participant);
}

Held<Assigner>* EndParticipant(Participant* participant) {
  pfree(participant->rows);
  pfree(participant->routed);
  pfree(participant->tids);
  pfree(participant->lists);
  if (participant->second_lists != nullptr) pfree(participant->second_lists);
  pfree(participant->codes);
  return participant->assigner;
}

AssignedRows AssignRows(Build* build) {
  BuildWorkers* workers = build->pending == nullptr ? StartBuildWorkers(build) : nullptr;
  RowSorts sorts;
  Held<Assigner>* assigner;
  if (workers == nullptr) {
    pg_atomic_uint64 rows_done;
    pg_atomic_init_u64(&rows_done, 0);
    sorts = StartSorts(SortKilobytes(1), nullptr, nullptr);
    Participant* participant = StartParticipant(build, sorts, &rows_done);
    if (build->pending == nullptr) AssignScannedRows(participant, nullptr);
    else AssignPendingRows(participant, build->pending->sealed);
    assigner = EndParticipant(participant);
  } else {
    assigner = AssignWithWorkers(workers, &sorts);
  }
  // Of a routing that is there already they stay.
  if (build->calibration != nullptr)
    CallCore([&] {
      (*build->routing)->radii = (*assigner)->Radii();
      return Status::Ok();
    });
  Drop(assigner);
  AssignedRows rows = FinishSorts(build, &sorts);
  rows.workers = workers;
  return rows;
}

void EndAssignedRows(AssignedRows* rows) {
  tuplesort_end(rows->sort);
  if (rows->workers != nullptr) EndBuildWorkers(rows->workers);
}

}  // namespace ivfremote
