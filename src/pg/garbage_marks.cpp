#include "pg/garbage_marks.h"

#include <cstring>

#include "pg/compat.h"
#include "pg/page.h"
#include "pg/wall.h"

extern "C" {
#include "access/genam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_proc.h"
#include "commands/dbcommands.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"
}

namespace ivfremote {
namespace {

constexpr Size kQueueBytes = 64 << 10;

// What the collecting backend and a worker share; the queue follows.
struct MarkTask {
  Oid database;
  bool complete;  // all keys are in the queue
  int sqlstate;   // else what went wrong, if the worker could say
  char message[512];
  char hint[256];
};

constexpr Size kQueueOffset = MAXALIGN(sizeof(MarkTask));

shm_mq* QueueOf(MarkTask* task) {
  return reinterpret_cast<shm_mq*>(reinterpret_cast<char*>(task) + kQueueOffset);
}

// --------------------------------------------------------------------------------------------------------------------
// In the worker

// Access methods of this database that are ours, whatever they are called.
List* OurAccessMethods() {
  List* found = NIL;
  Relation catalog = table_open(AccessMethodRelationId, AccessShareLock);
  SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* am = reinterpret_cast<Form_pg_am>(GETSTRUCT(tuple));
    HeapTuple handler = SearchSysCache1(PROCOID, ObjectIdGetDatum(am->amhandler));
    if (!HeapTupleIsValid(handler)) continue;
    bool isnull;
    const Datum source = SysCacheGetAttr(PROCOID, handler, Anum_pg_proc_prosrc, &isnull);
    if (!isnull && std::strcmp(TextDatumGetCString(source), "ivfremote_handler") == 0) found = lappend_oid(found, am->oid);
    ReleaseSysCache(handler);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return found;
}

// All their indexes; temporary ones are never in a store.
List* OurIndexes() {
  List* access_methods = OurAccessMethods();
  List* found = NIL;
  if (access_methods == NIL) return NIL;
  Relation catalog = table_open(RelationRelationId, AccessShareLock);
  SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    if (row->relkind == RELKIND_INDEX && row->relpersistence != RELPERSISTENCE_TEMP &&
        list_member_oid(access_methods, row->relam))
      found = lappend_oid(found, row->oid);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return found;
}

// Whoever rebuilds or drops it has it locked until nobody knows how long: a collection does not queue up for that.
void LockBriefly(Oid index) {
  constexpr int kTries = 40;
  constexpr long kPauseMs = 50;
  for (int i = 0; i < kTries; ++i) {
    if (ConditionalLockRelationOid(index, AccessShareLock)) return;
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPauseMs, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
  const char* name = get_rel_name(index);
  ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                  errmsg("could not obtain lock on index \"%s\" of database \"%s\"", name == nullptr ? "" : name,
                         get_database_name(MyDatabaseId)),
                  errhint("Another session is building or dropping it. Try again when that has ended.")));
}

void SendMarks(shm_mq_handle* queue, Oid oid) {
  LockBriefly(oid);
  // Dropped meanwhile, it refers to nothing.
  if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(oid))) return UnlockRelationOid(oid, AccessShareLock);
  Relation index = relation_open(oid, NoLock);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  auto* names = static_cast<SegmentName*>(palloc(sizeof(SegmentName) * MetaPage::kMaxSegments));
  Size count = 0;
  if (!IsUnbuilt(index)) {
    // As one who deletes: an index with features this library does not know may refer to more.
    ReadMetaToWrite(index, meta);
    for (uint32_t i = 0; i < meta->segment_count; ++i)
      if (meta->segments[i].place == SegmentPlace::kObject) names[count++] = meta->segments[i].name;
  }
  relation_close(index, AccessShareLock);
  if (count > 0 && shm_mq_send(queue, count * sizeof(SegmentName), names, /*nowait=*/false, /*force_flush=*/true) != SHM_MQ_SUCCESS)
    ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the garbage collection has ended")));
  pfree(names);
  pfree(meta);
}

void SendAllMarks(shm_mq_handle* queue) {
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
  ListCell* cell;
  foreach (cell, OurIndexes()) SendMarks(queue, lfirst_oid(cell));
  PopActiveSnapshot();
  CommitTransactionCommand();
}

// --------------------------------------------------------------------------------------------------------------------
// In the collecting backend

struct Database {
  Oid oid;
  char name[NAMEDATALEN];
};

