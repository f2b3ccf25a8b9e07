// The sampling and training phases of a build.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "pg/build.h"
#include "pg/pending.h"

extern "C" {
#include "utils/sampling.h"
}

namespace ivfremote {
namespace {

// Enough to estimate the number of rows; a table of fewer blocks is counted.
constexpr BlockNumber kMeasuredBlocks = 1000;
// With rows in fewer of them than this, the estimate would be worthless.
constexpr double kMinBlocksWithRows = 50;
constexpr double kSampleRowsPerList = 64;
constexpr double kEnoughSampleRowsPerList = 30;
constexpr double kMinSampleRows = 10000;

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
  MemoryContext old = MemoryContextSwitchTo(measure->build->row_context);
  Vector vector;
  if (BuildVector(measure->build, values, isnull, alive, &vector)) {
    ++measure->rows;
    const BlockNumber block = ItemPointerGetBlockNumber(tid);
    if (block != measure->last_block) ++measure->blocks;
    measure->last_block = block;
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(measure->build->row_context);
}

// A reservoir of rows in routing space.
struct Sample {
  Build* build;
  Held<std::vector<float>>* rows;
  Tid* tids;  // [capacity]
  uint64_t capacity;
  uint64_t filled;
  double seen;
  double skip;  // rows to pass over before the next replacement; -1: not drawn yet
  ReservoirStateData reservoir;
};

void PutSampleRow(Sample* sample, uint64_t slot, const Vector& vector) {
  const size_t d = vector.dimensions;
  CallCore([&] {
    std::vector<float>& rows = **sample->rows;
    if (rows.size() < (slot + 1) * d) rows.resize((slot + 1) * d);
    ToRoutingSpace(sample->build->metric, vector.values, d, &rows[slot * d]);
    return Status::Ok();
  });
}

// The slot of the reservoir for the next row, or nothing if it is passed over: Vitter's algorithm, as ANALYZE.
bool NextSampleSlot(Sample* sample, uint64_t* slot) {
  if (sample->filled < sample->capacity) {
    *slot = sample->filled;
    return true;
  }
  if (sample->skip < 0)
    sample->skip = reservoir_get_next_S(&sample->reservoir, sample->seen, static_cast<int>(sample->capacity));
  if (sample->skip-- > 0) return false;
  const double random = sampler_random_fract(&sample->reservoir.randstate);
  *slot = std::min(static_cast<uint64_t>(static_cast<double>(sample->capacity) * random), sample->capacity - 1);
  return true;
}

void SampleRow(Relation, ItemPointer tid, Datum* values, bool* isnull, bool alive, void* argument) {
  auto* sample = static_cast<Sample*>(argument);
  if (isnull[0]) return;
  uint64_t slot;
  // Before the vector is looked at: most need not be fetched from TOAST.
  if (NextSampleSlot(sample, &slot)) {
    MemoryContext old = MemoryContextSwitchTo(sample->build->row_context);
    Vector vector;
    if (BuildVector(sample->build, values, isnull, alive, &vector)) {
      PutSampleRow(sample, slot, vector);
      sample->tids[slot] = TidOf(tid);
      if (slot == sample->filled) ++sample->filled;
    }
    MemoryContextSwitchTo(old);
    MemoryContextReset(sample->build->row_context);
  }
  ++sample->seen;
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(sample->seen));
}

// How many rows to draw: what training wants, as far as half of maintenance_work_mem holds them (training copies some).
uint64_t SampleRows(const Build& build) {
  const double row_bytes = static_cast<double>(build.dimensions) * sizeof(float);
  const double wanted =
      std::min(build.estimated_rows, std::max(kMinSampleRows, kSampleRowsPerList * build.lists));
  const double affordable = std::max(static_cast<double>(MaintenanceBytes()) / 2 / row_bytes, 1.0);
  const double rows = std::max(1.0, std::min(wanted, affordable));
  const double enough = std::min(build.estimated_rows, kEnoughSampleRowsPerList * build.lists);
  if (rows < enough)
    ereport(NOTICE, (errmsg("k-means uses %.0f sample rows, %.1f per list", rows, rows / build.lists),
                     errhint("Set maintenance_work_mem to at least %.0fMB.",
                             std::ceil(enough * row_bytes * 2 / (1024 * 1024)))));
  return static_cast<uint64_t>(rows);
}

// From how many blocks to draw that many rows: several times what holds them, since neighbours in a table are alike.
BlockNumber SampleBlocks(const Build& build, uint64_t rows) {
  constexpr double kSpread = 8;
  const double blocks = kSpread * static_cast<double>(rows) / std::max(build.rows_per_block, 1e-6);
  return static_cast<BlockNumber>(std::clamp(blocks, double{kMeasuredBlocks}, double{INT_MAX}));
}

// The sample rows that recall is measured with.
struct Queries {
  std::vector<float> rows;
  std::vector<Tid> tids;
};

Held<Queries>* DrawQueries(const Build& build, const Sample& sample) {
  const Tid* tids = sample.tids;
  const uint64_t filled = sample.filled;
  const std::vector<float>* rows = sample.rows->object;
  return Hold<Queries>(build.context, [&] {
    auto queries = std::make_unique<Queries>();
    const uint64_t count = std::min<uint64_t>(CalibrationQueries(build.estimated_rows, build.dimensions), filled);
    // A reservoir that never overflowed is in table order: from all of it.
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t slot = i * filled / count;
      const auto first = rows->begin() + static_cast<ptrdiff_t>(slot * build.dimensions);
      queries->rows.insert(queries->rows.end(), first, first + build.dimensions);
      queries->tids.push_back(tids[slot]);
    }
    return queries.release();
  });
}

