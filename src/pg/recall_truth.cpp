// The true neighbours of queries: one pass over the table, as a build makes it.
#include <algorithm>
#include <cstring>
#include <memory>

#include "core/assignment.h"
#include "core/coding.h"
#include "core/distance.h"
#include "pg/pending.h"
#include "pg/probes.h"
#include "pg/recall.h"
#include "pg/stream.h"
#include "pg/tid_map.h"
#include "pg/vectors.h"

extern "C" {
#include "common/pg_prng.h"
#include "executor/executor.h"
#include "utils/sampling.h"
}

namespace ivfremote {
namespace {

// Enough blocks to draw queries from, if they hold as many rows.
constexpr int kSampledBlocks = 1000;
// Rows compared with the queries between two looks at interrupts: well below 100 ms for the most queries.
constexpr size_t kComparedRows = 128;

// A reservoir: every row seen is as likely to be in it.
struct Reservoir {
  RecallRun* run;
  uint32_t capacity;
  uint64 seen;
};

void OfferRow(Reservoir* reservoir) {
  RecallRun* run = reservoir->run;
  Vector vector;
  if (!IndexedVector(run, &vector)) return;
  uint64 slot = reservoir->seen++;
  if (slot >= reservoir->capacity) slot = pg_prng_uint64_range(&pg_global_prng_state, 0, slot);
  if (slot >= reservoir->capacity) return;
  const Tid tid = TidOf(&run->slot->tts_tid);
  CallCore([&] {
    RecallQueries& queries = **run->queries;
    const size_t d = vector.dimensions;
    if (queries.tids.size() <= slot) {
      queries.tids.resize(slot + 1);
      queries.values.resize((slot + 1) * d);
    }
    queries.tids[slot] = tid;
    std::copy(vector.values, vector.values + d, &queries.values[slot * d]);
    return Status::Ok();
  });
}

void SampleTable(Reservoir* reservoir) {
  RecallRun* run = reservoir->run;
  TableScanDesc scan = table_beginscan(run->heap, run->snapshot, 0, nullptr);
  while (table_scan_getnextslot(scan, ForwardScanDirection, run->slot)) {
    CHECK_FOR_INTERRUPTS();
    OfferRow(reservoir);
  }
  ExecClearTuple(run->slot);
  table_endscan(scan);
}

void SampleRandomBlocks(Reservoir* reservoir, BlockNumber total) {
  RecallRun* run = reservoir->run;
  BlockSamplerData sampler;
  BlockSampler_Init(&sampler, total, kSampledBlocks, pg_prng_uint32(&pg_global_prng_state));
  TableScanDesc scan = nullptr;
  while (BlockSampler_HasMore(&sampler)) {
    const BlockNumber block = BlockSampler_Next(&sampler);
    ItemPointerData first;
    ItemPointerData last;
    ItemPointerSet(&first, block, FirstOffsetNumber);
    ItemPointerSet(&last, block, MaxOffsetNumber);
    if (scan == nullptr)
      scan = table_beginscan_tidrange(run->heap, run->snapshot, &first, &last);
    else
      table_rescan_tidrange(scan, &first, &last);
    while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, run->slot)) {
      CHECK_FOR_INTERRUPTS();
      OfferRow(reservoir);
    }
    CHECK_FOR_INTERRUPTS();
  }
  ExecClearTuple(run->slot);
  if (scan != nullptr) table_endscan(scan);
}

// Rows that go through the pass together.
struct Batch {
  Held<Assigner>* assigner;
  Held<RowCoder>* coder;
  size_t capacity;
  size_t filled;
  float* rows;    // as they are
  float* routed;  // in routing space; after they are assigned less the mean
  Tid* tids;
  uint32_t* lists;
  uint32_t* second_lists;  // where the index has spilled segments; else null
  std::byte* codes;        // RowBytes each
  TreeReader* spilled;     // their tid maps
  uint32_t spilled_count;
};

