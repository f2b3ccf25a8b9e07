// The bytes of a segment, version 1, frozen; docs/format.md is the same in prose.
//
//   header (128) | blocks, each starting at a multiple of 64 | routing | directory | sample rows | trailer (128)
//
// Offsets are logical. Where `part_bytes` is not 0, part i of the segment holds the logical bytes from i * part_bytes
// on. No block crosses from one part into the next, nor the trailer: what would is moved to the start of the next part.
// Routing, directory and sample rows, which may be longer than a part, go on in it.
//
// Encoders assert (a mistake is our bug); decoders return kCorrupt or kUnsupported (the bytes are theirs).
#pragma once

#include <string>
#include <vector>

#include "core/code_format.h"
#include "core/code_scorer.h"
#include "core/object_key.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

inline constexpr uint16_t kSegmentVersion = 1;
inline constexpr uint32_t kSegmentRequiredFeatures = 0;  // those this library knows
inline constexpr uint64_t kBlockAlignment = 64;
inline constexpr uint32_t kMaxBlockRows = 4096;
inline constexpr uint32_t kFullBlockBytes = 4 << 20;  // a block ends at the first row that fills this
inline constexpr uint32_t kMaxBlockBytes = 8 << 20;   // with that row, TIDs and filter columns
inline constexpr uint64_t kDefaultPartBytes = uint64_t{1} << 30;
inline constexpr uint32_t kTidBytes = 6;

// Where `item_bytes` may start at or after `offset` without crossing a part boundary. `item_bytes` <= part_bytes.
inline uint64_t PlaceInPart(uint64_t offset, uint64_t item_bytes, uint64_t part_bytes) {
  if (part_bytes == 0 || offset % part_bytes + item_bytes <= part_bytes) return offset;
  return (offset / part_bytes + 1) * part_bytes;
}

void StoreTid(std::byte* to, Tid tid);
Tid LoadTid(const std::byte* from);

struct SegmentHeader {
  static constexpr size_t kBytes = 128;

  uint16_t version = kSegmentVersion;
  uint32_t required_features = 0;
  uint32_t ignorable_features = 0;
  uint32_t dimensions = 0;
  Metric metric = Metric::kL2;
  CodeKind code_kind = CodeKind::kFloat32;
  uint8_t bits = 32;
  uint32_t list_count = 0;  // list numbers are below this
  SegmentName name{};
  uint64_t part_bytes = 0;
  uint64_t rotation_seed = 0;  // of the codes

  CodeFormat format() const { return {code_kind, bits, dimensions}; }
};

std::vector<std::byte> EncodeSegmentHeader(const SegmentHeader& header);
Status DecodeSegmentHeader(Bytes bytes, SegmentHeader* header);

// One block in the directory. Plain data, stored as it stands.
struct BlockEntry {
  uint64_t offset;
  uint32_t length;
  uint32_t rows;
  uint32_t crc;       // crc32c of exactly `length` bytes from `offset`
  uint32_t list;      // the routing list the rows belong to
  uint32_t centroid;  // the list whose centroid the codes refer to
  uint32_t reserved;
};
static_assert(sizeof(BlockEntry) == 32);

// Where a list's blocks are among the directory's block entries.
struct ListEntry {
  uint32_t first_block;
  uint32_t block_count;
};
static_assert(sizeof(ListEntry) == 8);

// The directory is read in place, entry by entry, from pages or from the segment:
// header (64) | ListEntry x list_count | BlockEntry x block_count | statistics, if any.
struct DirectoryHeader {
  static constexpr size_t kBytes = 64;

  uint32_t list_count = 0;
  uint32_t block_count = 0;
  uint32_t statistics_bytes = 0;  // after the block entries; for filter columns, which this library does not know

  uint64_t ListEntryOffset(uint32_t list) const { return kBytes + uint64_t{list} * sizeof(ListEntry); }
  uint64_t BlockEntryOffset(uint32_t block) const {
    return ListEntryOffset(list_count) + uint64_t{block} * sizeof(BlockEntry);
  }
  uint64_t EncodedBytes() const { return BlockEntryOffset(block_count) + statistics_bytes; }
};

Status DecodeDirectoryHeader(Bytes bytes, DirectoryHeader* header);

// Whether an entry read from a directory can be used: ranges, row counts and list numbers are sane.
Status CheckBlockEntry(const BlockEntry& entry, uint32_t list, uint64_t segment_bytes);

struct Directory {
  std::vector<ListEntry> lists;
  std::vector<BlockEntry> blocks;
};

std::vector<std::byte> EncodeDirectory(const Directory& directory);
Status DecodeDirectory(Bytes bytes, uint64_t segment_bytes, Directory* directory);

