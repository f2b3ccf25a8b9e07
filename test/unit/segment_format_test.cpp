#include "core/segment_format.h"

#include <functional>

#include "core/checksum.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

// Gives an encoded structure the checksum that fits its bytes, so that the checks behind the checksum are reached.
void SealHeader(ByteVector* bytes) { Store(bytes->data() + 124, Crc32c(Bytes(*bytes).first(124))); }
void SealTrailer(ByteVector* bytes) {
  Store(bytes->data() + 116, Crc32c(Bytes(*bytes).subspan(120, 8), Crc32c(Bytes(*bytes).first(116))));
}

// Calls check(bytes, what) for `bytes` with each bit flipped in turn.
void ForEachFlippedBit(const ByteVector& bytes,
                       const std::function<void(const ByteVector&, const std::string&)>& check) {
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    ByteVector flipped = bytes;
    flipped[bit / 8] ^= std::byte{1} << bit % 8;
    check(flipped, "bit " + std::to_string(bit % 8) + " of byte " + std::to_string(bit / 8));
  }
}

bool Refused(const Status& status) {
  return status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kUnsupported;
}

// A field of an encoded structure overwritten: its place, width and value.
struct Change {
  size_t at;
  size_t width;
  uint64_t value;

  void Apply(ByteVector* bytes) const {
    ASSERT_LE(at + width, bytes->size());
    std::memcpy(bytes->data() + at, &value, width);
  }
};

struct ImpossibleField {
  const char* what;
  Change change;
  StatusCode code;
};

// -- header

SegmentHeader ExampleHeader() {
  SegmentHeader header;
  header.dimensions = 784;
  header.metric = Metric::kCosine;
  header.list_count = 256;
  header.name.incarnation.fill(0x11);
  header.name.index_uuid.fill(0x22);
  header.name.mint_xid = 0x3333;
  header.name.random = 0x4444;
  header.part_bytes = kDefaultPartBytes;
  header.ignorable_features = 0x80000000;
  return header;
}

TEST(SegmentHeader, RoundTrip) {
  const ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
  ASSERT_EQ(bytes.size(), SegmentHeader::kBytes);
  SegmentHeader header;
  ASSERT_OK(DecodeSegmentHeader(bytes, &header));
  EXPECT_EQ(header.version, kSegmentVersion);
  EXPECT_EQ(header.required_features, 0u);
  EXPECT_EQ(header.ignorable_features, 0x80000000u);
  EXPECT_EQ(header.dimensions, 784u);
  EXPECT_EQ(header.metric, Metric::kCosine);
  EXPECT_EQ(header.code_kind, CodeKind::kFloat32);
  EXPECT_EQ(header.bits, 32);
  EXPECT_EQ(header.list_count, 256u);
  EXPECT_EQ(header.name, ExampleHeader().name);
  EXPECT_EQ(header.part_bytes, kDefaultPartBytes);
}

TEST(SegmentHeader, FieldsAreWhereTheFormatPutsThem) {
  const ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
  EXPECT_EQ(Text(Bytes(bytes).first(8)), std::string("IVFRSEG\0", 8));
  EXPECT_EQ(Load<uint16_t>(&bytes[8]), kSegmentVersion);
  EXPECT_EQ(Load<uint16_t>(&bytes[10]), 128);  // header_bytes
  EXPECT_EQ(Load<uint32_t>(&bytes[12]), 0u);   // required features
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 0x80000000u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 784u);  // dimensions
  EXPECT_EQ(Load<uint8_t>(&bytes[24]), 2);      // metric
  EXPECT_EQ(Load<uint8_t>(&bytes[25]), 0);      // code kind
  EXPECT_EQ(Load<uint8_t>(&bytes[26]), 32);     // bits
  EXPECT_EQ(Load<uint32_t>(&bytes[28]), 256u);  // lists
  EXPECT_EQ(Load<uint64_t>(&bytes[32]), kDefaultPartBytes);
  EXPECT_EQ(Load<uint8_t>(&bytes[40]), 0x11);  // incarnation
  EXPECT_EQ(Load<uint8_t>(&bytes[56]), 0x22);  // index uuid
  EXPECT_EQ(Load<uint64_t>(&bytes[72]), 0x3333u);
  EXPECT_EQ(Load<uint64_t>(&bytes[80]), 0x4444u);
  EXPECT_EQ(Load<uint32_t>(&bytes[124]), Crc32c(Bytes(bytes).first(124)));
}

TEST(SegmentHeader, EveryFlippedBitIsNoticed) {
  ForEachFlippedBit(EncodeSegmentHeader(ExampleHeader()), [](const ByteVector& bytes, const std::string& what) {
    SegmentHeader header;
    EXPECT_TRUE(Refused(DecodeSegmentHeader(bytes, &header))) << what;
  });
}

TEST(SegmentHeader, EveryTruncationIsNoticed) {
  const ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
  SegmentHeader header;
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_TRUE(Fails(DecodeSegmentHeader(Bytes(bytes).first(length), &header), StatusCode::kCorrupt)) << length;
}

TEST(SegmentHeader, MayBeReadFromAPrefixOfTheObject) {
  ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
  bytes.resize(bytes.size() + 1000, std::byte{0xaa});
  SegmentHeader header;
  EXPECT_OK(DecodeSegmentHeader(bytes, &header));
}

