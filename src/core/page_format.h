// The bytes of the index's own pages, version 1, frozen; docs/format.md is the same in prose. A page is Postgres's page
// header (24 bytes), the payload, and the special area below. Everything here works on copies of the payload and the
// special area, so it is tested without a server; src/pg/page.h has the rest.
#pragma once

#include <string>
#include <vector>

#include "core/object_key.h"
#include "core/segment_format.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

inline constexpr size_t kPageBytes = 8192;
inline constexpr size_t kPageHeaderBytes = 24;

enum class PageKind : uint16_t {
  kMeta = 1,
  kTree = 2,              // inner page of a stream or tid map: TreeEntry x used
  kStream = 3,            // bytes of a routing, a directory, an embedded segment or a wide pending row
  kTidMap = 4,            // live bits
  kPendingDirectory = 5,  // PendingChain x groups
  kPending = 6,           // pending rows
};

struct PageSpecial {
  static constexpr uint32_t kMagic = 0x45524649;  // "IFRE"
  static constexpr uint16_t kVersion = 1;
  static constexpr uint16_t kDeleted = 1;  // flags: nothing live refers to it since retire_xid

  uint32_t magic;
  uint16_t version;
  uint16_t kind;
  uint16_t required_features;
  uint16_t flags;       // unknown ones are ignored
  uint32_t next;        // pending chain: the next block, or kNoBlock
  uint64_t owner;       // id of the generation, segment or routing version the page belongs to; 0: the meta page
  uint64_t retire_xid;  // when kDeleted: the next full transaction id at that time
  uint32_t position;    // leaf of a stream or map: its number; pending chain: grows along it; tree: level (1 above the leaves)
  uint32_t used;        // kMeta: bytes; kTree: entries; kStream: bytes; kTidMap: entries; kPending: rows
};
static_assert(sizeof(PageSpecial) == 40);
static_assert(offsetof(PageSpecial, kind) == 6 && offsetof(PageSpecial, required_features) == 8 &&
              offsetof(PageSpecial, next) == 12 && offsetof(PageSpecial, owner) == 16 &&
              offsetof(PageSpecial, retire_xid) == 24 && offsetof(PageSpecial, used) == 36);

inline constexpr size_t kPayloadBytes = kPageBytes - kPageHeaderBytes - sizeof(PageSpecial);  // 8128
static_assert(kPayloadBytes % 64 == 0);
inline constexpr uint32_t kNoBlock = 0xffffffff;

// Whether a page is the one a caller expects; everything read from an index goes through this. A deleted page is as good as
// before: who follows an older reference to it may read it.
Status CheckPage(const PageSpecial& special, PageKind kind, uint64_t owner);

// ---------------------------------------------------------------------------------------------------------------------
// Streams: byte sequences over pages, found through a tree whose inner pages hold TreeEntry arrays. depth 0: the root is
// the one leaf. Leaf i of a byte stream holds its bytes from i * kPayloadBytes on.

struct StreamRef {
  uint32_t root = kNoBlock;  // kNoBlock: empty
  uint32_t depth = 0;
  uint64_t bytes = 0;  // byte streams: length; tid maps: number of leaves
};
static_assert(sizeof(StreamRef) == 16 && offsetof(StreamRef, depth) == 4 && offsetof(StreamRef, bytes) == 8);

struct TreeEntry {
  uint32_t key;  // byte streams: number of the first leaf below; tid maps: its first heap block
  uint32_t block;
};
static_assert(sizeof(TreeEntry) == 8 && offsetof(TreeEntry, block) == 4);
inline constexpr size_t kTreeFanout = kPayloadBytes / sizeof(TreeEntry);

// ---------------------------------------------------------------------------------------------------------------------
// Meta page (block 0).

struct PendingGeneration {
  // Flags; unknown ones are ignored.
  static constexpr uint8_t kSampled = 1;  // the last chain of its directory is one more: some of its rows, as floats

