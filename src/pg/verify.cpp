// ivfremote_verify(index, heapallindexed)
#include "pg/verify.h"

#include "pg/open_index.h"

extern "C" {
#include "access/htup_details.h"
#include "utils/syscache.h"
}

namespace ivfremote {

void Report(Verify* verify, const Spot& spot, const char* format, ...) {
  MemoryContext old = MemoryContextSwitchTo(verify->row_context);
  StringInfoData text;
  initStringInfo(&text);
  for (;;) {
    va_list arguments;
    va_start(arguments, format);
    const int needed = appendStringInfoVA(&text, format, arguments);
    va_end(arguments);
    if (needed == 0) break;
    enlargeStringInfo(&text, needed);
  }
  ItemPointerData tid;
  ItemPointerSet(&tid, spot.tid.block, spot.tid.offset);
  Datum values[] = {CStringGetTextDatum(spot.part), CStringGetTextDatum(text.data), Int64GetDatum(spot.block),
                    spot.object == nullptr ? Datum{0} : CStringGetTextDatum(spot.object), PointerGetDatum(&tid)};
  bool nulls[] = {false, false, spot.block == kNoBlock, spot.object == nullptr, spot.tid.offset == 0};
  tuplestore_putvalues(verify->result->setResult, verify->result->setDesc, values, nulls);
  MemoryContextSwitchTo(old);
  MemoryContextReset(verify->row_context);
}

namespace {

// Rows that the snapshot sees may be missing from an index that was built over broken HOT chains later; as contrib/amcheck.
void CheckSnapshotSees(Relation index, Snapshot snapshot) {
  if (!IsolationUsesXactSnapshot() || !index->rd_index->indcheckxmin) return;
  if (TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), snapshot->xmin)) return;
  ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                  errmsg("index \"%s\" cannot be verified using transaction snapshot", RelationGetRelationName(index))));
}

// The meta page; false if it can't be read, which has been reported.
bool ReachMeta(Verify* verify) {
  PageCopy page;
  if (!ReachPage(verify, "metapage", kMetaBlock, PageKind::kMeta, 0, &page)) return false;
  const CoreError error = RunCore([&] { return DecodeMetaPage({page.payload, kPayloadBytes}, verify->meta); });
  if (error.sqlstate == 0) return true;
  // A newer library's index is no damage.
  if (error.code == StatusCode::kUnsupported) ReadMeta(verify->index, verify->meta);
  Report(verify, {"metapage", kMetaBlock}, "%s", error.message);
  return false;
}

Verify* StartVerify(const IndexAndTable& opened, ReturnSetInfo* result) {
  auto* verify = static_cast<Verify*>(palloc0(sizeof(Verify)));
  verify->heap = opened.heap;
  verify->index = opened.index;
  verify->result = result;
  verify->context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote verify", ALLOCSET_DEFAULT_SIZES);
  verify->row_context = AllocSetContextCreate(verify->context, "ivfremote verify row", ALLOCSET_DEFAULT_SIZES);
  verify->meta = static_cast<MetaPage*>(MemoryContextAlloc(verify->context, sizeof(MetaPage)));
  verify->start_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
  return verify;
}

void VerifyIndex(Verify* verify, Snapshot snapshot) {
  if (!ReachMeta(verify)) return;
  const MetaPage& meta = *verify->meta;
  verify->rows = NewTidSort();
  verify->tid_map_whole = static_cast<bool*>(palloc0(MetaPage::kMaxSegments * sizeof(bool)));
  VerifyRouting(verify);
  VerifyPending(verify, meta.sealed, "sealed pending rows");
  VerifyPending(verify, meta.current, "pending rows");
  for (uint32_t i = 0; i < meta.segment_count; ++i) VerifySegment(verify, i);
  VerifyRows(verify, snapshot);
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_verify);
Datum ivfremote_verify(PG_FUNCTION_ARGS) {
  const IndexAndTable opened = OpenIndexForMaintenance(PG_GETARG_OID(0), AccessShareLock);
  const bool heap_all_indexed = PG_GETARG_BOOL(1);
  InitMaterializedSRF(fcinfo, 0);

  const CallersRights callers = ActAsOwner(opened.heap);
  // Before the meta page is copied: the rows it sees have been in the index since.
  Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
  if (heap_all_indexed) CheckSnapshotSees(opened.index, snapshot);
  Verify* verify = StartVerify(opened, reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo));
  MemoryContext old = MemoryContextSwitchTo(verify->context);
  VerifyIndex(verify, heap_all_indexed ? snapshot : nullptr);
  MemoryContextSwitchTo(old);
  MemoryContextDelete(verify->context);
  UnregisterSnapshot(snapshot);
  ActAsCaller(callers);
  CloseIndexAndTable(opened, AccessShareLock);
  return Datum{0};
}

}  // extern "C"