// A newer version may check its bytes differently, so the checksum must not be looked at first.
TEST(SegmentHeader, NewerVersionIsNamed) {
  ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
  Poke<uint16_t>(&bytes, 8, 7);
  SegmentHeader header;
  EXPECT_TRUE(Fails(DecodeSegmentHeader(bytes, &header), StatusCode::kUnsupported,
                    {"version 7", "up to " + std::to_string(kSegmentVersion)}));
}

TEST(SegmentHeader, ImpossibleFields) {
  const ImpossibleField cases[] = {
      {"magic", {0, 8, 0x0047455352465658}, StatusCode::kCorrupt},
      {"version", {8, 2, kSegmentVersion + 1u}, StatusCode::kUnsupported},
      {"the largest version", {8, 2, 0xffff}, StatusCode::kUnsupported},
      {"version of development", {8, 2, 0}, StatusCode::kCorrupt},
      {"header bytes", {10, 2, 127}, StatusCode::kCorrupt},
      {"more header bytes", {10, 2, 192}, StatusCode::kUnsupported},
      {"required feature", {12, 4, 1}, StatusCode::kUnsupported},
      {"last required feature", {12, 4, 0x80000000}, StatusCode::kUnsupported},
      {"no dimensions", {20, 4, 0}, StatusCode::kCorrupt},
      {"too many dimensions", {20, 4, kMaxDimensions + 1}, StatusCode::kCorrupt},
      {"metric", {24, 1, 4}, StatusCode::kUnsupported},
      {"code kind", {25, 1, 1}, StatusCode::kUnsupported},
      {"bits", {26, 1, 4}, StatusCode::kUnsupported},
      {"no lists", {28, 4, 0}, StatusCode::kCorrupt},
      {"too many lists", {28, 4, kMaxLists + 1}, StatusCode::kCorrupt},
  };
  for (const auto& c : cases) {
    ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
    c.change.Apply(&bytes);
    SealHeader(&bytes);
    SegmentHeader header;
    EXPECT_TRUE(Fails(DecodeSegmentHeader(bytes, &header), c.code)) << c.what;
  }
}

TEST(SegmentHeader, UnknownIgnorableFeaturesAndReservedBytesAreIgnored) {
  for (size_t at : {16, 17, 18, 19, 27, 88, 123}) {
    ByteVector bytes = EncodeSegmentHeader(ExampleHeader());
    bytes[at] = std::byte{0xff};
    SealHeader(&bytes);
    SegmentHeader header;
    EXPECT_OK(DecodeSegmentHeader(bytes, &header)) << at;
  }
}

// -- trailer

constexpr uint64_t kSegmentBytes = 100000;

SegmentTrailer ExampleTrailer() {
  SegmentTrailer trailer;
  trailer.routing = {640, 1000, 0x01020304};
  trailer.directory = {1664, 96, 0x05060708};
  trailer.sample = {1792, 300, 0x090a0b0c};
  trailer.rows = 60000;
  trailer.copies = 61000;
  trailer.ignorable_features = 0x80000000;
  return trailer;
}

TEST(SegmentTrailer, RoundTrip) {
  const ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
  ASSERT_EQ(bytes.size(), SegmentTrailer::kBytes);
  SegmentTrailer trailer;
  ASSERT_OK(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer));
  EXPECT_EQ(trailer.routing, ExampleTrailer().routing);
  EXPECT_EQ(trailer.directory, ExampleTrailer().directory);
  EXPECT_EQ(trailer.sample, ExampleTrailer().sample);
  EXPECT_EQ(trailer.rows, 60000u);
  EXPECT_EQ(trailer.copies, 61000u);
  EXPECT_EQ(trailer.required_features, 0u);
  EXPECT_EQ(trailer.ignorable_features, 0x80000000u);
}

TEST(SegmentTrailer, FieldsAreWhereTheFormatPutsThem) {
  const ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
  EXPECT_EQ(Load<uint16_t>(&bytes[0]), kSegmentVersion);
  EXPECT_EQ(Load<uint16_t>(&bytes[2]), 128);
  EXPECT_EQ(Load<uint32_t>(&bytes[4]), 0u);           // required features
  EXPECT_EQ(Load<uint32_t>(&bytes[8]), 0x80000000u);  // ignorable features
  EXPECT_EQ(Load<uint64_t>(&bytes[16]), 60000u);
  EXPECT_EQ(Load<uint64_t>(&bytes[24]), 61000u);
  EXPECT_EQ(Load<uint64_t>(&bytes[32]), 640u);
  EXPECT_EQ(Load<uint64_t>(&bytes[40]), 1664u);
  EXPECT_EQ(Load<uint64_t>(&bytes[48]), 1792u);
  EXPECT_EQ(Load<uint64_t>(&bytes[64]), 1000u);
  EXPECT_EQ(Load<uint64_t>(&bytes[72]), 96u);
  EXPECT_EQ(Load<uint64_t>(&bytes[80]), 300u);
  EXPECT_EQ(Load<uint32_t>(&bytes[96]), 0x01020304u);
  EXPECT_EQ(Load<uint32_t>(&bytes[104]), 0x090a0b0cu);
  EXPECT_EQ(Load<uint32_t>(&bytes[100]), 0x05060708u);
  EXPECT_EQ(Text(Bytes(bytes).last(8)), std::string("IVFREND\0", 8));
  ByteVector sealed = bytes;
  SealTrailer(&sealed);
  EXPECT_EQ(sealed, bytes);
}

