#include "pg/search_index.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pg/pending.h"
#include "pg/routing_pages.h"
#include "pg/server.h"
#include "pg/settings.h"
#include "pg/stream.h"
#include "pg/tid_map.h"

namespace ivfremote {

// Of the wave under way.
struct Wave {
  Clock::time_point deadline;
  Clock::time_point next_look;
  Clock::duration look_time;  // spent in LookAtWave
  bool reread;                // the user mapping has been read again
};

namespace {

using std::chrono::milliseconds;

// The longest the core works or waits before we look for interrupts.
constexpr milliseconds kStep{100};
// How long blocks that have arrived may wait for local work.
constexpr milliseconds kLook{5};

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

void LookAtWave(IndexSearch* search);

struct Lists {
  uint32_t count;
  uint32_t* numbers;  // ascending
};

// The lists to probe, from the routing's pages.
Lists RankLists(IndexSearch* search, const float* query) {
  const MetaPage& meta = *search->meta;
  Held<ListRanker>* ranker = Hold<ListRanker>(
      CurrentMemoryContext, [&] { return new ListRanker(meta.metric, query, meta.dimensions); });
  FeedRouting(search->index, meta, ranker->object);
  Lists lists{0, nullptr};
  const uint32_t probes = ProbesOf(search->index, meta.list_count);
  lists.numbers = static_cast<uint32_t*>(palloc(probes * sizeof(uint32_t)));
  CallCore([&] {
    std::vector<uint32_t> best;
    Status status = (*ranker)->Best(probes, &best);
    std::sort(best.begin(), best.end());
    lists.count = static_cast<uint32_t>(best.size());
    std::copy(best.begin(), best.end(), lists.numbers);
    return status;
  });
  Drop(ranker);
  return lists;
}

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

// The blocks of the probed lists in one segment, from its directory's pages.
Blocks FindBlocks(IndexSearch* search, const SegmentEntry& segment, const Lists& lists) {
  Blocks blocks{0, std::max<uint32_t>(lists.count, 8), nullptr};
  blocks.entries = static_cast<BlockEntry*>(palloc_extended(blocks.capacity * sizeof(BlockEntry), MCXT_ALLOC_HUGE));
  TreeReader reader;
  TreeReaderInit(&reader, search->index, segment.id, segment.directory);
  std::byte bytes[DirectoryHeader::kBytes];
  ReadStream(&reader, 0, sizeof bytes, bytes);
  DirectoryHeader header;
  CallCore([&] { return DecodeDirectoryHeader(bytes, &header); });
  if (header.EncodedBytes() != segment.directory.bytes)
    ThrowCorruptIndex(search->index, segment.directory.root, "directory has the wrong length");
  for (uint32_t i = 0; i < lists.count; ++i) {
    CHECK_FOR_INTERRUPTS();
    const uint32_t list = lists.numbers[i];
    if (list >= header.list_count) continue;
    ListEntry entry;
    ReadStream(&reader, header.ListEntryOffset(list), sizeof entry, reinterpret_cast<std::byte*>(&entry));
    if (entry.first_block > header.block_count || entry.block_count > header.block_count - entry.first_block)
      ThrowCorruptIndex(search->index, segment.directory.root, "directory has an impossible list");
    for (uint32_t k = 0; k < entry.block_count; ++k) {
      BlockEntry block;
      ReadStream(&reader, header.BlockEntryOffset(entry.first_block + k), sizeof block,
                 reinterpret_cast<std::byte*>(&block));
      CallCore([&] { return CheckBlockEntry(block, list, segment.bytes); });
      AddBlock(&blocks, block);
    }
  }
  return blocks;
}

// In place of the lists probed: add all rows, without a distance.
constexpr Lists kAllRows{0, nullptr};

// Whether only rows of these lists count. Untrained indexes have none: null.
bool Restricts(const Lists* lists) { return lists != nullptr && lists != &kAllRows; }

void AddUnordered(IndexSearch* search, Tid tid) {
  CallCore([&] {
    (*search->search)->AddUnordered(tid);
    return Status::Ok();
  });
}

// Scores the rows of one pending page and returns the next page of its chain.
BlockNumber ScorePendingPage(IndexSearch* search, const PendingGeneration& generation, BlockNumber block,
                             const PendingLayout& layout, const Lists* lists, std::byte* wide_row) {
  LookAtWave(search);
  PageCopy page;
  CopyPage(search->index, block, PageKind::kPending, generation.id, &page);
  CheckPendingRows(search->index, block, layout, page.special.used);
  for (uint32_t i = 0; i < page.special.used; ++i) {
    const std::byte* at = page.payload + layout.RowOffset(i);
    PendingRow row;
    std::memcpy(&row, at, sizeof row);
    if ((row.flags & PendingRow::kDead) != 0) continue;
    if (Restricts(lists) && !std::binary_search(lists->numbers, lists->numbers + lists->count, row.list)) continue;
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
    CallCore([&] {
      (*search->search)->ScorePending(tid, code);
      return Status::Ok();
    });
  }
  return page.special.next;
}

// `lists`: those probed, kAllRows, or null for all rows of an untrained index.
void ScorePendingRows(IndexSearch* search, const PendingGeneration& generation, const Lists* lists) {
  const MetaPage& meta = *search->meta;
  if (generation.id == 0) return;
  const PendingLayout layout = PendingLayoutFor(meta.dimensions);
  std::byte* wide_row = layout.wide ? static_cast<std::byte*>(palloc(layout.code_bytes)) : nullptr;
  uint32_t last_group = UINT32_MAX;
  const uint32_t count = Restricts(lists) ? lists->count : generation.group_count;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t group =
        Restricts(lists) ? PendingGroupOf(lists->numbers[i], meta.list_count, generation.group_count) : i;
    if (group == last_group) continue;
    last_group = group;
    BlockNumber block = PendingChainHead(search->index, generation, group);
    while (block != kNoBlock) block = ScorePendingPage(search, generation, block, layout, lists, wide_row);
  }
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
    auto* bytes = static_cast<std::byte*>(
        palloc_extended(range.length + RangeBuffer::kSlack, MCXT_ALLOC_HUGE));
    for (uint32_t at = 0; at < range.length;) {
      // In pieces, so that an interrupt is seen between pages.
      const uint32_t piece = std::min<uint32_t>(range.length - at, 64 * kPayloadBytes);
      LookAtWave(search);
      ReadStream(&reader, range.offset + at, piece, bytes + at);
      at += piece;
    }
    const CoreError error = RunCore([&] { return core.Deliver(number, i, {bytes, range.length}); });
    if (error.sqlstate != 0)
      ereport(ERROR, (errcode(error.sqlstate),
                      errmsg("could not read index \"%s\"", RelationGetRelationName(search->index)),
                      errdetail_internal("%s", error.message), errhint("Please REINDEX it.")));
    pfree(bytes);
  }
}