// All that anybody can ever connect to or copy. Those that do not allow connections are visited too.
List* Databases() {
  List* found = NIL;
  Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
  SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
    if (row->datconnlimit == IVFREMOTE_INVALID_DATABASE) continue;
    auto* database = static_cast<Database*>(palloc(sizeof(Database)));
    database->oid = row->oid;
    strlcpy(database->name, NameStr(row->datname), NAMEDATALEN);
    found = lappend(found, database);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return found;
}

BackgroundWorkerHandle* StartWorker(const Database& database, dsm_segment* segment) {
  BackgroundWorker worker{};
  snprintf(worker.bgw_name, BGW_MAXLEN, "ivfremote garbage collection of database \"%s\"", database.name);
  strlcpy(worker.bgw_type, "ivfremote garbage collection", BGW_MAXLEN);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  strlcpy(worker.bgw_library_name, "$libdir/ivfremote", sizeof worker.bgw_library_name);
  strlcpy(worker.bgw_function_name, "ivfremote_garbage_worker", BGW_MAXLEN);
  worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
  worker.bgw_notify_pid = MyProcPid;
  BackgroundWorkerHandle* handle;
  if (!RegisterDynamicBackgroundWorker(&worker, &handle))
    ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                    errmsg("could not start a background worker to look at database \"%s\"", database.name),
                    errhint("You might need to increase max_worker_processes. Nothing was deleted.")));
  return handle;
}

bool DatabaseExists(Oid database) {
  AcceptInvalidationMessages();
  return SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
}

void ReceiveMarks(shm_mq_handle* queue, std::set<SegmentName>* marks) {
  Size bytes;
  void* data;
  while (shm_mq_receive(queue, &bytes, &data, /*nowait=*/false) == SHM_MQ_SUCCESS) {
    const auto* names = static_cast<const SegmentName*>(data);
    CallCore([&] {
      marks->insert(names, names + bytes / sizeof(SegmentName));
      return Status::Ok();
    });
  }
}

void CollectFrom(const Database& database, std::set<SegmentName>* marks) {
  dsm_segment* segment = dsm_create(kQueueOffset + kQueueBytes, 0);
  auto* task = static_cast<MarkTask*>(dsm_segment_address(segment));
  std::memset(static_cast<void*>(task), 0, sizeof *task);
  task->database = database.oid;
  shm_mq* queue = shm_mq_create(QueueOf(task), kQueueBytes);
  shm_mq_set_receiver(queue, MyProc);
  BackgroundWorkerHandle* worker = StartWorker(database, segment);
  ReceiveMarks(shm_mq_attach(queue, segment, worker), marks);
  // Gone, so that it is in nobody's way who wants the database for himself.
  WaitForBackgroundWorkerShutdown(worker);
  // What was in a database that is no more, nobody needs.
  if (!task->complete && DatabaseExists(database.oid))
    ereport(ERROR, (errcode(task->sqlstate == 0 ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : task->sqlstate),
                    errmsg("could not find the objects that database \"%s\" needs: %s", database.name,
                           task->sqlstate == 0 ? "its background worker has ended" : task->message),
                    errdetail("Nothing was deleted."),
                    task->hint[0] != '\0' ? errhint("%s", task->hint)
                                          : errhint("The server's log may say more.")));
  dsm_detach(segment);
}

}  // namespace

void CollectMarks(std::set<SegmentName>* marks) {
  ListCell* cell;
  foreach (cell, Databases()) CollectFrom(*static_cast<const Database*>(lfirst(cell)), marks);
}

}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PGDLLEXPORT void ivfremote_garbage_worker(Datum argument);
void ivfremote_garbage_worker(Datum argument) {
  pqsignal(SIGTERM, die);
  BackgroundWorkerUnblockSignals();
  CurrentResourceOwner = ResourceOwnerCreate(nullptr, "ivfremote garbage worker");
  dsm_segment* segment = dsm_attach(DatumGetUInt32(argument));
  // The collection has ended.
  if (segment == nullptr) return;
  auto* task = static_cast<MarkTask*>(dsm_segment_address(segment));
  shm_mq_set_sender(QueueOf(task), MyProc);
  shm_mq_handle* queue = shm_mq_attach(QueueOf(task), segment, nullptr);
  BackgroundWorkerInitializeConnectionByOid(task->database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
  MemoryContext context = CurrentMemoryContext;
  PG_TRY();
  {
    SendAllMarks(queue);
    task->complete = true;
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    const ErrorData* error = CopyErrorData();
    task->sqlstate = error->sqlerrcode;
    strlcpy(task->message, error->message, sizeof task->message);
    if (error->hint != nullptr) strlcpy(task->hint, error->hint, sizeof task->hint);
    PG_RE_THROW();
  }
  PG_END_TRY();
  dsm_detach(segment);
}

}  // extern "C"