  uint64_t id = 0;            // owner of its pages; 0: there is none
  uint32_t group_count = 0;   // chains
  uint32_t directory_depth = 0;
  uint32_t directory_root = kNoBlock;
  uint32_t list_count = 0;  // of the index when it began, which says how lists share chains; 0: untrained
  CodeKind code_kind = CodeKind::kFloat32;  // of its rows: what the index stores, or floats while it has no codes
  uint8_t flags = 0;
  uint8_t reserved0[2] = {};
  uint32_t row_bytes = 0;  // of a pending row with what a newer library appends to it; 0: nothing is appended
  int64_t began = 0;  // when its first row may have come: microseconds since 2000 in UTC; 0: not known

  bool sampled() const { return (flags & kSampled) != 0; }
  // Of its directory.
  uint32_t chain_count() const { return group_count + (sampled() ? 1 : 0); }
};
static_assert(sizeof(PendingGeneration) == 40 && offsetof(PendingGeneration, flags) == 25 &&
              offsetof(PendingGeneration, row_bytes) == 28 &&
              offsetof(PendingGeneration, began) == 32);
static_assert(offsetof(PendingGeneration, group_count) == 8 && offsetof(PendingGeneration, directory_root) == 16 &&
              offsetof(PendingGeneration, list_count) == 20 && offsetof(PendingGeneration, code_kind) == 24);

enum class SegmentPlace : uint16_t { kPages = 0, kObject = 1 };

struct SegmentEntry {
  // Flags. A reader refuses others of the low byte, and ignores others of the high one.
  static constexpr uint16_t kSpilled = 1;  // rows are in two lists each

  uint64_t id = 0;  // owner of its pages
  SegmentPlace place = SegmentPlace::kPages;
  uint16_t flags = 0;
  uint32_t list_count = 0;
  uint64_t rows = 0;
  uint64_t bytes = 0;  // logical
  uint64_t part_bytes = 0;
  SegmentName name{};
  StreamRef directory;
  StreamRef tid_map;
  StreamRef data;  // kPages: the segment itself
  uint8_t reserved[56] = {};
};
static_assert(sizeof(SegmentEntry) == 192);
static_assert(offsetof(SegmentEntry, place) == 8 && offsetof(SegmentEntry, list_count) == 12 &&
              offsetof(SegmentEntry, rows) == 16 && offsetof(SegmentEntry, part_bytes) == 32 &&
              offsetof(SegmentEntry, name) == 40 && offsetof(SegmentEntry, directory) == 88 &&
              offsetof(SegmentEntry, tid_map) == 104 && offsetof(SegmentEntry, data) == 120);

// Hints for the next sweep. While epoch and next id stand, each page belongs to something live or is marked as deleted.
struct SweepState {
  uint64_t epoch = 0;
  uint64_t next_id = 0;
  uint64_t oldest_xid = 0;      // smallest retire_xid of the pages below
  uint32_t waiting_pages = 0;  // deleted, and not yet offered for use
  uint32_t reserved = 0;
};
static_assert(sizeof(SweepState) == 32 && offsetof(SweepState, oldest_xid) == 16);

struct MetaPage {
  static constexpr uint32_t kMagic = 0x4d524649;  // "IFRM"
  static constexpr uint16_t kVersion = 1;
  static constexpr uint32_t kMaxSegments = 40;
  // Required features.
  static constexpr uint32_t kPendingGaps = 1;  // pages were taken out of pending chains
  static constexpr uint32_t kKnownFeatures = kPendingGaps;

  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t segment_count = 0;
  uint32_t required_features = 0;
  uint32_t ignorable_features = 0;
  uint32_t dimensions = 0;  // 0: not fixed yet
  Metric metric = Metric::kL2;
  CodeKind code_kind = CodeKind::kFloat32;
  uint8_t bits = 32;  // of a coded dimension; 0: automatic, until the dimensions are known
  uint8_t reserved0 = 0;
  uint64_t rotation_seed = 0;
  Uuid index_uuid{};
  uint64_t epoch = 0;    // grows with every change of what is live
  uint64_t next_id = 1;  // owners below this have been given out
  PendingGeneration current;
  PendingGeneration sealed;
  uint64_t routing_id = 0;  // routing version; 0: untrained
  StreamRef routing;
  uint32_t list_count = 0;
  uint32_t requested_lists = 0;  // 0: automatic
  char server[64] = {};          // the server's name when the index was built; empty: embedded
  StreamRef recall_curve;
  // Features that who only reads the index need not know, but who changes it must: VACUUM and INSERT too.
  uint32_t write_features = 0;
  uint32_t reserved1 = 0;
  uint64_t recall_curve_id = 0;  // owner of the curve's pages; 0: the routing version
  int64_t last_flush = 0;        // when a flush made a segment: microseconds since 2000 in UTC; 0: never
  uint8_t reserved2[64] = {};
  SweepState swept;
  SegmentEntry segments[kMaxSegments];