// Whether a segment is still listed now.
bool StillListed(Relation index, const SegmentEntry& segment) {
  auto* now = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  ReadMeta(index, now);
  bool listed = false;
  for (uint32_t i = 0; i < now->segment_count; ++i) listed |= now->segments[i].id == segment.id;
  pfree(now);
  return listed;
}

const char* QualifiedName(Relation index) {
  return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(index)), RelationGetRelationName(index));
}

[[noreturn]] void ThrowStoreError(const IndexSearch* search, const char* server, const CoreError& error) {
  const char* name = RelationGetRelationName(search->index);
  CHECK_FOR_INTERRUPTS();
  switch (error.code) {
    case StatusCode::kNotFound:
      for (uint32_t i = 0; i < search->meta->segment_count; ++i)
        if (!StillListed(search->index, search->meta->segments[i]))
          ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                          errmsg("index \"%s\" was rewritten during the scan", name),
                          errhint("Run the statement again.")));
      ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE),
                      errmsg("object of index \"%s\" is missing in server \"%s\"", name, server),
                      errdetail_internal("%s", error.message),
                      errhint("Restore the object from a copy, or run REINDEX INDEX CONCURRENTLY %s; the table holds "
                              "all its data.",
                              QualifiedName(search->index))));
    case StatusCode::kDenied:
      if (std::strstr(error.message, "RequestTimeTooSkewed") != nullptr)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("server \"%s\" refused access to index \"%s\"", server, name),
                        errdetail_internal("%s", error.message), errhint("Set the clock of this machine.")));
      ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                      errmsg("server \"%s\" refused access to index \"%s\"", server, name),
                      errdetail("%s; with the user mapping of role \"%s\" (owner of the index), else of PUBLIC.",
                                error.message, GetUserNameFromId(search->index->rd_rel->relowner, false)),
                      errhint("Use ALTER USER MAPPING FOR %s SERVER %s OPTIONS (SET ...).",
                              quote_identifier(GetUserNameFromId(search->index->rd_rel->relowner, false)),
                              quote_identifier(server))));
    case StatusCode::kCorrupt:
      ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                      errmsg("index \"%s\" read wrong bytes from server \"%s\"", name, server),
                      errdetail_internal("%s", error.message),
                      errhint("Restore the object from a copy, or run REINDEX INDEX CONCURRENTLY %s; the table holds "
                              "all its data.",
                              QualifiedName(search->index))));
    case StatusCode::kUnsupported:
      ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                      errmsg("could not read index \"%s\" from server \"%s\"", name, server),
                      errdetail_internal("%s", error.message),
                      errhint("Install the newer library on this server too.")));
    default:
      ereport(ERROR, (errcode(error.sqlstate),
                      errmsg("could not read index \"%s\" from server \"%s\"", name, server),
                      errdetail("%zu of %zu requests failed; last: %s.", (*search->search)->requests_failed(),
                                (*search->search)->requests_in_wave(), error.message),
                      errhint("Set ivfremote.enable_scan = off to search the table itself.")));
  }
  pg_unreachable();
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

// Sends what has not been read yet, with the rights of the index's owner.
void StartWave(IndexSearch* search) {
  const char* server = ServerNameOf(search->index, *search->meta);
  ObjectStore* store = SessionStore(server, search->index->rd_rel->relowner);
  const CoreError error = RunCore([&] {
    return (*search->search)->StartWave(store, static_cast<size_t>(settings.max_concurrent_requests));
  });
  if (error.sqlstate != 0) ThrowStoreError(search, server, error);
}

