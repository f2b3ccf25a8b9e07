#include "core/segment_format.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/checksum.h"
#include "core/distance.h"
#include "core/format_version.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

constexpr uint64_t kHeaderMagic = 0x0047455352465649;     // "IVFRSEG\0"
constexpr uint32_t kBlockMagic = 0x4b4c4252;              // "RBLK"
constexpr uint32_t kDirectoryMagic = 0x52494452;          // "RDIR"
constexpr uint32_t kSampleMagic = 0x504d5352;             // "RSMP"
constexpr uint64_t kTrailerMagic = 0x00444e4552465649;    // "IVFREND\0"
constexpr size_t kBlockHeaderBytes = 64;

// The fixed-size structures, as they stand in the bytes.
struct RawHeader {
  uint64_t magic;
  uint16_t version;
  uint16_t header_bytes;
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t dimensions;
  uint8_t metric;
  uint8_t code_kind;
  uint8_t bits;
  uint8_t reserved0;
  uint32_t list_count;
  uint64_t part_bytes;
  SegmentName name;
  uint64_t rotation_seed;
  uint8_t reserved1[28];
  uint32_t crc;
};
static_assert(sizeof(RawHeader) == SegmentHeader::kBytes && sizeof(SegmentName) == 48);
static_assert(offsetof(RawHeader, dimensions) == 20 && offsetof(RawHeader, metric) == 24 &&
              offsetof(RawHeader, list_count) == 28 && offsetof(RawHeader, part_bytes) == 32 &&
              offsetof(RawHeader, name) == 40 && offsetof(RawHeader, rotation_seed) == 88 &&
              offsetof(RawHeader, crc) == 124);

struct RawBlockHeader {
  uint32_t magic;
  uint32_t rows;
  uint32_t list;
  uint32_t centroid;
  uint32_t dimensions;
  uint8_t code_kind;
  uint8_t bits;
  uint16_t required_features;
  uint32_t rows_offset;
  uint32_t tids_offset;
  uint32_t columns_offset;  // 0: no filter columns
  uint8_t reserved1[28];
};
static_assert(sizeof(RawBlockHeader) == kBlockHeaderBytes);
static_assert(offsetof(RawBlockHeader, dimensions) == 16 && offsetof(RawBlockHeader, rows_offset) == 24 &&
              offsetof(RawBlockHeader, columns_offset) == 32);

struct RawDirectoryHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t list_entry_bytes;
  uint16_t block_entry_bytes;
  uint16_t reserved0;
  uint32_t list_count;
  uint32_t block_count;
  uint32_t statistics_bytes;  // per list, for filter columns; after the block entries
  uint32_t required_features;
  uint32_t ignorable_features;
  uint8_t reserved1[32];
};
static_assert(sizeof(RawDirectoryHeader) == DirectoryHeader::kBytes);
static_assert(offsetof(RawDirectoryHeader, list_count) == 12 && offsetof(RawDirectoryHeader, statistics_bytes) == 20 &&
              offsetof(RawDirectoryHeader, required_features) == 24);
static_assert(offsetof(ListEntry, block_count) == 4);
static_assert(offsetof(BlockEntry, length) == 8 && offsetof(BlockEntry, rows) == 12 && offsetof(BlockEntry, crc) == 16 &&
              offsetof(BlockEntry, list) == 20 && offsetof(BlockEntry, centroid) == 24);

struct RawSampleHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t reserved0;
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t rows;
  uint32_t dimensions;
  uint8_t reserved1[40];
};
static_assert(sizeof(RawSampleHeader) == 64);
static_assert(offsetof(RawSampleHeader, required_features) == 8 && offsetof(RawSampleHeader, rows) == 16);

// Sections of a segment, by their number in the trailer.
enum SectionNumber { kRouting, kDirectory, kSampleRows, kUnused, kSections };

