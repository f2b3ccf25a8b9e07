#include "pg/compact_lists.h"

#include <algorithm>
#include <cstring>

#include "core/recall_curve.h"
#include "pg/probes.h"
#include "pg/stream.h"
#include "pg/tid_map.h"

namespace ivfremote {
namespace {

// With fewer queries the curve there is says more.
constexpr size_t kMinQueries = 50;
// Rows compared with all queries between two looks for interrupts.
constexpr size_t kComparedRows = 256;

const float* CentroidOf(const Build* build, uint32_t list) {
  return &(*build->routing)->centroids[size_t{list} * build->dimensions];
}

// --------------------------------------------------------------------------------------------------------------------
// Splitting

// Hands the live rows of a segment's lists to the splitter. False if the store has failed.
bool FeedSplitter(Compaction* compaction, ListSplitter* splitter, const SegmentEntry& segment, const bool* wanted) {
  Maintenance* maintenance = compaction->maintenance;
  const Build* build = compaction->build;
  RowDecoder& decoder = **compaction->work->decoder;
  auto* row = static_cast<std::byte*>(palloc(build->format.RowBytes()));
  auto* centred = static_cast<float*>(palloc(build->dimensions * sizeof(float)));
  TreeReader tid_map;
  TreeReaderInit(&tid_map, maintenance->index, segment.id, segment.tid_map);
  SegmentBlocks* blocks = OpenSegment(maintenance, &segment, wanted);
  while (NextBlock(blocks)) {
    const BlockEntry& entry = blocks->entry();
    const float* centroid = CentroidOf(build, entry.centroid);
    for (uint32_t i = 0; i < blocks->block().rows(); ++i) {
      if (!TidMapHas(&tid_map, blocks->block().tid(i))) continue;
      CallCore([&] {
        float excess;
        blocks->block().TakeRow(build->format, i, row);
        decoder.Decode(row, centroid, centred, &excess);
        splitter->Add(entry.list, centred);
        return Status::Ok();
      });
    }
  }
  CloseSegment(blocks);
  pfree(row);
  pfree(centred);
  return !StoreFailed(maintenance);
}

void RunSplitter(ListSplitter* splitter) {
  for (bool done = false; !done;) {
    CallCore([&] { return splitter->Step(&done); });
    CHECK_FOR_INTERRUPTS();
  }
}

// From then on build->routing is the new one.
void TakeSplit(Compaction* compaction, Held<ListSplitter>* splitter) {
  Build* build = compaction->build;
  ListWork* work = compaction->work;
  // The splitter still refers to the old one.
  build->routing = Hold<Routing>(build->context, [&] { return new Routing((*splitter)->TakeRouting()); });
  work->splitter = splitter;
  work->assigner = Hold<Assigner>(build->context, [&] { return new Assigner(build->routing->object); });
}

// False if the store has failed.
bool SplitLists(Compaction* compaction) {
  Maintenance* maintenance = compaction->maintenance;
  Build* build = compaction->build;
  Held<std::vector<uint64_t>>* sizes = RowsOfLists(maintenance->index, *maintenance->meta, compaction->input_rows);
  const double target = TargetRows(*maintenance->meta, compaction->rows);
  ListSplitterOptions options;
  options.threads = TrainingThreads();
  options.interrupted = StatementCancelled;
  options.memory_bytes = static_cast<size_t>(TrainingBytes());
  options.rotation_seed = build->rotation_seed;
  Held<ListSplitter>* splitter = Hold<ListSplitter>(build->context, [&] {
    return new ListSplitter(**build->routing, **sizes, target, options);
  });
  Drop(sizes);
  const std::vector<uint32_t>& lists = (*splitter)->lists();
  if (!lists.empty()) {
    auto* wanted = static_cast<bool*>(palloc0(build->lists * sizeof(bool)));
    for (size_t i = 0; i < lists.size(); ++i) wanted[lists[i]] = true;
    for (uint32_t i = 0; i < compaction->input_count; ++i)
      if (!FeedSplitter(compaction, splitter->object, compaction->input(i), wanted)) return false;
    RunSplitter(splitter->object);
    if ((*splitter)->new_lists() > 0) TakeSplit(compaction, splitter);
  }
  if (compaction->work->splitter == nullptr) Drop(splitter);
  return true;
}

// After all rows: radii, and nothing that searches could find in vain.
void FinishLists(Compaction* compaction) {
  const ListWork* work = compaction->work;
  Routing* routing = compaction->build->routing->object;
  Held<std::vector<uint32_t>>* groups = Hold<std::vector<uint32_t>>(compaction->build->context, [&] {
    routing->radii = (*work->assigner)->Radii();
    return new std::vector<uint32_t>((*work->splitter)->HideEmpty((*work->assigner)->Counts(), routing));
  });
  for (size_t i = 0; i < (*groups)->size(); ++i) {
    CallCore([&] {
      CodeGroup((**groups)[i], routing);
      return Status::Ok();
    });
    CHECK_FOR_INTERRUPTS();
  }
  Drop(groups);
}

// --------------------------------------------------------------------------------------------------------------------
// Calibration

Held<RecallCurve>* ReadCurve(const Maintenance* maintenance) {
  const MetaPage& meta = *maintenance->meta;
  Held<RecallCurve>* curve = Hold<RecallCurve>(CurrentMemoryContext, [] { return new RecallCurve(); });
  if (meta.recall_curve.bytes == 0) return curve;
  const Bytes bytes = ReadWholeStream(maintenance->index, meta.curve_owner(), meta.recall_curve);
  CallCore([&] { return DecodeRecallCurve(bytes, curve->object); });
  return curve;
}

// Of what a search loses by bounds the old curve knows: rows decoded from codes can't tell.
void StartCalibrating(Compaction* compaction) {
  Build* build = compaction->build;
  ListWork* work = compaction->work;
  const SampleRows& sample = **compaction->sample;
  if (sample.tids.size() < kMinQueries) return;
  Held<RecallCurve>* old = ReadCurve(compaction->maintenance);
  const bool stays = (*old)->from_queries && work->splitter == nullptr;
  if ((*old)->from_queries && !stays)
    ereport(NOTICE, (errmsg("lists of index \"%s\" have been split, so the recall curve of your queries is replaced",
                            RelationGetRelationName(build->index)),
                     errhint("Call ivfremote_recall() with store again.")));
  if (!stays) {
    CalibrationOptions options;
    options.metric = build->metric;
    options.format = build->format;
    options.rotation_seed = build->rotation_seed;
    options.epsilon = DefaultEpsilon(build->format.bits);
    options.bound_loss = (*old)->bound_loss;
    build->calibration = Hold<Calibration>(build->context, [&] {
      const size_t d = build->dimensions;
      std::vector<float> queries(sample.rows.size());
      for (size_t i = 0; i < sample.tids.size(); ++i)
        ToRoutingSpace(build->metric, &sample.rows[i * d], d, &queries[i * d]);
      return new Calibration(options, build->routing->object, std::move(queries), sample.tids);
    });
    work->calibrates = true;
  }
  Drop(old);
}

}  // namespace

bool StartListWork(Compaction* compaction) {
  if (!compaction->of_all() || !MayWorkOnLists(compaction->maintenance, compaction->rows)) return true;
  Build* build = compaction->build;
  auto* work = static_cast<ListWork*>(palloc0(sizeof(ListWork)));
  compaction->work = work;
  const Routing* routing = build->routing->object;
  // Mean and seed are the same in every version of the routing; this one lives as long as the build.
  work->decoder = Hold<RowDecoder>(build->context, [&] {
    return new RowDecoder(build->metric, build->format, build->rotation_seed, routing->mean.data());
  });
  if (!SplitLists(compaction)) return false;
  StartCalibrating(compaction);
  if (work->splitter == nullptr && !work->calibrates) {
    compaction->work = nullptr;
    return true;
  }
  CallCore([&] {
    work->batch_rows = Assigner(build->routing->object).batch_rows();
    return Status::Ok();
  });
  return true;
}

void WorkOnBatch(Compaction* compaction, RowBatch* batch, uint32_t list, uint32_t centroid) {
  const Build* build = compaction->build;
  const ListWork* work = compaction->work;
  const size_t d = build->dimensions;
  const size_t row_bytes = build->format.RowBytes();
  CallCore([&] {
    const float* from = CentroidOf(build, centroid);
    for (size_t i = 0; i < batch->filled; ++i)
      (*work->decoder)->Decode(batch->codes + i * row_bytes, from, batch->centred + i * d, &batch->excess[i]);
    return Status::Ok();
  });
  CHECK_FOR_INTERRUPTS();
  if (work->splitter != nullptr) {
    CallCore([&] {
      if ((*work->splitter)->Reassigned(list))
        (*work->assigner)->AssignCentred(batch->centred, batch->filled, batch->lists, batch->excess);
      else
        (*work->assigner)->Count(batch->centred, batch->filled, batch->lists, batch->excess);
      return Status::Ok();
    });
    CHECK_FOR_INTERRUPTS();
  }
  if (!work->calibrates) return;
  for (size_t first = 0; first < batch->filled; first += kComparedRows) {
    CallCore([&] {
      (*build->calibration)
          ->Add(batch->centred + first * d, std::min(kComparedRows, batch->filled - first), batch->lists + first, nullptr,
                batch->tids + first, batch->codes + first * row_bytes, batch->excess + first);
      return Status::Ok();
    });
    CHECK_FOR_INTERRUPTS();
  }
}

void FinishListWork(Compaction* compaction) {
  ListWork* work = compaction->work;
  if (work->splitter != nullptr) FinishLists(compaction);
  if (work->calibrates) Calibrate(compaction->build);
}

void WriteListWork(Compaction* compaction) {
  Maintenance* maintenance = compaction->maintenance;
  Relation index = maintenance->index;
  Build* build = compaction->build;
  MetaPage* meta = maintenance->meta;
  Held<std::vector<std::byte>>* encoded =
      Hold<std::vector<std::byte>>(build->context, [] { return new std::vector<std::byte>(); });
  bool curve = false;
  CallCore([&] {
    curve = compaction->work->calibrates && (*build->curve)->queries > 0;
    if (curve) **encoded = (*build->curve)->Encode();
    return Status::Ok();
  });
  const uint64_t ids = TakeIds(index, 2);
  if (curve) {
    meta->recall_curve_id = ids;
    meta->recall_curve = WriteStream(index, ids, **encoded);
  } else if (compaction->work->splitter != nullptr && meta->recall_curve_id == 0 && meta->recall_curve.bytes > 0) {
    // It stays, but the routing version that owns its pages goes.
    const Bytes bytes = ReadWholeStream(index, meta->curve_owner(), meta->recall_curve);
    meta->recall_curve_id = ids;
    meta->recall_curve = WriteStream(index, ids, bytes);
  }
  if (compaction->work->splitter != nullptr) {
    CallCore([&] {
      **encoded = (*build->routing)->Encode();
      return Status::Ok();
    });
    meta->routing_id = ids + 1;
    meta->routing = WriteStream(index, meta->routing_id, **encoded);
    meta->list_count = (*build->routing)->list_count();
  }
  Drop(encoded);
}

}  // namespace ivfremote
