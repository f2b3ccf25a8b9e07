#include "pg/stream.h"

#include <algorithm>
#include <cstring>

namespace ivfremote {

void TreeWriterInit(TreeWriter* writer, Relation index, uint64_t owner) {
  std::memset(writer, 0, sizeof *writer);
  writer->context = CurrentMemoryContext;
  writer->index = index;
  writer->owner = owner;
}

namespace {

TreeEntry WriteInnerPage(TreeWriter* writer, int level) {
  const Bytes payload = std::as_bytes(std::span(writer->entries[level], writer->counts[level]));
  const NewPage what{PageKind::kTree, writer->owner, static_cast<uint32_t>(level + 1), writer->counts[level]};
  const TreeEntry entry{writer->entries[level][0].key, WriteNewPage(writer->index, what, payload)};
  writer->counts[level] = 0;
  return entry;
}

void AddEntry(TreeWriter* writer, int level, TreeEntry entry) {
  if (level == TreeWriter::kMaxLevels)
    elog(ERROR, "stream of index \"%s\" is too long", RelationGetRelationName(writer->index));
  if (writer->entries[level] == nullptr) {
    writer->entries[level] =
        static_cast<TreeEntry*>(MemoryContextAlloc(writer->context, kTreeFanout * sizeof(TreeEntry)));
    writer->levels = level + 1;
  }
  if (writer->counts[level] == kTreeFanout) AddEntry(writer, level + 1, WriteInnerPage(writer, level));
  writer->entries[level][writer->counts[level]++] = entry;
}

}  // namespace

void TreeWriterAddLeaf(TreeWriter* writer, PageKind kind, uint32_t key, uint32_t used, Bytes payload) {
  const NewPage what{kind, writer->owner, static_cast<uint32_t>(writer->leaves), used};
  const BlockNumber block = WriteNewPage(writer->index, what, payload);
  AddEntry(writer, 0, {key, block});
  ++writer->leaves;
}

StreamRef TreeWriterFinish(TreeWriter* writer, uint64_t bytes) {
  StreamRef ref;
  if (writer->leaves == 0) return ref;
  ref.bytes = bytes;
  int level = 0;
  // The root is the first page that has no sibling.
  while (level + 1 < writer->levels || writer->counts[level] > 1) {
    AddEntry(writer, level + 1, WriteInnerPage(writer, level));
    ++level;
  }
  ref.root = writer->entries[level][0].block;
  ref.depth = static_cast<uint32_t>(level);
  for (TreeEntry* entries : writer->entries)
    if (entries != nullptr) pfree(entries);
  return ref;
}

void StreamWriterInit(StreamWriter* writer, Relation index, uint64_t owner) {
  TreeWriterInit(&writer->tree, index, owner);
  writer->page = static_cast<std::byte*>(palloc(kPayloadBytes));
  writer->filled = 0;
  writer->bytes = 0;
}

namespace {

void FlushStreamPage(StreamWriter* writer) {
  CHECK_FOR_INTERRUPTS();
  TreeWriterAddLeaf(&writer->tree, PageKind::kStream, static_cast<uint32_t>(writer->tree.leaves), writer->filled,
                    {writer->page, writer->filled});
  writer->filled = 0;
}

}  // namespace

void StreamWriterAppend(StreamWriter* writer, Bytes bytes) {
  writer->bytes += bytes.size();
  while (!bytes.empty()) {
    if (writer->filled == kPayloadBytes) FlushStreamPage(writer);
    const size_t n = std::min(bytes.size(), kPayloadBytes - writer->filled);
    std::memcpy(writer->page + writer->filled, bytes.data(), n);
    writer->filled += static_cast<uint32_t>(n);
    bytes = bytes.subspan(n);
  }
}

void StreamWriterAppendZeros(StreamWriter* writer, uint64_t count) {
  static constexpr std::byte zeros[64] = {};
  for (; count > 0; count -= std::min<uint64_t>(count, sizeof zeros))
    StreamWriterAppend(writer, {zeros, static_cast<size_t>(std::min<uint64_t>(count, sizeof zeros))});
}

StreamRef StreamWriterFinish(StreamWriter* writer) {
  if (writer->filled > 0) FlushStreamPage(writer);
  pfree(writer->page);
  return TreeWriterFinish(&writer->tree, writer->bytes);
}

StreamRef WriteStream(Relation index, uint64_t owner, Bytes bytes) {
  StreamWriter writer;
  StreamWriterInit(&writer, index, owner);
  StreamWriterAppend(&writer, bytes);
  return StreamWriterFinish(&writer);
}

void TreeReaderInit(TreeReader* reader, Relation index, uint64_t owner, const StreamRef& ref) {
  reader->index = index;
  reader->owner = owner;
  reader->ref = ref;
  reader->inner = ref.depth > 0 ? static_cast<PageCopy*>(palloc(sizeof(PageCopy))) : nullptr;
  reader->inner_count = 0;
  reader->inner_key_end = kNoBlock;
}

namespace {

const TreeEntry* EntriesOf(const PageCopy& page) { return reinterpret_cast<const TreeEntry*>(page.payload); }

// The last entry with a key <= `key`, or count if there is none.
uint32_t FindEntry(const TreeEntry* entries, uint32_t count, uint32_t key) {
  const TreeEntry* end = entries + count;
  const TreeEntry* after =
      std::upper_bound(entries, end, key, [](uint32_t k, const TreeEntry& entry) { return k < entry.key; });
  return after == entries ? count : static_cast<uint32_t>(after - entries) - 1;
}

}  // namespace

BlockNumber TreeReaderFind(TreeReader* reader, uint32_t key) {
  if (reader->ref.root == kNoBlock) return kNoBlock;
  if (reader->ref.depth == 0) return reader->ref.root;
  const TreeEntry* entries = EntriesOf(*reader->inner);
  const bool cached = reader->inner_count > 0 && key >= entries[0].key && key < reader->inner_key_end;
  if (!cached) {
    BlockNumber block = reader->ref.root;
    reader->inner_key_end = kNoBlock;
    reader->inner_count = 0;
    for (uint32_t level = reader->ref.depth; level >= 1; --level) {
      CopyPage(reader->index, block, PageKind::kTree, reader->owner, reader->inner);
      const uint32_t count = reader->inner->special.used;
      if (count == 0 || reader->inner->special.position != level)
        ThrowCorruptIndex(reader->index, block, "inner page of a stream is out of place");
      if (level == 1) {
        reader->inner_count = count;
        break;
      }
      const uint32_t at = FindEntry(entries, count, key);
      if (at == count) return kNoBlock;
      if (at + 1 < count) reader->inner_key_end = std::min(reader->inner_key_end, entries[at + 1].key);
      block = entries[at].block;
    }
  }
  const uint32_t at = FindEntry(entries, reader->inner_count, key);
  return at == reader->inner_count ? kNoBlock : entries[at].block;
}

void ReadStreamPage(TreeReader* reader, uint32_t number, PageCopy* page) {
  const BlockNumber block = TreeReaderFind(reader, number);
  CopyPage(reader->index, block, PageKind::kStream, reader->owner, page);
  if (page->special.position != number)
    ThrowCorruptIndex(reader->index, block, "page of a stream is out of place");
}

void ReadStream(TreeReader* reader, uint64_t offset, size_t length, std::byte* to) {
  if (offset > reader->ref.bytes || length > reader->ref.bytes - offset)
    ThrowCorruptIndex(reader->index, reader->ref.root, "a stream ends too early");
  while (length > 0) {
    const auto leaf = static_cast<uint32_t>(offset / kPayloadBytes);
    const size_t skip = offset % kPayloadBytes;
    const size_t n = std::min(length, kPayloadBytes - skip);
    const BlockNumber block = TreeReaderFind(reader, leaf);
    if (block == kNoBlock) ThrowCorruptIndex(reader->index, reader->ref.root, "a stream ends too early");
    const Buffer buffer = ReadBuffer(reader->index, block);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    const Page page = BufferGetPage(buffer);
    CheckIndexPage(reader->index, block, page, PageKind::kStream, reader->owner);
    if (SpecialOf(page)->position != leaf) ThrowCorruptIndex(reader->index, block, "page of a stream is out of place");
    if (SpecialOf(page)->used < skip + n) ThrowCorruptIndex(reader->index, block, "a stream ends too early");
    std::memcpy(to, PayloadOf(page) + skip, n);
    UnlockReleaseBuffer(buffer);
    to += n;
    offset += n;
    length -= n;
  }
}

void CheckStreamFits(Relation index, const StreamRef& ref) {
  if (ref.bytes > uint64_t{RelationGetNumberOfBlocks(index)} * kPayloadBytes)
    ThrowCorruptIndex(index, ref.root, "a stream is longer than the index");
}

Bytes ReadWholeStream(Relation index, uint64_t owner, const StreamRef& ref) {
  CheckStreamFits(index, ref);
  auto* bytes = static_cast<std::byte*>(palloc_extended(std::max<uint64_t>(ref.bytes, 1), MCXT_ALLOC_HUGE));
  TreeReader reader;
  TreeReaderInit(&reader, index, owner, ref);
  constexpr uint64_t kPiece = 64 * kPayloadBytes;
  for (uint64_t at = 0; at < ref.bytes; at += kPiece) {
    CHECK_FOR_INTERRUPTS();
    ReadStream(&reader, at, std::min(kPiece, ref.bytes - at), bytes + at);
  }
  if (reader.inner != nullptr) pfree(reader.inner);
  return {bytes, ref.bytes};
}

void VisitLeaves(Relation index, uint64_t owner, const StreamRef& ref,
                 void (*visit)(void* argument, BlockNumber block), void* argument) {
  if (ref.root == kNoBlock) return;
  if (ref.depth == 0) return visit(argument, ref.root);
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  CopyPage(index, ref.root, PageKind::kTree, owner, page);
  if (page->special.position != ref.depth)
    ThrowCorruptIndex(index, ref.root, "inner page of a stream is out of place");
  for (uint32_t i = 0; i < page->special.used; ++i) {
    StreamRef child = ref;
    child.root = EntriesOf(*page)[i].block;
    child.depth = ref.depth - 1;
    VisitLeaves(index, owner, child, visit, argument);
  }
  pfree(page);
}

void DeleteStream(Relation index, uint64_t owner, const StreamRef& ref, DeletedPages* deleted) {
  if (ref.root == kNoBlock) return;
  if (ref.depth > 0) {
    auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
    CopyPage(index, ref.root, PageKind::kTree, owner, page);
    if (page->special.position != ref.depth)
      ThrowCorruptIndex(index, ref.root, "inner page of a stream is out of place");
    for (uint32_t i = 0; i < page->special.used; ++i)
      DeleteStream(index, owner, {EntriesOf(*page)[i].block, ref.depth - 1, ref.bytes}, deleted);
    pfree(page);
  }
  const Buffer buffer = ReadBuffer(index, ref.root);
  LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
  CheckLivePage(index, ref.root, BufferGetPage(buffer), ref.depth > 0 ? PageKind::kTree : PageKind::kStream, owner);
  GenericXLogState* state = GenericXLogStart(index);
  MarkDeleted(GenericXLogRegisterBuffer(state, buffer, 0), deleted);
  GenericXLogFinish(state);
  UnlockReleaseBuffer(buffer);
}

}  // namespace ivfremote
