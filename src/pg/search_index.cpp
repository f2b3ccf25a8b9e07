#include "pg/search_index.h"

#include <algorithm>

#include "core/half.h"
#include "pg/index_cache.h"
#include "pg/probes.h"
#include "pg/routing_pages.h"
#include "pg/server.h"
#include "pg/settings.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

namespace ivfremote {

// Gives the search the centroid of a list that is not probed, for codes that refer to it: from the session's copy, or pages.
void AddCentroid(IndexSearch* search, uint32_t list) {
  const MetaPage& meta = *search->meta;
  Search& core = **search->search;
  if (list >= meta.list_count) ThrowCorruptIndex(search->index, 0, "codes refer to a list that does not exist");
  const Routing& routing = GetResidentIndex(search->index, meta)->routing;
  if (!routing.centroids.empty()) {
    CallCore([&] {
      core.AddCentroid(list, &routing.centroids[size_t{list} * meta.dimensions]);
      return Status::Ok();
    });
    return;
  }
  const RoutingHeader header = ReadRoutingHeader(search->routing, meta);
  auto* halves = static_cast<uint16_t*>(palloc(header.CentroidBytes()));
  ReadStream(search->routing, header.CentroidOffset(list), header.CentroidBytes(), reinterpret_cast<std::byte*>(halves));
  CallCore([&] {
    std::vector<float> centroid(meta.dimensions);
    FromHalves(halves, centroid.size(), header.scale(), centroid.data());
    core.AddCentroid(list, centroid.data());
    return Status::Ok();
  });
  pfree(halves);
}

void AddUnordered(IndexSearch* search, Tid tid) {
  CallCore([&] {
    (*search->search)->AddUnordered(tid);
    return Status::Ok();
  });
}

namespace {

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// The centroids that blocks of the probed lists refer to.
void AddCentroidsOfBlocks(IndexSearch* search) {
  Held<std::vector<uint32_t>>* missing = Hold<std::vector<uint32_t>>(
      CurrentMemoryContext, [&] { return new std::vector<uint32_t>((*search->search)->MissingCentroids()); });
  for (size_t i = 0; i < (*missing)->size(); ++i) {
    CHECK_FOR_INTERRUPTS();
    AddCentroid(search, (**missing)[i]);
  }
  Drop(missing);
}

void AddLiveTid(void* argument, Tid tid) { AddUnordered(static_cast<IndexSearch*>(argument), tid); }

// Reads an embedded segment's ranges from the index's pages.
void DeliverFromPages(IndexSearch* search, uint16_t number) {
  Search& core = **search->search;
  const SegmentEntry& segment = *search->segments[number];
  TreeReader reader;
  TreeReaderInit(&reader, search->index, segment.id, segment.data);
  const size_t count = core.RangesOf(number).size();
  for (size_t i = 0; i < count; ++i) {
    const PlannedRange range = core.RangesOf(number)[i];
    std::byte* bytes = nullptr;
    CallCore([&] {
      bytes = core.BufferFor(number, i);
      return Status::Ok();
    });
    for (uint32_t at = 0; at < range.length;) {
      // In pieces, so that an interrupt is seen between pages.
      const uint32_t piece = std::min<uint32_t>(range.length - at, 64 * kPayloadBytes);
      LookAtWave(search);
      ReadStream(&reader, range.offset + at, piece, bytes + at);
      at += piece;
    }
    const CoreError error = RunCore([&] { return core.Deliver(number, i); });
    CheckContent(search->index, segment.data.root, error);
  }
}

// What has been done since the last time.
void RecordWave(IndexSearch* search, double wave_ms, double pending_ms, ScanRecord* record) {
  const Search& core = **search->search;
  const SearchStatistics& now = core.statistics();
  const SearchStatistics& then = search->recorded;
  const double score_ms = std::chrono::duration<double, std::milli>(now.score_time - then.score_time).count() + pending_ms;
  if (search->wave_lists != nullptr) record->lists = search->meta->list_count;
  record->waves += now.waves - then.waves;
  record->requests += now.requests - then.requests;
  record->blocks += now.blocks - then.blocks;
  record->bytes_fetched += now.bytes_fetched - then.bytes_fetched;
  record->bytes_used += now.bytes_used - then.bytes_used;
  record->rows_scored += now.rows_scored - then.rows_scored;
  record->pending_rows_scored += now.pending_rows_scored - then.pending_rows_scored;
  record->fetch_ms += std::max(0.0, wave_ms - score_ms);
  record->score_ms += score_ms;
  for (; search->requests_recorded < core.trace().size(); ++search->requests_recorded)
    RecordRequest(record->index, core.trace()[search->requests_recorded], search->start);
  search->recorded = now;
}

// `routing_mean` may be null where rows are stored as they are.
void OpenSearch(IndexSearch* search, const CodeFormat& format, const float* query, const float* routing_mean) {
  const MetaPage& meta = *search->meta;
  uint64_t max_gap_bytes = FetchPlanOptions().max_gap_bytes;
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    if (meta.segments[i].place == SegmentPlace::kObject)
      max_gap_bytes = ServerGapBytes(ServerNameOf(search->index, meta));
  search->coded = format.coded();
  const bool bounds = search->float32_operator && settings.rerank;
  search->exact = !search->coded && !bounds;
  search->search = Hold<Search>(CurrentMemoryContext, [&] {
    SearchOptions options;
    options.metric = meta.metric;
    options.format = format;
    options.rotation_seed = meta.rotation_seed;
    options.routing_mean = routing_mean;
    options.epsilon = settings.rerank ? EpsilonOf(format.bits) : 0;
    options.float32_operator = bounds;
    options.plan.max_gap_bytes = max_gap_bytes;
    options.plan.whole_bytes = 2 * max_gap_bytes;
    return new Search(options, query);
  });
}

// Asks the store for the blocks planned. With lists their centroids come next, before anything is scored.
void SendWave(IndexSearch* search, ScanRecord* record) {
  Search& core = **search->search;
  const size_t requests = core.requests_planned();
  search->wave = NewWave();
  search->under_way = true;
  if (requests > 0) StartWave(search);
  // Now: nobody may wait for the wave.
  record->waves += core.statistics().waves - search->recorded.waves;
  record->requests += requests;
  search->recorded.waves = core.statistics().waves;
  search->recorded.requests += requests;
  if (search->wave_lists == nullptr || !search->coded) return;
  AddCentroidsOfBlocks(search);
}

// What is local, while the store answers, and then the rest.
void ScoreWave(IndexSearch* search, ScanRecord* record) {
  const MetaPage& meta = *search->meta;
  Search& core = **search->search;
  const Clock::time_point start = Clock::now();
  WaitForWave(search);
  AddPendingRows(search, meta.sealed, search->wave_lists);
  AddPendingRows(search, meta.current, search->wave_lists);
  const double pending_ms = MillisecondsSince(start + search->wave.look_time);
  CallCore([&] {
    core.ScorePending();
    return Status::Ok();
  });
  for (uint32_t number = 0; number < core.segment_count(); ++number)
    if (search->segments[number]->place == SegmentPlace::kPages)
      DeliverFromPages(search, static_cast<uint16_t>(number));
  FinishWave(search);
  CallCore([&] {
    core.StartOrder();
    return Status::Ok();
  });
  search->under_way = false;
  ++search->waves;
  search->rows_covered = search->lists.rows;
  RecordWave(search, MillisecondsSince(start), pending_ms, record);
}

// Plans the blocks of the best `count` of the further lists, and returns these.
ProbedLists PlanFurther(IndexSearch* search, uint32_t count) {
  const ProbedLists lists = FurtherLists(search->lists, count);
  PlanBlocks(search, lists);
  return lists;
}

// As many of the best `count` lists as there may be requests for; at least one list is too many if it returns none.
uint32_t CutToRequests(IndexSearch* search, uint32_t count) {
  const Search& core = **search->search;
  const uint64_t most = static_cast<uint64_t>(settings.max_scan_requests);
  const uint64_t left = most - std::min(most, core.statistics().requests);
  if (count == 0 || settings.max_scan_requests == 0 || core.requests_planned() <= left) return count;
  uint32_t fit = 0;
  for (uint32_t excess = count; excess - fit > 1;) {
    const uint32_t middle = fit + (excess - fit) / 2;
    PlanFurther(search, middle);
    (core.requests_planned() <= left ? fit : excess) = middle;
  }
  search->lists.end = ScanEnd::kMaxScanRequests;
  return fit;
}

// The lists of a wave, and for codes their centroids.
void SetWaveLists(IndexSearch* search, const ProbedLists& lists) {
  auto* kept = static_cast<ProbedLists*>(palloc(sizeof(ProbedLists)));
  *kept = lists;
  if (search->meta->format().coded()) CopyCentroids(search->index, *search->meta, search->routing, kept);
  search->wave_lists = kept;
}

void InitRouting(IndexSearch* search) {
  search->routing = static_cast<TreeReader*>(palloc(sizeof(TreeReader)));
  RoutingReaderInit(search->routing, search->index, *search->meta);
}

}  // namespace

void InitSearch(IndexSearch* search, Relation index) {
  *search = IndexSearch{};
  search->index = index;
  search->meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, search->meta);
  std::fill(std::begin(search->numbers), std::end(search->numbers), -1);
  search->start = Clock::now();
  search->lists.context = CurrentMemoryContext;
  search->lists.goes_on = settings.iterative_scan != static_cast<int>(IterativeScan::kOff);
  search->lists.end = ScanEnd::kAllLists;  // but for a trained index
  search->wave_context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote wave", ALLOCSET_DEFAULT_SIZES);
}

