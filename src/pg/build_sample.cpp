// The sampling and training phases of a build.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pg/build.h"
#include "pg/pending.h"

extern "C" {
#include "utils/sampling.h"
}

namespace ivfremote {
namespace {

// Enough to estimate the number of rows; a table of fewer blocks is counted.
constexpr BlockNumber kMeasuredBlocks = 1000;
constexpr double kSampleRowsPerList = 64;
constexpr double kEnoughSampleRowsPerList = 30;
constexpr double kMinSampleRows = 10000;

using RowCallback = IndexBuildCallback;

// Calls back for every row of up to `blocks` random blocks; returns how many blocks were read.
BlockNumber ScanRandomBlocks(Build* build, BlockNumber blocks, RowCallback callback, void* state) {
  BlockSamplerData sampler;
  const BlockNumber total = RelationGetNumberOfBlocks(build->heap);
  BlockSampler_Init(&sampler, total, static_cast<int>(std::min<BlockNumber>(blocks, INT_MAX)),
                    pg_prng_uint32(&pg_global_prng_state));
  BlockNumber read = 0;
  while (BlockSampler_HasMore(&sampler)) {
    CHECK_FOR_INTERRUPTS();
    table_index_build_range_scan(build->heap, build->index, build->info, false, true, false,
                                 BlockSampler_Next(&sampler), 1, callback, state, nullptr);
    ++read;
  }
  return read;
}

struct Measure {
  Build* build;
  double rows;
};

void MeasureRow(Relation, ItemPointer, Datum* values, bool* isnull, bool, void* argument) {
  auto* measure = static_cast<Measure*>(argument);
  MemoryContext old = MemoryContextSwitchTo(measure->build->row_context);
  Vector vector;
  if (BuildVector(measure->build, values, isnull, &vector)) ++measure->rows;
  MemoryContextSwitchTo(old);
  MemoryContextReset(measure->build->row_context);
}

// A reservoir of rows in routing space.
struct Sample {
  Build* build;
  Held<std::vector<float>>* rows;
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

void SampleRow(Relation, ItemPointer, Datum* values, bool* isnull, bool, void* argument) {
  auto* sample = static_cast<Sample*>(argument);
  MemoryContext old = MemoryContextSwitchTo(sample->build->row_context);
  Vector vector;
  if (BuildVector(sample->build, values, isnull, &vector)) {
    if (sample->filled < sample->capacity) {
      PutSampleRow(sample, sample->filled++, vector);
    } else {
      // Vitter's algorithm, as ANALYZE.
      if (sample->skip < 0)
        sample->skip = reservoir_get_next_S(&sample->reservoir, sample->seen, static_cast<int>(sample->capacity));
      if (sample->skip <= 0) {
        const auto slot = static_cast<uint64_t>(static_cast<double>(sample->capacity) *
                                                sampler_random_fract(&sample->reservoir.randstate));
        PutSampleRow(sample, std::min(slot, sample->capacity - 1), vector);
      }
      --sample->skip;
    }
    ++sample->seen;
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, static_cast<int64>(sample->seen));
  }
  MemoryContextSwitchTo(old);
  MemoryContextReset(sample->build->row_context);
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

int TrainingThreads() {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  return static_cast<int>(std::clamp<long>(max_parallel_maintenance_workers + 1, 1, std::max(online, 1L)));
}

}  // namespace

void MeasureTable(Build* build) {
  StartBuildPhase(BuildPhase::kSampling);
  Measure measure{build, 0};
  const BlockNumber read = ScanRandomBlocks(build, kMeasuredBlocks, MeasureRow, &measure);
  const BlockNumber total = RelationGetNumberOfBlocks(build->heap);
  build->counted = read == total;
  build->estimated_rows = read == 0 ? 0 : measure.rows * total / read;
  CallCore([&] {
    build->lists = build->options->lists > 0 ? static_cast<uint32_t>(build->options->lists)
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
  sample.rows = Hold<std::vector<float>>(build->context, [] { return new std::vector<float>(); });
  reservoir_init_selection_state(&sample.reservoir, static_cast<int>(sample.capacity));
  pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, static_cast<int64>(sample.capacity));
  ScanRandomBlocks(build, static_cast<BlockNumber>(std::min<uint64_t>(sample.capacity, InvalidBlockNumber - 1)),
                   SampleRow, &sample);
  // The measured rows may all have been deleted by others since, or be in blocks not drawn now.
  if (sample.filled == 0)
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("found no rows to train index \"%s\" on", RelationGetRelationName(build->index)),
                    errhint("Run VACUUM on the table, or try again.")));

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
}

}  // namespace ivfremote
