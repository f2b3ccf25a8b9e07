// CALL ivfremote_compact(index, purge): everything into one segment. It commits between steps and holds no snapshot that
// would hold back VACUUM of other tables for hours.
#include <algorithm>

#include "pg/compact.h"
#include "pg/fencing.h"
#include "pg/incarnation.h"
#include "pg/open_index.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

extern "C" {
#include "executor/spi.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"
}

namespace ivfremote {
namespace {

// Without purge, as many of a segment's rows may be dead.
constexpr uint64_t kDeadShare = 10;

void CheckNotInTransactionBlock(FunctionCallInfo fcinfo) {
  const auto* call = reinterpret_cast<CallContext*>(fcinfo->context);
  if (call == nullptr || !IsA(call, CallContext) || call->atomic)
    ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                    errmsg("ivfremote_compact() cannot run inside a transaction block"),
                    errdetail("It commits between its steps, so that VACUUM of other tables is not held back."),
                    errhint("Use CALL by itself, outside of BEGIN, functions and procedures with SET.")));
}

// Takes a snapshot as VACUUM's is: no other VACUUM minds it, but garbage collection leaves alone what is named under it. No
// transaction id may be taken, and nothing of the user's may run.
void TakeVacuumSnapshot() {
  LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
  MyProc->statusFlags |= PROC_IN_VACUUM;
  ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
  LWLockRelease(ProcArrayLock);
  PushActiveSnapshot(GetTransactionSnapshot());
}

// One step: a transaction of its own, in which the table is locked. The rights are checked each time. It ends here, and with it
// what VACUUM's snapshot means: the caller's statements come after.
void RunStep(Oid oid, bool purge, void (*step)(Maintenance* maintenance, bool purge)) {
  const IndexAndTable opened = OpenIndexForMaintenance(oid, ShareUpdateExclusiveLock);
  InvalidateCatalogSnapshot();
  TakeVacuumSnapshot();
  Maintenance* maintenance = StartMaintenance(opened.index, /*in_vacuum=*/false);
  step(maintenance, purge);
  EndMaintenance(maintenance);
  PopActiveSnapshot();
  CloseIndexAndTable(opened, NoLock);
  SPI_commit();
}

void Flush(Maintenance* maintenance, bool) {
  uint64_t rows;
  FlushPending(maintenance, &rows);
}

// Whether another cluster may delete the segment: one that this is a clone of, or a restored backup.
bool IsForeign(const Maintenance* maintenance, const SegmentEntry& segment) {
  if (segment.place != SegmentPlace::kObject) return false;
  const Uuid own = GetIncarnation();
  if (segment.name.incarnation == own) return false;
  int count;
  const Uuid* adopted = AdoptedIncarnations(maintenance->server, own, &count);
  return std::find(adopted, adopted + count, segment.name.incarnation) == adopted + count;
}

// A single segment of this cluster with few dead rows is left as it is, if its lists are.
void CompactAll(Maintenance* maintenance, bool purge) {
  const MetaPage& meta = *maintenance->meta;
  const uint32_t count = meta.segment_count;
  if (count == 0) return;
  const uint64_t rows = meta.segments[0].rows;
  const uint64_t dead = rows - std::min(rows, CountLiveRows(maintenance->index, meta.segments[0]));
  const bool stays = dead <= (purge ? 0 : rows / kDeadShare) && !IsForeign(maintenance, meta.segments[0]);
  if (count == 1 && stays) return SplitLargeLists(maintenance);
  uint32_t inputs[MetaPage::kMaxSegments];
  for (uint32_t i = 0; i < count; ++i) inputs[i] = i;
  CompactSegments(maintenance, inputs, count);
}

// For what a flush makes.
void MakeRoom(Maintenance* maintenance, bool purge) {
  if (maintenance->meta->segment_count == MetaPage::kMaxSegments) CompactAll(maintenance, purge);
}

// Also after an earlier call that did not get so far.
void Sweep(Maintenance* maintenance, bool) { SweepPages(maintenance); }

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_compact);
Datum ivfremote_compact(PG_FUNCTION_ARGS) {
  if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("index and purge must not be null")));
  PreventCommandDuringRecovery("ivfremote_compact()");
  PreventCommandIfReadOnly("ivfremote_compact()");
  CheckNotInTransactionBlock(fcinfo);
  const Oid oid = PG_GETARG_OID(0);
  // Before the first commit: so errors of the caller's are errors at once. The maintainer's lock is for the steps, which wait for it
  // without a snapshot.
  CloseIndexAndTable(OpenIndexForMaintenance(oid, AccessShareLock), NoLock);
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  SPI_commit();
  const bool purge = PG_GETARG_BOOL(1);
  RunStep(oid, purge, MakeRoom);
  RunStep(oid, purge, Flush);
  RunStep(oid, purge, CompactAll);
  RunStep(oid, purge, Sweep);
  SPI_finish();
  return Datum{0};
}

}  // extern "C"