void AddAllRows(IndexSearch* search) {
  const MetaPage& meta = *search->meta;
  auto* query = static_cast<float*>(palloc0(std::max<size_t>(meta.dimensions, 1) * sizeof(float)));
  search->float32_operator = false;
  OpenSearch(search, {CodeKind::kFloat32, 32, meta.dimensions}, query, nullptr);
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    VisitLiveTids(search->index, meta.segments[i].id, meta.segments[i].tid_map, AddLiveTid, search);
  AddPendingRows(search, meta.sealed, &kAllRows);
  AddPendingRows(search, meta.current, &kAllRows);
  CallCore([&] {
    (*search->search)->StartOrder();
    return Status::Ok();
  });
}

void SearchLists(IndexSearch* search, const float* query, ScanRecord* record) {
  const MetaPage& meta = *search->meta;
  search->lists.query = query;
  const CodeFormat format = meta.trained() ? meta.format() : meta.FormatOf(meta.current);
  const float* mean = nullptr;
  MemoryContext scan_context = MemoryContextSwitchTo(search->wave_context);
  if (meta.trained()) {
    search->lists.end = ScanEnd::kNone;
    InitRouting(search);
    SetWaveLists(search, TakeFirstLists(search->index, meta, &search->lists));
    if (format.coded()) mean = CopyMean(search->index, meta, search->routing);
    record->lists_probed += search->wave_lists->count;
  }
  MemoryContextSwitchTo(scan_context);
  OpenSearch(search, format, query, mean);
  MemoryContextSwitchTo(search->wave_context);
  if (search->wave_lists != nullptr) {
    CallCore([&] {
      (*search->search)->SetLists(*search->wave_lists);
      return Status::Ok();
    });
    PlanBlocks(search, *search->wave_lists);
  }
  record->quantizer_ms += MillisecondsSince(search->start);
  SendWave(search, record);
  ScoreWave(search, record);
  MemoryContextSwitchTo(scan_context);
}

