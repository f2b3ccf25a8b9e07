#include "pg/index_cache.h"

#include <algorithm>
#include <memory>

#include "pg/compat.h"
#include "pg/routing_pages.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

constexpr int kMaxIndexes = 16;
// What is larger is read from its pages, which all sessions share.
constexpr uint64_t kMaxRoutingBytes = 16 << 20;
constexpr uint64_t kMaxDirectoryBytes = 4 << 20;
// Of all indexes; the one in use stays in any case.
constexpr uint64_t kMaxSessionBytes = 32 << 20;

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
         entry.routing_id == meta.routing_id && (entry.routing.list_count() == 0 || MaxRoutingBytes() > 0);
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

// How much of a routing a session keeps: false, nothing. Centroids only where there are no codes to rank by.
bool PartToKeep(const RoutingHeader& header, RoutingPart* part) {
  const uint64_t floats = uint64_t{header.list_count} * header.dimensions * sizeof(float);
  if (!header.coded() && header.EndOf(RoutingPart::kLists) + floats <= MaxRoutingBytes())
    *part = RoutingPart::kCentroids;
  else if (header.coded() && header.EndOf(RoutingPart::kCodes) <= MaxRoutingBytes())
    *part = RoutingPart::kCodes;
  else
    *part = RoutingPart::kLists;
  return header.EndOf(*part) <= MaxRoutingBytes();
}

ResidentIndex* Load(Relation index, const MetaPage& meta) {
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote resident index", ALLOCSET_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  Bytes curve;
  Bytes directories[MetaPage::kMaxSegments];
  Held<Routing>* routing = Hold<Routing>(context, [] { return new Routing(); });
  TreeReader reader;
  RoutingReaderInit(&reader, index, meta);
  RoutingPart part;
  if (PartToKeep(ReadRoutingHeader(&reader, meta), &part)) ReadRouting(&reader, meta, part, routing->object);
  if (meta.recall_curve.bytes > 0) curve = ReadWholeStream(index, meta.curve_owner(), meta.recall_curve);
  // What one index may have of the session's memory.
  uint64_t left = kMaxSessionBytes - kMaxRoutingBytes;
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    const StreamRef& directory = meta.segments[i].directory;
    if (directory.bytes > std::min(kMaxDirectoryBytes, left)) continue;
    directories[i] = ReadWholeStream(index, meta.segments[i].id, directory);
    left -= directory.bytes;
  }
  ResidentIndex* result = nullptr;
  const CoreError error = RunCore([&] {
    auto entry = std::make_unique<ResidentIndex>();
    entry->relation = RelationGetRelid(index);
    entry->file = IVFREMOTE_FILE_NUMBER(index);
    entry->index_uuid = meta.index_uuid;
    entry->epoch = meta.epoch;
    entry->routing_id = meta.routing_id;
    entry->routing = std::move(**routing);
    if (!curve.empty()) IVFREMOTE_RETURN_IF_ERROR(DecodeRecallCurve(curve, &entry->curve));
    entry->directories.resize(meta.segment_count);
    for (uint32_t i = 0; i < meta.segment_count; ++i)
      entry->directories[i].assign(directories[i].begin(), directories[i].end());
    result = entry.release();
    return Status::Ok();
  });
  CheckContent(index, meta.recall_curve.root, error);
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
  return result;
}

}  // namespace

size_t ResidentIndex::bytes() const {
  size_t total = sizeof *this + routing.bytes() + curve.points.size() * sizeof(CurvePoint);
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