Held<Routing>* ReadRouting(const RecallRun* run) {
  const Bytes bytes = ReadWholeStream(run->index, run->meta->routing_id, run->meta->routing);
  Held<Routing>* routing = Hold<Routing>(run->context, [] { return new Routing(); });
  const CoreError error = RunCore([&] {
    IVFREMOTE_RETURN_IF_ERROR(DecodeRouting(bytes, routing->object));
    const Routing& decoded = **routing;
    if (decoded.dimensions != run->meta->dimensions || decoded.metric != run->meta->metric)
      return Status::Corrupt("routing is for other vectors than the index");
    return Status::Ok();
  });
  CheckContent(run->index, run->meta->routing.root, error);
  pfree(const_cast<std::byte*>(bytes.data()));
  return routing;
}

Held<Calibration>* NewCalibration(const RecallRun* run) {
  const MetaPage& meta = *run->meta;
  CalibrationOptions options;
  options.metric = meta.metric;
  options.format = meta.format();
  options.rotation_seed = meta.rotation_seed;
  options.epsilon = DefaultEpsilon(meta.bits);
  options.k = run->k;
  return Hold<Calibration>(run->context, [&] {
    const RecallQueries& queries = **run->queries;
    std::vector<float> routed(queries.values.size());
    for (uint32_t i = 0; i < run->query_count; ++i)
      ToRoutingSpace(meta.metric, run->query(i), meta.dimensions, &routed[size_t{i} * meta.dimensions]);
    return new Calibration(options, run->routing->object, std::move(routed), queries.tids);
  });
}

Batch NewBatch(const RecallRun* run) {
  const MetaPage& meta = *run->meta;
  Batch batch;
  std::memset(&batch, 0, sizeof batch);
  batch.assigner = Hold<Assigner>(run->context, [&] { return new Assigner(run->routing->object); });
  batch.coder = Hold<RowCoder>(run->context, [&] {
    return new RowCoder(meta.metric, meta.format(), meta.rotation_seed, (*run->routing)->mean.data());
  });
  batch.capacity = (*batch.assigner)->batch_rows();
  const size_t row_bytes = meta.dimensions * sizeof(float);
  batch.rows = static_cast<float*>(palloc_extended(batch.capacity * row_bytes, MCXT_ALLOC_HUGE));
  batch.routed = static_cast<float*>(palloc_extended(batch.capacity * row_bytes, MCXT_ALLOC_HUGE));
  batch.tids = static_cast<Tid*>(palloc(batch.capacity * sizeof(Tid)));
  batch.lists = static_cast<uint32_t*>(palloc(batch.capacity * sizeof(uint32_t)));
  batch.codes =
      static_cast<std::byte*>(palloc_extended(batch.capacity * meta.format().RowBytes(), MCXT_ALLOC_HUGE));
  batch.spilled = static_cast<TreeReader*>(palloc(std::max<size_t>(meta.segment_count, 1) * sizeof(TreeReader)));
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    if ((meta.segments[i].flags & SegmentEntry::kSpilled) != 0)
      TreeReaderInit(&batch.spilled[batch.spilled_count++], run->index, meta.segments[i].id, meta.segments[i].tid_map);
  if (batch.spilled_count > 0) batch.second_lists = static_cast<uint32_t*>(palloc(batch.capacity * sizeof(uint32_t)));
  return batch;
}

// Rows of spilled segments are in two lists each, others in one. The index knows rows that were updated in place (HOT) by
// another TID: these are taken to be in one list, which makes for a curve with too many lists rather than too few.
void AssignSpilled(Batch* batch) {
  CallCore([&] {
    (*batch->assigner)->AssignTwo(batch->routed, batch->filled, batch->lists, batch->second_lists);
    return Status::Ok();
  });
  for (size_t i = 0; i < batch->filled; ++i) {
    bool spilled = false;
    for (uint32_t k = 0; k < batch->spilled_count && !spilled; ++k)
      spilled = TidMapHas(&batch->spilled[k], batch->tids[i]);
    if (!spilled) batch->second_lists[i] = batch->lists[i];
  }
}

void AssignBatch(Batch* batch) {
  if (batch->second_lists != nullptr) return AssignSpilled(batch);
  CallCore([&] {
    (*batch->assigner)->Assign(batch->routed, batch->filled, batch->lists);
    return Status::Ok();
  });
}

