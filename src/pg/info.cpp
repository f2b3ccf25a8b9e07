// ivfremote_info(index) and ivfremote_segments(index).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/object_key.h"
#include "pg/compact.h"
#include "pg/open_index.h"
#include "pg/page.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"
#include "pg/probes.h"
#include "pg/server.h"
#include "pg/stream.h"
#include "pg/wall.h"

extern "C" {
#include "utils/timestamp.h"
#include "utils/uuid.h"
}

namespace ivfremote {
namespace {

const char* MetricName(Metric metric) {
  switch (metric) {
    case Metric::kL2:
      return "l2";
    case Metric::kInnerProduct:
      return "inner product";
    case Metric::kCosine:
      return "cosine";
    case Metric::kHamming:
      return "hamming";
  }
  return "unknown";
}

TupleDesc ResultDescriptor(FunctionCallInfo fcinfo) {
  TupleDesc descriptor;
  if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
    elog(ERROR, "return type must be a row type");
  return BlessTupleDesc(descriptor);
}

Datum UuidDatum(const Uuid& uuid) {
  auto* copy = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
  std::memcpy(copy->data, uuid.data(), uuid.size());
  return UUIDPGetDatum(copy);
}

char* KeyOf(const SegmentName& name) {
  auto* text = static_cast<char*>(palloc(256));
  CallCore([&] {
    strlcpy(text, FormatObjectKey({name, 0}).c_str(), 256);
    return Status::Ok();
  });
  return text;
}

// What a compaction would free: dead rows take as much as others.
uint64_t ReclaimableBytes(const SegmentEntry& segment, uint64_t live_rows) {
  const auto rows = static_cast<double>(std::max<uint64_t>(segment.rows, 1));
  return static_cast<uint64_t>(static_cast<double>(segment.bytes) * (1 - static_cast<double>(live_rows) / rows));
}

Datum CountDatum(uint64_t count) { return Int64GetDatum(static_cast<int64>(count)); }

uint32_t CountBlocks(Relation index, const SegmentEntry& segment) {
  TreeReader reader;
  TreeReaderInit(&reader, index, segment.id, segment.directory);
  std::byte bytes[DirectoryHeader::kBytes];
  ReadStream(&reader, 0, sizeof bytes, bytes);
  DirectoryHeader header;
  CheckContent(index, segment.directory.root, RunCore([&] { return DecodeDirectoryHeader(bytes, &header); }));
  return header.block_count;
}

// The share of live rows that are in lists more than twice as long as they would be in an index built now.
double Imbalance(Relation index, const MetaPage& meta, const uint64_t* live_rows) {
  Held<std::vector<uint64_t>>* sizes = RowsOfLists(index, meta, live_rows);
  const uint64_t rows = std::accumulate((*sizes)->begin(), (*sizes)->end(), uint64_t{0});
  const double target = TargetRows(meta, rows);
  uint64_t beyond = 0;
  for (const uint64_t size : **sizes)
    if (static_cast<double>(size) > 2 * target) beyond += size;
  Drop(sizes);
  return rows == 0 ? 0 : static_cast<double>(beyond) / static_cast<double>(rows);
}

struct Figures {
  uint64_t segment_rows;
  uint64_t segment_bytes;
  uint64_t embedded_bytes;
  uint64_t live_rows;  // pending ones included
  uint64_t dead_rows;
  uint64_t reclaimable_bytes;
  uint64_t pending_rows;
  uint64_t sealed_rows;
  int64_t pending_since;  // 0: not known, or there are none
  double imbalance;
};

void AddPending(Relation index, const MetaPage& meta, const PendingGeneration& generation, Figures* figures) {
  if (generation.id == 0 || meta.dimensions == 0) return;
  const uint64_t rows = CountPendingRows(index, generation);
  const uint64_t live = CountLivePendingRows(index, meta, generation);
  figures->pending_rows += rows;
  figures->live_rows += live;
  figures->dead_rows += rows - std::min(rows, live);
  if (live > 0 && figures->pending_since == 0) figures->pending_since = generation.began;
}

Figures FiguresOf(Relation index, const MetaPage& meta) {
  Figures figures{};
  uint64_t live_rows[MetaPage::kMaxSegments];
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    const SegmentEntry& segment = meta.segments[i];
    const uint64_t live = live_rows[i] = CountLiveRows(index, segment);
    figures.segment_rows += segment.rows;
    figures.segment_bytes += segment.bytes;
    if (segment.place == SegmentPlace::kPages) figures.embedded_bytes += segment.bytes;
    figures.live_rows += live;
    figures.dead_rows += segment.rows - std::min(segment.rows, live);
    figures.reclaimable_bytes += ReclaimableBytes(segment, live);
  }
  AddPending(index, meta, meta.sealed, &figures);
  figures.sealed_rows = figures.pending_rows;
  AddPending(index, meta, meta.current, &figures);
  figures.imbalance = Imbalance(index, meta, live_rows);
  return figures;
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_info);
Datum ivfremote_info(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 25;
  Relation index = OpenIndexForInfo(PG_GETARG_OID(0));
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  const Figures figures = FiguresOf(index, *meta);
  const auto relation_bytes = uint64_t{RelationGetNumberOfBlocks(index)} * kPageBytes;
  const uint64_t embedded_pages = (figures.embedded_bytes + kPayloadBytes - 1) / kPayloadBytes;
  const char* server = ServerNameOf(index, *meta);
  bool nulls[kColumns] = {};
  Datum values[kColumns] = {Int32GetDatum(static_cast<int32>(meta->version)),
                            UuidDatum(meta->index_uuid),
                            CStringGetTextDatum(MetricName(meta->metric)),
                            Int32GetDatum(static_cast<int32>(meta->dimensions)),
                            CStringGetTextDatum(meta->format().coded() ? "rabitq" : "none"),
                            Int32GetDatum(meta->bits),
                            CStringGetTextDatum(server),
                            BoolGetDatum(meta->trained()),
                            Int32GetDatum(static_cast<int32>(meta->list_count)),
                            BoolGetDatum(meta->requested_lists == 0),
                            Int32GetDatum(meta->trained() ? static_cast<int32>(std::lround(ProbeSettingOf(index, *meta).lists)) : 0),
                            Int32GetDatum(meta->segment_count),
                            CountDatum(figures.segment_rows),
                            CountDatum(figures.pending_rows),
                            CountDatum(figures.segment_bytes),
                            CountDatum(relation_bytes),
                            CountDatum(relation_bytes - embedded_pages * kPageBytes),
                            CountDatum(figures.live_rows),
                            CountDatum(figures.dead_rows),
                            CountDatum(figures.sealed_rows),
                            CountDatum(figures.segment_bytes - figures.embedded_bytes),
                            CountDatum(figures.reclaimable_bytes),
                            Float8GetDatum(figures.imbalance),
                            TimestampTzGetDatum(figures.pending_since),
                            TimestampTzGetDatum(meta->last_flush)};
  nulls[3] = meta->dimensions == 0;
  nulls[5] = meta->code_kind == CodeKind::kFloat32 || meta->bits == 0;
  nulls[6] = server[0] == '\0';
  nulls[8] = nulls[10] = nulls[22] = !meta->trained();
  nulls[23] = figures.pending_since == 0;
  nulls[24] = meta->last_flush == 0;
  HeapTuple tuple = heap_form_tuple(ResultDescriptor(fcinfo), values, nulls);
  relation_close(index, AccessShareLock);
  PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

PG_FUNCTION_INFO_V1(ivfremote_segments);
Datum ivfremote_segments(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 9;
  Relation index = OpenIndexForInfo(PG_GETARG_OID(0));
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  for (uint32_t i = 0; i < meta->segment_count; ++i) {
    const SegmentEntry& segment = meta->segments[i];
    const bool object = segment.place == SegmentPlace::kObject;
    const uint64_t objects =
        !object ? 0 : segment.part_bytes == 0 ? 1 : (segment.bytes + segment.part_bytes - 1) / segment.part_bytes;
    const uint64_t live = CountLiveRows(index, segment);
    Datum values[kColumns] = {CountDatum(segment.id),
                              object ? CStringGetTextDatum(KeyOf(segment.name)) : Datum{0},
                              Int32GetDatum(static_cast<int32>(objects)),
                              CountDatum(segment.rows),
                              Int32GetDatum(static_cast<int32>(segment.list_count)),
                              Int32GetDatum(static_cast<int32>(CountBlocks(index, segment))),
                              CountDatum(segment.bytes),
                              CountDatum(live),
                              CountDatum(ReclaimableBytes(segment, live))};
    bool nulls[kColumns] = {};
    nulls[1] = !object;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
  }
  relation_close(index, AccessShareLock);
  return Datum{0};
}

}  // extern "C"