struct RawTrailer {
  uint16_t version;
  uint16_t trailer_bytes;
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t reserved0;
  uint64_t rows;
  uint64_t copies;
  uint64_t section_offset[kSections];
  uint64_t section_bytes[kSections];
  uint32_t section_crc[kSections];
  uint32_t reserved1;
  uint32_t crc;  // of everything else in the trailer
  uint64_t magic;
};
static_assert(sizeof(RawTrailer) == SegmentTrailer::kBytes);
static_assert(offsetof(RawTrailer, rows) == 16 && offsetof(RawTrailer, section_offset) == 32 &&
              offsetof(RawTrailer, section_bytes) == 64 && offsetof(RawTrailer, section_crc) == 96 &&
              offsetof(RawTrailer, crc) == 116 && offsetof(RawTrailer, magic) == 120);

template <typename T>
std::vector<std::byte> ToBytes(const T& raw) {
  std::vector<std::byte> bytes(sizeof raw);
  Store(bytes.data(), raw);
  return bytes;
}

uint32_t TrailerCrc(const RawTrailer& raw) {
  const Bytes bytes = std::as_bytes(std::span(&raw, 1));
  const uint32_t crc = Crc32c(bytes.first(offsetof(RawTrailer, crc)));
  return Crc32c(bytes.subspan(offsetof(RawTrailer, magic)), crc);
}

Status CheckRange(const char* what, uint64_t offset, uint64_t bytes, uint64_t end) {
  if (offset > end || bytes > end - offset)
    return Status::Corrupt(std::string(what) + " of the segment lies beyond its end");
  return Status::Ok();
}

void PutSection(const SegmentSection& section, SectionNumber number, RawTrailer* raw) {
  raw->section_offset[number] = section.offset;
  raw->section_bytes[number] = section.bytes;
  raw->section_crc[number] = section.crc;
}

Status TakeSection(const RawTrailer& raw, SectionNumber number, const char* what, uint64_t segment_bytes,
                   SegmentSection* section) {
  *section = {raw.section_offset[number], raw.section_bytes[number], raw.section_crc[number]};
  return CheckRange(what, section->offset, section->bytes, segment_bytes);
}

// What the rows of a block take, the TIDs apart.
size_t BlockRowsBytes(const CodeFormat& format, uint32_t rows) {
  return format.coded() ? CodedRowsBytes(format, rows) : rows * format.RowBytes();
}

}  // namespace

void StoreTid(std::byte* to, Tid tid) {
  Store(to, tid.block);
  Store(to + 4, tid.offset);
}

Tid LoadTid(const std::byte* from) { return {Load<uint32_t>(from), Load<uint16_t>(from + 4)}; }

std::vector<std::byte> EncodeSegmentHeader(const SegmentHeader& header) {
  RawHeader raw{};
  raw.magic = kHeaderMagic;
  raw.version = header.version;
  raw.header_bytes = SegmentHeader::kBytes;
  raw.required_features = header.required_features;
  raw.ignorable_features = header.ignorable_features;
  raw.dimensions = header.dimensions;
  raw.metric = static_cast<uint8_t>(header.metric);
  raw.code_kind = static_cast<uint8_t>(header.code_kind);
  raw.bits = header.bits;
  raw.list_count = header.list_count;
  raw.part_bytes = header.part_bytes;
  raw.name = header.name;
  raw.rotation_seed = header.rotation_seed;
  raw.crc = Crc32c(std::as_bytes(std::span(&raw, 1)).first(offsetof(RawHeader, crc)));
  return ToBytes(raw);
}

