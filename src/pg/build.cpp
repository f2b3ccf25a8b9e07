// ambuild, ambuildempty: the outline of a build. Phases are in build_sample.cpp, build_training.cpp, build_segment.cpp
// (which calls build_assign.cpp and build_parallel.cpp) and build_write.cpp.
#include "pg/build.h"

#include <algorithm>
#include <cstring>

#include "core/distance.h"
#include "pg/access_method.h"
#include "pg/binding.h"
#include "pg/pending.h"
#include "pg/server.h"
#include "pg/server_upload.h"
#include "pg/stream.h"

namespace ivfremote {
namespace {

void FillRandom(void* to, size_t bytes) {
  if (!pg_strong_random(to, bytes))
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
}

// Bits are stored as they are, and take no more options.
void CheckBitOptions(const IndexOptions* options) {
  const bool coded = options->quantization == static_cast<int>(Quantization::kRabitq);
  if (!coded && options->bits == 0) return;
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                  errmsg("option \"%s\" does not apply to an index of type bit", coded ? "quantization" : "bits"),
                  errdetail("It stores each row's bits as they are.")));
}

// The meta page of an index without rows.
void InitMeta(Relation index, const char* server, MetaPage* meta) {
  CallCore([&] {
    *meta = MetaPage();
    return Status::Ok();
  });
  meta->metric = GetOpclassInfo(index)->metric;
  meta->dimensions = DeclaredDimensions(index);
  FillRandom(&meta->index_uuid, sizeof meta->index_uuid);
  // An RFC 4122 version 4 uuid.
  meta->index_uuid[6] = static_cast<uint8_t>((meta->index_uuid[6] & 0x0f) | 0x40);
  meta->index_uuid[8] = static_cast<uint8_t>((meta->index_uuid[8] & 0x3f) | 0x80);
  FillRandom(&meta->rotation_seed, sizeof meta->rotation_seed);
  const IndexOptions* options = GetIndexOptions(index);
  meta->requested_lists = static_cast<uint32_t>(options->lists);
  if (meta->metric == Metric::kHamming) {
    CheckBitOptions(options);
    meta->code_kind = CodeKind::kBits;
    meta->bits = 1;
    meta->current.code_kind = meta->raw_kind();
  } else if (options->quantization != static_cast<int>(Quantization::kNone)) {
    meta->code_kind = CodeKind::kRabitq;
    meta->bits = static_cast<uint8_t>(options->bits);
  }
  strlcpy(meta->server, server, sizeof meta->server);
}

void LoadPendingRow(Relation index, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* build = static_cast<Build*>(argument);
  MemoryContext old = MemoryContextSwitchTo(build->row_context);
  Vector vector;
  if (BuildVector(build, values, isnull, alive, &vector) && InsertPendingRow(index, tid, vector)) {
    ++build->indexed_rows;
    ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(build->indexed_rows));
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(build->row_context);
}

// Too few rows to train on: they are searched exactly, as pending rows.
void BuildUntrained(Build* build) {
  StartBuildPhase(BuildPhase::kLoadingPending);
  build->heap_rows =
      table_index_build_scan(build->heap, build->index, build->info, false, true, LoadPendingRow, build, nullptr);
}

// Gives the centroids codes, if ranking them is the cheaper by it: before the recall curve is found with such rankings.
void CodeCentroids(Build* build) {
  Routing* routing = build->routing->object;
  if (!WantsCodes(*routing)) return;
  CallCore([&] {
    StartCodes(build->rotation_seed, routing);
    return Status::Ok();
  });
  for (uint32_t group = 0; group < routing->group_count(); ++group) {
    CHECK_FOR_INTERRUPTS();
    CallCore([&] {
      CodeGroup(group, routing);
      return Status::Ok();
    });
  }
}

void BuildTrained(Build* build, MetaPage* meta) {
  build->routing_id = meta->next_id++;
  build->segment_id = meta->next_id++;
  build->segment = SegmentEntry{};
  build->segment.name.index_uuid = meta->index_uuid;
  meta->dimensions = build->dimensions;
  if (build->server[0] != '\0') (void)CheckServerAnswers(build->index, build->server, nullptr);
  (void)TrainAndBuild(build, meta);
  const uint64_t generation = meta->next_id++;
  meta->current = CreateGeneration(build->index, generation, meta->list_count, meta->code_kind);
  // From here on the index has its rows.
  PublishMeta(build->index, meta);
}

StreamRef WriteEncoded(const Build* build, Held<std::vector<std::byte>>* encoded) {
  const StreamRef ref = WriteStream(build->index, build->routing_id, **encoded);
  Drop(encoded);
  return ref;
}

}  // namespace

bool TrainAndBuild(Build* build, MetaPage* meta) {
  build->format = {meta->code_kind, meta->bits, build->dimensions};
  if (build->format.bits == 0) build->format = AutomaticFormat(build->dimensions);
  build->rotation_seed = meta->rotation_seed;
  TrainLists(build);
  CodeCentroids(build);
  if (!BuildSegment(build)) return false;

  const Routing* routing = build->routing->object;
  meta->list_count = routing->list_count();
  meta->code_kind = build->format.kind;
  meta->bits = static_cast<uint8_t>(build->format.bits);
  meta->routing_id = build->routing_id;
  meta->routing = WriteEncoded(build, Hold<std::vector<std::byte>>(build->context, [&] {
    return new std::vector<std::byte>(routing->Encode());
  }));
  if ((*build->curve)->queries > 0)
    meta->recall_curve = WriteEncoded(build, Hold<std::vector<std::byte>>(build->context, [&] {
      return new std::vector<std::byte>((*build->curve)->Encode());
    }));
  meta->segments[meta->segment_count++] = build->segment;
  return true;
}

