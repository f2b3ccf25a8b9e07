#include "pg/pending.h"

#include <algorithm>
#include <cstring>

#include "core/calibration.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/half.h"
#include "core/list_ranker.h"
#include "pg/routing_pages.h"
#include "pg/stream.h"
#include "pg/test_point.h"
#include "pg/wall.h"

extern "C" {
#include "common/pg_prng.h"
#include "utils/timestamp.h"
}

namespace ivfremote {

PendingGeneration CreateGeneration(Relation index, uint64_t id, uint32_t list_count, CodeKind code_kind) {
  PendingGeneration generation;
  generation.id = id;
  generation.group_count = std::clamp(list_count, 1u, kMaxPendingGroups);
  generation.list_count = list_count;
  generation.code_kind = code_kind;
  if (code_kind == CodeKind::kRabitq) generation.flags |= PendingGeneration::kSampled;
  TreeWriter tree;
  TreeWriterInit(&tree, index, id);
  auto* chains = static_cast<PendingChain*>(palloc(kChainsPerPage * sizeof(PendingChain)));
  std::fill(chains, chains + kChainsPerPage, PendingChain{});
  for (uint32_t first = 0; first < generation.chain_count(); first += kChainsPerPage) {
    const auto count = std::min<uint32_t>(kChainsPerPage, generation.chain_count() - first);
    TreeWriterAddLeaf(&tree, PageKind::kPendingDirectory, first / kChainsPerPage, count,
                      std::as_bytes(std::span(chains, count)));
  }
  pfree(chains);
  const StreamRef directory = TreeWriterFinish(&tree, 0);
  generation.directory_root = directory.root;
  generation.directory_depth = directory.depth;
  generation.began = GetCurrentTimestamp();
  return generation;
}

void WriteInitFork(Relation index, MetaPage* meta) {
  constexpr BlockNumber kDirectory = kMetaBlock + 1;
  meta->current.id = meta->next_id++;
  meta->current.group_count = 1;
  meta->current.directory_root = kDirectory;
  WriteForkPage(index, INIT_FORKNUM, kMetaBlock, {PageKind::kMeta, 0, 0, sizeof(MetaPage)},
                std::as_bytes(std::span(meta, 1)));
  const PendingChain chain;
  WriteForkPage(index, INIT_FORKNUM, kDirectory, {PageKind::kPendingDirectory, meta->current.id, 0, 1},
                std::as_bytes(std::span(&chain, 1)));
}

BlockNumber PendingDirectoryBlock(Relation index, const PendingGeneration& generation, uint32_t group) {
  StreamRef ref;
  ref.root = generation.directory_root;
  ref.depth = generation.directory_depth;
  ref.bytes = 1;
  TreeReader reader;
  TreeReaderInit(&reader, index, generation.id, ref);
  const BlockNumber block = TreeReaderFind(&reader, static_cast<uint32_t>(group / kChainsPerPage));
  if (reader.inner != nullptr) pfree(reader.inner);
  if (block == kNoBlock) ThrowCorruptIndex(index, generation.directory_root, "a pending chain has no directory");
  return block;
}

namespace {

PendingChain* ChainsOf(std::byte* payload) { return reinterpret_cast<PendingChain*>(payload); }

PendingChain ReadChain(Relation index, const PendingGeneration& generation, uint32_t group) {
  PageCopy page;
  CopyPage(index, PendingDirectoryBlock(index, generation, group), PageKind::kPendingDirectory, generation.id, &page);
  return ChainsOf(page.payload)[group % kChainsPerPage];
}

}  // namespace

BlockNumber PendingChainHead(Relation index, const PendingGeneration& generation, uint32_t group) {
  return ReadChain(index, generation, group).head;
}

void CheckPendingRows(Relation index, BlockNumber block, const PendingLayout& layout, const PageSpecial& special,
                      uint32_t* position) {
  const CoreError error = RunCore([&] { return CheckPendingPage(layout, special, position); });
  if (error.sqlstate != 0) ThrowCorruptIndex(index, block, error.message);
}

uint64_t CountPendingRows(Relation index, const PendingGeneration& generation) {
  if (generation.id == 0) return 0;
  uint64_t rows = 0;
  PageCopy page;
  for (uint32_t group = 0; group < generation.group_count; ++group) {
    if (group % kChainsPerPage == 0)
      CopyPage(index, PendingDirectoryBlock(index, generation, group), PageKind::kPendingDirectory, generation.id,
               &page);
    rows += ChainsOf(page.payload)[group % kChainsPerPage].rows;
  }
  return rows;
}

uint64_t CountSampleRows(Relation index, const PendingGeneration& generation) {
  return generation.sampled() ? ReadChain(index, generation, generation.group_count).rows : 0;
}

namespace {

Buffer LockPageToChange(Relation index, BlockNumber block, PageKind kind, uint64_t owner) {
  const Buffer buffer = ReadBuffer(index, block);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  CheckLivePage(index, block, BufferGetPage(buffer), kind, owner);
  return buffer;
}

bool AllDead(Page page, const PendingLayout& layout) {
  for (uint32_t i = 0; i < SpecialOf(page)->used; ++i)
    if ((reinterpret_cast<PendingRow*>(PayloadOf(page) + layout.RowOffset(i))->flags & PendingRow::kDead) == 0)
      return false;
  return true;
}

}  // namespace

bool DropDeadPage(Relation index, const PendingGeneration& generation, const PendingPlace& place,
                  const PendingLayout& layout, DeletedPages* deleted) {
  const BlockNumber block = place.block;
  const Buffer directory = LockPageToChange(index, PendingDirectoryBlock(index, generation, place.group),
                                            PageKind::kPendingDirectory, generation.id);
  const bool leaves = place.next != kNoBlock;
  const Buffer before = leaves && place.previous != kNoBlock
                            ? LockPageToChange(index, place.previous, PageKind::kPending, generation.id)
                            : InvalidBuffer;
  const Buffer buffer = LockPageToChange(index, block, PageKind::kPending, generation.id);
  GenericXLogState* state = GenericXLogStart(index);
  PendingChain* chain =
      &ChainsOf(PayloadOf(GenericXLogRegisterBuffer(state, directory, 0)))[place.group % kChainsPerPage];
  const Page page = GenericXLogRegisterBuffer(state, buffer, 0);
  PageSpecial* special = SpecialOf(page);
  // Rows may have been appended to what was the tail.
  const bool unchanged = special->next == place.next && AllDead(page, layout);
  if (unchanged) {
    BlockNumber* link = &chain->head;
    if (before != InvalidBuffer) link = &SpecialOf(GenericXLogRegisterBuffer(state, before, 0))->next;
    if (leaves && *link != block) ThrowCorruptIndex(index, block, "page of a pending chain is out of place");
    if (chain->rows < special->used) ThrowCorruptIndex(index, block, "a pending chain has more rows than it counts");
    chain->rows -= special->used;
    if (leaves) {
      *link = special->next;
      MarkDeleted(page, deleted);
    } else {
      special->used = 0;
      reinterpret_cast<PageHeader>(page)->pd_lower = static_cast<LocationIndex>(kPageHeaderBytes);
    }
    GenericXLogFinish(state);
  } else {
    GenericXLogAbort(state);
  }
  UnlockReleaseBuffer(buffer);
  if (before != InvalidBuffer) UnlockReleaseBuffer(before);
  UnlockReleaseBuffer(directory);
  return unchanged && leaves;
}

namespace {

// The first row of an index fixes its dimensions, for good: in a record of its own, before the row.
void FixDimensions(Relation index, uint32_t dimensions) {
  const Buffer buffer = ReadBuffer(index, kMetaBlock);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  if (MetaOn(index, BufferGetPage(buffer))->dimensions == 0) {
    GenericXLogState* state = GenericXLogStart(index);
    MetaOn(index, GenericXLogRegisterBuffer(state, buffer, 0))->dimensions = dimensions;
    GenericXLogFinish(state);
  }
  UnlockReleaseBuffer(buffer);
}

// Finds the list of a row and codes it, or packs it, as the current generation's rows are. `code` is [RowBytes].
uint32_t CodeRow(Relation index, const MetaPage& meta, const Vector& vector, std::byte* code) {
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote routing", ALLOCSET_SMALL_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  Held<Routing>* routing = Hold<Routing>(context, [] { return new Routing(); });
  TreeReader reader;
  RoutingReaderInit(&reader, index, meta);
  ReadRouting(&reader, meta, RoutingPart::kGroups, routing->object);
  Held<ListRanker>* ranker = Hold<ListRanker>(
      context, [&] { return new ListRanker(ListRanker::ForInsert(routing->object, vector.values)); });
  FeedRanker(&reader, ranker->object);
  uint32_t list = 0;
  CallCore([&] {
    std::vector<RankedList> lists;
    (*ranker)->Rank(ProbeRule(), &lists);
    if (lists.empty()) return Status::Corrupt("routing has groups without lists");
    list = lists[0].list;
    return Status::Ok();
  });
  const RoutingHeader header = (*routing)->header();
  auto* halves = static_cast<uint16_t*>(palloc(header.CentroidBytes()));
  ReadStream(&reader, header.CentroidOffset(list), header.CentroidBytes(), reinterpret_cast<std::byte*>(halves));
  CallCore([&] {
    std::vector<float> centroid(meta.dimensions);
    FromHalves(halves, centroid.size(), header.scale(), centroid.data());
    RowCoder coder(meta.metric, meta.FormatOf(meta.current), meta.rotation_seed, (*routing)->mean.data());
    coder.Encode(vector.values, centroid.data(), code);
    return Status::Ok();
  });
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
  return list;
}

struct NewRow {
  PendingRow row;
  Bytes code;  // or the reference to its stream
};

void PutRow(Page page, const PendingLayout& layout, const NewRow& row) {
  PageSpecial* special = SpecialOf(page);
  std::byte* to = PayloadOf(page) + layout.RowOffset(special->used);
  std::memcpy(to, &row.row, sizeof row.row);
  std::memcpy(to + sizeof row.row, row.code.data(), row.code.size());
  ++special->used;
  reinterpret_cast<PageHeader>(page)->pd_lower =
      static_cast<LocationIndex>(kPageHeaderBytes + layout.RowOffset(special->used));
}

// Appends to the chain in one record. False, and nothing done, if the meta page no longer says what `meta` does.
//
// Meta stays share-locked from the test to the end: whoever seals the generation takes it exclusively and so finds every
// row complete. Locks are taken in the order meta, directory, tail. A page allocated on the way stays locked: whoever waits for
// it (a sweep) holds no other.
bool AppendRow(Relation index, const MetaPage& meta, uint32_t group, const PendingLayout& layout, const NewRow& row) {
  const BlockNumber directory_block = PendingDirectoryBlock(index, meta.current, group);
  const Buffer meta_buffer = ReadBuffer(index, kMetaBlock);
  const Buffer directory_buffer = ReadBuffer(index, directory_block);
  Buffer fresh = InvalidBuffer;
  bool current = false;
  for (bool done = false; !done;) {
    LockBuffer(meta_buffer, BUFFER_LOCK_SHARE);
    const auto* now = reinterpret_cast<const MetaPage*>(PayloadOf(BufferGetPage(meta_buffer)));
    // A newer library may just have added a feature: whoever starts again is told.
    current = now->current.id == meta.current.id && now->routing_id == meta.routing_id &&
              now->version == meta.version && now->required_features == meta.required_features &&
              now->write_features == meta.write_features;
    if (!current) {
      LockBuffer(meta_buffer, BUFFER_LOCK_UNLOCK);
      break;
    }
    // The one that may wait under a page lock: whoever seals must wait for this insert.
    TestPoint("insert.compared");
    LockBuffer(directory_buffer, BUFFER_LOCK_EXCLUSIVE);
    CheckLivePage(index, directory_block, BufferGetPage(directory_buffer), PageKind::kPendingDirectory, meta.current.id);
    const BlockNumber tail_block =
        ChainsOf(PayloadOf(BufferGetPage(directory_buffer)))[group % kChainsPerPage].tail;
    Buffer tail = InvalidBuffer;
    bool room = false;
    if (tail_block != kNoBlock) {
      tail = ReadBuffer(index, tail_block);
      LockBuffer(tail, BUFFER_LOCK_EXCLUSIVE);
      CheckLivePage(index, tail_block, BufferGetPage(tail), PageKind::kPending, meta.current.id);
      room = SpecialOf(BufferGetPage(tail))->used < layout.rows_per_page;
    }
    if (room || fresh != InvalidBuffer) {
      GenericXLogState* state = GenericXLogStart(index);
      PendingChain* chain = &ChainsOf(
          PayloadOf(GenericXLogRegisterBuffer(state, directory_buffer, 0)))[group % kChainsPerPage];
      if (room) {
        PutRow(GenericXLogRegisterBuffer(state, tail, 0), layout, row);
      } else {
        const BlockNumber block = BufferGetBlockNumber(fresh);
        const Page page = GenericXLogRegisterBuffer(state, fresh, GENERIC_XLOG_FULL_IMAGE);
        const uint32_t number = tail == InvalidBuffer ? 0 : SpecialOf(BufferGetPage(tail))->position + 1;
        InitIndexPage(page, {PageKind::kPending, meta.current.id, number, 0});
        PutRow(page, layout, row);
        if (tail != InvalidBuffer) SpecialOf(GenericXLogRegisterBuffer(state, tail, 0))->next = block;
        if (chain->head == kNoBlock) chain->head = block;
        chain->tail = block;
      }
      ++chain->rows;
      GenericXLogFinish(state);
      done = true;
      if (!room) {
        UnlockReleaseBuffer(fresh);
        fresh = InvalidBuffer;
      }
    }
    if (tail != InvalidBuffer) UnlockReleaseBuffer(tail);
    LockBuffer(directory_buffer, BUFFER_LOCK_UNLOCK);
    LockBuffer(meta_buffer, BUFFER_LOCK_UNLOCK);
    // Extending waits for a heavyweight lock, so not under the locks above.
    if (!done) fresh = AllocatePage(index);
  }
  if (fresh != InvalidBuffer) ReleaseUnusedPage(index, fresh);
  ReleaseBuffer(directory_buffer);
  ReleaseBuffer(meta_buffer);
  return current;
}

// Appends a row as `layout` has it, in place or with a stream of its own. False if the meta page has changed.
bool Append(Relation index, const MetaPage& meta, uint32_t group, const PendingLayout& layout, PendingRow row, Bytes code) {
  StreamRef wide;
  if (layout.wide) {
    wide = WriteStream(index, meta.current.id, code);
    TestPoint("insert.overflow");
    code = std::as_bytes(std::span(&wide, 1));
  }
  return AppendRow(index, meta, group, layout, {row, code});
}

bool IsDrawn(Relation index, const MetaPage& meta) {
  double rows = 0;
  for (uint32_t i = 0; i < meta.segment_count; ++i) rows += static_cast<double>(meta.segments[i].rows);
  const double draw = pg_prng_double(&pg_global_prng_state);
  // Pending rows are counted where it matters.
  if (draw >= SampledShare(rows, meta.dimensions)) return false;
  rows += static_cast<double>(CountPendingRows(index, meta.current));
  if (draw >= SampledShare(rows, meta.dimensions)) return false;
  // Rows that come and go without a flush must not fill the index with their samples.
  return CountSampleRows(index, meta.current) < CalibrationQueries(rows, meta.dimensions);
}

// A row that has been appended, once more as it is. Nothing is lost with one that can't be.
void AppendToSample(Relation index, const MetaPage& meta, PendingRow row, const Vector& vector) {
  row.list = row.centroid = 0;
  const PendingLayout layout = PendingLayoutFor({CodeKind::kFloat32, 32, meta.dimensions});
  (void)Append(index, meta, meta.current.group_count, layout, row,
               std::as_bytes(std::span(vector.values, vector.dimensions)));
}

}  // namespace

double SampledShare(double rows, uint32_t dimensions) {
  rows = std::max(rows, 1.0);
  return CalibrationQueries(rows, dimensions) / rows;
}

bool InsertPendingRow(Relation index, ItemPointer tid, const Vector& vector) {
  const bool zero = SquaredNorm(vector.values, vector.dimensions) == 0;
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  bool indexed = true;
  for (bool done = false; !done;) {
    CHECK_FOR_INTERRUPTS();
    ReadMetaToWrite(index, meta);
    if (meta->metric == Metric::kCosine && zero) {
      indexed = false;
      break;
    }
    if (meta->dimensions == 0) {
      FixDimensions(index, vector.dimensions);
      continue;
    }
    if (meta->dimensions != vector.dimensions) ThrowDimensionMismatch(meta->dimensions, vector.dimensions);

    const PendingLayout layout = PendingLayoutFor(meta->FormatOf(meta->current), meta->current.row_bytes);
    PendingRow row{};
    row.tid_block = TidOf(tid).block;
    row.tid_offset = TidOf(tid).offset;
    Bytes code = std::as_bytes(std::span(vector.values, vector.dimensions));
    if (meta->current.code_kind != CodeKind::kFloat32 || meta->trained()) {
      auto* coded = static_cast<std::byte*>(palloc(layout.code_bytes));
      if (meta->trained())
        row.list = row.centroid = CodeRow(index, *meta, vector, coded);
      else
        PackBits(vector.values, vector.dimensions, coded);
      code = {coded, layout.code_bytes};
    }
    done = Append(index, *meta, PendingGroupOf(row.list, meta->current), layout, row, code);
    if (done && meta->current.sampled() && IsDrawn(index, *meta)) AppendToSample(index, *meta, row, vector);
  }
  pfree(meta);
  return indexed;
}

}  // namespace ivfremote