Status DecodeSegmentHeader(Bytes bytes, SegmentHeader* header) {
  if (bytes.size() < sizeof(RawHeader)) return Status::Corrupt("segment is shorter than its header");
  const auto raw = Load<RawHeader>(bytes.data());
  if (raw.magic != kHeaderMagic) return Status::Corrupt("not a segment of ivfremote");
  // Before the checksum: a newer version may check differently.
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("segment", raw.version, kSegmentVersion));
  if (Crc32c(bytes.first(offsetof(RawHeader, crc))) != raw.crc)
    return Status::Corrupt("checksum mismatch in the segment's header");
  if ((raw.required_features & ~kSegmentRequiredFeatures) != 0)
    return Status::Unsupported("segment uses features this library does not know");
  if (!IsKnownMetric(raw.metric) || !IsKnownCode(raw.code_kind, raw.bits))
    return Status::Unsupported("segment has distances or codes this library does not know");
  if (raw.header_bytes > SegmentHeader::kBytes)
    return Status::Unsupported("segment has a header this library does not know");
  if (raw.header_bytes != SegmentHeader::kBytes || raw.dimensions == 0 ||
      raw.dimensions > MaxDimensions(static_cast<Metric>(raw.metric)) ||
      !IsKindOf(static_cast<CodeKind>(raw.code_kind), static_cast<Metric>(raw.metric)) || raw.list_count == 0 || raw.list_count > kMaxLists)
    return Status::Corrupt("segment has an impossible header");
  header->version = raw.version;
  header->required_features = raw.required_features;
  header->ignorable_features = raw.ignorable_features;
  header->dimensions = raw.dimensions;
  header->metric = static_cast<Metric>(raw.metric);
  header->code_kind = static_cast<CodeKind>(raw.code_kind);
  header->bits = raw.bits;
  header->list_count = raw.list_count;
  header->part_bytes = raw.part_bytes;
  header->name = raw.name;
  header->rotation_seed = raw.rotation_seed;
  return Status::Ok();
}

Status DecodeDirectoryHeader(Bytes bytes, DirectoryHeader* header) {
  if (bytes.size() < sizeof(RawDirectoryHeader)) return Status::Corrupt("directory is shorter than its header");
  const auto raw = Load<RawDirectoryHeader>(bytes.data());
  if (raw.magic != kDirectoryMagic) return Status::Corrupt("not a directory of a segment");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("directory", raw.version, kSegmentVersion));
  if ((raw.required_features & ~kSegmentRequiredFeatures) != 0)
    return Status::Unsupported("directory uses features this library does not know");
  if (raw.list_entry_bytes > sizeof(ListEntry) || raw.block_entry_bytes > sizeof(BlockEntry))
    return Status::Unsupported("directory has entries this library does not know");
  if (raw.list_entry_bytes != sizeof(ListEntry) || raw.block_entry_bytes != sizeof(BlockEntry) ||
      raw.list_count == 0 || raw.list_count > kMaxLists)
    return Status::Corrupt("directory has an impossible header");
  header->list_count = raw.list_count;
  header->block_count = raw.block_count;
  header->statistics_bytes = raw.statistics_bytes;
  return Status::Ok();
}

Status CheckBlockEntry(const BlockEntry& entry, uint32_t list, uint64_t segment_bytes) {
  IVFREMOTE_RETURN_IF_ERROR(CheckRange("a block", entry.offset, entry.length, segment_bytes));
  if (entry.list != list || entry.offset % kBlockAlignment != 0 || entry.rows == 0 || entry.rows > kMaxBlockRows ||
      entry.length < kBlockHeaderBytes || entry.length > kMaxBlockBytes)
    return Status::Corrupt("directory has an impossible entry for list " + std::to_string(list));
  return Status::Ok();
}

std::vector<std::byte> EncodeDirectory(const Directory& directory) {
  const DirectoryHeader header{static_cast<uint32_t>(directory.lists.size()),
                               static_cast<uint32_t>(directory.blocks.size()), 0};
  RawDirectoryHeader raw{};
  raw.magic = kDirectoryMagic;
  raw.version = kSegmentVersion;
  raw.list_entry_bytes = sizeof(ListEntry);
  raw.block_entry_bytes = sizeof(BlockEntry);
  raw.list_count = header.list_count;
  raw.block_count = header.block_count;
  std::vector<std::byte> bytes(header.EncodedBytes());
  Store(bytes.data(), raw);
  if (!directory.lists.empty())
    std::memcpy(bytes.data() + header.ListEntryOffset(0), directory.lists.data(),
                directory.lists.size() * sizeof(ListEntry));
  if (!directory.blocks.empty())
    std::memcpy(bytes.data() + header.BlockEntryOffset(0), directory.blocks.data(),
                directory.blocks.size() * sizeof(BlockEntry));
  return bytes;
}