// Scores what has arrived, or arrives until `until`.
void StepWave(IndexSearch* search, Clock::time_point until) {
  Search& core = **search->search;
  const char* server = ServerNameOf(search->index, *search->meta);
  const CoreError error = RunCore([&] { return core.StepWave(until); });
  CHECK_FOR_INTERRUPTS();
  if (error.code == StatusCode::kDenied && !search->wave->reread) {
    // The user mapping may have changed since it was read.
    search->wave->reread = true;
    ForgetSessionStore(server, search->index->rd_rel->relowner);
    StartWave(search);
    return;
  }
  if (error.sqlstate != 0) ThrowStoreError(search, server, error);
  if (settings.scan_timeout_ms > 0 && core.wave_running() && Clock::now() >= search->wave->deadline)
    ereport(ERROR, (errcode(ERRCODE_IO_ERROR),
                    errmsg("could not read index \"%s\" from server \"%s\"",
                           RelationGetRelationName(search->index), server),
                    errdetail("%zu of %zu requests were not answered within ivfremote.scan_timeout (%d ms).",
                              core.requests_outstanding(), core.requests_in_wave(), settings.scan_timeout_ms),
                    errhint("Set ivfremote.enable_scan = off to search the table itself.")));
}

// Called between pieces of local work: scores what has arrived, now and then, and waits for nothing.
void LookAtWave(IndexSearch* search) {
  CHECK_FOR_INTERRUPTS();
  if (!(*search->search)->wave_running()) return;
  const Clock::time_point now = Clock::now();
  if (now < search->wave->next_look) return;
  StepWave(search, now);
  search->wave->next_look = Clock::now() + kLook;
  search->wave->look_time += Clock::now() - now;
}

// Scores what arrives until all has.
void FinishWave(IndexSearch* search) {
  while ((*search->search)->wave_running()) StepWave(search, Clock::now() + kStep);
}

}  // namespace

uint32_t ProbesOf(Relation index, uint32_t list_count) {
  int probes = settings.probes;
  if (probes < 0) probes = GetIndexOptions(index)->probes;
  if (probes < 0) probes = std::max(8, static_cast<int>(std::lround(std::sqrt(list_count))));
  return std::clamp<uint32_t>(static_cast<uint32_t>(probes), 1, std::max<uint32_t>(list_count, 1));
}

void OpenSearch(IndexSearch* search, const float* query) {
  const MetaPage& meta = *search->meta;
  search->search = Hold<Search>(CurrentMemoryContext, [&] {
    return new Search(meta.metric, query, meta.dimensions, FetchPlanOptions());
  });
}

void AddAllRows(IndexSearch* search) {
  const MetaPage& meta = *search->meta;
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    VisitLiveTids(search->index, meta.segments[i].id, meta.segments[i].tid_map, AddLiveTid, search);
  ScorePendingRows(search, meta.sealed, &kAllRows);
  ScorePendingRows(search, meta.current, &kAllRows);
}

void SearchLists(IndexSearch* search, const float* query, ScanRecord* record) {
  const Clock::time_point scan_start = Clock::now();
  const MetaPage& meta = *search->meta;
  Search& core = **search->search;
  Lists ranked{0, nullptr};
  const Lists* lists = nullptr;
  if (meta.trained()) {
    ranked = RankLists(search, query);
    lists = &ranked;
    record->lists = meta.list_count;
    record->lists_probed += ranked.count;
  }
  bool remote = false;
  for (uint32_t i = 0; lists != nullptr && i < meta.segment_count; ++i) {
    const SegmentEntry& segment = meta.segments[i];
    const Blocks blocks = FindBlocks(search, segment, ranked);
    if (blocks.count == 0) continue;
    CallCore([&] {
      const uint16_t number =
          core.AddSegment(segment, std::vector<BlockEntry>(blocks.entries, blocks.entries + blocks.count));
      search->segments[number] = &segment;
      return Status::Ok();
    });
    remote |= segment.place == SegmentPlace::kObject;
  }
  record->quantizer_ms += MillisecondsSince(scan_start);

  const Clock::time_point wave_start = Clock::now();
  Wave wave{wave_start + milliseconds(settings.scan_timeout_ms), wave_start + kLook, {}, false};
  search->wave = &wave;
  if (remote) StartWave(search);
  // While the wave is under way: what is local.
  const Clock::time_point pending_start = Clock::now();
  ScorePendingRows(search, meta.sealed, lists);
  ScorePendingRows(search, meta.current, lists);
  const double pending_ms = MillisecondsSince(pending_start + wave.look_time);
  for (uint32_t number = 0; number < core.segment_count(); ++number)
    if (search->segments[number]->place == SegmentPlace::kPages)
      DeliverFromPages(search, static_cast<uint16_t>(number));
  FinishWave(search);
  search->wave = nullptr;
  RecordSearch(search, scan_start, MillisecondsSince(wave_start), pending_ms, record);
}

}  // namespace ivfremote
