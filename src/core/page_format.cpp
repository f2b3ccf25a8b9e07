#include "core/page_format.h"

#include <algorithm>
#include <cstring>

#include "core/format_version.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

// The most offsets a heap page of 8 kB can hold, in whole bytes; more than MaxHeapTuplesPerPage (291) needs.
constexpr size_t kMaxBitmapBytes = 256;
constexpr uint16_t kRequiredSegmentFlags = 0x00ff;

const TidMapHeader* HeaderOf(Bytes payload) { return reinterpret_cast<const TidMapHeader*>(payload.data()); }
const TidMapEntry* EntriesOf(Bytes payload) {
  return reinterpret_cast<const TidMapEntry*>(payload.data() + sizeof(TidMapHeader));
}

Status CheckStreamRef(const StreamRef& ref) {
  if (ref.root == kNoBlock ? ref.bytes != 0 || ref.depth != 0 : ref.bytes == 0 || ref.depth > 4)
    return Status::Corrupt("metapage has an impossible reference to a stream");
  return Status::Ok();
}

Status CheckGeneration(const PendingGeneration& generation, const MetaPage& meta) {
  if (generation.id == 0) return Status::Ok();
  if (generation.id >= meta.next_id || generation.list_count > kMaxLists || generation.group_count == 0 ||
      generation.group_count > std::min(kMaxPendingGroups, std::max(generation.list_count, 1u)) ||
      generation.directory_root == kNoBlock || generation.directory_depth > 1 ||
      generation.row_bytes % alignof(PendingRow) != 0 || generation.row_bytes > kPayloadBytes ||
      (generation.code_kind != meta.raw_kind() && (generation.code_kind != meta.code_kind || !meta.trained())))
    return Status::Corrupt("metapage has an impossible pending generation");
  return Status::Ok();
}

Status CheckSegment(const SegmentEntry& segment, const MetaPage& meta) {
  if ((segment.flags & kRequiredSegmentFlags & ~SegmentEntry::kSpilled) != 0)
    return Status::Unsupported("metapage has segments of a kind this library does not know");
  if (static_cast<uint16_t>(segment.place) > static_cast<uint16_t>(SegmentPlace::kObject))
    return Status::Unsupported("metapage has segments in a place this library does not know");
  if (segment.id == 0 || segment.id >= meta.next_id || segment.list_count == 0 || segment.list_count > kMaxLists ||
      (segment.place == SegmentPlace::kPages && segment.data.bytes != segment.bytes) ||
      segment.directory.bytes < DirectoryHeader{segment.list_count}.EncodedBytes() ||
      (segment.rows > 0 && segment.tid_map.root == kNoBlock))
    return Status::Corrupt("metapage has an impossible segment");
  IVFREMOTE_RETURN_IF_ERROR(CheckStreamRef(segment.directory));
  IVFREMOTE_RETURN_IF_ERROR(CheckStreamRef(segment.tid_map));
  return CheckStreamRef(segment.data);
}

// Whatever has pages of its own has an id of its own; and an object belongs to one segment.
Status CheckIdentities(const MetaPage& meta) {
  std::vector<uint64_t> ids;
  for (uint64_t id : {meta.current.id, meta.sealed.id, meta.routing_id, meta.recall_curve_id})
    if (id != 0) ids.push_back(id);
  std::vector<SegmentName> names;
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    ids.push_back(meta.segments[i].id);
    if (meta.segments[i].place != SegmentPlace::kObject) continue;
    if (std::find(names.begin(), names.end(), meta.segments[i].name) != names.end())
      return Status::Corrupt("metapage has two segments of one name");
    names.push_back(meta.segments[i].name);
  }
  std::sort(ids.begin(), ids.end());
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end())
    return Status::Corrupt("metapage has the same id twice");
  return Status::Ok();
}

// An index without lists has pending rows and nothing else.
Status CheckTraining(const MetaPage& meta) {
  const bool possible =
      meta.trained() ? meta.list_count > 0 && meta.dimensions > 0 && meta.routing_id < meta.next_id &&
                           meta.routing.root != kNoBlock && meta.recall_curve_id < meta.next_id
                     : meta.list_count == 0 && meta.routing.root == kNoBlock && meta.recall_curve_id == 0 &&
                           meta.recall_curve.root == kNoBlock && meta.segment_count == 0;
  return possible ? Status::Ok() : Status::Corrupt("metapage has impossible lists");
}

}  // namespace

