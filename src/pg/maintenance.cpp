#include "pg/maintenance.h"

#include "pg/compat.h"
#include "pg/routing_pages.h"
#include "pg/server.h"

extern "C" {
#include "postmaster/autovacuum.h"
}

namespace ivfremote {
namespace {

using std::chrono::seconds;

// What one VACUUM may want of a store, and autovacuum a quarter of.
constexpr seconds kVacuumTime{60};
constexpr uint64_t kVacuumBytes = uint64_t{1} << 30;

}  // namespace

Maintenance* StartMaintenance(Relation index, bool in_vacuum) {
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote maintenance", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  auto* maintenance = static_cast<Maintenance*>(palloc0(sizeof(Maintenance)));
  maintenance->index = index;
  maintenance->context = context;
  maintenance->meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMetaToWrite(index, maintenance->meta);
  maintenance->server = ServerNameOf(index, *maintenance->meta);
  maintenance->in_vacuum = in_vacuum;
  const int share = IVFREMOTE_IS_AUTOVACUUM() ? 4 : 1;
  maintenance->deadline = in_vacuum ? Clock::now() + kVacuumTime / share : Clock::time_point::max();
  if (in_vacuum) {
    maintenance->limit = static_cast<StoreLimit*>(palloc0(sizeof(StoreLimit)));
    maintenance->limit->time_left = kVacuumTime / share;
  }
  maintenance->bytes_left = in_vacuum ? kVacuumBytes / share : UINT64_MAX;
  MemoryContextSwitchTo(old);
  return maintenance;
}

void EndMaintenance(Maintenance* maintenance) { MemoryContextDelete(maintenance->context); }

bool FindServer(Maintenance* maintenance) {
  StoreLimit* limit = maintenance->limit;
  if (limit == nullptr || maintenance->server[0] == '\0') return true;
  const char* problem =
      ServerProblem(maintenance->server, maintenance->index->rd_rel->relowner, &limit->sqlstate);
  if (problem == nullptr) return true;
  limit->failed = true;
  strlcpy(limit->why, problem, sizeof limit->why);
  return false;
}

Build* NewSegmentBuild(Maintenance* maintenance) {
  Relation index = maintenance->index;
  const MetaPage& meta = *maintenance->meta;
  MemoryContext context =
      AllocSetContextCreate(maintenance->context, "ivfremote new segment", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  auto* build = static_cast<Build*>(palloc0(sizeof(Build)));
  build->index = index;
  build->context = context;
  build->row_context = AllocSetContextCreate(context, "ivfremote new segment row", ALLOCSET_DEFAULT_SIZES);
  build->metric = meta.metric;
  build->server = maintenance->server;
  build->limit = maintenance->limit;
  build->dimensions = meta.dimensions;
  build->lists = meta.list_count;
  build->format = meta.format();
  build->rotation_seed = meta.rotation_seed;
  build->routing_id = meta.routing_id;
  build->segment_id = TakeIds(index, 1);
  build->segment = SegmentEntry{};
  build->segment.name.index_uuid = meta.index_uuid;
  if (meta.trained()) {
    build->routing = Hold<Routing>(context, [] { return new Routing(); });
    TreeReader reader;
    RoutingReaderInit(&reader, index, meta);
    ReadRouting(&reader, meta, RoutingPart::kCentroids, build->routing->object);
  }
  MemoryContextSwitchTo(old);
  return build;
}

}  // namespace ivfremote
