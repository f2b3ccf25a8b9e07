// CALL ivfremote_compact(index, purge): everything into one segment. It commits between steps and holds no snapshot while it
// works, so that VACUUM of other tables is not held back by work of hours.
#include "pg/compact.h"
#include "pg/open_index.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

extern "C" {
#include "executor/spi.h"
#include "utils/snapmgr.h"
}

namespace ivfremote {
namespace {

void CheckNotInTransactionBlock(FunctionCallInfo fcinfo) {
  const auto* call = reinterpret_cast<CallContext*>(fcinfo->context);
  if (call == nullptr || !IsA(call, CallContext) || call->atomic)
    ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                    errmsg("ivfremote_compact() cannot run inside a transaction block"),
                    errdetail("It commits between its steps, so that no snapshot is held meanwhile."),
                    errhint("Use CALL by itself, outside of BEGIN, functions and procedures with SET.")));
}

// One step: a transaction of its own, in which the table is locked. The rights are checked each time.
void RunStep(Oid oid, void (*step)(Maintenance* maintenance)) {
  SPI_commit();
  const IndexAndTable opened = OpenIndexForMaintenance(oid, ShareUpdateExclusiveLock);
  Maintenance* maintenance = StartMaintenance(opened.index, /*in_vacuum=*/false);
  InvalidateCatalogSnapshot();
  step(maintenance);
  EndMaintenance(maintenance);
  CloseIndexAndTable(opened, NoLock);
}

void Flush(Maintenance* maintenance) {
  uint64_t rows;
  FlushPending(maintenance, &rows);
}

void CompactAll(Maintenance* maintenance) {
  uint32_t inputs[MetaPage::kMaxSegments];
  const uint32_t count = maintenance->meta->segment_count;
  for (uint32_t i = 0; i < count; ++i) inputs[i] = i;
  if (count > 1 || (count == 1 && HasDeadRows(maintenance->index, maintenance->meta->segments[0])))
    CompactSegments(maintenance, inputs, count);
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_compact);
Datum ivfremote_compact(PG_FUNCTION_ARGS) {
  if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("index and purge must not be null")));
  PreventCommandIfReadOnly("ivfremote_compact()");
  PreventCommandDuringRecovery("ivfremote_compact()");
  CheckNotInTransactionBlock(fcinfo);
  const Oid oid = PG_GETARG_OID(0);
  // Before the first commit: so errors of the caller's are errors at once.
  CloseIndexAndTable(OpenIndexForMaintenance(oid, ShareUpdateExclusiveLock), NoLock);
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  RunStep(oid, Flush);
  RunStep(oid, CompactAll);
  // Also after an earlier call that did not get so far.
  RunStep(oid, SweepPages);
  SPI_finish();
  return Datum{0};
}

}  // extern "C"