Status CheckPage(const PageSpecial& special, PageKind kind, uint64_t owner) {
  if (special.magic != PageSpecial::kMagic) return Status::Corrupt("page is not one of ivfremote's");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("page", special.version, PageSpecial::kVersion));
  if (special.required_features != 0) return Status::Unsupported("page uses features this library does not know");
  if (special.kind != static_cast<uint16_t>(kind))
    return Status::Corrupt("page is of kind " + std::to_string(special.kind) + ", not " +
                           std::to_string(static_cast<uint16_t>(kind)));
  if (special.owner != owner)
    return Status::Corrupt("page belongs to " + std::to_string(special.owner) + ", not to " + std::to_string(owner));
  size_t limit = 0;
  switch (kind) {
    case PageKind::kMeta:
    case PageKind::kStream:
    case PageKind::kPending:
      limit = kPayloadBytes;
      break;
    case PageKind::kPendingDirectory:
      limit = kChainsPerPage;
      break;
    case PageKind::kTree:
      limit = kTreeFanout;
      break;
    case PageKind::kTidMap:
      limit = (kPayloadBytes - sizeof(TidMapHeader)) / sizeof(TidMapEntry);
      break;
  }
  if (special.used > limit) return Status::Corrupt("page claims more content than fits");
  return Status::Ok();
}

Status DecodeMetaPage(Bytes payload, MetaPage* meta) {
  if (payload.size() < sizeof(MetaPage)) return Status::Corrupt("metapage is cut off");
  std::memcpy(static_cast<void*>(meta), payload.data(), sizeof(MetaPage));
  if (meta->magic != MetaPage::kMagic) return Status::Corrupt("metapage has the wrong magic number");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("metapage", meta->version, MetaPage::kVersion));
  if ((meta->required_features & ~MetaPage::kKnownFeatures) != 0)
    return Status::Unsupported("metapage uses features this library does not know");
  const bool undecided = meta->code_kind == CodeKind::kRabitq && meta->bits == 0 && !meta->trained();
  if (!IsKnownMetric(static_cast<uint8_t>(meta->metric)) ||
      (!undecided && !IsKnownCode(static_cast<uint8_t>(meta->code_kind), meta->bits)))
    return Status::Unsupported("metapage has distances or codes this library does not know");
  if (meta->dimensions > MaxDimensions(meta->metric) || !IsKindOf(meta->code_kind, meta->metric) ||
      meta->segment_count > MetaPage::kMaxSegments ||
      meta->list_count > kMaxLists || meta->requested_lists > kMaxLists ||
      std::memchr(meta->server, 0, sizeof meta->server) == nullptr)
    return Status::Corrupt("metapage has impossible fields");
  IVFREMOTE_RETURN_IF_ERROR(CheckStreamRef(meta->routing));
  IVFREMOTE_RETURN_IF_ERROR(CheckStreamRef(meta->recall_curve));
  IVFREMOTE_RETURN_IF_ERROR(CheckGeneration(meta->current, *meta));
  IVFREMOTE_RETURN_IF_ERROR(CheckGeneration(meta->sealed, *meta));
  for (uint32_t i = 0; i < meta->segment_count; ++i) IVFREMOTE_RETURN_IF_ERROR(CheckSegment(meta->segments[i], *meta));
  IVFREMOTE_RETURN_IF_ERROR(CheckTraining(*meta));
  return CheckIdentities(*meta);
}

bool IsLive(const MetaPage& meta, uint64_t owner) {
  if (owner == 0) return false;
  for (uint64_t id : {meta.current.id, meta.sealed.id, meta.routing_id, meta.recall_curve_id})
    if (id == owner) return true;
  for (uint32_t i = 0; i < meta.segment_count; ++i)
    if (meta.segments[i].id == owner) return true;
  return false;
}

Status CheckWritable(const MetaPage& meta) {
  if (meta.write_features == 0) return Status::Ok();
  return Status::Unsupported("changing it takes features this library does not know");
}

TidMapBuilder::TidMapBuilder() { StartPage(); }

void TidMapBuilder::StartPage() {
  page_ = Page();
  page_.payload.resize(kPayloadBytes);
  bitmaps_start_ = kPayloadBytes;
}

Status TidMapBuilder::Add(Tid tid, bool* page_full) {
  *page_full = false;
  // Whoever scans the table decides these, so they are checked, not asserted.
  if ((has_block_ && tid.block < block_) || tid.offset == 0 || tid.offset > kMaxBitmapBytes * 8)
    return Status::Internal("row at block " + std::to_string(tid.block) + " offset " + std::to_string(tid.offset) +
                            " does not fit the tid map");
  if (has_block_ && tid.block != block_) *page_full = CloseBlock();
  has_block_ = true;
  block_ = tid.block;
  const size_t bit = tid.offset - 1u;
  if (bitmap_.size() <= bit / 8) bitmap_.resize(bit / 8 + 1);
  bitmap_[bit / 8] = static_cast<uint8_t>(bitmap_[bit / 8] | 1 << bit % 8);
  return Status::Ok();
}

