#include "pg/search_index.h"

#include <algorithm>
#include <cstring>

#include "core/half.h"
#include "core/list_ranker.h"
#include "pg/index_cache.h"
#include "pg/pending.h"
#include "pg/probes.h"
#include "pg/routing_pages.h"
#include "pg/server.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/test_point.h"
#include "pg/tid_map.h"

namespace ivfremote {
namespace {

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// --------------------------------------------------------------------------------------------------------------------
// Which lists

struct Ranked {
  ProbedLists lists;
  float* mean;  // of the routing; only of coded indexes
};

// Copies the centroids of the lists to be probed: the session's index may be replaced while this scan runs.
void CopyCentroids(TreeReader* reader, const Routing& routing, ProbedLists* lists) {
  const size_t d = routing.dimensions;
  if (!routing.centroids.empty()) {
    auto* floats = static_cast<float*>(palloc_extended(lists->count * d * sizeof(float), MCXT_ALLOC_HUGE));
    for (uint32_t i = 0; i < lists->count; ++i)
      std::memcpy(floats + i * d, &routing.centroids[lists->numbers[i] * d], d * sizeof(float));
    lists->floats = floats;
    return;
  }
  const RoutingHeader header = routing.header();
  auto* halves = static_cast<uint16_t*>(palloc_extended(lists->count * header.CentroidBytes(), MCXT_ALLOC_HUGE));
  for (uint32_t i = 0; i < lists->count; ++i) {
    CHECK_FOR_INTERRUPTS();
    ReadStream(reader, header.CentroidOffset(lists->numbers[i]), header.CentroidBytes(),
               reinterpret_cast<std::byte*>(halves + i * d));
  }
  lists->halves = halves;
  lists->scale = header.scale();
}

// Ranks the lists and takes those to probe, ascending, with their centroids as codes need them.
Ranked RankLists(const IndexSearch* search, const float* query) {
  const MetaPage& meta = *search->meta;
  const ResidentIndex* resident = GetResidentIndex(search->index, meta);
  const ProbeSetting setting = ProbeSettingOf(search->index, meta.list_count, &resident->curve);
  TreeReader reader;
  RoutingReaderInit(&reader, search->index, meta);
  const Routing* routing = &resident->routing;
  Held<Routing>* read = nullptr;
  if (routing->list_count() == 0) {
    read = Hold<Routing>(CurrentMemoryContext, [] { return new Routing(); });
    ReadRouting(&reader, meta, RoutingPart::kLists, read->object);
    routing = read->object;
  }
  Held<ListRanker>* ranker = Hold<ListRanker>(CurrentMemoryContext, [&] {
    return new ListRanker(routing, query, {setting.rule, setting.max_lists, setting.stop});
  });
  FeedRanker(&reader, ranker->object);

  Ranked ranked{};
  auto* numbers = static_cast<uint32_t*>(palloc(setting.max_lists * sizeof(uint32_t)));
  ranked.mean = static_cast<float*>(palloc(meta.dimensions * sizeof(float)));
  CallCore([&] {
    std::vector<RankedList> best;
    (*ranker)->Rank(setting.rule, &best);
    for (size_t i = 0; i < best.size(); ++i) numbers[i] = best[i].list;
    std::sort(numbers, numbers + best.size());
    ranked.lists.count = static_cast<uint32_t>(best.size());
    std::copy(routing->mean.begin(), routing->mean.end(), ranked.mean);
    return Status::Ok();
  });
  Drop(ranker);
  ranked.lists.numbers = numbers;
  if (meta.format().coded()) CopyCentroids(&reader, *routing, &ranked.lists);
  if (read != nullptr) Drop(read);
  return ranked;
}

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

// --------------------------------------------------------------------------------------------------------------------
// Which blocks

struct Blocks {
  uint32_t count;
  uint32_t capacity;
  BlockEntry* entries;
};

void AddBlock(Blocks* blocks, const BlockEntry& entry) {
  if (blocks->count == blocks->capacity) {
    blocks->capacity *= 2;
    blocks->entries =
        static_cast<BlockEntry*>(repalloc_huge(blocks->entries, blocks->capacity * sizeof(BlockEntry)));
  }
  blocks->entries[blocks->count++] = entry;
}

// A segment's directory: the session's copy, or its pages.
struct DirectorySource {
  Bytes resident;
  TreeReader reader;
};

void ReadDirectory(DirectorySource* source, uint64_t offset, size_t length, void* to) {
  if (source->resident.empty())
    ReadStream(&source->reader, offset, length, static_cast<std::byte*>(to));
  else
    std::memcpy(to, source->resident.data() + offset, length);
}

// The blocks of the probed lists in one segment.
Blocks FindBlocks(const IndexSearch* search, uint32_t segment_number, const ProbedLists& lists) {
  const SegmentEntry& segment = search->meta->segments[segment_number];
  Blocks blocks{0, std::max<uint32_t>(lists.count, 8), nullptr};
  blocks.entries = static_cast<BlockEntry*>(palloc_extended(blocks.capacity * sizeof(BlockEntry), MCXT_ALLOC_HUGE));
  DirectorySource source{GetResidentIndex(search->index, *search->meta)->directories[segment_number], {}};
  TreeReaderInit(&source.reader, search->index, segment.id, segment.directory);
  std::byte bytes[DirectoryHeader::kBytes];
  if (segment.directory.bytes < sizeof bytes)
    ThrowCorruptIndex(search->index, segment.directory.root, "directory has the wrong length");
  ReadDirectory(&source, 0, sizeof bytes, bytes);
  DirectoryHeader header;
  CheckContent(search->index, segment.directory.root, RunCore([&] { return DecodeDirectoryHeader(bytes, &header); }));
  if (header.EncodedBytes() != segment.directory.bytes)
    ThrowCorruptIndex(search->index, segment.directory.root, "directory has the wrong length");
  for (uint32_t i = 0; i < lists.count; ++i) {
    CHECK_FOR_INTERRUPTS();
    const uint32_t list = lists.numbers[i];
    if (list >= header.list_count) continue;
    ListEntry entry;
    ReadDirectory(&source, header.ListEntryOffset(list), sizeof entry, &entry);
    if (entry.first_block > header.block_count || entry.block_count > header.block_count - entry.first_block)
      ThrowCorruptIndex(search->index, segment.directory.root, "directory has an impossible list");
    for (uint32_t k = 0; k < entry.block_count; ++k) {
      BlockEntry block;
      ReadDirectory(&source, header.BlockEntryOffset(entry.first_block + k), sizeof block, &block);
      CheckContent(search->index, segment.directory.root,
                   RunCore([&] { return CheckBlockEntry(block, list, segment.bytes); }));
      AddBlock(&blocks, block);
    }
  }
  return blocks;
}

// Adds the blocks of the probed lists in all segments; whether any is in a store.
bool AddSegments(IndexSearch* search, const ProbedLists& lists) {
  bool remote = false;
  for (uint32_t i = 0; i < search->meta->segment_count; ++i) {
    const SegmentEntry& segment = search->meta->segments[i];
    const Blocks blocks = FindBlocks(search, i, lists);
    if (blocks.count == 0) continue;
    CallCore([&] {
      const uint16_t number = (*search->search)
                                  ->AddSegment(segment, std::vector<BlockEntry>(blocks.entries,
                                                                                blocks.entries + blocks.count));
      search->segments[number] = &segment;
      return Status::Ok();
    });
    remote |= segment.place == SegmentPlace::kObject;
  }
  return remote;
}

// --------------------------------------------------------------------------------------------------------------------
// Pending rows

// In place of the lists probed: add all rows, without a distance.
constexpr ProbedLists kAllRows;

// Whether only rows of these lists count. Untrained indexes have none: null.
bool Restricts(const ProbedLists* lists) { return lists != nullptr && lists != &kAllRows; }

void AddUnordered(IndexSearch* search, Tid tid) {
  CallCore([&] {
    (*search->search)->AddUnordered(tid);
    return Status::Ok();
  });
}

// Adds the rows of one pending page and returns the next page of its chain.
BlockNumber AddPendingPage(IndexSearch* search, const PendingGeneration& generation, BlockNumber block,
                           uint32_t* position, const PendingLayout& layout, const ProbedLists* lists,
                           std::byte* wide_row) {
  LookAtWave(search);
  TestPoint("search.pending");
  PageCopy page;
  CopyPage(search->index, block, PageKind::kPending, generation.id, &page);
  CheckPendingRows(search->index, block, layout, page.special, position);
  for (uint32_t i = 0; i < page.special.used; ++i) {
    const std::byte* at = page.payload + layout.RowOffset(i);
    PendingRow row;
    std::memcpy(&row, at, sizeof row);
    if ((row.flags & PendingRow::kDead) != 0) continue;
    if (Restricts(lists) && lists->Find(row.list) == lists->count) continue;
    const Tid tid{row.tid_block, row.tid_offset};
    const std::byte* code = at + sizeof row;
    if (lists == &kAllRows) {
      AddUnordered(search, tid);
      continue;
    }
    if (layout.wide) {
      StreamRef ref;
      std::memcpy(&ref, code, sizeof ref);
      if (ref.bytes != layout.code_bytes) ThrowCorruptIndex(search->index, block, "a pending row has no code");
      TreeReader reader;
      TreeReaderInit(&reader, search->index, generation.id, ref);
      ReadStream(&reader, 0, layout.code_bytes, wide_row);
      if (reader.inner != nullptr) pfree(reader.inner);
      code = wide_row;
    }
    const bool coded = generation.code_kind != CodeKind::kFloat32;
    if (coded && row.centroid != row.list && search->coded && !(*search->search)->HasCentroid(row.centroid))
      AddCentroid(search, row.centroid);
    CallCore([&] {
      if (coded) return (*search->search)->AddPending(tid, row.centroid, code);
      (*search->search)->AddPendingFloats(tid, code);
      return Status::Ok();
    });
  }
  return page.special.next;
}

// `lists`: those probed, kAllRows, or null for all rows of an untrained index.
void AddPendingRows(IndexSearch* search, const PendingGeneration& generation, const ProbedLists* lists) {
  const MetaPage& meta = *search->meta;
  if (generation.id == 0) return;
  // Its rows were not given lists.
  if (generation.list_count == 0 && Restricts(lists)) lists = nullptr;
  const PendingLayout layout = PendingLayoutFor(meta.FormatOf(generation), generation.row_bytes);
  std::byte* wide_row = layout.wide ? static_cast<std::byte*>(palloc(layout.code_bytes)) : nullptr;
  uint32_t last_group = UINT32_MAX;
  const uint32_t count = Restricts(lists) ? lists->count : generation.group_count;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t group = Restricts(lists) ? PendingGroupOf(lists->numbers[i], generation) : i;
    if (group == last_group) continue;
    last_group = group;
    BlockNumber block = PendingChainHead(search->index, generation, group);
    for (uint32_t position = 0; block != kNoBlock;)
      block = AddPendingPage(search, generation, block, &position, layout, lists, wide_row);
  }
}

// --------------------------------------------------------------------------------------------------------------------

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

void RecordSearch(const IndexSearch* search, Clock::time_point scan_start, double wave_ms, double pending_ms,
                  ScanRecord* record) {
  const Search& core = **search->search;
  const SearchStatistics& statistics = core.statistics();
  const double score_ms =
      std::chrono::duration<double, std::milli>(statistics.score_time).count() + pending_ms;
  record->waves += statistics.waves;
  record->requests += statistics.requests;
  record->blocks += statistics.blocks;
  record->bytes_fetched += statistics.bytes_fetched;
  record->bytes_used += statistics.bytes_used;
  record->rows_scored += statistics.rows_scored;
  record->pending_rows_scored += statistics.pending_rows_scored;
  record->fetch_ms += std::max(0.0, wave_ms - score_ms);
  record->score_ms += score_ms;
  for (const RequestTrace& request : core.trace()) RecordRequest(record->index, request, scan_start);
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

}  // namespace

void AddAllRows(IndexSearch* search) {
  const MetaPage& meta = *search->meta;
  auto* query = static_cast<float*>(palloc0(std::max<size_t>(meta.dimensions, 1) * sizeof(float)));
  search->float32_operator = false;
  OpenSearch(search, {CodeKind::kFloat32, 32, meta.dimensions}, query, nullptr);
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    VisitLiveTids(search->index, meta.segments[i].id, meta.segments[i].tid_map, AddLiveTid, search);
  AddPendingRows(search, meta.sealed, &kAllRows);
  AddPendingRows(search, meta.current, &kAllRows);
}

void SearchLists(IndexSearch* search, const float* query, ScanRecord* record) {
  const Clock::time_point scan_start = Clock::now();
  const MetaPage& meta = *search->meta;
  Ranked ranked{};
  const ProbedLists* lists = nullptr;
  if (meta.trained()) {
    ranked = RankLists(search, query);
    lists = &ranked.lists;
    record->lists = meta.list_count;
    record->lists_probed += ranked.lists.count;
  }
  const CodeFormat format = meta.trained() ? meta.format() : meta.FormatOf(meta.current);
  OpenSearch(search, format, query, ranked.mean);
  Search& core = **search->search;
  bool remote = false;
  if (lists != nullptr) {
    CallCore([&] {
      core.SetLists(*lists);
      return Status::Ok();
    });
    remote = AddSegments(search, *lists);
  }
  record->quantizer_ms += MillisecondsSince(scan_start);

  const Clock::time_point wave_start = Clock::now();
  Wave wave = NewWave();
  search->wave = &wave;
  if (remote) StartWave(search);
  // Before anything is scored.
  TreeReader routing;
  if (lists != nullptr && search->coded) {
    RoutingReaderInit(&routing, search->index, meta);
    search->routing = &routing;
    AddCentroidsOfBlocks(search);
  }
  // While the wave is under way: what is local.
  const Clock::time_point pending_start = Clock::now();
  AddPendingRows(search, meta.sealed, lists);
  AddPendingRows(search, meta.current, lists);
  const double pending_ms = MillisecondsSince(pending_start + wave.look_time);
  CallCore([&] {
    core.ScorePending();
    return Status::Ok();
  });
  for (uint32_t number = 0; number < core.segment_count(); ++number)
    if (search->segments[number]->place == SegmentPlace::kPages)
      DeliverFromPages(search, static_cast<uint16_t>(number));
  FinishWave(search);
  search->wave = nullptr;
  search->routing = nullptr;
  RecordSearch(search, scan_start, MillisecondsSince(wave_start), pending_ms, record);
}

}  // namespace ivfremote
