#include "pg/pending_reader.h"

#include <cstring>

#include "core/coding.h"
#include "pg/compat.h"
#include "pg/pending.h"
#include "pg/stream.h"

namespace ivfremote {
namespace {

// Copies the next page of the chains; false if there is none.
bool NextPage(PendingReader* reader) {
  while (reader->next_block == kNoBlock) {
    if (reader->next_group == reader->end_group) return false;
    reader->next_block = PendingChainHead(reader->index, reader->generation, reader->next_group++);
    reader->position = 0;
  }
  IVFREMOTE_VACUUM_DELAY();
  reader->block = reader->next_block;
  CopyPage(reader->index, reader->block, PageKind::kPending, reader->generation.id, &reader->page);
  CheckPendingRows(reader->index, reader->block, reader->layout, reader->page.special, &reader->position);
  reader->next_block = reader->page.special.next;
  reader->row = 0;
  return true;
}

PendingReader* StartReader(Relation index, const PendingGeneration& generation, const CodeFormat& format,
                           uint32_t row_bytes) {
  auto* reader = static_cast<PendingReader*>(palloc0(sizeof(PendingReader)));
  reader->index = index;
  reader->generation = generation;
  reader->format = format;
  if (format.dimensions != 0) reader->layout = PendingLayoutFor(format, row_bytes);
  if (reader->layout.wide) reader->wide = static_cast<std::byte*>(palloc(reader->layout.code_bytes));
  if (!format.coded()) reader->values = static_cast<float*>(palloc(format.dimensions * sizeof(float)));
  reader->block = reader->next_block = kNoBlock;
  return reader;
}

}  // namespace

PendingReader* StartPendingReader(Relation index, const MetaPage& meta, const PendingGeneration& generation) {
  PendingReader* reader = StartReader(index, generation, meta.FormatOf(generation), generation.row_bytes);
  // Before the first row fixed the dimensions there are no pages.
  const bool none = generation.id == 0 || meta.dimensions == 0;
  reader->end_group = none ? 0 : generation.group_count;
  return reader;
}

PendingReader* StartSampleReader(Relation index, const MetaPage& meta, const PendingGeneration& generation) {
  PendingReader* reader = StartReader(index, generation, {CodeKind::kFloat32, 32, meta.dimensions}, 0);
  reader->next_group = generation.group_count;
  reader->end_group = generation.chain_count();
  return reader;
}

bool NextPendingRow(PendingReader* reader, PendingRow* row) {
  for (;;) {
    if (reader->block == kNoBlock || reader->row == reader->page.special.used) {
      if (!NextPage(reader)) return false;
      continue;
    }
    std::memcpy(row, reader->page.payload + reader->layout.RowOffset(reader->row++), sizeof *row);
    if ((row->flags & PendingRow::kDead) == 0) return true;
  }
}

const std::byte* PendingRowCode(PendingReader* reader) {
  const PendingLayout& layout = reader->layout;
  const std::byte* code = reader->page.payload + layout.RowOffset(reader->row - 1) + sizeof(PendingRow);
  if (!layout.wide) return code;
  StreamRef ref;
  std::memcpy(&ref, code, sizeof ref);
  if (ref.bytes != layout.code_bytes) ThrowCorruptIndex(reader->index, reader->block, "a pending row has no code");
  TreeReader tree;
  TreeReaderInit(&tree, reader->index, reader->generation.id, ref);
  ReadStream(&tree, 0, layout.code_bytes, reader->wide);
  if (tree.inner != nullptr) pfree(tree.inner);
  return reader->wide;
}

const float* PendingRowFloats(PendingReader* reader) {
  RowToFloats(reader->format, PendingRowCode(reader), reader->values);
  return reader->values;
}

void EndPendingReader(PendingReader* reader) {
  if (reader->values != nullptr) pfree(reader->values);
  if (reader->wide != nullptr) pfree(reader->wide);
  pfree(reader);
}

uint64_t CountLivePendingRows(Relation index, const MetaPage& meta, const PendingGeneration& generation) {
  PendingReader* reader = StartPendingReader(index, meta, generation);
  uint64_t rows = 0;
  PendingRow row;
  while (NextPendingRow(reader, &row)) ++rows;
  EndPendingReader(reader);
  return rows;
}

}  // namespace ivfremote