Status DecodeDirectory(Bytes bytes, uint64_t segment_bytes, Directory* directory) {
  DirectoryHeader header;
  IVFREMOTE_RETURN_IF_ERROR(DecodeDirectoryHeader(bytes, &header));
  if (bytes.size() != header.EncodedBytes()) return Status::Corrupt("directory has the wrong length");
  directory->lists.resize(header.list_count);
  directory->blocks.resize(header.block_count);
  std::memcpy(directory->lists.data(), bytes.data() + header.ListEntryOffset(0),
              directory->lists.size() * sizeof(ListEntry));
  if (header.block_count > 0)
    std::memcpy(directory->blocks.data(), bytes.data() + header.BlockEntryOffset(0),
                directory->blocks.size() * sizeof(BlockEntry));
  for (uint32_t list = 0; list < header.list_count; ++list) {
    const ListEntry& entry = directory->lists[list];
    if (entry.first_block > header.block_count || entry.block_count > header.block_count - entry.first_block)
      return Status::Corrupt("directory has an impossible entry for list " + std::to_string(list));
    for (uint32_t i = 0; i < entry.block_count; ++i)
      IVFREMOTE_RETURN_IF_ERROR(
          CheckBlockEntry(directory->blocks[entry.first_block + i], list, segment_bytes));
  }
  return Status::Ok();
}

std::vector<std::byte> EncodeSegmentTrailer(const SegmentTrailer& trailer) {
  RawTrailer raw{};
  raw.version = kSegmentVersion;
  raw.trailer_bytes = SegmentTrailer::kBytes;
  raw.required_features = trailer.required_features;
  raw.ignorable_features = trailer.ignorable_features;
  raw.rows = trailer.rows;
  raw.copies = trailer.copies;
  PutSection(trailer.routing, kRouting, &raw);
  PutSection(trailer.directory, kDirectory, &raw);
  PutSection(trailer.sample, kSampleRows, &raw);
  raw.magic = kTrailerMagic;
  raw.crc = TrailerCrc(raw);
  return ToBytes(raw);
}

Status DecodeSegmentTrailer(Bytes bytes, uint64_t segment_bytes, SegmentTrailer* trailer) {
  if (bytes.size() < sizeof(RawTrailer)) return Status::Corrupt("segment is shorter than its trailer");
  const auto raw = Load<RawTrailer>(bytes.data());
  if (raw.magic != kTrailerMagic) return Status::Corrupt("segment has no trailer: it is cut off");
  // Before the checksum: a newer version may check differently.
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("segment's trailer", raw.version, kSegmentVersion));
  if (TrailerCrc(raw) != raw.crc) return Status::Corrupt("checksum mismatch in the segment's trailer");
  if ((raw.required_features & ~kSegmentRequiredFeatures) != 0)
    return Status::Unsupported("segment uses features this library does not know");
  if (raw.trailer_bytes > SegmentTrailer::kBytes)
    return Status::Unsupported("segment has a trailer this library does not know");
  if (raw.trailer_bytes != SegmentTrailer::kBytes || raw.rows > raw.copies || raw.section_bytes[kRouting] == 0 ||
      raw.section_bytes[kDirectory] == 0)
    return Status::Corrupt("segment has an impossible trailer");
  trailer->required_features = raw.required_features;
  trailer->ignorable_features = raw.ignorable_features;
  trailer->rows = raw.rows;
  trailer->copies = raw.copies;
  IVFREMOTE_RETURN_IF_ERROR(TakeSection(raw, kRouting, "the routing", segment_bytes, &trailer->routing));
  IVFREMOTE_RETURN_IF_ERROR(TakeSection(raw, kDirectory, "the directory", segment_bytes, &trailer->directory));
  trailer->sample = {};
  if (raw.section_bytes[kSampleRows] == 0) return Status::Ok();
  return TakeSection(raw, kSampleRows, "the sample", segment_bytes, &trailer->sample);
}