  bool trained() const { return routing_id != 0; }
  uint64_t curve_owner() const { return recall_curve_id != 0 ? recall_curve_id : routing_id; }
  // Of segments.
  CodeFormat format() const { return {code_kind, bits, dimensions}; }
  // Of pending rows while the index is untrained: as they are.
  CodeKind raw_kind() const { return code_kind == CodeKind::kBits ? CodeKind::kBits : CodeKind::kFloat32; }
  // Of a generation's pending rows.
  CodeFormat FormatOf(const PendingGeneration& generation) const {
    return generation.code_kind == CodeKind::kFloat32 ? CodeFormat{CodeKind::kFloat32, 32, dimensions} : format();
  }
};
static_assert(sizeof(MetaPage) <= kPayloadBytes);
static_assert(offsetof(MetaPage, dimensions) == 16 && offsetof(MetaPage, rotation_seed) == 24 &&
              offsetof(MetaPage, index_uuid) == 32 && offsetof(MetaPage, epoch) == 48 &&
              offsetof(MetaPage, current) == 64 && offsetof(MetaPage, sealed) == 104 &&
              offsetof(MetaPage, routing_id) == 144 && offsetof(MetaPage, routing) == 152 &&
              offsetof(MetaPage, list_count) == 168 && offsetof(MetaPage, server) == 176 &&
              offsetof(MetaPage, recall_curve) == 240 && offsetof(MetaPage, write_features) == 256 &&
              offsetof(MetaPage, recall_curve_id) == 264 && offsetof(MetaPage, last_flush) == 272 &&
              offsetof(MetaPage, swept) == 344 && offsetof(MetaPage, segments) == 376);

// `payload` of a meta page to a checked copy.
Status DecodeMetaPage(Bytes payload, MetaPage* meta);

// Whether pages of this owner are live.
bool IsLive(const MetaPage& meta, uint64_t owner);

// Whether this library may change the index, which it can read.
Status CheckWritable(const MetaPage& meta);

// ---------------------------------------------------------------------------------------------------------------------
// Tid map leaves: live bits of a segment's TIDs, for a run of heap blocks. Entries grow from the front of the payload,
// their bitmaps from its end downwards; bit i of a bitmap is offset i + 1. A page that lacks a TID counts it as dead.

class TidMapBuilder {
 public:
  TidMapBuilder();

  // Blocks must not decrease. Says when a page has become full; take it with TakePage() before going on.
  Status Add(Tid tid, bool* page_full);
  // Ends the map: true if there is a last page to take.
  bool Finish();

  struct Page {
    uint32_t first_block = 0;
    uint32_t entries = 0;
    std::vector<std::byte> payload;
  };
  Page TakePage();

 private:
  bool CloseBlock();
  void StartPage();

  bool has_block_ = false;
  uint32_t block_ = 0;
  std::vector<uint8_t> bitmap_;  // of block_
  Page page_;                    // being filled
  Page full_;
  size_t bitmaps_start_ = 0;
};

// Checks a leaf once after it was read.
Status CheckTidMapPage(Bytes payload, uint32_t entries);
bool TidMapContains(Bytes payload, uint32_t entries, Tid tid);

// The same for a page that has not been checked whole, only its number of entries (CheckPage): what is looked at is.
enum class TidMapAnswer { kDead, kLive, kCorrupt };
TidMapAnswer FindInTidMap(Bytes payload, uint32_t entries, Tid tid);

// Calls visit(tid) for every live TID; where it returns true the bit is cleared. `payload` is checked before. Returns
// how many were cleared.
template <typename Visit>
uint32_t VisitTidMap(MutableBytes payload, uint32_t entries, Visit visit);