TEST(SegmentTrailer, EveryFlippedBitIsNoticed) {
  ForEachFlippedBit(EncodeSegmentTrailer(ExampleTrailer()), [](const ByteVector& bytes, const std::string& what) {
    SegmentTrailer trailer;
    EXPECT_TRUE(Refused(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer))) << what;
  });
}

TEST(SegmentTrailer, EveryTruncationIsNoticed) {
  const ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
  SegmentTrailer trailer;
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_TRUE(Fails(DecodeSegmentTrailer(Bytes(bytes).first(length), kSegmentBytes, &trailer), StatusCode::kCorrupt))
        << length;
}

TEST(SegmentTrailer, SegmentThatWasCutOff) {
  ByteVector bytes(SegmentTrailer::kBytes, std::byte{0x55});
  SegmentTrailer trailer;
  EXPECT_TRUE(Fails(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer), StatusCode::kCorrupt, {"cut off"}));
}

TEST(SegmentTrailer, ImpossibleRanges) {
  const struct {
    const char* what;
    uint64_t offset, bytes;
    bool possible;
  } cases[] = {
      {"at the very end", kSegmentBytes - 1, 1, true},
      {"of no bytes", 640, 0, false},
      {"all of it", 0, kSegmentBytes, true},
      {"one byte too long", 0, kSegmentBytes + 1, false},
      {"one byte too far", 640, kSegmentBytes - 639, false},
      {"starting at the end", kSegmentBytes, 1, false},
      {"starting beyond the end", kSegmentBytes + 1, 1, false},
      {"an offset that wraps", ~uint64_t{0}, 1, false},
      {"an offset that wraps into the segment", ~uint64_t{0} - 99, 200, false},
      {"a length that wraps", 640, ~uint64_t{0}, false},
  };
  for (const auto& c : cases) {
    SegmentTrailer routing = ExampleTrailer();
    routing.routing = {c.offset, c.bytes, 0};
    SegmentTrailer directory = ExampleTrailer();
    directory.directory = {c.offset, c.bytes, 0};
    SegmentTrailer sample = ExampleTrailer();
    sample.sample = {c.offset, c.bytes, 0};
    for (const SegmentTrailer& trailer : {routing, directory, sample}) {
      SegmentTrailer decoded;
      const Status status = DecodeSegmentTrailer(EncodeSegmentTrailer(trailer), kSegmentBytes, &decoded);
      const bool possible = c.possible || (c.bytes == 0 && trailer.sample.bytes == 0);
      EXPECT_EQ(status.code(), possible ? StatusCode::kOk : StatusCode::kCorrupt) << c.what;
    }
  }
}

// A newer version may check its bytes differently, so the checksum must not be looked at first.
TEST(SegmentTrailer, NewerVersionIsNamed) {
  ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
  Poke<uint16_t>(&bytes, 0, 7);
  SegmentTrailer trailer;
  EXPECT_TRUE(Fails(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer), StatusCode::kUnsupported,
                    {"version 7", "up to " + std::to_string(kSegmentVersion)}));
}

TEST(SegmentTrailer, ImpossibleFields) {
  const ImpossibleField cases[] = {
      {"magic", {120, 8, 0}, StatusCode::kCorrupt},
      {"version", {0, 2, kSegmentVersion + 1u}, StatusCode::kUnsupported},
      {"trailer bytes", {2, 2, 64}, StatusCode::kCorrupt},
      {"more trailer bytes", {2, 2, 192}, StatusCode::kUnsupported},
      {"required feature", {4, 4, 1}, StatusCode::kUnsupported},
      {"last required feature", {4, 4, 0x80000000}, StatusCode::kUnsupported},
      {"more rows than copies", {16, 8, 61001}, StatusCode::kCorrupt},
  };
  for (const auto& c : cases) {
    ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
    c.change.Apply(&bytes);
    SealTrailer(&bytes);
    SegmentTrailer trailer;
    EXPECT_TRUE(Fails(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer), c.code)) << c.what;
  }
}

// The fourth section is for later versions: this one ignores it, wherever it is.
TEST(SegmentTrailer, UnknownSectionsFeaturesAndReservedBytesAreIgnored) {
  for (size_t at : {8, 12, 15, 56, 63, 88, 108, 112, 115}) {
    ByteVector bytes = EncodeSegmentTrailer(ExampleTrailer());
    bytes[at] = std::byte{0xff};
    SealTrailer(&bytes);
    SegmentTrailer trailer;
    EXPECT_OK(DecodeSegmentTrailer(bytes, kSegmentBytes, &trailer)) << at;
  }
}

// -- sample

SampleRows ExampleSample() { return {3, {{7, 1}, {0xfffffffe, 0xffff}}, {1, 2, 3, -4, 5.5f, -0.0f}}; }

SegmentSection SectionOf(Bytes bytes) { return {0, bytes.size(), Crc32c(bytes)}; }

TEST(SegmentSample, RoundTrip) {
  for (const SampleRows& sample : {ExampleSample(), SampleRows{3, {}, {}}}) {
    const ByteVector bytes = EncodeSampleRows(sample);
    SampleRows decoded;
    ASSERT_OK(DecodeSampleRows(bytes, SectionOf(bytes), &decoded));
    EXPECT_EQ(decoded.dimensions, 3u);
    EXPECT_EQ(decoded.tids, sample.tids);
    EXPECT_EQ(decoded.rows, sample.rows);
  }
}