bool StartNextWave(IndexSearch* search, ScanRecord* record) {
  const MetaPage& meta = *search->meta;
  const Clock::time_point start = Clock::now();
  MemoryContextReset(search->wave_context);
  MemoryContext scan_context = MemoryContextSwitchTo(search->wave_context);
  TestPoint("search.wave");
  const uint32_t wanted = CountFurtherLists(search->index, meta, &search->lists);
  ProbedLists lists;
  if (wanted > 0) lists = PlanFurther(search, wanted);
  const uint32_t count = CutToRequests(search, wanted);
  if (count > 0) {
    if (count < wanted) lists = PlanFurther(search, count);
    InitRouting(search);
    SetWaveLists(search, lists);
    TookFurtherLists(&search->lists, count);
    CallCore([&] {
      (*search->search)->SetLists(*search->wave_lists);
      return Status::Ok();
    });
    record->lists_probed += count;
    record->quantizer_ms += MillisecondsSince(start);
    SendWave(search, record);
  }
  MemoryContextSwitchTo(scan_context);
  return count > 0;
}

void FinishNextWave(IndexSearch* search, ScanRecord* record) {
  MemoryContext scan_context = MemoryContextSwitchTo(search->wave_context);
  ScoreWave(search, record);
  MemoryContextSwitchTo(scan_context);
}

}  // namespace ivfremote
