// The sampling phase of a build: how many rows there are, and some of them.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "pg/build.h"
#include "pg/pending.h"
#include "pg/pending_reader.h"

extern "C" {
#include "executor/tuptable.h"
#include "utils/sampling.h"
}

namespace ivfremote {
namespace {

// Enough to estimate the number of rows; a table of fewer blocks is counted.
constexpr BlockNumber kMeasuredBlocks = 1000;
// With rows in fewer of them than this, the estimate would be worthless.
constexpr double kMinBlocksWithRows = 50;
constexpr double kSampleRowsPerList = 64;
constexpr double kMinSampleRows = 10000;

// (tid tid, row bytea)
constexpr int kSampleColumns = 2;

// Calls back for every row of up to `blocks` random blocks; returns how many blocks were read.
BlockNumber ScanRandomBlocks(Build* build, BlockNumber blocks, IndexBuildCallback callback, void* state) {
  BlockSamplerData sampler;
  const BlockNumber total = RelationGetNumberOfBlocks(build->heap);
  BlockSampler_Init(&sampler, total, static_cast<int>(std::min<BlockNumber>(blocks, INT_MAX)),
                    pg_prng_uint32(&pg_global_prng_state));
  BlockNumber read = 0;
  while (BlockSampler_HasMore(&sampler)) {
    CHECK_FOR_INTERRUPTS();
    table_index_build_range_scan(build->heap, build->index, build->info, false, !build->info->ii_Concurrent, false,
                                 BlockSampler_Next(&sampler), 1, callback, state, nullptr);
    ++read;
  }
  return read;
}

struct Measure {
  Build* build;
  double rows;
  // Blocks with a row in them: a partial index may cover few.
  BlockNumber last_block;
  double blocks;
};

void MeasureRow(Relation, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* measure = static_cast<Measure*>(argument);
  Build* build = measure->build;
  if (isnull[0]) return;
  const BlockNumber block = ItemPointerGetBlockNumber(tid);
  // A vector may have to be fetched from TOAST: one of a block is looked at, and where zero vectors are left out all.
  if (block == measure->last_block && build->metric != Metric::kCosine) {
    ++measure->rows;
    return;
  }
  MemoryContext old = MemoryContextSwitchTo(build->row_context);
  Vector vector;
  if (BuildVector(build, values, isnull, alive, &vector)) {
    ++measure->rows;
    if (block != measure->last_block) ++measure->blocks;
    measure->last_block = block;
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(build->row_context);
}

struct Sampling {
  Build* build;
  SampleStore* sample;
  TupleDesc descriptor;
  bytea* row;    // being put into the store
  double share;  // of the rows that come by
  pg_prng_state random;
};

bool IsDrawn(Sampling* sampling) {
  return sampling->share >= 1 || sampler_random_fract(&sampling->random) < sampling->share;
}

// `vector`: [dimensions], the user's.
void KeepSampleRow(Sampling* sampling, ItemPointer tid, const float* vector) {
  const Build* build = sampling->build;
  auto* row = reinterpret_cast<float*>(VARDATA(sampling->row));
  CallCore([&] {
    ToRoutingSpace(build->metric, vector, build->dimensions, row);
    (*sampling->sample->summary)->Add(row);
    return Status::Ok();
  });
  Datum values[kSampleColumns] = {PointerGetDatum(tid), PointerGetDatum(sampling->row)};
  bool isnull[kSampleColumns] = {};
  tuplestore_putvalues(sampling->sample->rows, sampling->descriptor, values, isnull);
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>((*sampling->sample->summary)->rows));
}

void SampleRow(Relation, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* sampling = static_cast<Sampling*>(argument);
  // Before the vector is looked at: most need not be fetched from TOAST.
  if (isnull[0] || !IsDrawn(sampling)) return;
  MemoryContext old = MemoryContextSwitchTo(sampling->build->row_context);
  Vector vector;
  if (BuildVector(sampling->build, values, isnull, alive, &vector)) KeepSampleRow(sampling, tid, vector.values);
  MemoryContextSwitchTo(old);
  MemoryContextReset(sampling->build->row_context);
}

// Several times the blocks that hold as many rows as wanted, since neighbours in a table are alike; of their rows a share.
void SampleTable(Sampling* sampling, double wanted) {
  constexpr double kSpread = 8;
  const Build* build = sampling->build;
  const double total = RelationGetNumberOfBlocks(build->heap);
  const double blocks = std::clamp(std::ceil(kSpread * wanted / std::max(build->rows_per_block, 1e-6)),
                                   double{kMeasuredBlocks}, std::max(total, double{kMeasuredBlocks}));
  sampling->share = wanted / std::max(build->rows_per_block * std::min(blocks, total), 1e-6);
  ScanRandomBlocks(sampling->build, static_cast<BlockNumber>(blocks), SampleRow, sampling);
}

void SamplePending(Sampling* sampling, const PendingGeneration& generation) {
  const Build* build = sampling->build;
  PendingReader* reader = StartPendingReader(build->index, *build->pending, generation);
  PendingRow row;
  while (NextPendingRow(reader, &row)) {
    if (!IsDrawn(sampling)) continue;
    ItemPointerData tid;
    SetItemPointer(&tid, {row.tid_block, row.tid_offset});
    KeepSampleRow(sampling, &tid, PendingRowFloats(reader));
  }
  EndPendingReader(reader);
}

TupleDesc SampleDescriptor() {
  TupleDesc descriptor = CreateTemplateTupleDesc(kSampleColumns);
  TupleDescInitEntry(descriptor, 1, "tid", TIDOID, -1, 0);
  TupleDescInitEntry(descriptor, 2, "row", BYTEAOID, -1, 0);
  // Without a short header, so that the floats are aligned.
  TupleDescAttr(descriptor, 1)->attstorage = TYPSTORAGE_PLAIN;
  return descriptor;
}

}  // namespace

void MeasureTable(Build* build) {
  StartBuildPhase(BuildPhase::kSampling);
  Measure measure{build, 0, InvalidBlockNumber, 0};
  BlockNumber read = ScanRandomBlocks(build, kMeasuredBlocks, MeasureRow, &measure);
  const BlockNumber total = RelationGetNumberOfBlocks(build->heap);
  if (read < total && measure.blocks < kMinBlocksWithRows) {
    measure = {build, 0, InvalidBlockNumber, 0};
    table_index_build_scan(build->heap, build->index, build->info, false, true, MeasureRow, &measure, nullptr);
    read = total;
  }
  build->rows_per_block = read == 0 ? 0 : measure.rows / read;
  build->estimated_rows = build->rows_per_block * total;
  ChooseLists(build);
}

void ChooseLists(Build* build) {
  CallCore([&] {
    build->lists = build->requested_lists > 0 ? static_cast<uint32_t>(build->requested_lists)
                                             : AutomaticLists(build->estimated_rows, build->dimensions);
    return Status::Ok();
  });
}

SampleStore* DrawSample(Build* build) {
  const double wanted = std::min(build->estimated_rows, std::max(kMinSampleRows, kSampleRowsPerList * build->lists));
  ReportProgress(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(wanted));

  MemoryContext context = AllocSetContextCreate(build->context, "ivfremote build sample", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  auto* sample = static_cast<SampleStore*>(palloc0(sizeof(SampleStore)));
  sample->context = context;
  sample->rows = tuplestore_begin_heap(false, false, SampleKilobytes());
  sample->summary = Hold<SampleSummary>(context, [&] { return new SampleSummary(build->dimensions); });
  Sampling sampling;
  std::memset(static_cast<void*>(&sampling), 0, sizeof sampling);
  sampling.build = build;
  sampling.sample = sample;
  sampling.descriptor = SampleDescriptor();
  sampler_random_init_state(pg_prng_uint32(&pg_global_prng_state), &sampling.random);
  const size_t row_bytes = VARHDRSZ + build->dimensions * sizeof(float);
  sampling.row = static_cast<bytea*>(palloc(row_bytes));
  SET_VARSIZE(sampling.row, row_bytes);
  if (build->pending == nullptr) {
    SampleTable(&sampling, wanted);
  } else {
    // Rows that came after the sealed ones are as good to train on.
    sampling.share = wanted / build->estimated_rows;
    SamplePending(&sampling, build->pending->sealed);
    SamplePending(&sampling, build->pending->current);
  }
  // The measured rows may all have been deleted by others since, or be in blocks not drawn now.
  if ((*sample->summary)->rows == 0)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("found no rows to train index \"%s\" on", RelationGetRelationName(build->index)),
                    errhint("Run VACUUM on the table, or try again.")));
  sample->slot = MakeSingleTupleTableSlot(sampling.descriptor, &TTSOpsMinimalTuple);
  MemoryContextSwitchTo(old);
  return sample;
}

bool NextSampleRow(SampleStore* sample, Tid* tid, const float** row) {
  if (!tuplestore_gettupleslot(sample->rows, true, false, sample->slot)) return false;
  bool isnull;
  *tid = TidOf(reinterpret_cast<ItemPointer>(DatumGetPointer(slot_getattr(sample->slot, 1, &isnull))));
  *row = reinterpret_cast<const float*>(VARDATA(DatumGetPointer(slot_getattr(sample->slot, 2, &isnull))));
  return true;
}

void DropSample(SampleStore* sample) {
  ExecDropSingleTupleTableSlot(sample->slot);
  tuplestore_end(sample->rows);
  MemoryContextDelete(sample->context);
}

}  // namespace ivfremote