int TrainingThreads() {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return static_cast<int>(std::clamp<long>(max_parallel_maintenance_workers + 1, 1, std::max(online, 1L)));
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
  CallCore([&] {
    build->lists = build->requested_lists > 0 ? static_cast<uint32_t>(build->requested_lists)
                                             : AutomaticLists(build->estimated_rows);
    return Status::Ok();
  });
}

void TrainLists(Build* build) {
  Sample sample;
  std::memset(static_cast<void*>(&sample), 0, sizeof sample);
  sample.build = build;
  sample.capacity = SampleRows(*build);
  sample.skip = -1;
  sample.tids = static_cast<Tid*>(palloc_extended(sample.capacity * sizeof(Tid), MCXT_ALLOC_HUGE));
  sample.rows = Hold<std::vector<float>>(build->context, [&] {
    auto rows = std::make_unique<std::vector<float>>();
    rows->reserve(sample.capacity * build->dimensions);
    return rows.release();
  });
  reservoir_init_selection_state(&sample.reservoir, static_cast<int>(sample.capacity));
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(sample.capacity));
  ScanRandomBlocks(build, SampleBlocks(*build, sample.capacity), SampleRow, &sample);
  // The measured rows may all have been deleted by others since, or be in blocks not drawn now.
  if (sample.filled == 0)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("found no rows to train index \"%s\" on", RelationGetRelationName(build->index)),
                    errhint("Run VACUUM on the table, or try again.")));

  Held<Queries>* queries = DrawQueries(*build, sample);
  StartBuildPhase(BuildPhase::kTraining);
  TrainingOptions options;
  options.metric = build->metric;
  options.dimensions = build->dimensions;
  options.lists = build->lists;
  options.threads = TrainingThreads();
  options.interrupted = StatementCancelled;
  Held<Trainer>* trainer = Hold<Trainer>(
      build->context, [&] { return new Trainer(options, std::move(**sample.rows)); });
  Drop(sample.rows);
  for (bool done = false; !done;) {
    CHECK_FOR_INTERRUPTS();
    CallCore([&] { return (*trainer)->Step(&done); });
    // Tuples are training runs here: the groups, then the lists of each group.
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (*trainer)->steps_total());
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (*trainer)->steps_done());
  }
  build->routing =
      Hold<Routing>(build->context, [&] { return new Routing((*trainer)->TakeRouting()); });
  Drop(trainer);
  StartCalibration(build, &(*queries)->rows, &(*queries)->tids);
  Drop(queries);
}

}  // namespace ivfremote