TEST(SegmentSample, FieldsAreWhereTheFormatPutsThem) {
  const ByteVector bytes = EncodeSampleRows(ExampleSample());
  ASSERT_EQ(bytes.size(), 64u + 2 * 3 * 4 + 2 * 6);
  EXPECT_EQ(Text(Bytes(bytes).first(4)), "RSMP");
  EXPECT_EQ(Load<uint16_t>(&bytes[4]), 1);
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 2u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 3u);
  EXPECT_EQ(Load<float>(&bytes[64 + 16]), 5.5f);
  EXPECT_EQ(Load<uint32_t>(&bytes[64 + 24]), 7u);
  EXPECT_EQ(Load<uint16_t>(&bytes[64 + 28]), 1);
}

TEST(SegmentSample, EveryFlippedBitIsNoticed) {
  const ByteVector whole = EncodeSampleRows(ExampleSample());
  ForEachFlippedBit(whole, [&](const ByteVector& bytes, const std::string& what) {
    SampleRows sample;
    EXPECT_TRUE(Fails(DecodeSampleRows(bytes, SectionOf(whole), &sample), StatusCode::kCorrupt)) << what;
  });
}

TEST(SegmentSample, EveryOtherLengthIsNoticed) {
  ByteVector whole = EncodeSampleRows(ExampleSample());
  whole.push_back({});
  SampleRows sample;
  for (size_t length = 0; length <= whole.size(); ++length) {
    if (length == whole.size() - 1) continue;
    const Bytes bytes = Bytes(whole).first(length);
    EXPECT_TRUE(Fails(DecodeSampleRows(bytes, SectionOf(bytes), &sample), StatusCode::kCorrupt)) << length;
  }
  EXPECT_TRUE(Fails(DecodeSampleRows(whole, SectionOf(Bytes(whole).first(100)), &sample), StatusCode::kCorrupt));
}

TEST(SegmentSample, ImpossibleFields) {
  const ImpossibleField cases[] = {
      {"magic", {0, 1, 0}, StatusCode::kCorrupt},
      {"version 0", {4, 2, 0}, StatusCode::kCorrupt},
      {"version", {4, 2, 2}, StatusCode::kUnsupported},
      {"required feature", {8, 4, 0x100}, StatusCode::kUnsupported},
      {"rows", {16, 4, 3}, StatusCode::kCorrupt},
      {"many rows", {16, 4, 0xffffffff}, StatusCode::kCorrupt},
      {"no dimensions", {20, 4, 0}, StatusCode::kCorrupt},
      {"dimensions", {20, 4, 4}, StatusCode::kCorrupt},
      {"too many dimensions", {20, 4, kMaxDimensions + 1}, StatusCode::kCorrupt},
      {"a value that is no number", {64, 4, 0x7fc00000}, StatusCode::kCorrupt},
      {"an infinite value", {84, 4, 0xff800000}, StatusCode::kCorrupt},
  };
  for (const auto& c : cases) {
    ByteVector bytes = EncodeSampleRows(ExampleSample());
    c.change.Apply(&bytes);
    SampleRows sample;
    EXPECT_TRUE(Fails(DecodeSampleRows(bytes, SectionOf(bytes), &sample), c.code)) << c.what;
  }
}

TEST(SegmentSample, UnknownIgnorableFeaturesAndReservedBytesAreIgnored) {
  for (size_t at : {6, 7, 12, 15, 24, 63}) {
    ByteVector bytes = EncodeSampleRows(ExampleSample());
    bytes[at] = std::byte{0xff};
    SampleRows sample;
    EXPECT_OK(DecodeSampleRows(bytes, SectionOf(bytes), &sample)) << at;
  }
}

// -- directory

// List 0 has two blocks, list 1 none, list 2 one.
Directory ExampleDirectory() {
  Directory directory;
  directory.lists = {{0, 2}, {0, 0}, {2, 1}};
  directory.blocks = {
      {128, 4096, 100, 0xaaaa, 0, 0, 0}, {4224, 64, 1, 0xbbbb, 0, 0, 0}, {4352, 640, 7, 0xcccc, 2, 5, 0}};
  return directory;
}