std::vector<std::byte> EncodeSampleRows(const SampleRows& sample) {
  assert(sample.rows.size() == sample.tids.size() * sample.dimensions);
  RawSampleHeader raw{};
  raw.magic = kSampleMagic;
  raw.version = kSegmentVersion;
  raw.rows = static_cast<uint32_t>(sample.tids.size());
  raw.dimensions = sample.dimensions;
  const size_t row_bytes = sample.rows.size() * sizeof(float);
  std::vector<std::byte> bytes(sizeof raw + row_bytes + sample.tids.size() * kTidBytes);
  Store(bytes.data(), raw);
  if (row_bytes > 0) std::memcpy(&bytes[sizeof raw], sample.rows.data(), row_bytes);
  std::byte* at = bytes.data() + sizeof raw + row_bytes;
  for (const Tid& tid : sample.tids) {
    StoreTid(at, tid);
    at += kTidBytes;
  }
  return bytes;
}

Status DecodeSampleRows(Bytes bytes, const SegmentSection& section, SampleRows* sample) {
  if (bytes.size() != section.bytes || bytes.size() < sizeof(RawSampleHeader))
    return Status::Corrupt("sample has the wrong length");
  if (Crc32c(bytes) != section.crc) return Status::Corrupt("checksum mismatch in the segment's sample");
  const auto raw = Load<RawSampleHeader>(bytes.data());
  if (raw.magic != kSampleMagic) return Status::Corrupt("not a sample of a segment");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("segment's sample", raw.version, kSegmentVersion));
  if ((raw.required_features & ~kSegmentRequiredFeatures) != 0)
    return Status::Unsupported("sample uses features this library does not know");
  const uint64_t floats = uint64_t{raw.rows} * raw.dimensions;
  if (raw.dimensions == 0 || raw.dimensions > kMaxBits ||
      bytes.size() != sizeof raw + floats * sizeof(float) + uint64_t{raw.rows} * kTidBytes)
    return Status::Corrupt("sample has an impossible header");
  sample->dimensions = raw.dimensions;
  sample->rows.resize(floats);
  sample->tids.clear();
  if (floats > 0) std::memcpy(sample->rows.data(), &bytes[sizeof raw], floats * sizeof(float));
  if (!AllFinite(sample->rows.data(), floats)) return Status::Corrupt("sample has a value that is not finite");
  const std::byte* at = bytes.data() + sizeof raw + floats * sizeof(float);
  for (uint32_t i = 0; i < raw.rows; ++i, at += kTidBytes) sample->tids.push_back(LoadTid(at));
  return Status::Ok();
}

void PutCodedRows(const CodeFormat& format, const std::byte* rows, uint32_t count, std::byte* to) {
  const size_t row_bytes = format.RowBytes();
  const size_t code_bytes = row_bytes - sizeof(CodeFactors);
  const uint32_t group_rows = GroupRows(format.bits);
  std::byte* codes_at = to + count * sizeof(CodeFactors);
  std::vector<std::byte> group(group_rows * code_bytes);
  for (uint32_t first = 0; first < count; first += group_rows) {
    const uint32_t in_group = std::min(group_rows, count - first);
    for (uint32_t i = 0; i < in_group; ++i) {
      const uint32_t number = first + i;
      const auto factors = Load<CodeFactors>(rows + number * row_bytes);
      Store(to + number * sizeof(float), factors.a);
      Store(to + (size_t{count} + number) * sizeof(float), factors.s);
      Store(to + (size_t{2} * count + number) * sizeof(float), factors.e);
      std::memcpy(group.data() + i * code_bytes, rows + number * row_bytes + sizeof factors, code_bytes);
    }
    PackGroup(group.data(), format.padded(), format.bits, in_group, codes_at);
    codes_at += GroupBytes(format.padded(), format.bits, in_group);
  }
}

CodedRows ViewCodedRows(const std::byte* from, uint32_t count) {
  const auto* a = reinterpret_cast<const float*>(from);
  return {count, a, a + count, a + size_t{2} * count, from + size_t{count} * sizeof(CodeFactors)};
}

