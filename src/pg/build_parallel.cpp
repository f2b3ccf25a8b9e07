#include "pg/build_parallel.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "pg/access_method.h"
#include "pg/compat.h"

extern "C" {
#include "access/parallel.h"
#include "executor/instrument.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "storage/buffile.h"
#include "storage/sharedfileset.h"
#include "tcop/tcopprot.h"
#include "utils/wait_event.h"
}

namespace ivfremote {

// ---------------------------------------------------------------------------------------------------------------------
// What leader and workers share.

// In shared memory: small, since /dev/shm may be. Routing, queries and results go through `files`.
struct WorkerResult {
  double heap_rows;
  double indexed_rows;
  bool broken_hot_chain;
  BufferUsage buffer_usage;
  WalUsage wal_usage;
};

struct SharedBuild {
  // Set by the leader before it launches workers.
  Oid heap;
  Oid index;
  bool concurrent;
  Metric metric;
  uint32_t dimensions;
  CodeFormat format;
  uint64_t rotation_seed;
  bool spill;
  int sort_kilobytes;  // for each participant
  SharedFileSet files;

  pg_atomic_uint64 rows_done;
  pg_atomic_uint32 workers_done;
  WorkerResult results[FLEXIBLE_ARRAY_MEMBER];  // each its worker's, until that has ended
};

struct BuildWorkers {
  Build* build;
  ParallelContext* context;
  SharedBuild* shared;
  ParallelTableScanDesc scan;
  Sharedsort* row_sort;
  Sharedsort* tid_sort;
  Snapshot snapshot;
};

namespace {

enum Key : uint64 { kShared = 1, kScan, kRowSort, kTidSort, kQueryText };

// A worker takes some milliseconds to start, so it should have as many rows as take it longer.
constexpr double kMinBytesPerWorker = 8 << 20;  // of rows as floats
// As for B-trees.
constexpr int kMinKilobytesPerParticipant = 32 * 1024;
constexpr long kReportInterval_ms = 100;

bool LeaderParticipates() { return parallel_leader_participation; }

// ---------------------------------------------------------------------------------------------------------------------
// Files: a sequence of items, each its length in bytes and the bytes. `input` is the leader's: encoded routing, queries,
// their TIDs. Each worker writes an output: the assigner's sums, then the calibration's parts.

constexpr const char* kInputName = "input";
using OutputName = char[32];
void NameOutput(int worker, OutputName name) { snprintf(name, sizeof(OutputName), "output.%d", worker); }

// In pieces, so that an interrupt need not wait for all of it.
constexpr size_t kPieceBytes = 1 << 20;

void WriteItem(BufFile* file, Bytes bytes) {
  uint64_t length = bytes.size();
  BufFileWrite(file, &length, sizeof length);
  for (size_t done = 0; done < length; done += kPieceBytes) {
    CHECK_FOR_INTERRUPTS();
    // Older versions take the bytes as not constant.
    BufFileWrite(file, const_cast<std::byte*>(bytes.data()) + done, std::min<size_t>(kPieceBytes, length - done));
  }
}

template <typename T>
void WriteVector(BufFile* file, const std::vector<T>* items) {
  WriteItem(file, std::as_bytes(std::span<const T>(*items)));
}

// The next item becomes all of `items`.
template <typename T>
void ReadVector(BufFile* file, Held<std::vector<T>>* items) {
  uint64_t length;
  IVFREMOTE_READ_FILE(file, &length, sizeof length);
  CallCore([&] {
    if (length % sizeof(T) != 0) return Status::Corrupt("an item of a temporary file has a wrong length");
    (*items)->resize(length / sizeof(T));
    return Status::Ok();
  });
  auto* to = reinterpret_cast<std::byte*>((*items)->data());
  for (size_t done = 0; done < length; done += kPieceBytes) {
    CHECK_FOR_INTERRUPTS();
    const size_t piece = std::min<size_t>(kPieceBytes, length - done);
    IVFREMOTE_READ_FILE(file, to + done, piece);
  }
}

Held<std::vector<std::byte>>* HoldBytes(MemoryContext context) {
  return Hold<std::vector<std::byte>>(context, [] { return new std::vector<std::byte>(); });
}

void WriteInput(const Build* build, FileSet* files) {
  BufFile* file = BufFileCreateFileSet(files, kInputName);
  Held<std::vector<std::byte>>* routing = HoldBytes(build->context);
  CallCore([&] {
    **routing = (*build->routing)->Encode();
    return Status::Ok();
  });
  WriteVector(file, routing->object);
  Drop(routing);
  WriteVector(file, &(*build->calibration)->queries());
  WriteVector(file, &(*build->calibration)->tids());
  BufFileExportFileSet(file);
  BufFileClose(file);
}

void ReadInput(Build* build, FileSet* files) {
  BufFile* file = BufFileOpenFileSet(files, kInputName, O_RDONLY, false);
  Held<std::vector<std::byte>>* encoded = HoldBytes(build->context);
  ReadVector(file, encoded);
  build->routing = Hold<Routing>(build->context, [] { return new Routing(); });
  CallCore([&] { return DecodeRouting(**encoded, build->routing->object); });
  Drop(encoded);
  Held<std::vector<float>>* queries =
      Hold<std::vector<float>>(build->context, [] { return new std::vector<float>(); });
  Held<std::vector<Tid>>* tids = Hold<std::vector<Tid>>(build->context, [] { return new std::vector<Tid>(); });
  ReadVector(file, queries);
  ReadVector(file, tids);
  BufFileClose(file);
  StartCoding(build);
  StartCalibration(build, queries->object, tids->object);
  Drop(queries);
  Drop(tids);
}

void WriteOutput(const Build* build, Held<Assigner>* assigner, FileSet* files) {
  OutputName name;
  NameOutput(ParallelWorkerNumber, name);
  BufFile* file = BufFileCreateFileSet(files, name);
  Held<std::vector<std::byte>>* bytes = HoldBytes(build->context);
  CallCore([&] {
    **bytes = (*assigner)->EncodeSums();
    return Status::Ok();
  });
  WriteVector(file, bytes->object);
  const size_t parts = (*build->calibration)->part_count();
  for (size_t part = 0; part < parts; ++part) {
    CallCore([&] {
      **bytes = (*build->calibration)->EncodePart(part);
      return Status::Ok();
    });
    WriteVector(file, bytes->object);
  }
  Drop(bytes);
  BufFileExportFileSet(file);
  BufFileClose(file);
}

void MergeOutput(const Build* build, int worker, Held<Assigner>* assigner, FileSet* files) {
  OutputName name;
  NameOutput(worker, name);
  BufFile* file = BufFileOpenFileSet(files, name, O_RDONLY, false);
  Held<std::vector<std::byte>>* bytes = HoldBytes(build->context);
  ReadVector(file, bytes);
  CallCore([&] { return (*assigner)->MergeSums(**bytes); });
  const size_t parts = (*build->calibration)->part_count();
  for (size_t part = 0; part < parts; ++part) {
    CHECK_FOR_INTERRUPTS();
    ReadVector(file, bytes);
    CallCore([&] { return (*build->calibration)->MergePart(part, **bytes); });
  }
  Drop(bytes);
  BufFileClose(file);
}

// ---------------------------------------------------------------------------------------------------------------------
// The leader.

bool IsParallelSafe(const Build* build) {
  if (build->heap->rd_rel->relpersistence == RELPERSISTENCE_TEMP) return false;
  // As much of a planner as the question needs.
  PlannerInfo* root = makeNode(PlannerInfo);
  root->parse = makeNode(Query);
  root->glob = makeNode(PlannerGlobal);
  root->query_level = 1;
  root->planner_cxt = CurrentMemoryContext;
  root->wt_param_id = -1;
  return is_parallel_safe(root, reinterpret_cast<Node*>(RelationGetIndexExpressions(build->index))) &&
         is_parallel_safe(root, reinterpret_cast<Node*>(RelationGetIndexPredicate(build->index)));
}

// Not plan_create_index_workers: it goes by the blocks of the table, and vectors are in TOAST.
int WorkersToRequest(const Build* build) {
  if (max_parallel_maintenance_workers == 0 || !IsParallelSafe(build)) return 0;
  const int wanted = RelationGetParallelWorkers(build->heap, -1);
  if (wanted >= 0) return std::min(wanted, max_parallel_maintenance_workers);
  const double bytes = build->estimated_rows * build->dimensions * static_cast<double>(sizeof(float));
  const auto by_size = static_cast<int>(std::min(bytes / kMinBytesPerWorker, double{INT_MAX}));
  const auto by_processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) - 1;
  const int by_memory = maintenance_work_mem / kMinKilobytesPerParticipant - 1;
  return std::max(std::min({max_parallel_maintenance_workers, by_size, by_processors, by_memory}), 0);
}

template <typename T>
T* AllocateShared(ParallelContext* context, Key key, Size bytes) {
  auto* memory = static_cast<T*>(shm_toc_allocate(context->toc, bytes));
  shm_toc_insert(context->toc, key, memory);
  return memory;
}

void EstimateShared(ParallelContext* context, Size bytes) {
  shm_toc_estimate_chunk(&context->estimator, bytes);
  shm_toc_estimate_keys(&context->estimator, 1);
}

Size SharedBuildBytes(int workers) {
  return offsetof(SharedBuild, results) + static_cast<Size>(workers) * sizeof(WorkerResult);
}

void FillShared(const Build* build, int workers, SharedBuild* shared) {
  std::memset(static_cast<void*>(shared), 0, SharedBuildBytes(workers));
  shared->heap = RelationGetRelid(build->heap);
  shared->index = RelationGetRelid(build->index);
  shared->concurrent = build->info->ii_Concurrent;
  shared->metric = build->metric;
  shared->dimensions = build->dimensions;
  shared->format = build->format;
  shared->rotation_seed = build->rotation_seed;
  shared->spill = build->spill;
  shared->sort_kilobytes = SortKilobytes(workers + (LeaderParticipates() ? 1 : 0));
  pg_atomic_init_u64(&shared->rows_done, 0);
  pg_atomic_init_u32(&shared->workers_done, 0);
}

// Null if the server has no shared memory to spare.
BuildWorkers* CreateBuildWorkers(Build* build, int requested) {
  auto* workers = static_cast<BuildWorkers*>(palloc0(sizeof(BuildWorkers)));
  workers->build = build;
  // In an MVCC snapshot, other transactions' rows come and go beside CREATE INDEX CONCURRENTLY.
  workers->snapshot = build->info->ii_Concurrent ? RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;

  // By its full name: dynamic_library_path may lead elsewhere.
  ParallelContext* context = CreateParallelContext("$libdir/ivfremote", "ivfremote_build_worker", requested);
  workers->context = context;
  const int participants = requested + 1;
  const Size scan_bytes = table_parallelscan_estimate(build->heap, workers->snapshot);
  const Size sort_bytes = tuplesort_estimate_shared(participants);
  const Size text_bytes = debug_query_string == nullptr ? 0 : std::strlen(debug_query_string) + 1;
  EstimateShared(context, SharedBuildBytes(requested));
  EstimateShared(context, scan_bytes);
  EstimateShared(context, sort_bytes);
  EstimateShared(context, sort_bytes);
  if (text_bytes > 0) EstimateShared(context, text_bytes);
  InitializeParallelDSM(context);
  if (context->seg == nullptr) {
    EndBuildWorkers(workers);
    return nullptr;
  }

  workers->shared = AllocateShared<SharedBuild>(context, kShared, SharedBuildBytes(requested));
  FillShared(build, requested, workers->shared);
  SharedFileSetInit(&workers->shared->files, context->seg);
  workers->scan = AllocateShared<ParallelTableScanDescData>(context, kScan, scan_bytes);
  table_parallelscan_initialize(build->heap, workers->scan, workers->snapshot);
  workers->row_sort = AllocateShared<Sharedsort>(context, kRowSort, sort_bytes);
  workers->tid_sort = AllocateShared<Sharedsort>(context, kTidSort, sort_bytes);
  tuplesort_initialize_shared(workers->row_sort, participants, context->seg);
  tuplesort_initialize_shared(workers->tid_sort, participants, context->seg);
  if (text_bytes > 0)
    std::memcpy(AllocateShared<char>(context, kQueryText, text_bytes), debug_query_string, text_bytes);
  return workers;
}

// A participant of the shared scan and sorts, in any process.
Participant* StartSharing(Build* build, SharedBuild* shared, Sharedsort* row_sort, Sharedsort* tid_sort) {
  auto* coordinates = static_cast<SortCoordinateData*>(palloc0(2 * sizeof(SortCoordinateData)));
  coordinates[0] = {true, -1, row_sort};
  coordinates[1] = {true, -1, tid_sort};
  return StartParticipant(build, StartSorts(shared->sort_kilobytes, &coordinates[0], &coordinates[1]),
                          &shared->rows_done);
}

// Ends the participant's own sorts, so that the leader can merge what they wrote.
Held<Assigner>* EndSharing(Participant* participant) {
  Held<Assigner>* assigner = EndParticipant(participant);
  ExecDropSingleTupleTableSlot(participant->sorts.slot);
  tuplesort_performsort(participant->sorts.rows);
  tuplesort_performsort(participant->sorts.tids);
  tuplesort_end(participant->sorts.rows);
  tuplesort_end(participant->sorts.tids);
  return assigner;
}

void ReportRowsDone(const BuildWorkers* workers) {
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE,
                               static_cast<int64>(pg_atomic_read_u64(&workers->shared->rows_done)));
}