// A run of bytes of a segment that is no block.
struct SegmentSection {
  uint64_t offset = 0;
  uint64_t bytes = 0;  // 0: there is none
  uint32_t crc = 0;    // crc32c of them

  friend bool operator==(const SegmentSection&, const SegmentSection&) = default;
};

struct SegmentTrailer {
  static constexpr size_t kBytes = 128;

  uint32_t required_features = 0;
  uint32_t ignorable_features = 0;
  SegmentSection routing;
  SegmentSection directory;
  SegmentSection sample;  // there may be none
  uint64_t rows = 0;    // each counted once
  uint64_t copies = 0;  // in blocks: rows of a spilled segment may be in two lists
};

std::vector<std::byte> EncodeSegmentTrailer(const SegmentTrailer& trailer);
// `segment_bytes` is the logical end of the segment, the trailer included.
Status DecodeSegmentTrailer(Bytes bytes, uint64_t segment_bytes, SegmentTrailer* trailer);

// Rows of the table as they were when they were drawn: what the recall curve is found with again, when rows are codes.
struct SampleRows {
  uint32_t dimensions = 0;
  std::vector<Tid> tids;
  std::vector<float> rows;  // [tids x dimensions], as the user gave them
};

std::vector<std::byte> EncodeSampleRows(const SampleRows& sample);
// `bytes` are the section's; checks its checksum.
Status DecodeSampleRows(Bytes bytes, const SegmentSection& section, SampleRows* sample);

// What coded rows take in a block, the TIDs apart: a [rows] | s [rows] | e [rows] | codes in groups (code.h).
inline size_t CodedRowsBytes(const CodeFormat& format, uint32_t rows) {
  return rows * sizeof(CodeFactors) + GroupedBytes(format.padded(), format.bits, rows);
}
// Lays out `count` rows (RowBytes each, one after the other) so; `to` is aligned for float.
void PutCodedRows(const CodeFormat& format, const std::byte* rows, uint32_t count, std::byte* to);
CodedRows ViewCodedRows(const std::byte* from, uint32_t count);
// Row `row` of them by itself, format.RowBytes().
void TakeCodedRow(const CodeFormat& format, const CodedRows& rows, uint32_t row, std::byte* to);

// Collects the rows of one block:
//   float32, bits: header (64) | rows, row-major | TIDs, 6 bytes each | zeros up to a multiple of 64
//   RaBitQ:        header (64) | coded rows | TIDs | zeros
class BlockBuilder {
 public:
  explicit BlockBuilder(const CodeFormat& format) : format_(format) {}

  // `row` is CodeFormat::RowBytes() long.
  void Add(Tid tid, const std::byte* row);
  bool empty() const { return tids_.empty(); }
  uint32_t rows() const { return static_cast<uint32_t>(tids_.size()); }
  // Whether the next row belongs into another block.
  bool full() const;
  // Returns the block's bytes and forgets its rows.
  std::vector<std::byte> Finish(uint32_t list, uint32_t centroid);

 private:
  CodeFormat format_;
  std::vector<std::byte> rows_;
  std::vector<Tid> tids_;
};

// A decoded block: a view of its bytes.
class BlockView {
 public:
  uint32_t rows() const { return rows_; }
  // Bits only: CodeFormat::RowBytes() each, one after the other.
  const std::byte* bits() const { return rows_at_; }
  // Float32 only.
  const float* row(uint32_t i) const { return reinterpret_cast<const float*>(rows_at_) + size_t{i} * dimensions_; }
  // RaBitQ only.
  CodedRows coded() const { return ViewCodedRows(rows_at_, rows_); }
  // Any, by itself: format.RowBytes().
  void TakeRow(const CodeFormat& format, uint32_t i, std::byte* to) const;
  const std::byte* tids() const { return tids_; }  // kTidBytes each
  Tid tid(uint32_t i) const { return LoadTid(tids_ + size_t{i} * kTidBytes); }

 private:
  friend Status DecodeBlock(Bytes, const CodeFormat&, const BlockEntry&, BlockView*);
  uint32_t rows_ = 0;
  uint32_t dimensions_ = 0;
  const std::byte* rows_at_ = nullptr;
  const std::byte* tids_ = nullptr;
};

// Checks the checksum, then that the block is the one `entry` describes. `bytes` must be aligned for float and outlive
// the view; RangeBuffer::kSlack bytes after them must be readable.
Status DecodeBlock(Bytes bytes, const CodeFormat& format, const BlockEntry& entry, BlockView* view);

}  // namespace ivfremote
