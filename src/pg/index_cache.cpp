#include "pg/index_cache.h"

#include <memory>

#include "core/routing.h"
#include "pg/compat.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

constexpr int kMaxIndexes = 16;
// Larger ones are read from their pages, which all sessions share.
constexpr uint64_t kMaxRoutingBytes = 4 << 20;
constexpr uint64_t kMaxDirectoryBytes = 4 << 20;
// Of all indexes; the one in use stays in any case.
constexpr size_t kMaxSessionBytes = 32 << 20;

ResidentIndex* cache[kMaxIndexes];
uint64_t use_counter;

uint64_t MaxRoutingBytes() {
#ifdef IVFREMOTE_TEST_FAULTS
  if (settings.test_stream_routing) return 0;
#endif
  return kMaxRoutingBytes;
}

bool IsCopyOf(const ResidentIndex& entry, Relation index, const MetaPage& meta) {
  return entry.file == IVFREMOTE_FILE_NUMBER(index) && entry.index_uuid == meta.index_uuid && entry.epoch == meta.epoch &&
         entry.routing_id == meta.routing_id && (entry.routing.empty() || meta.routing.bytes <= MaxRoutingBytes());
}

void Forget(ResidentIndex** slot) {
  delete *slot;
  *slot = nullptr;
}

ResidentIndex** SlotOf(Relation index) {
  ResidentIndex** oldest = &cache[0];
  for (ResidentIndex*& entry : cache) {
    if (entry == nullptr) {
      if (*oldest != nullptr) oldest = &entry;
    } else if (entry->relation == RelationGetRelid(index)) {
      return &entry;
    } else if (*oldest != nullptr && entry->last_use < (*oldest)->last_use) {
      oldest = &entry;
    }
  }
  Forget(oldest);
  return oldest;
}

void LimitMemory(const ResidentIndex* in_use) {
  for (;;) {
    size_t total = 0;
    ResidentIndex** oldest = nullptr;
    for (ResidentIndex*& entry : cache) {
      if (entry == nullptr) continue;
      total += entry->bytes();
      if (entry != in_use && (oldest == nullptr || entry->last_use < (*oldest)->last_use)) oldest = &entry;
    }
    if (total <= kMaxSessionBytes || oldest == nullptr) return;
    Forget(oldest);
  }
}

Status TakeRouting(const MetaPage& meta, Bytes bytes, ResidentIndex* entry) {
  Routing routing;
  IVFREMOTE_RETURN_IF_ERROR(DecodeRouting(bytes, &routing));
  if (routing.dimensions != meta.dimensions || routing.metric != meta.metric ||
      routing.list_count() != meta.list_count)
    return Status::Corrupt("routing is for other vectors than the index");
  entry->routing.assign(bytes.begin(), bytes.end());
  return Status::Ok();
}

ResidentIndex* Load(Relation index, const MetaPage& meta) {
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote resident index", ALLOCSET_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  Bytes routing;
  Bytes curve;
  Bytes directories[MetaPage::kMaxSegments];
  if (meta.routing.bytes <= MaxRoutingBytes()) routing = ReadWholeStream(index, meta.routing_id, meta.routing);
  if (meta.recall_curve.bytes > 0) curve = ReadWholeStream(index, meta.routing_id, meta.recall_curve);
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    if (meta.segments[i].directory.bytes <= kMaxDirectoryBytes)
      directories[i] = ReadWholeStream(index, meta.segments[i].id, meta.segments[i].directory);
  ResidentIndex* result = nullptr;
  CallCore([&] {
    auto entry = std::make_unique<ResidentIndex>();
    entry->relation = RelationGetRelid(index);
    entry->file = IVFREMOTE_FILE_NUMBER(index);
    entry->index_uuid = meta.index_uuid;
    entry->epoch = meta.epoch;
    entry->routing_id = meta.routing_id;
    if (!routing.empty()) IVFREMOTE_RETURN_IF_ERROR(TakeRouting(meta, routing, entry.get()));
    if (!curve.empty()) IVFREMOTE_RETURN_IF_ERROR(DecodeRecallCurve(curve, &entry->curve));
    entry->directories.resize(meta.segment_count);
    for (uint32_t i = 0; i < meta.segment_count; ++i)
      entry->directories[i].assign(directories[i].begin(), directories[i].end());
    result = entry.release();
    return Status::Ok();
  });
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
  return result;
}

}  // namespace

size_t ResidentIndex::bytes() const {
  size_t total = sizeof *this + routing.size() + curve.points.size() * sizeof(CurvePoint);
  for (const auto& directory : directories) total += directory.size();
  return total;
}

const ResidentIndex* GetResidentIndex(Relation index, const MetaPage& meta) {
  ResidentIndex** slot = SlotOf(index);
  if (*slot == nullptr || !IsCopyOf(**slot, index, meta)) {
    Forget(slot);
    *slot = Load(index, meta);
  }
  (*slot)->last_use = ++use_counter;
  LimitMemory(*slot);
  return *slot;
}

}  // namespace ivfremote