void ReportProgress(int parameter, int64 value) {
  if (MyBEEntry != nullptr && MyBEEntry->st_progress_command == PROGRESS_COMMAND_CREATE_INDEX)
    pgstat_progress_update_param(parameter, value);
}

void StartBuildPhase(BuildPhase phase) {
  ReportProgress(PROGRESS_CREATEIDX_SUBPHASE, static_cast<int64>(phase));
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, 0);
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, 0);
  ReportProgress(PROGRESS_SCAN_BLOCKS_DONE, 0);
  ReportProgress(PROGRESS_SCAN_BLOCKS_TOTAL, 0);
}

void ReportBytesWritten(uint64_t stored, uint64_t expected) {
  const auto blocks = [](uint64_t bytes) { return static_cast<int64>((bytes + BLCKSZ - 1) / BLCKSZ); };
  ReportProgress(PROGRESS_SCAN_BLOCKS_TOTAL, blocks(std::max(stored, expected)));
  ReportProgress(PROGRESS_SCAN_BLOCKS_DONE, blocks(stored));
}

int64_t MaintenanceBytes() { return int64_t{maintenance_work_mem} * 1024; }
int SampleKilobytes() { return std::max(maintenance_work_mem / 4, 1024); }

bool BuildVector(Build* build, Datum* values, bool* isnull, bool alive, Vector* vector) {
  if (isnull[0]) return false;
  // A deleted row that an old snapshot may still see must not stop the build, and says nothing about the others.
  if (!alive && (build->dimensions == 0 || !IsUsableVector(build->value_type, values[0], build->dimensions))) return false;
  *vector = VectorFrom(build->value_type, values[0]);
  if (build->dimensions == 0) build->dimensions = vector->dimensions;
  if (build->dimensions != vector->dimensions) ThrowDimensionMismatch(build->dimensions, vector->dimensions);
  return build->metric != Metric::kCosine || SquaredNorm(vector->values, vector->dimensions) > 0;
}

IndexBuildResult* AmBuild(Relation heap, Relation index, IndexInfo* info) {
  if (RelationGetNumberOfBlocks(index) != 0)
    elog(ERROR, "index \"%s\" already contains data", RelationGetRelationName(index));
  auto* result = static_cast<IndexBuildResult*>(palloc0(sizeof(IndexBuildResult)));
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  const char* server = ServerNameForBuild(heap, index, info->ii_Concurrent);
  InitMeta(index, server, meta);

  auto* build = static_cast<Build*>(palloc0(sizeof(Build)));
  build->heap = heap;
  build->index = index;
  build->info = info;
  build->metric = meta->metric;
  build->dimensions = meta->dimensions;
  build->value_type = GetOpclassInfo(index)->value_type;
  build->requested_lists = GetIndexOptions(index)->lists;
  build->spill = GetIndexOptions(index)->spill;
  build->server = server;

  const Oid server_oid = server[0] == '\0' ? InvalidOid : LookUpServer(server);
  // For a rebuild on the same server the right was checked once; TRUNCATE must not fail for want of it. And pg_upgrade
  // recreates the relation, empty, to move the old files in place.
  if (OidIsValid(server_oid) && !IsBinaryUpgrade && !IsBoundTo(heap, index, info->ii_Concurrent, server_oid))
    CheckServerUsage(server_oid);
  BindToServer(heap, index, info->ii_Concurrent, server_oid);

  WriteFirstMeta(index, *meta);
  build->context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote build", ALLOCSET_DEFAULT_SIZES);
  build->row_context = AllocSetContextCreate(build->context, "ivfremote build row", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(build->context);
  MeasureTable(build);
  if (build->estimated_rows > 0 && build->estimated_rows >= FlushThreshold(index, build->estimated_rows)) {
    BuildTrained(build, meta);
  } else {
    const uint64_t generation = meta->next_id++;
    meta->current = CreateGeneration(index, generation, 0, meta->raw_kind());
    PublishMeta(index, meta);
    build->dimensions = meta->dimensions;
    BuildUntrained(build);
  }
  MemoryContextSwitchTo(old);
  result->heap_tuples = build->heap_rows;
  result->index_tuples = build->indexed_rows;
  MemoryContextDelete(build->context);
  return result;
}

void AmBuildEmpty(Relation index) {
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  InitMeta(index, "", meta);
  WriteInitFork(index, meta);
}

char* AmBuildPhaseName(int64 phase) {
  if (phase == PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE) return pstrdup("initializing");
  switch (static_cast<BuildPhase>(phase)) {
    case BuildPhase::kSampling:
      return pstrdup("sampling table");
    case BuildPhase::kTraining:
      return pstrdup("training lists");
    case BuildPhase::kAssigning:
      return pstrdup("assigning rows");
    case BuildPhase::kCalibrating:
      return pstrdup("calibrating recall");
    case BuildPhase::kWriting:
      return pstrdup("writing segment");
    case BuildPhase::kLoadingPending:
      return pstrdup("loading pending rows");
  }
  return nullptr;
}

}  // namespace ivfremote