// ---------------------------------------------------------------------------------------------------------------------
// Pending rows. A row is a PendingRow and its code: in place where both fit a page, else in a stream of its own.

struct PendingChain {
  uint32_t head = kNoBlock;
  uint32_t tail = kNoBlock;
  uint64_t rows = 0;  // in its pages, dead ones included
};
static_assert(sizeof(PendingChain) == 16);
inline constexpr size_t kChainsPerPage = kPayloadBytes / sizeof(PendingChain);
inline constexpr uint32_t kMaxPendingGroups = 1000;

struct PendingRow {
  static constexpr uint8_t kDead = 1;

  uint32_t tid_block;
  uint16_t tid_offset;
  uint8_t flags;
  uint8_t reserved;
  uint32_t list;
  uint32_t centroid;  // the list whose centroid the code refers to
};
static_assert(sizeof(PendingRow) == 16);
static_assert(offsetof(PendingRow, flags) == 6 && offsetof(PendingRow, list) == 8 &&
              offsetof(PendingRow, centroid) == 12);
static_assert(offsetof(PendingChain, tail) == 4 && offsetof(PendingChain, rows) == 8);

// The chain of a list's rows. Lists that are younger than the generation share the last.
inline uint32_t PendingGroupOf(uint32_t list, const PendingGeneration& generation) {
  if (generation.list_count == 0) return 0;
  list = list < generation.list_count ? list : generation.list_count - 1;
  return static_cast<uint32_t>(uint64_t{list} * generation.group_count / generation.list_count);
}

struct PendingLayout {
  uint32_t code_bytes;
  bool wide;  // the code is in a stream; the row holds its StreamRef
  uint32_t row_bytes;
  uint32_t rows_per_page;

  uint32_t RowOffset(uint32_t i) const { return i * row_bytes; }
};
// `row_bytes`: the generation's.
PendingLayout PendingLayoutFor(const CodeFormat& format, uint32_t row_bytes = 0);

// Whether a page may come next in its chain, and its rows fit. `*position`: the least it may have, from 0, and after it the least of
// the next: positions grow, so a damaged chain can't have a loop.
Status CheckPendingPage(const PendingLayout& layout, const PageSpecial& special, uint32_t* position);

// ---------------------------------------------------------------------------------------------------------------------

// Positions of a tid map leaf; used by VisitTidMap.
struct TidMapEntry {
  uint16_t block_delta;  // from the page's first block
  uint16_t position;     // of the bitmap in the payload; it ends where the entry before starts, or at the payload's end
};
static_assert(sizeof(TidMapEntry) == 4 && offsetof(TidMapEntry, position) == 2);

struct TidMapHeader {
  uint32_t first_block;
  uint32_t reserved;
};
static_assert(sizeof(TidMapHeader) == 8);

template <typename Visit>
uint32_t VisitTidMap(MutableBytes payload, uint32_t entries, Visit visit) {
  const auto* header = reinterpret_cast<const TidMapHeader*>(payload.data());
  const auto* entry = reinterpret_cast<const TidMapEntry*>(payload.data() + sizeof(TidMapHeader));
  uint32_t cleared = 0;
  size_t end = payload.size();
  for (uint32_t i = 0; i < entries; end = entry[i].position, ++i) {
    for (size_t at = entry[i].position; at < end; ++at) {
      auto bits = static_cast<uint8_t>(payload[at]);
      for (int bit = 0; bit < 8; ++bit) {
        if ((bits & 1 << bit) == 0) continue;
        const auto offset = static_cast<uint16_t>((at - entry[i].position) * 8 + static_cast<size_t>(bit) + 1);
        if (visit(Tid{header->first_block + entry[i].block_delta, offset})) {
          bits = static_cast<uint8_t>(bits & ~(1 << bit));
          ++cleared;
        }
      }
      // Written only where it changed: a page that stays as it is must not look dirty.
      if (static_cast<uint8_t>(payload[at]) != bits) payload[at] = std::byte{bits};
    }
  }
  return cleared;
}

}  // namespace ivfremote
