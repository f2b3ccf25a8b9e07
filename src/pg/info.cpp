// ivfremote_info(index) and ivfremote_segments(index).
#include <cmath>
#include <cstring>

#include "core/object_key.h"
#include "pg/open_index.h"
#include "pg/page.h"
#include "pg/pending.h"
#include "pg/probes.h"
#include "pg/server.h"
#include "pg/stream.h"
#include "pg/wall.h"

extern "C" {
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

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_info);
Datum ivfremote_info(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 17;
  Relation index = OpenIndexForInfo(PG_GETARG_OID(0));
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  uint64_t rows = 0;
  uint64_t segment_bytes = 0;
  uint64_t embedded_bytes = 0;
  for (uint32_t i = 0; i < meta->segment_count; ++i) {
    rows += meta->segments[i].rows;
    segment_bytes += meta->segments[i].bytes;
    if (meta->segments[i].place == SegmentPlace::kPages) embedded_bytes += meta->segments[i].bytes;
  }
  const uint64_t pending = CountPendingRows(index, meta->current) + CountPendingRows(index, meta->sealed);
  const auto relation_bytes = uint64_t{RelationGetNumberOfBlocks(index)} * kPageBytes;
  const uint64_t embedded_pages = (embedded_bytes + kPayloadBytes - 1) / kPayloadBytes;
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
                            Int64GetDatum(static_cast<int64>(rows)),
                            Int64GetDatum(static_cast<int64>(pending)),
                            Int64GetDatum(static_cast<int64>(segment_bytes)),
                            Int64GetDatum(static_cast<int64>(relation_bytes)),
                            Int64GetDatum(static_cast<int64>(relation_bytes - embedded_pages * kPageBytes))};
  nulls[3] = meta->dimensions == 0;
  nulls[5] = !meta->format().coded() || meta->bits == 0;
  nulls[6] = server[0] == '\0';
  nulls[8] = nulls[10] = !meta->trained();
  HeapTuple tuple = heap_form_tuple(ResultDescriptor(fcinfo), values, nulls);
  relation_close(index, AccessShareLock);
  PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}

PG_FUNCTION_INFO_V1(ivfremote_segments);
Datum ivfremote_segments(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 7;
  Relation index = OpenIndexForInfo(PG_GETARG_OID(0));
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, meta);
  for (uint32_t i = 0; i < meta->segment_count; ++i) {
    const SegmentEntry& segment = meta->segments[i];
    const bool object = segment.place == SegmentPlace::kObject;
    TreeReader reader;
    TreeReaderInit(&reader, index, segment.id, segment.directory);
    std::byte bytes[DirectoryHeader::kBytes];
    ReadStream(&reader, 0, sizeof bytes, bytes);
    DirectoryHeader header;
    CallCore([&] { return DecodeDirectoryHeader(bytes, &header); });
    const uint64_t objects =
        !object ? 0 : segment.part_bytes == 0 ? 1 : (segment.bytes + segment.part_bytes - 1) / segment.part_bytes;
    Datum values[kColumns] = {Int64GetDatum(static_cast<int64>(segment.id)),
                              object ? CStringGetTextDatum(KeyOf(segment.name)) : Datum{0},
                              Int32GetDatum(static_cast<int32>(objects)),
                              Int64GetDatum(static_cast<int64>(segment.rows)),
                              Int32GetDatum(static_cast<int32>(segment.list_count)),
                              Int32GetDatum(static_cast<int32>(header.block_count)),
                              Int64GetDatum(static_cast<int64>(segment.bytes))};
    bool nulls[kColumns] = {};
    nulls[1] = !object;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
  }
  relation_close(index, AccessShareLock);
  return Datum{0};
}

}  // extern "C"