void CompareBatch(RecallRun* run, Batch* batch) {
  AssignBatch(batch);
  CHECK_FOR_INTERRUPTS();
  const size_t d = run->meta->dimensions;
  const size_t row_bytes = run->meta->format().RowBytes();
  CallCore([&] {
    for (size_t i = 0; i < batch->filled; ++i)
      (*batch->coder)
          ->Encode(batch->rows + i * d, &(*run->routing)->centroids[batch->lists[i] * d],
                   batch->codes + i * row_bytes);
    return Status::Ok();
  });
  for (size_t first = 0; first < batch->filled; first += kComparedRows) {
    CHECK_FOR_INTERRUPTS();
    CallCore([&] {
      (*run->calibration)
          ->Add(batch->routed + first * d, std::min(kComparedRows, batch->filled - first), batch->lists + first,
                batch->second_lists == nullptr ? nullptr : batch->second_lists + first, batch->tids + first,
                batch->codes + first * row_bytes);
      return Status::Ok();
    });
  }
  batch->filled = 0;
}

}  // namespace

void StartReadingRows(RecallRun* run) {
  run->slot = table_slot_create(run->heap, nullptr);
  run->info = BuildIndexInfo(run->index);
  run->executor = CreateExecutorState();
  GetPerTupleExprContext(run->executor)->ecxt_scantuple = run->slot;
  run->predicate = ExecPrepareQual(run->info->ii_Predicate, run->executor);
}

void EndReadingRows(RecallRun* run) {
  ExecDropSingleTupleTableSlot(run->slot);
  FreeExecutorState(run->executor);
}

bool IndexedVector(RecallRun* run, Vector* vector) {
  MemoryContextReset(run->row_context);
  ResetPerTupleExprContext(run->executor);
  if (!ExecQual(run->predicate, GetPerTupleExprContext(run->executor))) return false;
  MemoryContext old = MemoryContextSwitchTo(run->row_context);
  Datum values[INDEX_MAX_KEYS];
  bool nulls[INDEX_MAX_KEYS];
  FormIndexDatum(run->info, run->slot, run->executor, values, nulls);
  bool indexed = false;
  if (!nulls[0]) {
    *vector = VectorFrom(run->value_type, values[0]);
    if (vector->dimensions != run->meta->dimensions)
      ThrowDimensionMismatch(run->meta->dimensions, vector->dimensions);
    indexed = run->meta->metric != Metric::kCosine || SquaredNorm(vector->values, vector->dimensions) > 0;
  }
  MemoryContextSwitchTo(old);
  return indexed;
}

void SampleQueries(RecallRun* run, uint32_t count) {
  Reservoir reservoir{run, count, 0};
  const BlockNumber blocks = RelationGetNumberOfBlocks(run->heap);
  // Not every table access method reads ranges of TIDs.
  if (blocks > kSampledBlocks && run->heap->rd_tableam->scan_set_tidrange != nullptr)
    SampleRandomBlocks(&reservoir, blocks);
  // The index may have rows in few blocks only.
  if (reservoir.seen < count) {
    reservoir.seen = 0;
    SampleTable(&reservoir);
  }
  run->query_count = static_cast<uint32_t>(std::min<uint64>(reservoir.seen, count));
}

void FindTruth(RecallRun* run) {
  run->routing = ReadRouting(run);
  run->calibration = NewCalibration(run);
  Batch batch = NewBatch(run);
  const size_t d = run->meta->dimensions;
  TableScanDesc scan = table_beginscan(run->heap, run->snapshot, 0, nullptr);
  while (table_scan_getnextslot(scan, ForwardScanDirection, run->slot)) {
    CHECK_FOR_INTERRUPTS();
    Vector vector;
    if (!IndexedVector(run, &vector)) continue;
    std::memcpy(batch.rows + batch.filled * d, vector.values, d * sizeof(float));
    CallCore([&] {
      ToRoutingSpace(run->meta->metric, vector.values, d, batch.routed + batch.filled * d);
      return Status::Ok();
    });
    ++run->rows;
    batch.tids[batch.filled++] = TidOf(&run->slot->tts_tid);
    if (batch.filled == batch.capacity) CompareBatch(run, &batch);
  }
  if (batch.filled > 0) CompareBatch(run, &batch);
  ExecClearTuple(run->slot);
  table_endscan(scan);
  Drop(batch.assigner);
  Drop(batch.coder);
}

}  // namespace ivfremote
