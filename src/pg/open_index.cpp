#include "pg/open_index.h"

#include "pg/compat.h"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/wait_event.h"
}

namespace ivfremote {
namespace {

void CheckIsOurs(Relation index) {
  if (index->rd_rel->relkind != RELKIND_INDEX || index->rd_rel->relam != get_index_am_oid("ivfremote", true))
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("\"%s\" is not an ivfremote index", RelationGetRelationName(index))));
}

void CheckHasPages(Relation index, bool valid) {
  if (RELATION_IS_OTHER_TEMP(index))
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("cannot access temporary indexes of other sessions")));
  if (RecoveryInProgress() && index->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("cannot access temporary or unlogged relations during recovery")));
  if (!valid || RelationGetNumberOfBlocks(index) == 0)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("index \"%s\" is not valid", RelationGetRelationName(index))));
}

// CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY hold a maintainer's lock and end by waiting for every older snapshot. Who
// queues for that lock with a snapshot makes a deadlock, found by the build, which would leave an invalid index. So a
// statement with a snapshot (functions have one) doesn't queue, but tries for a while.
constexpr int kTryLock_ms = 10000;
constexpr int kTryLockEvery_ms = 20;

void LockTable(Oid table, LOCKMODE lock) {
  if (lock < ShareUpdateExclusiveLock || !ActiveSnapshotSet()) {
    InvalidateCatalogSnapshot();
    LockRelationOid(table, lock);
    return;
  }
  const int tries_ms = LockTimeout > 0 ? Min(LockTimeout, kTryLock_ms) : kTryLock_ms;
  for (int waited_ms = 0; !ConditionalLockRelationOid(table, lock); waited_ms += kTryLockEvery_ms) {
    if (waited_ms >= tries_ms)
      ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                      errmsg("could not obtain lock on relation \"%s\"", get_rel_name(table)),
                      errdetail("VACUUM, a concurrent build of an index or other maintenance of the table is under way."),
                      errhint("Run the statement again when that has ended.")));
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kTryLockEvery_ms, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
}

bool MayMaintain(Oid table) {
#if PG_VERSION_NUM >= 170000
  return pg_class_aclcheck(table, GetUserId(), ACL_MAINTAIN) == ACLCHECK_OK;
#else
  return IVFREMOTE_IS_OWNER(table, GetUserId());
#endif
}

// One dropped meanwhile is nobody's internal error.
Relation OpenRelation(Oid oid, LOCKMODE lock) {
  Relation relation = try_relation_open(oid, lock);
  if (relation == nullptr)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", oid)));
  return relation;
}

}  // namespace

Relation OpenIndexForInfo(Oid oid) {
  Relation index = OpenRelation(oid, AccessShareLock);
  CheckIsOurs(index);
  if (!IVFREMOTE_IS_OWNER(oid, GetUserId()) && !has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
    aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX, RelationGetRelationName(index));
  CheckHasPages(index, index->rd_index->indisready);
  return index;
}

IndexAndTable OpenIndexForMaintenance(Oid oid, LOCKMODE lock) {
  // The table's lock comes before the index's, so the table is looked up without one; as contrib/amcheck does.
  const Oid table = IndexGetRelation(oid, true);
  if (!OidIsValid(table)) {
    Relation other = OpenRelation(oid, AccessShareLock);
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("\"%s\" is not an ivfremote index", RelationGetRelationName(other))));
  }
  // Before the lock, too: who may not use it shall not make others wait.
  if (!MayMaintain(table)) aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(table));
  IndexAndTable opened;
  LockTable(table, lock);
  opened.heap = OpenRelation(table, NoLock);
  opened.index = OpenRelation(oid, lock);
  CheckIsOurs(opened.index);
  if (opened.index->rd_index->indrelid != table)
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                    errmsg("could not open parent table of index \"%s\"", RelationGetRelationName(opened.index))));
  if (!MayMaintain(table)) aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(opened.heap));
  CheckHasPages(opened.index, opened.index->rd_index->indisvalid);
  return opened;
}

void CloseIndexAndTable(const IndexAndTable& opened, LOCKMODE lock) {
  relation_close(opened.index, lock);
  table_close(opened.heap, lock);
}

CallersRights ActAsOwner(Relation heap) {
  CallersRights callers;
  GetUserIdAndSecContext(&callers.user, &callers.security);
  SetUserIdAndSecContext(heap->rd_rel->relowner, callers.security | SECURITY_RESTRICTED_OPERATION);
  callers.guc_level = NewGUCNestLevel();
#if PG_VERSION_NUM >= 170000
  RestrictSearchPath();
#endif
  return callers;
}

void ActAsCaller(const CallersRights& callers) {
  AtEOXact_GUC(false, callers.guc_level);
  SetUserIdAndSecContext(callers.user, callers.security);
}

}  // namespace ivfremote