void TakeCodedRow(const CodeFormat& format, const CodedRows& rows, uint32_t row, std::byte* to) {
  const uint32_t group_rows = GroupRows(format.bits);
  const uint32_t group = row / group_rows;
  const uint32_t in_group = std::min(group_rows, rows.rows - group * group_rows);
  Store(to, CodeFactors{rows.a[row], rows.s[row], rows.e[row]});
  UnpackFromGroup(rows.codes + group * GroupBytes(format.padded(), format.bits, group_rows), format.padded(),
                  format.bits, in_group, row % group_rows, to + sizeof(CodeFactors));
}

void BlockView::TakeRow(const CodeFormat& format, uint32_t i, std::byte* to) const {
  if (format.coded())
    TakeCodedRow(format, coded(), i, to);
  else
    std::memcpy(to, rows_at_ + i * format.RowBytes(), format.RowBytes());
}

void BlockBuilder::Add(Tid tid, const std::byte* row) {
  assert(!full());
  rows_.insert(rows_.end(), row, row + format_.RowBytes());
  tids_.push_back(tid);
}

bool BlockBuilder::full() const { return tids_.size() >= kMaxBlockRows || rows_.size() >= kFullBlockBytes; }

std::vector<std::byte> BlockBuilder::Finish(uint32_t list, uint32_t centroid) {
  RawBlockHeader raw{};
  raw.magic = kBlockMagic;
  raw.rows = rows();
  raw.list = list;
  raw.centroid = centroid;
  raw.dimensions = format_.dimensions;
  raw.code_kind = static_cast<uint8_t>(format_.kind);
  raw.bits = static_cast<uint8_t>(format_.bits);
  raw.rows_offset = kBlockHeaderBytes;
  raw.tids_offset = static_cast<uint32_t>(kBlockHeaderBytes + BlockRowsBytes(format_, rows()));
  std::vector<std::byte> bytes(AlignUp(raw.tids_offset + tids_.size() * kTidBytes, kBlockAlignment));
  Store(bytes.data(), raw);
  std::byte* at = bytes.data() + raw.rows_offset;
  if (format_.coded())
    PutCodedRows(format_, rows_.data(), rows(), at);
  else
    std::copy(rows_.begin(), rows_.end(), at);
  at = bytes.data() + raw.tids_offset;
  for (const Tid& tid : tids_) {
    StoreTid(at, tid);
    at += kTidBytes;
  }
  rows_.clear();
  tids_.clear();
  return bytes;
}

Status DecodeBlock(Bytes bytes, const CodeFormat& format, const BlockEntry& entry, BlockView* view) {
  if (bytes.size() != entry.length || bytes.size() < kBlockHeaderBytes)
    return Status::Corrupt("block has the wrong length");
  if (Crc32c(bytes) != entry.crc) return Status::Corrupt("checksum mismatch");
  const auto raw = Load<RawBlockHeader>(bytes.data());
  if (raw.magic != kBlockMagic) return Status::Corrupt("not a block of a segment");
  if (raw.required_features != 0) return Status::Unsupported("block uses features this library does not know");
  if (!IsKnownCode(raw.code_kind, raw.bits)) return Status::Unsupported("block has codes this library does not know");
  if (raw.rows != entry.rows || raw.list != entry.list || raw.centroid != entry.centroid ||
      CodeFormat{static_cast<CodeKind>(raw.code_kind), raw.bits, raw.dimensions} != format)
    return Status::Corrupt("block is not the one its directory describes");
  if (raw.rows > kMaxBlockRows) return Status::Corrupt("block has an impossible header");
  const uint64_t rows_end = raw.rows_offset + BlockRowsBytes(format, raw.rows);
  const uint64_t tids_end = raw.tids_offset + uint64_t{raw.rows} * kTidBytes;
  if (raw.rows_offset < kBlockHeaderBytes || raw.rows_offset % alignof(float) != 0 || rows_end > bytes.size() ||
      raw.tids_offset < kBlockHeaderBytes || tids_end > bytes.size())
    return Status::Corrupt("block has an impossible header");
  view->rows_ = raw.rows;
  view->dimensions_ = raw.dimensions;
  view->rows_at_ = bytes.data() + raw.rows_offset;
  view->tids_ = bytes.data() + raw.tids_offset;
  return Status::Ok();
}

}  // namespace ivfremote