void WaitForWorkers(const BuildWorkers* workers) {
  ParallelContext* context = workers->context;
  // A worker that could not even start is an error here, and would be waited for below.
  WaitForParallelWorkersToAttach(context);
  while (pg_atomic_read_u32(&workers->shared->workers_done) < static_cast<uint32>(context->nworkers_launched)) {
    ReportRowsDone(workers);
    // The latch is set when a worker ends or reports an error.
    WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kReportInterval_ms,
              WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
  }
  WaitForParallelWorkersToFinish(context);
  ReportRowsDone(workers);
}

void MergeResults(const BuildWorkers* workers, Held<Assigner>* assigner) {
  Build* build = workers->build;
  for (int i = 0; i < workers->context->nworkers_launched; ++i) {
    WorkerResult* result = &workers->shared->results[i];
    build->heap_rows += result->heap_rows;
    build->indexed_rows += result->indexed_rows;
    if (result->broken_hot_chain) build->info->ii_BrokenHotChain = true;
    InstrAccumParallelQuery(&result->buffer_usage, &result->wal_usage);
    MergeOutput(build, i, assigner, &workers->shared->files.fs);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// A worker.

Build* OpenBuild(const SharedBuild* shared) {
  auto* build = static_cast<Build*>(palloc0(sizeof(Build)));
  build->heap = table_open(shared->heap, shared->concurrent ? ShareUpdateExclusiveLock : ShareLock);
  build->index = index_open(shared->index, shared->concurrent ? RowExclusiveLock : AccessExclusiveLock);
  build->info = BuildIndexInfo(build->index);
  build->info->ii_Concurrent = shared->concurrent;
  build->context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote build", ALLOCSET_DEFAULT_SIZES);
  build->row_context = AllocSetContextCreate(build->context, "ivfremote build row", ALLOCSET_DEFAULT_SIZES);
  build->metric = shared->metric;
  build->value_type = GetOpclassInfo(build->index)->value_type;
  build->dimensions = shared->dimensions;
  build->format = shared->format;
  build->rotation_seed = shared->rotation_seed;
  build->spill = shared->spill;
  return build;
}

void CloseBuild(Build* build, const SharedBuild* shared) {
  MemoryContextDelete(build->context);
  index_close(build->index, shared->concurrent ? RowExclusiveLock : AccessExclusiveLock);
  table_close(build->heap, shared->concurrent ? ShareUpdateExclusiveLock : ShareLock);
}

void RunWorker(dsm_segment* segment, shm_toc* toc) {
  auto* shared = static_cast<SharedBuild*>(shm_toc_lookup(toc, kShared, false));
  auto* scan = static_cast<ParallelTableScanDesc>(shm_toc_lookup(toc, kScan, false));
  auto* row_sort = static_cast<Sharedsort*>(shm_toc_lookup(toc, kRowSort, false));
  auto* tid_sort = static_cast<Sharedsort*>(shm_toc_lookup(toc, kTidSort, false));
  debug_query_string = static_cast<char*>(shm_toc_lookup(toc, kQueryText, true));
  pgstat_report_activity(STATE_RUNNING, debug_query_string);
  SharedFileSetAttach(&shared->files, segment);
  tuplesort_attach_shared(row_sort, segment);
  tuplesort_attach_shared(tid_sort, segment);

  Build* build = OpenBuild(shared);
  InstrStartParallelQuery();
  ReadInput(build, &shared->files.fs);
  Participant* participant = StartSharing(build, shared, row_sort, tid_sort);
  AssignScannedRows(participant, table_beginscan_parallel(build->heap, scan));
  Held<Assigner>* assigner = EndSharing(participant);
  WriteOutput(build, assigner, &shared->files.fs);

  WorkerResult* result = &shared->results[ParallelWorkerNumber];
  result->heap_rows = build->heap_rows;
  result->indexed_rows = build->indexed_rows;
  result->broken_hot_chain = build->info->ii_BrokenHotChain;
  InstrEndParallelQuery(&result->buffer_usage, &result->wal_usage);
  CloseBuild(build, shared);
  pg_atomic_fetch_add_u32(&shared->workers_done, 1);
}

}  // namespace

BuildWorkers* StartBuildWorkers(Build* build) {
  const int requested = WorkersToRequest(build);
  if (requested == 0) return nullptr;
  EnterParallelMode();
  BuildWorkers* workers = CreateBuildWorkers(build, requested);
  if (workers == nullptr) return nullptr;
  WriteInput(build, &workers->shared->files.fs);
  LaunchParallelWorkers(workers->context);
  ereport(DEBUG1, (errmsg_internal("assigning rows of index \"%s\" with %d of %d parallel workers",
                                   RelationGetRelationName(build->index), workers->context->nworkers_launched,
                                   requested)));
  if (workers->context->nworkers_launched > 0) return workers;
  EndBuildWorkers(workers);
  return nullptr;
}

Held<Assigner>* AssignWithWorkers(BuildWorkers* workers, RowSorts* sorts) {
  Build* build = workers->build;
  Held<Assigner>* assigner;
  int participants = workers->context->nworkers_launched;
  if (LeaderParticipates()) {
    ++participants;
    Participant* own = StartSharing(build, workers->shared, workers->row_sort, workers->tid_sort);
    AssignScannedRows(own, table_beginscan_parallel(build->heap, workers->scan));
    assigner = EndSharing(own);
  } else {
    assigner = Hold<Assigner>(build->context, [&] { return new Assigner(build->routing->object); });
  }
  WaitForWorkers(workers);
  MergeResults(workers, assigner);
  auto* coordinates = static_cast<SortCoordinateData*>(palloc0(2 * sizeof(SortCoordinateData)));
  coordinates[0] = {false, participants, workers->row_sort};
  coordinates[1] = {false, participants, workers->tid_sort};
  *sorts = StartSorts(SortKilobytes(1), &coordinates[0], &coordinates[1]);
  return assigner;
}

void EndBuildWorkers(BuildWorkers* workers) {
  DestroyParallelContext(workers->context);
  if (IsMVCCSnapshot(workers->snapshot)) UnregisterSnapshot(workers->snapshot);
  ExitParallelMode();
  pfree(workers);
}

}  // namespace ivfremote

extern "C" {

void ivfremote_build_worker(dsm_segment* segment, shm_toc* toc);
void ivfremote_build_worker(dsm_segment* segment, shm_toc* toc) { ivfremote::RunWorker(segment, toc); }

}  // extern "C"