bool SameEntry(const BlockEntry& a, const BlockEntry& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

TEST(SegmentDirectory, RoundTrip) {
  const Directory example = ExampleDirectory();
  const ByteVector bytes = EncodeDirectory(example);
  Directory directory;
  ASSERT_OK(DecodeDirectory(bytes, kSegmentBytes, &directory));
  ASSERT_EQ(directory.lists.size(), 3u);
  ASSERT_EQ(directory.blocks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(directory.lists[i].first_block, example.lists[i].first_block);
    EXPECT_EQ(directory.lists[i].block_count, example.lists[i].block_count);
    EXPECT_TRUE(SameEntry(directory.blocks[i], example.blocks[i])) << i;
  }
}

TEST(SegmentDirectory, OfASegmentWithoutRows) {
  Directory empty;
  empty.lists.resize(5);
  const ByteVector bytes = EncodeDirectory(empty);
  EXPECT_EQ(bytes.size(), 64u + 5 * 8);
  Directory directory;
  ASSERT_OK(DecodeDirectory(bytes, 0, &directory));
  EXPECT_EQ(directory.lists.size(), 5u);
  EXPECT_TRUE(directory.blocks.empty());
}

TEST(SegmentDirectory, IsReadInPlace) {
  const ByteVector bytes = EncodeDirectory(ExampleDirectory());
  DirectoryHeader header;
  ASSERT_OK(DecodeDirectoryHeader(Bytes(bytes).first(DirectoryHeader::kBytes), &header));
  EXPECT_EQ(header.list_count, 3u);
  EXPECT_EQ(header.block_count, 3u);
  EXPECT_EQ(header.EncodedBytes(), bytes.size());
  EXPECT_EQ(header.ListEntryOffset(2), 64u + 16);
  EXPECT_EQ(header.BlockEntryOffset(2), 64u + 24 + 64);
  EXPECT_EQ(Load<ListEntry>(&bytes[header.ListEntryOffset(2)]).first_block, 2u);
  EXPECT_TRUE(SameEntry(Load<BlockEntry>(&bytes[header.BlockEntryOffset(2)]), ExampleDirectory().blocks[2]));
}

TEST(SegmentDirectory, FieldsAreWhereTheFormatPutsThem) {
  const ByteVector bytes = EncodeDirectory(ExampleDirectory());
  EXPECT_EQ(Text(Bytes(bytes).first(4)), "RDIR");
  EXPECT_EQ(Load<uint16_t>(&bytes[4]), kSegmentVersion);
  EXPECT_EQ(Load<uint16_t>(&bytes[6]), 8);   // bytes of a list entry
  EXPECT_EQ(Load<uint16_t>(&bytes[8]), 32);  // bytes of a block entry
  EXPECT_EQ(Load<uint32_t>(&bytes[12]), 3u);
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 3u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 0u);  // bytes of statistics
  EXPECT_EQ(Load<uint32_t>(&bytes[24]), 0u);  // required features
  EXPECT_EQ(Load<uint32_t>(&bytes[28]), 0u);  // ignorable features
}

TEST(SegmentDirectory, EveryOtherLengthIsNoticed) {
  ByteVector bytes = EncodeDirectory(ExampleDirectory());
  bytes.resize(bytes.size() + 40);
  Directory directory;
  for (size_t length = 0; length <= bytes.size(); ++length) {
    if (length == bytes.size() - 40) continue;
    EXPECT_TRUE(Fails(DecodeDirectory(Bytes(bytes).first(length), kSegmentBytes, &directory), StatusCode::kCorrupt))
        << length;
  }
}

// Statistics of filter columns follow the block entries; a reader that does not know them reads the rest.
TEST(SegmentDirectory, StatisticsAreSkipped) {
  ByteVector bytes = EncodeDirectory(ExampleDirectory());
  const size_t without = bytes.size();
  Poke<uint32_t>(&bytes, 20, 40);
  bytes.resize(without + 40, std::byte{0xee});
  Directory directory;
  ASSERT_OK(DecodeDirectory(bytes, kSegmentBytes, &directory));
  ASSERT_EQ(directory.blocks.size(), 3u);
  EXPECT_TRUE(SameEntry(directory.blocks[2], ExampleDirectory().blocks[2]));
  DirectoryHeader header;
  ASSERT_OK(DecodeDirectoryHeader(bytes, &header));
  EXPECT_EQ(header.EncodedBytes(), bytes.size());
  EXPECT_EQ(header.BlockEntryOffset(header.block_count), without);
  bytes.pop_back();
  EXPECT_TRUE(Fails(DecodeDirectory(bytes, kSegmentBytes, &directory), StatusCode::kCorrupt));
}

TEST(SegmentDirectory, UnknownIgnorableFeaturesAndReservedBytesAreIgnored) {
  for (size_t at : {10, 28, 31, 32, 63}) {
    ByteVector bytes = EncodeDirectory(ExampleDirectory());
    bytes[at] = std::byte{0xff};
    Directory directory;
    EXPECT_OK(DecodeDirectory(bytes, kSegmentBytes, &directory)) << at;
  }
}

TEST(SegmentDirectory, NewerVersionIsNamed) {
  ByteVector bytes = EncodeDirectory(ExampleDirectory());
  Poke<uint16_t>(&bytes, 4, 9);
  Directory directory;
  EXPECT_TRUE(Fails(DecodeDirectory(bytes, kSegmentBytes, &directory), StatusCode::kUnsupported,
                    {"version 9", "up to " + std::to_string(kSegmentVersion)}));
}