// Moves the bitmap of the current block into the page, starting another page where it does not fit.
bool TidMapBuilder::CloseBlock() {
  bool full = false;
  const size_t entries_end = sizeof(TidMapHeader) + (page_.entries + 1) * sizeof(TidMapEntry);
  if (page_.entries > 0 &&
      (entries_end + bitmap_.size() > bitmaps_start_ || block_ - page_.first_block > UINT16_MAX)) {
    full_ = std::move(page_);
    StartPage();
    full = true;
  }
  if (page_.entries == 0) {
    page_.first_block = block_;
    Store(page_.payload.data(), TidMapHeader{block_, 0});
  }
  bitmaps_start_ -= bitmap_.size();
  std::memcpy(page_.payload.data() + bitmaps_start_, bitmap_.data(), bitmap_.size());
  Store(page_.payload.data() + sizeof(TidMapHeader) + page_.entries * sizeof(TidMapEntry),
        TidMapEntry{static_cast<uint16_t>(block_ - page_.first_block), static_cast<uint16_t>(bitmaps_start_)});
  ++page_.entries;
  bitmap_.clear();
  return full;
}

bool TidMapBuilder::Finish() {
  if (!has_block_) return false;
  // Closing the last block may fill a page, which comes first; the last page comes at the next call.
  if (!bitmap_.empty() && CloseBlock()) return true;
  if (page_.entries == 0) return false;
  full_ = std::move(page_);
  StartPage();
  return true;
}

TidMapBuilder::Page TidMapBuilder::TakePage() { return std::move(full_); }

Status CheckTidMapPage(Bytes payload, uint32_t entries) {
  const size_t entries_end = sizeof(TidMapHeader) + entries * sizeof(TidMapEntry);
  if (payload.size() != kPayloadBytes || entries_end > payload.size())
    return Status::Corrupt("tid map page is cut off");
  const TidMapEntry* entry = EntriesOf(payload);
  size_t end = payload.size();
  for (uint32_t i = 0; i < entries; end = entry[i].position, ++i) {
    if (entry[i].position < entries_end || entry[i].position >= end || end - entry[i].position > kMaxBitmapBytes ||
        (i > 0 && entry[i].block_delta <= entry[i - 1].block_delta) ||
        uint64_t{HeaderOf(payload)->first_block} + entry[i].block_delta >= kNoBlock)
      return Status::Corrupt("tid map page has an impossible entry");
  }
  return Status::Ok();
}

TidMapAnswer FindInTidMap(Bytes payload, uint32_t entries, Tid tid) {
  const TidMapEntry* first = EntriesOf(payload);
  const uint32_t first_block = HeaderOf(payload)->first_block;
  if (tid.block < first_block || tid.offset == 0) return TidMapAnswer::kDead;
  const TidMapEntry* entry = std::lower_bound(
      first, first + entries, tid.block - first_block,
      [](const TidMapEntry& e, uint32_t delta) { return e.block_delta < delta; });
  if (entry == first + entries || entry->block_delta != tid.block - first_block) return TidMapAnswer::kDead;
  const size_t end = entry == first ? payload.size() : entry[-1].position;
  if (entry->position < sizeof(TidMapHeader) + entries * sizeof(TidMapEntry) || end > payload.size() ||
      entry->position >= end)
    return TidMapAnswer::kCorrupt;
  const size_t bit = tid.offset - 1u;
  const size_t at = entry->position + bit / 8;
  const bool live = at < end && (static_cast<uint8_t>(payload[at]) & 1 << bit % 8) != 0;
  return live ? TidMapAnswer::kLive : TidMapAnswer::kDead;
}

bool TidMapContains(Bytes payload, uint32_t entries, Tid tid) {
  return FindInTidMap(payload, entries, tid) == TidMapAnswer::kLive;
}

PendingLayout PendingLayoutFor(const CodeFormat& format, uint32_t row_bytes) {
  PendingLayout layout;
  layout.code_bytes = static_cast<uint32_t>(format.RowBytes());
  layout.wide = sizeof(PendingRow) + layout.code_bytes > kPayloadBytes;
  // Rows are looked at where they lie.
  const uint64_t needed = sizeof(PendingRow) + (layout.wide ? sizeof(StreamRef) : layout.code_bytes);
  layout.row_bytes = std::max(static_cast<uint32_t>(AlignUp(needed, alignof(PendingRow))), row_bytes);
  layout.rows_per_page = static_cast<uint32_t>(kPayloadBytes / layout.row_bytes);
  return layout;
}

Status CheckPendingPage(const PendingLayout& layout, const PageSpecial& special, uint32_t* position) {
  if (special.position < *position || special.position == UINT32_MAX)
    return Status::Corrupt("page of a pending chain is out of place");
  if (special.used > layout.rows_per_page) return Status::Corrupt("pending page claims more rows than fit");
  *position = special.position + 1;
  return Status::Ok();
}

}  // namespace ivfremote
