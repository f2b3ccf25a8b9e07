// ivfremote_verify()'s comparison of rows: every live TID of the index is in one place, and the table's rows are all in it.
#include <algorithm>
#include <cstring>

#include "core/distance.h"
#include "pg/build.h"
#include "pg/pending.h"
#include "pg/tid_map.h"
#include "pg/verify.h"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/pg_operator_d.h"
}

namespace ivfremote {

// --------------------------------------------------------------------------------------------------------------------
// Sorts

TidSort* NewTidSort() {
  // Two sorts are open at a time: of all rows, and of one segment's.
  const int kilobytes = std::max(64, static_cast<int>(MaintenanceBytes() / 1024 / 2));
  auto* sort = static_cast<TidSort*>(palloc(sizeof(TidSort)));
  sort->descriptor = CreateTemplateTupleDesc(2);
  TupleDescInitEntry(sort->descriptor, 1, "tid", INT8OID, -1, 0);
  TupleDescInitEntry(sort->descriptor, 2, "number", INT8OID, -1, 0);
  AttrNumber columns[2] = {1, 2};
  Oid operators[2] = {Int8LessOperator, Int8LessOperator};
  Oid collations[2] = {InvalidOid, InvalidOid};
  bool nulls_first[2] = {false, false};
  sort->sort = tuplesort_begin_heap(sort->descriptor, 2, columns, operators, collations, nulls_first, kilobytes, nullptr,
                                    TUPLESORT_NONE);
  sort->slot = MakeSingleTupleTableSlot(sort->descriptor, &TTSOpsVirtual);
  return sort;
}

void PutTid(TidSort* sort, Tid tid, int64 number) {
  ExecClearTuple(sort->slot);
  sort->slot->tts_values[0] = Int64GetDatum(PackTid(tid));
  sort->slot->tts_values[1] = Int64GetDatum(number);
  sort->slot->tts_isnull[0] = sort->slot->tts_isnull[1] = false;
  ExecStoreVirtualTuple(sort->slot);
  tuplesort_puttupleslot(sort->sort, sort->slot);
}

void StartReadingTids(TidSort* sort) {
  tuplesort_performsort(sort->sort);
  ExecDropSingleTupleTableSlot(sort->slot);
  sort->slot = MakeSingleTupleTableSlot(sort->descriptor, &TTSOpsMinimalTuple);
}

bool NextTid(TidSort* sort, Tid* tid, int64* number) {
  CHECK_FOR_INTERRUPTS();
  if (!tuplesort_gettupleslot(sort->sort, true, false, sort->slot, nullptr)) return false;
  bool isnull;
  *tid = UnpackTid(DatumGetInt64(slot_getattr(sort->slot, 1, &isnull)));
  *number = DatumGetInt64(slot_getattr(sort->slot, 2, &isnull));
  return true;
}

void EndTidSort(TidSort* sort) {
  ExecDropSingleTupleTableSlot(sort->slot);
  tuplesort_end(sort->sort);
  pfree(sort);
}

// --------------------------------------------------------------------------------------------------------------------
// Places of a row, as numbers: the table, a segment, a pending page and the row on it

namespace {

constexpr int64 kTable = -1;
constexpr int64 kPending = int64{1} << 62;

BlockNumber PendingBlock(int64 place) { return static_cast<BlockNumber>((place & ~kPending) >> 16); }

Spot SpotOf(const Verify* verify, int64 place, Tid tid) {
  if (place >= kPending) return {"pending rows", PendingBlock(place), nullptr, tid};
  const uint64_t id = verify->meta->segments[place].id;
  return {psprintf("segment " UINT64_FORMAT, id), kNoBlock, nullptr, tid};
}

bool IsAliveInSegment(const Verify* verify, const SegmentEntry& segment, Tid tid) {
  TreeReader reader;
  TreeReaderInit(&reader, verify->index, segment.id, segment.tid_map);
  const bool alive = TidMapHas(&reader, tid);
  if (reader.inner != nullptr) pfree(reader.inner);
  return alive;
}

bool IsAliveOnPage(Verify* verify, const PendingGeneration& generation, int64 place, Tid tid) {
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  bool alive = false;
  if (LookAgain(verify, PendingBlock(place), PageKind::kPending, generation.id, page)) {
    const PendingLayout layout = PendingLayoutFor(verify->meta->FormatOf(generation), generation.row_bytes);
    const auto number = static_cast<uint32_t>(place & 0xffff);
    PendingRow row;
    std::memcpy(&row, page->payload + layout.RowOffset(std::min(number, layout.rows_per_page - 1)), sizeof row);
    alive = number < page->special.used && (row.flags & PendingRow::kDead) == 0 &&
            Tid{row.tid_block, row.tid_offset} == tid;
  }
  pfree(page);
  return alive;
}

bool IsLiveNow(const Verify* verify, uint64_t owner) {
  auto* now = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(verify->index, now);
  const bool live = IsLive(*now, owner);
  pfree(now);
  return live;
}

// Whether the row still is in that place: bulk delete may have marked it since we were there. Of what has been flushed or
// compacted meanwhile nobody marks anything, so it says nothing any more: false.
bool StillAlive(Verify* verify, int64 place, Tid tid) {
  const MetaPage& meta = *verify->meta;
  if (place < kPending) {
    const SegmentEntry& segment = meta.segments[place];
    const bool alive = !verify->tid_map_whole[place] || IsAliveInSegment(verify, segment, tid);
    return alive && IsLiveNow(verify, segment.id);
  }
  for (const PendingGeneration* generation : {&meta.sealed, &meta.current})
    if (generation->id != 0 && IsAliveOnPage(verify, *generation, place, tid)) return IsLiveNow(verify, generation->id);
  return false;
}

// --------------------------------------------------------------------------------------------------------------------
// The table

void PutTableRow(Relation, ItemPointer pointer, Datum* values, bool* isnull, bool, void* argument) {
  auto* verify = static_cast<Verify*>(argument);
  if (isnull[0]) return;
  const Tid tid = TidOf(pointer);
  const MetaPage& meta = *verify->meta;
  const ValueType type = GetOpclassInfo(verify->index)->value_type;
  MemoryContext old = MemoryContextSwitchTo(verify->row_context);
  bool indexed = true;
  if (meta.dimensions != 0 && !IsUsableVector(type, values[0], meta.dimensions)) {
    indexed = false;
    Report(verify, {"table", kNoBlock, nullptr, tid}, "row has a value that the index cannot have");
  } else if (meta.metric == Metric::kCosine) {
    const Vector vector = VectorFrom(type, values[0]);
    indexed = SquaredNorm(vector.values, vector.dimensions) > 0;
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(verify->row_context);
  if (indexed) PutTid(verify->rows, tid, kTable);
}

// Every row of the table that the snapshot sees and the index should have, by the root of its HOT chain.
void PutTableRows(Verify* verify, Snapshot snapshot) {
  IndexInfo* info = BuildIndexInfo(verify->index);
  info->ii_Concurrent = true;  // a snapshot of MVCC, not SnapshotAny
  info->ii_Unique = false;
  TableScanDesc scan = table_beginscan_strat(verify->heap, snapshot, 0, nullptr, true, true);
  (void)table_index_build_scan(verify->heap, verify->index, info, true, false, PutTableRow, verify, scan);
}

// Whether the TID is that of a row, be it dead or nobody's yet. Where an entry of the index outlives its row, another row
// can get its TID.
bool IsRow(Relation heap, Tid tid) {
  if (heap->rd_tableam != GetHeapamTableAmRoutine()) return true;
  if (tid.block >= RelationGetNumberOfBlocks(heap)) return false;
  const Buffer buffer = ReadBuffer(heap, tid.block);
  LockBuffer(buffer, BUFFER_LOCK_SHARE);
  const Page page = BufferGetPage(buffer);
  bool row = tid.offset <= PageGetMaxOffsetNumber(page);
  if (row) {
    const ItemId item = PageGetItemId(page, tid.offset);
    row = ItemIdIsUsed(item);
    if (row && ItemIdIsNormal(item))
      row = !HeapTupleHeaderIsHeapOnly(reinterpret_cast<HeapTupleHeader>(PageGetItem(page, item)));
  }
  UnlockReleaseBuffer(buffer);
  return row;
}

// --------------------------------------------------------------------------------------------------------------------

// All entries of one TID.
struct Entries {
  Tid tid;
  bool in_table;
  int places;  // of the index, the first of them below
  int64 place[4];
};

void CheckEntries(Verify* verify, const Entries& entries, bool table) {
  if (entries.places == 0) {
    Report(verify, {"table", kNoBlock, nullptr, entries.tid}, "row is not in the index");
    return;
  }
  const int64 last = entries.place[std::min(entries.places, 4) - 1];
  if (entries.places > 1) {
    // At the time the last of them was found, all that are still alive were.
    int alive = 0;
    for (int i = 0; i < std::min(entries.places, 4); ++i) alive += StillAlive(verify, entries.place[i], entries.tid) ? 1 : 0;
    if (alive > 1) Report(verify, SpotOf(verify, last, entries.tid), "row is in the index %d times", entries.places);
  } else if (table && !entries.in_table && !IsRow(verify->heap, entries.tid) && StillAlive(verify, last, entries.tid)) {
    Report(verify, SpotOf(verify, last, entries.tid), "index has a row that is not in the table");
  }
}

}  // namespace

void PutSegmentRow(Verify* verify, uint32_t number, Tid tid) { PutTid(verify->rows, tid, number); }

void PutPendingRow(Verify* verify, BlockNumber block, uint32_t row, Tid tid) {
  PutTid(verify->rows, tid, kPending | static_cast<int64>(block) << 16 | row);
}

void VerifyRows(Verify* verify, Snapshot snapshot) {
  if (snapshot != nullptr) PutTableRows(verify, snapshot);
  StartReadingTids(verify->rows);
  Entries entries{};
  Tid tid;
  int64 place;
  for (bool any = false;;) {
    const bool more = NextTid(verify->rows, &tid, &place);
    if (any && (!more || tid != entries.tid)) {
      CheckEntries(verify, entries, snapshot != nullptr);
      entries = Entries{};
    }
    if (!more) break;
    any = true;
    entries.tid = tid;
    if (place == kTable)
      entries.in_table = true;
    else if (entries.places++ < 4)
      entries.place[entries.places - 1] = place;
  }
  EndTidSort(verify->rows);
}

}  // namespace ivfremote