TEST(SegmentDirectory, ImpossibleFields) {
  constexpr size_t kList0 = 64;
  constexpr size_t kList2 = 80;
  constexpr size_t kBlock0 = 88;
  constexpr size_t kBlock2 = 152;
  const ImpossibleField cases[] = {
      {"magic", {0, 4, 0}, StatusCode::kCorrupt},
      {"version", {4, 2, kSegmentVersion + 1u}, StatusCode::kUnsupported},
      {"required feature", {24, 4, 1}, StatusCode::kUnsupported},
      {"last required feature", {24, 4, 0x80000000}, StatusCode::kUnsupported},
      {"statistics that are not there", {20, 4, 8}, StatusCode::kCorrupt},
      {"very many statistics", {20, 4, 0xffffffff}, StatusCode::kCorrupt},
      {"bytes of a list entry", {6, 2, 4}, StatusCode::kCorrupt},
      {"bytes of a block entry", {8, 2, 24}, StatusCode::kCorrupt},
      {"more bytes of a list entry", {6, 2, 12}, StatusCode::kUnsupported},
      {"more bytes of a block entry", {8, 2, 40}, StatusCode::kUnsupported},
      {"no lists", {12, 4, 0}, StatusCode::kCorrupt},
      {"a list too few", {12, 4, 2}, StatusCode::kCorrupt},
      {"too many lists", {12, 4, kMaxLists + 1}, StatusCode::kCorrupt},
      {"as many lists as there can be", {12, 4, kMaxLists}, StatusCode::kCorrupt},
      {"a block too many", {16, 4, 4}, StatusCode::kCorrupt},
      {"very many blocks", {16, 4, 0xffffffff}, StatusCode::kCorrupt},
      {"a list beyond the blocks", {kList0, 4, 4}, StatusCode::kCorrupt},
      {"a list longer than the blocks", {kList0 + 4, 4, 4}, StatusCode::kCorrupt},
      {"a list whose end wraps", {kList2 + 4, 4, 0xffffffff}, StatusCode::kCorrupt},
      {"two lists with one block", {kList2, 4, 1}, StatusCode::kCorrupt},
      {"a block between alignments", {kBlock0, 8, 129}, StatusCode::kCorrupt},
      {"a block beyond the end", {kBlock0, 8, kSegmentBytes}, StatusCode::kCorrupt},
      {"a block that wraps", {kBlock0, 8, ~uint64_t{63}}, StatusCode::kCorrupt},
      {"a block longer than the segment", {kBlock0 + 8, 4, 0xffffffff}, StatusCode::kCorrupt},
      {"a block shorter than its header", {kBlock0 + 8, 4, 63}, StatusCode::kCorrupt},
      {"a block without rows", {kBlock0 + 12, 4, 0}, StatusCode::kCorrupt},
      {"a block with too many rows", {kBlock0 + 12, 4, kMaxBlockRows + 1}, StatusCode::kCorrupt},
      {"a block of another list", {kBlock0 + 20, 4, 2}, StatusCode::kCorrupt},
      {"a block of no list", {kBlock2 + 20, 4, 3}, StatusCode::kCorrupt},
  };
  for (const auto& c : cases) {
    ByteVector bytes = EncodeDirectory(ExampleDirectory());
    c.change.Apply(&bytes);
    Directory directory;
    EXPECT_TRUE(Fails(DecodeDirectory(bytes, kSegmentBytes, &directory), c.code)) << c.what;
  }
}

