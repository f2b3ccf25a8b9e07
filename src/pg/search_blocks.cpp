// Which blocks of the segments a wave reads: from their directories.
#include <algorithm>
#include <cstring>

#include "pg/index_cache.h"
#include "pg/search_index.h"

namespace ivfremote {
namespace {

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

}  // namespace

void PlanBlocks(IndexSearch* search, const ProbedLists& lists) {
  for (uint32_t i = 0; i < search->meta->segment_count; ++i) {
    const SegmentEntry& segment = search->meta->segments[i];
    const Blocks blocks = FindBlocks(search, i, lists);
    int* number = &search->numbers[i];
    if (blocks.count == 0 && *number < 0) continue;
    CallCore([&] {
      std::vector<BlockEntry> entries(blocks.entries, blocks.entries + blocks.count);
      Search& core = **search->search;
      if (*number >= 0) {
        core.SetBlocks(static_cast<uint16_t>(*number), std::move(entries));
      } else {
        *number = core.AddSegment(segment, std::move(entries));
        search->segments[*number] = &segment;
      }
      return Status::Ok();
    });
    pfree(blocks.entries);
  }
}

}  // namespace ivfremote
