// The pending rows that a wave looks at.
#include <cstring>

#include "pg/pending.h"
#include "pg/search_index.h"
#include "pg/test_point.h"

namespace ivfremote {
namespace {

// Whether only rows of these lists count. Untrained indexes have none: null.
bool Restricts(const ProbedLists* lists) { return lists != nullptr && lists != &kAllRows; }

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

}  // namespace

void AddPendingRows(IndexSearch* search, const PendingGeneration& generation, const ProbedLists* lists) {
  const MetaPage& meta = *search->meta;
  if (generation.id == 0) return;
  if (generation.list_count == 0 && Restricts(lists)) {
    // Its rows were not given lists: all are of the first wave.
    if (search->waves > 0) return;
    lists = nullptr;
  }
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

}  // namespace ivfremote