// The path of a scan, which reads single entries.
TEST(SegmentDirectory, CheckBlockEntry) {
  const BlockEntry good{128, 4096, 100, 0, 3, 3, 0};
  EXPECT_OK(CheckBlockEntry(good, 3, 128 + 4096));
  EXPECT_TRUE(Fails(CheckBlockEntry(good, 3, 128 + 4095), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(CheckBlockEntry(good, 4, kSegmentBytes), StatusCode::kCorrupt, {"list 4"}));
  EXPECT_TRUE(Fails(CheckBlockEntry({192 + 32, 4096, 100, 0, 3, 3, 0}, 3, kSegmentBytes), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(CheckBlockEntry({128, 63, 100, 0, 3, 3, 0}, 3, kSegmentBytes), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(CheckBlockEntry({128, 4096, 0, 0, 3, 3, 0}, 3, kSegmentBytes), StatusCode::kCorrupt));
  // Whatever a damaged page says, no buffer larger than that is made for it.
  EXPECT_OK(CheckBlockEntry({128, kMaxBlockBytes, 100, 0, 3, 3, 0}, 3, uint64_t{1} << 40));
  EXPECT_TRUE(Fails(CheckBlockEntry({128, kMaxBlockBytes + 1, 100, 0, 3, 3, 0}, 3, uint64_t{1} << 40),
                    StatusCode::kCorrupt));
  EXPECT_OK(CheckBlockEntry({128, 4096, kMaxBlockRows, 0, 3, 3, 0}, 3, kSegmentBytes));
  EXPECT_TRUE(
      Fails(CheckBlockEntry({128, 4096, kMaxBlockRows + 1, 0, 3, 3, 0}, 3, kSegmentBytes), StatusCode::kCorrupt));
}

// -- blocks

constexpr uint32_t kDimensions = 5;
constexpr uint32_t kRows = 3;

CodeFormat FloatsOf(uint32_t dimensions) { return {CodeKind::kFloat32, 32, dimensions}; }

struct Block {
  ByteVector bytes;
  BlockEntry entry;

  void Seal() {
    entry.length = static_cast<uint32_t>(bytes.size());
    entry.crc = Crc32c(bytes);
  }
  Status Decode(BlockView* view) const { return DecodeBlock(bytes, FloatsOf(kDimensions), entry, view); }
  Status Decode() const {
    BlockView view;
    return Decode(&view);
  }
};

// Row i is (10i, 10i + 1, ...) of heap tuple (i, i + 1).
Block ExampleBlock() {
  BlockBuilder builder(FloatsOf(kDimensions));
  for (uint32_t i = 0; i < kRows; ++i) {
    float row[kDimensions];
    for (uint32_t j = 0; j < kDimensions; ++j) row[j] = static_cast<float>(10 * i + j);
    builder.Add({i, static_cast<uint16_t>(i + 1)}, RowBytes(row));
  }
  Block block;
  block.bytes = builder.Finish(7, 8);
  block.entry = {128, 0, kRows, 0, 7, 8, 0};
  block.Seal();
  return block;
}

TEST(SegmentBlock, RoundTrip) {
  const Block block = ExampleBlock();
  BlockView view;
  ASSERT_OK(block.Decode(&view));
  ASSERT_EQ(view.rows(), kRows);
  for (uint32_t i = 0; i < kRows; ++i) {
    EXPECT_EQ(view.tid(i), (Tid{i, static_cast<uint16_t>(i + 1)}));
    for (uint32_t j = 0; j < kDimensions; ++j) EXPECT_EQ(view.row(i)[j], static_cast<float>(10 * i + j));
  }
}

TEST(SegmentBlock, FieldsAreWhereTheFormatPutsThem) {
  const ByteVector bytes = ExampleBlock().bytes;
  ASSERT_EQ(bytes.size(), 192u);  // 64 + 60 of codes + 18 of TIDs, rounded up
  EXPECT_EQ(Text(Bytes(bytes).first(4)), "RBLK");
  EXPECT_EQ(Load<uint32_t>(&bytes[4]), kRows);
  EXPECT_EQ(Load<uint32_t>(&bytes[8]), 7u);   // list
  EXPECT_EQ(Load<uint32_t>(&bytes[12]), 8u);  // centroid
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), kDimensions);
  EXPECT_EQ(Load<uint8_t>(&bytes[20]), 0);            // code kind
  EXPECT_EQ(Load<uint8_t>(&bytes[21]), 32);           // bits
  EXPECT_EQ(Load<uint32_t>(&bytes[24]), 64u);         // codes
  EXPECT_EQ(Load<uint32_t>(&bytes[28]), 124u);        // TIDs
  EXPECT_EQ(Load<uint32_t>(&bytes[32]), 0u);          // no columns
  EXPECT_EQ(Load<float>(&bytes[64 + 4 * 5]), 10.0f);  // row 1 follows row 0
  EXPECT_EQ(Load<uint32_t>(&bytes[124 + 6]), 1u);
  EXPECT_EQ(Load<uint16_t>(&bytes[124 + 10]), 2);
  for (size_t at = 142; at < bytes.size(); ++at) EXPECT_EQ(bytes[at], std::byte{0}) << at;
}

TEST(SegmentBlock, EveryFlippedBitIsNoticed) {
  const Block block = ExampleBlock();
  ForEachFlippedBit(block.bytes, [&](const ByteVector& bytes, const std::string& what) {
    EXPECT_TRUE(Fails(Block{bytes, block.entry}.Decode(), StatusCode::kCorrupt, {"checksum"})) << what;
  });
}

TEST(SegmentBlock, EveryTruncationIsNoticed) {
  const Block whole = ExampleBlock();
  for (size_t length = 0; length < whole.bytes.size(); ++length) {
    Block block{ByteVector(whole.bytes.begin(), whole.bytes.begin() + static_cast<ptrdiff_t>(length)), whole.entry};
    EXPECT_TRUE(Fails(block.Decode(), StatusCode::kCorrupt)) << length;
    // Even if the directory agrees with it. Nothing is read of the padding, from byte 142 on.
    block.Seal();
    EXPECT_EQ(block.Decode().code(), length < 142 ? StatusCode::kCorrupt : StatusCode::kOk) << length;
  }
}

// Blocks with a good checksum that are not what the directory says: bytes that were forged, or bugs.
TEST(SegmentBlock, ImpossibleFields) {
  const ImpossibleField cases[] = {
      {"magic", {0, 4, 0}, StatusCode::kCorrupt},
      {"fewer rows", {4, 4, kRows - 1}, StatusCode::kCorrupt},
      {"more rows", {4, 4, kRows + 1}, StatusCode::kCorrupt},
      {"another list", {8, 4, 8}, StatusCode::kCorrupt},
      {"another centroid", {12, 4, 7}, StatusCode::kCorrupt},
      {"fewer dimensions", {16, 4, kDimensions - 1}, StatusCode::kCorrupt},
      {"code kind", {20, 1, 1}, StatusCode::kUnsupported},
      {"bits", {21, 1, 1}, StatusCode::kUnsupported},
      {"required feature", {22, 2, 1}, StatusCode::kUnsupported},
      {"last required feature", {22, 2, 0x8000}, StatusCode::kUnsupported},
      {"codes in the header", {24, 4, 60}, StatusCode::kCorrupt},
      {"codes between floats", {24, 4, 66}, StatusCode::kCorrupt},
      {"codes beyond the end", {24, 4, 136}, StatusCode::kCorrupt},
      {"codes far beyond the end", {24, 4, 0xfffffffc}, StatusCode::kCorrupt},
      {"TIDs in the header", {28, 4, 63}, StatusCode::kCorrupt},
      {"TIDs beyond the end", {28, 4, 175}, StatusCode::kCorrupt},
      {"TIDs far beyond the end", {28, 4, 0xffffffff}, StatusCode::kCorrupt},
  };
  for (const auto& c : cases) {
    Block block = ExampleBlock();
    c.change.Apply(&block.bytes);
    block.Seal();
    EXPECT_TRUE(Fails(block.Decode(), c.code)) << c.what;
  }
}

// Columns follow the TIDs; a reader that does not know them reads the rest.
TEST(SegmentBlock, FilterColumnsAreSkipped) {
  Block block = ExampleBlock();
  Poke<uint32_t>(&block.bytes, 32, 144);  // the TIDs end at 142
  block.bytes.resize(256 + 64, std::byte{0xee});
  block.Seal();
  BlockView view;
  ASSERT_OK(block.Decode(&view));
  ASSERT_EQ(view.rows(), kRows);
  for (uint32_t i = 0; i < kRows; ++i) {
    EXPECT_EQ(view.tid(i), (Tid{i, static_cast<uint16_t>(i + 1)}));
    EXPECT_EQ(view.row(i)[4], static_cast<float>(10 * i + 4));
  }
}

TEST(SegmentBlock, ReservedBytesAreIgnored) {
  for (size_t at : {32, 36, 63}) {
    Block block = ExampleBlock();
    block.bytes[at] = std::byte{0xff};
    block.Seal();
    EXPECT_OK(block.Decode()) << at;
  }
}

TEST(SegmentBlock, RowCountThatOverflows) {
  Block block = ExampleBlock();
  block.entry.rows = 0xffffffff;
  Poke<uint32_t>(&block.bytes, 4, 0xffffffff);
  block.Seal();
  EXPECT_TRUE(Fails(block.Decode(), StatusCode::kCorrupt));
}

TEST(SegmentBlock, OfAnotherIndexWidth) {
  BlockView view;
  const Block block = ExampleBlock();
  EXPECT_TRUE(Fails(DecodeBlock(block.bytes, FloatsOf(kDimensions + 1), block.entry, &view), StatusCode::kCorrupt));
}

TEST(SegmentBlock, IsFullAtItsRowLimit) {
  BlockBuilder builder(FloatsOf(1));
  const float row = 0;
  for (uint32_t i = 0; i < kMaxBlockRows; ++i) {
    ASSERT_FALSE(builder.full()) << i;
    builder.Add({i, 1}, RowBytes(&row));
  }
  EXPECT_TRUE(builder.full());
  EXPECT_EQ(builder.rows(), kMaxBlockRows);
}

TEST(SegmentBlock, IsFullAtTheFirstRowThatFillsIt) {
  const std::vector<float> row(kMaxDimensions);
  BlockBuilder builder(FloatsOf(kMaxDimensions));
  while (!builder.full()) builder.Add({0, 1}, RowBytes(row.data()));
  EXPECT_EQ(builder.rows(), kFullBlockBytes / (kMaxDimensions * sizeof(float)) + 1);
  EXPECT_LE(builder.Finish(0, 0).size(), kMaxBlockBytes);
}

// Of any width, a block that was written passes the check of its directory entry.
TEST(SegmentBlock, LargestBlocksAreAccepted) {
  for (uint32_t dimensions : {1u, 255u, 256u, 257u, 1024u, 15999u, kMaxDimensions}) {
    const std::vector<float> row(dimensions);
    BlockBuilder builder(FloatsOf(dimensions));
    while (!builder.full()) builder.Add({0, 1}, RowBytes(row.data()));
    BlockEntry entry{128, 0, builder.rows(), 0, 3, 3, 0};
    entry.length = static_cast<uint32_t>(builder.Finish(3, 3).size());
    EXPECT_OK(CheckBlockEntry(entry, 3, uint64_t{1} << 40)) << dimensions;
  }
}

TEST(SegmentBlock, FinishForgetsTheRows) {
  const float row = 1;
  BlockBuilder builder(FloatsOf(1));
  EXPECT_TRUE(builder.empty());
  builder.Add({1, 1}, RowBytes(&row));
  const ByteVector first = builder.Finish(0, 0);
  EXPECT_TRUE(builder.empty());
  builder.Add({1, 1}, RowBytes(&row));
  EXPECT_EQ(builder.Finish(0, 0), first);
}

TEST(SegmentBlock, TidsOfEveryWidth) {
  for (const Tid tid : {Tid{0, 1}, Tid{0xfffffffe, 0xffff}, Tid{0x12345678, 0x9abc}}) {
    std::byte bytes[kTidBytes];
    StoreTid(bytes, tid);
    EXPECT_EQ(LoadTid(bytes), tid);
  }
}

// -- parts

TEST(SegmentParts, PlaceInPart) {
  const struct {
    uint64_t offset, item_bytes, part_bytes, placed;
  } cases[] = {
      {0, 100, 0, 0},           {~uint64_t{0} - 100, 100, 0, ~uint64_t{0} - 100},  // no parts
      {0, 1000, 1000, 0},       {900, 100, 1000, 900},                             // fits to the last byte
      {901, 100, 1000, 1000},   {999, 2, 1000, 1000},                              // would cross
      {1000, 100, 1000, 1000},  {1, 1000, 1000, 1000},
      {5999, 1000, 1000, 6000}, {5999, 0, 1000, 5999},
  };
  for (const auto& c : cases)
    EXPECT_EQ(PlaceInPart(c.offset, c.item_bytes, c.part_bytes), c.placed) << c.offset << ' ' << c.item_bytes;
}

}  // namespace
}  // namespace ivfremote
