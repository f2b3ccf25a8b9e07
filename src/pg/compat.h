// Where Postgres 15 to 18 differ. Only 15 has been compiled and run.
#pragma once

#include "pg/postgres_c.h"

#if PG_VERSION_NUM < 150000
#error "ivfremote needs PostgreSQL 15 or later"
#endif

// Extends a relation by one page, locked, from 16 on.
#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_EXTEND(index) \
  ExtendBufferedRel(BMR_REL(index), MAIN_FORKNUM, nullptr, EB_LOCK_FIRST)
#endif

#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_FILE_NUMBER(relation) ((relation)->rd_locator.relNumber)
#else
#define IVFREMOTE_FILE_NUMBER(relation) ((relation)->rd_node.relNode)
#endif

// Whether this transaction has made the relation's files.
#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_IS_NEW_RELATION(relation)               \
  ((relation)->rd_createSubid != InvalidSubTransactionId || \
   (relation)->rd_newRelfilelocatorSubid != InvalidSubTransactionId)
#else
#define IVFREMOTE_IS_NEW_RELATION(relation)               \
  ((relation)->rd_createSubid != InvalidSubTransactionId || \
   (relation)->rd_newRelfilenodeSubid != InvalidSubTransactionId)
#endif

// Fills xl_btree_reuse_page.
#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_SET_REUSE_PAGE(record, index, page, retired) \
  ((record).locator = (index)->rd_locator, (record).block = (page), (record).snapshotConflictHorizon = (retired))
#else
#define IVFREMOTE_SET_REUSE_PAGE(record, index, page, retired) \
  ((record).node = (index)->rd_node, (record).block = (page), (record).latestRemovedFullXid = (retired))
#endif

#if PG_VERSION_NUM >= 180000
#define IVFREMOTE_VACUUM_DELAY() vacuum_delay_point(false)
#else
#define IVFREMOTE_VACUUM_DELAY() vacuum_delay_point()
#endif

#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_IS_OWNER(relation, role) object_ownercheck(RelationRelationId, relation, role)
#else
#define IVFREMOTE_IS_OWNER(relation, role) pg_class_ownercheck(relation, role)
#endif

#if PG_VERSION_NUM >= 180000
#define IVFREMOTE_BEGIN_SCAN(heap, index, snapshot, keys, order_bys) \
  index_beginscan(heap, index, snapshot, nullptr, keys, order_bys)
#else
#define IVFREMOTE_BEGIN_SCAN(heap, index, snapshot, keys, order_bys) \
  index_beginscan(heap, index, snapshot, keys, order_bys)
#endif

#if PG_VERSION_NUM >= 160000
#define IVFREMOTE_GET_DATUM(sort, value, isnull) tuplesort_getdatum(sort, true, false, value, isnull, nullptr)
#define IVFREMOTE_READ_FILE(file, to, bytes) BufFileReadExact(file, to, bytes)
#else
#define IVFREMOTE_GET_DATUM(sort, value, isnull) tuplesort_getdatum(sort, true, value, isnull, nullptr)
#define IVFREMOTE_READ_FILE(file, to, bytes)             \
  do {                                                   \
    if (BufFileRead(file, to, bytes) != (bytes))         \
      elog(ERROR, "could not read from temporary file"); \
  } while (0)
#endif

#if PG_VERSION_NUM >= 170000
#define IVFREMOTE_IS_AUTOVACUUM() AmAutoVacuumWorkerProcess()
#else
#define IVFREMOTE_IS_AUTOVACUUM() IsAutoVacuumWorkerProcess()
#endif

// Before 17 VACUUM may remove rows that an old snapshot still sees (old_snapshot_threshold); whoever has one is told.
#if PG_VERSION_NUM >= 170000
#define IVFREMOTE_TEST_OLD_SNAPSHOT(snapshot, relation) ((void)0)
#else
#define IVFREMOTE_TEST_OLD_SNAPSHOT(snapshot, relation) \
  (old_snapshot_threshold >= 0 ? TestForOldSnapshot_impl(snapshot, relation) : (void)0)
#endif

// A database that a failed DROP has left behind.
#ifdef DATCONNLIMIT_INVALID_DB
#define IVFREMOTE_INVALID_DATABASE DATCONNLIMIT_INVALID_DB
#else
#define IVFREMOTE_INVALID_DATABASE -2
#endif
