// Streams of pages: byte sequences (routing, directories, embedded segments, wide pending rows) and tid maps, found
// through a tree of pages. Written once, bottom-up, as pages nothing refers to; never changed afterwards except for a
// tid map's bits and a pending directory's chains.
#pragma once

#include "core/page_format.h"
#include "pg/page.h"

namespace ivfremote {

// Writes leaves in order and the tree above them.
struct TreeWriter {
  static constexpr int kMaxLevels = 4;

  MemoryContext context;            // of the entries: TreeWriterInit's, whatever the current one is later
  Relation index;
  uint64_t owner;
  uint64_t leaves;
  int levels;                       // with entries
  TreeEntry* entries[kMaxLevels];   // [kTreeFanout] each, of the inner page being filled
  uint32_t counts[kMaxLevels];
};

void TreeWriterInit(TreeWriter* writer, Relation index, uint64_t owner);
void TreeWriterAddLeaf(TreeWriter* writer, PageKind kind, uint32_t key, uint32_t used, Bytes payload);
// `bytes` goes into the reference.
StreamRef TreeWriterFinish(TreeWriter* writer, uint64_t bytes);

// Writes a byte stream piece by piece.
struct StreamWriter {
  TreeWriter tree;
  std::byte* page;  // [kPayloadBytes]
  uint32_t filled;
  uint64_t bytes;
};

void StreamWriterInit(StreamWriter* writer, Relation index, uint64_t owner);
void StreamWriterAppend(StreamWriter* writer, Bytes bytes);
void StreamWriterAppendZeros(StreamWriter* writer, uint64_t count);
StreamRef StreamWriterFinish(StreamWriter* writer);

StreamRef WriteStream(Relation index, uint64_t owner, Bytes bytes);

// Finds leaves; remembers the last inner page.
struct TreeReader {
  Relation index;
  uint64_t owner;
  StreamRef ref;
  PageCopy* inner;     // lowest inner page read last; none yet if inner_count is 0
  uint32_t inner_count;
  uint32_t inner_key_end;  // first key beyond that page; kNoBlock if it is the last
};

void TreeReaderInit(TreeReader* reader, Relation index, uint64_t owner, const StreamRef& ref);
// The leaf with the largest key <= `key`; kNoBlock if all keys are larger. Byte streams: key is the leaf's number.
BlockNumber TreeReaderFind(TreeReader* reader, uint32_t key);

// Copies page `number` of a byte stream.
void ReadStreamPage(TreeReader* reader, uint32_t number, PageCopy* page);

// Copies `length` bytes from `offset` of a byte stream; they must exist.
void ReadStream(TreeReader* reader, uint64_t offset, size_t length, std::byte* to);

// Before memory is taken for a stream: it is no longer than the index.
void CheckStreamFits(Relation index, const StreamRef& ref);

// All bytes of a stream, in the current context.
Bytes ReadWholeStream(Relation index, uint64_t owner, const StreamRef& ref);

// Marks the pages of a byte stream as deleted. Nothing refers to it any more for readers yet to come.
void DeleteStream(Relation index, uint64_t owner, const StreamRef& ref, DeletedPages* deleted);

// Calls visit(argument, leaf's block, number) for each leaf, in order.
void VisitLeaves(Relation index, uint64_t owner, const StreamRef& ref,
                 void (*visit)(void* argument, BlockNumber block), void* argument);

}  // namespace ivfremote
