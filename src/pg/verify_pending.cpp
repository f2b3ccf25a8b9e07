// Pending rows as ivfremote_verify() sees them. The current generation grows meanwhile, and bulk delete takes dead pages out of
// chains, so what a chain should be is known only where it was the same before and after it was walked.
#include <algorithm>
#include <cstring>

#include "pg/verify.h"

namespace ivfremote {
namespace {

struct Generation {
  const PendingGeneration* generation;
  const char* part;
  PendingLayout layout;
  PendingChain* chains;     // [chain_count], as the directory had them
  BlockNumber* directory;   // [chain_count]: the page of the directory; kNoBlock: it can't be read
};

void TakeChains(Verify* verify, void* argument, BlockNumber block, uint32_t number, const PageCopy& page) {
  auto* state = static_cast<Generation*>(argument);
  const uint32_t groups = state->generation->chain_count();
  const uint64_t first = uint64_t{number} * kChainsPerPage;
  const uint32_t expected = first >= groups ? 0 : std::min<uint32_t>(groups - static_cast<uint32_t>(first), kChainsPerPage);
  if (page.special.used != expected) {
    Report(verify, {state->part, block}, "pending directory page has %u chains instead of %u", page.special.used, expected);
    return;
  }
  std::memcpy(state->chains + first, page.payload, expected * sizeof(PendingChain));
  std::fill(state->directory + first, state->directory + first + expected, block);
}

// The chain as the directory has it now.
bool ReadChain(Verify* verify, const Generation& state, uint32_t group, PendingChain* chain) {
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  const bool read =
      LookAgain(verify, state.directory[group], PageKind::kPendingDirectory, state.generation->id, page);
  std::memcpy(chain, page->payload + group % kChainsPerPage * sizeof *chain, sizeof *chain);
  pfree(page);
  return read;
}

void VerifyRow(Verify* verify, const Generation& state, BlockNumber block, uint32_t group, uint32_t number,
               const std::byte* at) {
  const MetaPage& meta = *verify->meta;
  PendingRow row;
  std::memcpy(&row, at, sizeof row);
  if ((row.flags & PendingRow::kDead) != 0) return;
  const Tid tid{row.tid_block, row.tid_offset};
  const Spot spot{state.part, block, nullptr, tid};
  if (tid.block == InvalidBlockNumber || tid.offset == 0 || tid.offset > MaxOffsetNumber) {
    Report(verify, {state.part, block}, "pending row %u has an impossible TID", number);
    return;
  }
  // A row of the sample is there twice, and may be dead.
  const bool of_sample = group == state.generation->group_count;
  if (!of_sample) PutPendingRow(verify, block, number, tid);
  const uint32_t lists = state.generation->list_count == 0 ? 1 : meta.list_count;
  if (!of_sample && (row.list >= lists || row.centroid >= lists || PendingGroupOf(row.list, *state.generation) != group))
    Report(verify, spot, "pending row is of list %u and centroid %u, in the chain of group %u", row.list, row.centroid, group);
  if (!state.layout.wide) return;
  StreamRef ref;
  std::memcpy(&ref, at + sizeof row, sizeof ref);
  if (ref.bytes != state.layout.code_bytes || ref.depth > 4)
    Report(verify, spot, "pending row has no code");
  else
    WalkStream(verify, {state.part, state.generation->id, ref, PageKind::kStream, nullptr, nullptr});
}

void VerifyChain(Verify* verify, const Generation& state, uint32_t group) {
  const PendingChain before = state.chains[group];
  auto* page = static_cast<PageCopy*>(palloc(sizeof(PageCopy)));
  uint64_t rows = 0;
  bool tail_reached = before.tail == kNoBlock;
  BlockNumber block = before.head;
  uint32_t position = 0;
  while (block != kNoBlock) {
    if (!ReachPage(verify, state.part, block, PageKind::kPending, state.generation->id, page)) break;
    const CoreError error = RunCore([&] { return CheckPendingPage(state.layout, page->special, &position); });
    if (error.sqlstate != 0) {
      Report(verify, {state.part, block}, "%s", error.message);
      break;
    }
    for (uint32_t i = 0; i < page->special.used; ++i)
      VerifyRow(verify, state, block, group, i, page->payload + state.layout.RowOffset(i));
    rows += page->special.used;
    tail_reached |= block == before.tail;
    block = page->special.next;
  }
  pfree(page);
  if (block != kNoBlock) return;  // reported
  PendingChain after;
  if (!ReadChain(verify, state, group, &after)) return;
  // A tail of before that is none any more may have been taken out.
  if (!tail_reached && after.tail == before.tail)
    Report(verify, {state.part, state.directory[group]}, "chain of group %u does not reach its last page, %u", group, before.tail);
  const bool unchanged = after.head == before.head && after.tail == before.tail && after.rows == before.rows;
  if (unchanged && rows != after.rows)
    Report(verify, {state.part, state.directory[group]},
           "chain of group %u has " UINT64_FORMAT " rows instead of " UINT64_FORMAT, group, rows, after.rows);
}

}  // namespace

void VerifyPending(Verify* verify, const PendingGeneration& generation, const char* part) {
  if (generation.id == 0) return;
  Generation state{&generation, part, {}, nullptr, nullptr};
  state.chains = static_cast<PendingChain*>(palloc(generation.chain_count() * sizeof(PendingChain)));
  state.directory = static_cast<BlockNumber*>(palloc(generation.chain_count() * sizeof(BlockNumber)));
  std::fill(state.directory, state.directory + generation.chain_count(), kNoBlock);
  StreamRef directory;
  directory.root = generation.directory_root;
  directory.depth = generation.directory_depth;
  directory.bytes = (generation.chain_count() + kChainsPerPage - 1) / kChainsPerPage;
  WalkStream(verify, {part, generation.id, directory, PageKind::kPendingDirectory, TakeChains, &state});
  if (verify->meta->dimensions != 0) {
    state.layout = PendingLayoutFor(verify->meta->FormatOf(generation), generation.row_bytes);
    for (uint32_t group = 0; group < generation.group_count; ++group)
      if (state.directory[group] != kNoBlock) VerifyChain(verify, state, group);
    state.layout = PendingLayoutFor({CodeKind::kFloat32, 32, verify->meta->dimensions});
    if (generation.sampled() && state.directory[generation.group_count] != kNoBlock)
      VerifyChain(verify, state, generation.group_count);
  }
  pfree(state.chains);
  pfree(state.directory);
}

}  // namespace ivfremote
