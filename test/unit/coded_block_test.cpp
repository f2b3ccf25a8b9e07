// Blocks of codes; segment_format_test.cpp has what all blocks share.
#include "core/checksum.h"
#include "core/segment_writer.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

constexpr uint32_t kWidths[] = {1, 2, 4, 8};

CodeFormat Coded(uint32_t bits, uint32_t dimensions) { return {CodeKind::kRabitq, bits, dimensions}; }

// Factors and codes as random as they come.
ByteVector RandomRow(Random& random, const CodeFormat& format) {
  ByteVector row(format.RowBytes());
  for (std::byte& byte : row) byte = static_cast<std::byte>(random());
  Store(row.data(), CodeFactors{Uniform(random), Uniform(random), Uniform(random)});
  return row;
}

struct Block {
  CodeFormat format;
  std::vector<ByteVector> rows;
  ByteVector bytes;
  BlockEntry entry;

  void Seal() {
    entry.length = static_cast<uint32_t>(bytes.size());
    entry.crc = Crc32c(bytes);
  }
  Status Decode(BlockView* view) const { return DecodeBlock(bytes, format, entry, view); }
  Status Decode() const {
    BlockView view;
    return Decode(&view);
  }
};

Tid TidOf(uint32_t row) { return {1000 + row, static_cast<uint16_t>(row + 1)}; }

Block RandomBlock(Random& random, const CodeFormat& format, uint32_t rows) {
  Block block{format, {}, {}, {128, 0, rows, 0, 7, 8, 0}};
  BlockBuilder builder(format);
  for (uint32_t i = 0; i < rows; ++i) {
    block.rows.push_back(RandomRow(random, format));
    builder.Add(TidOf(i), block.rows[i].data());
  }
  block.bytes = builder.Finish(7, 8);
  block.Seal();
  return block;
}

// Row `i` of a view, as it was before it was put into its group.
ByteVector RowOf(const BlockView& view, const CodeFormat& format, uint32_t i) {
  const CodedRows coded = view.coded();
  ByteVector row(format.RowBytes());
  Store(row.data(), CodeFactors{coded.a[i], coded.s[i], coded.e[i]});
  const uint32_t group_rows = GroupRows(format.bits);
  const uint32_t first = i / group_rows * group_rows;
  const std::byte* group = coded.codes + first / group_rows * GroupBytes(format.padded(), format.bits, group_rows);
  UnpackFromGroup(group, format.padded(), format.bits, std::min(group_rows, view.rows() - first), i - first,
                  row.data() + sizeof(CodeFactors));
  return row;
}

TEST(CodedBlock, RoundTrip) {
  Random random(1);
  for (uint32_t bits : kWidths)
    for (uint32_t dimensions : {1u, 3u, 16u, 17u, 100u, 784u})
      for (uint32_t rows : {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 47u, 64u, 150u}) {
        SCOPED_TRACE(std::to_string(bits) + " bits, " + std::to_string(dimensions) + " dimensions, " +
                     std::to_string(rows) + " rows");
        const Block block = RandomBlock(random, Coded(bits, dimensions), rows);
        BlockView view;
        ASSERT_OK(block.Decode(&view));
        ASSERT_EQ(view.rows(), rows);
        ASSERT_EQ(view.coded().rows, rows);
        for (uint32_t i = 0; i < rows; ++i) {
          ASSERT_EQ(RowOf(view, block.format, i), block.rows[i]) << i;
          ASSERT_EQ(view.tid(i), TidOf(i)) << i;
        }
      }
}

TEST(CodedBlock, BlockOfManyRows) {
  Random random(2);
  const Block block = RandomBlock(random, Coded(4, 20), kMaxBlockRows);
  BlockView view;
  ASSERT_OK(block.Decode(&view));
  for (uint32_t i = 0; i < kMaxBlockRows; ++i) ASSERT_EQ(RowOf(view, block.format, i), block.rows[i]) << i;
}

TEST(CodedBlock, FieldsAreWhereTheFormatPutsThem) {
  Random random(3);
  const Block block = RandomBlock(random, Coded(2, 20), 3);
  const ByteVector& bytes = block.bytes;
  ASSERT_EQ(bytes.size(), 192u);  // 64 + 3 x (12 + 8) of codes + 18 of TIDs, rounded up
  EXPECT_EQ(Load<uint32_t>(&bytes[4]), 3u);
  EXPECT_EQ(Load<uint32_t>(&bytes[8]), 7u);   // list
  EXPECT_EQ(Load<uint32_t>(&bytes[12]), 8u);  // centroid
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 20u);
  EXPECT_EQ(Load<uint8_t>(&bytes[20]), 1);     // code kind
  EXPECT_EQ(Load<uint8_t>(&bytes[21]), 2);     // bits
  EXPECT_EQ(Load<uint32_t>(&bytes[24]), 64u);  // rows
  EXPECT_EQ(Load<uint32_t>(&bytes[28]), 124u); // TIDs
  for (uint32_t i = 0; i < 3; ++i) {
    const auto factors = Load<CodeFactors>(block.rows[i].data());
    EXPECT_EQ(Load<float>(&bytes[64 + 4 * i]), factors.a);
    EXPECT_EQ(Load<float>(&bytes[76 + 4 * i]), factors.s);
    EXPECT_EQ(Load<float>(&bytes[88 + 4 * i]), factors.e);
    // Two words of 16 dimensions, each of all rows.
    EXPECT_EQ(Load<uint32_t>(&bytes[100 + 4 * i]), Load<uint32_t>(&block.rows[i][12]));
    EXPECT_EQ(Load<uint32_t>(&bytes[112 + 4 * i]), Load<uint32_t>(&block.rows[i][16]));
    EXPECT_EQ(LoadTid(&bytes[124 + 6 * i]), TidOf(i));
  }
  for (size_t at = 142; at < bytes.size(); ++at) EXPECT_EQ(bytes[at], std::byte{0}) << at;
}

TEST(CodedBlock, Sizes) {
  const struct {
    uint32_t bits, dimensions;
    double bytes_per_row;
  } cases[] = {{1, 784, 116}, {4, 100, 70}, {2, 384, 114}, {8, 3, 26}};
  Random random(4);
  for (const auto& c : cases)
    for (uint32_t rows : {150u, 1000u}) {
      const Block block = RandomBlock(random, Coded(c.bits, c.dimensions), rows);
      EXPECT_NEAR(static_cast<double>(block.bytes.size()) / rows, c.bytes_per_row, 1) << c.dimensions;
    }
}

TEST(CodedBlock, EveryWrongBitAndTruncationIsNoticed) {
  Random random(5);
  for (uint32_t bits : kWidths) {
    const Block good = RandomBlock(random, Coded(bits, 17), 5);
    const size_t end = 64 + CodedRowsBytes(good.format, 5) + 5 * kTidBytes;
    for (size_t bit = 0; bit < good.bytes.size() * 8; ++bit) {
      Block block = good;
      block.bytes[bit / 8] ^= std::byte{1} << bit % 8;
      ASSERT_TRUE(Fails(block.Decode(), StatusCode::kCorrupt, {"checksum"})) << bit;
    }
    for (size_t length = 0; length < good.bytes.size(); ++length) {
      Block block = good;
      block.bytes.resize(length);
      ASSERT_TRUE(Fails(block.Decode(), StatusCode::kCorrupt)) << length;
      block.Seal();
      ASSERT_EQ(block.Decode().code(), length < end ? StatusCode::kCorrupt : StatusCode::kOk) << length;
    }
  }
}

TEST(CodedBlock, ImpossibleHeaders) {
  const struct {
    const char* what;
    size_t at, width;
    uint32_t value;
    StatusCode code;
  } cases[] = {
      {"magic", 0, 4, 0, StatusCode::kCorrupt},
      {"other rows", 4, 4, 4, StatusCode::kCorrupt},
      {"other list", 8, 4, 6, StatusCode::kCorrupt},
      {"other centroid", 12, 4, 7, StatusCode::kCorrupt},
      {"other dimensions", 16, 4, 18, StatusCode::kCorrupt},
      {"floats", 20, 2, 32 << 8, StatusCode::kCorrupt},
      {"floats of 4 bits", 20, 1, 0, StatusCode::kUnsupported},
      {"unknown codes", 20, 1, 2, StatusCode::kUnsupported},
      {"other width", 21, 1, 8, StatusCode::kCorrupt},
      {"unknown width", 21, 1, 3, StatusCode::kUnsupported},
      {"no width", 21, 1, 0, StatusCode::kUnsupported},
      {"rows in the header", 24, 4, 60, StatusCode::kCorrupt},
      {"rows no float may start at", 24, 4, 66, StatusCode::kCorrupt},
      {"rows beyond the end", 24, 4, 140, StatusCode::kCorrupt},
      {"rows far beyond the end", 24, 4, 0xfffffffc, StatusCode::kCorrupt},
      {"TIDs in the header", 28, 4, 63, StatusCode::kCorrupt},
      {"TIDs beyond the end", 28, 4, 256, StatusCode::kCorrupt},
      {"TIDs far beyond the end", 28, 4, 0xffffffff, StatusCode::kCorrupt},
  };
  Random random(6);
  const Block good = RandomBlock(random, Coded(4, 17), 5);
  ASSERT_EQ(good.bytes.size(), 256u);  // 64 + 5 x (12 + 12 + 6), rounded up
  ASSERT_OK(good.Decode());
  for (const auto& c : cases) {
    Block block = good;
    std::memcpy(&block.bytes[c.at], &c.value, c.width);
    block.Seal();
    EXPECT_TRUE(Fails(block.Decode(), c.code)) << c.what;
  }
  Block block = good;
  block.entry.rows = 0xffffffff;
  Poke<uint32_t>(&block.bytes, 4, 0xffffffff);
  block.Seal();
  EXPECT_TRUE(Fails(block.Decode(), StatusCode::kCorrupt)) << "row count that overflows";
}

TEST(CodedBlock, OfAnotherFormat) {
  Random random(7);
  const Block block = RandomBlock(random, Coded(4, 17), 5);
  BlockView view;
  for (const CodeFormat& format : {Coded(8, 17), Coded(4, 18), Coded(4, 20), CodeFormat{CodeKind::kFloat32, 32, 17}})
    EXPECT_TRUE(Fails(DecodeBlock(block.bytes, format, block.entry, &view), StatusCode::kCorrupt));
}

TEST(CodedBlock, IsFullByRowsAndByBytes) {
  for (uint32_t bits : kWidths)
    for (uint32_t dimensions : {1u, 784u, kMaxDimensions}) {
      const CodeFormat format = Coded(bits, dimensions);
      const ByteVector row(format.RowBytes());
      BlockBuilder builder(format);
      while (!builder.full()) builder.Add({0, 1}, row.data());
      const auto by_bytes = static_cast<uint32_t>((kFullBlockBytes + row.size() - 1) / row.size());
      EXPECT_EQ(builder.rows(), std::min(kMaxBlockRows, by_bytes)) << bits << ' ' << dimensions;
      EXPECT_LT(builder.Finish(0, 0).size(), kFullBlockBytes + 2 * row.size() + kMaxBlockRows * kTidBytes + 128);
    }
}

// What the header says of the codes comes back.
TEST(CodedSegment, HeaderRoundTrip) {
  for (uint32_t bits : kWidths) {
    SegmentHeader header;
    header.dimensions = 100;
    header.list_count = 1;
    header.code_kind = CodeKind::kRabitq;
    header.bits = static_cast<uint8_t>(bits);
    header.rotation_seed = 0x123456789abcdef0;
    const ByteVector bytes = EncodeSegmentHeader(header);
    EXPECT_EQ(Load<uint8_t>(&bytes[25]), 1);
    EXPECT_EQ(Load<uint8_t>(&bytes[26]), bits);
    EXPECT_EQ(Load<uint64_t>(&bytes[88]), header.rotation_seed);
    SegmentHeader decoded;
    ASSERT_OK(DecodeSegmentHeader(bytes, &decoded));
    EXPECT_EQ(decoded.format(), Coded(bits, 100));
    EXPECT_EQ(decoded.rotation_seed, header.rotation_seed);
  }
  SegmentHeader header;
  header.dimensions = 100;
  header.list_count = 1;
  SegmentHeader decoded;
  for (const auto& [kind, bits] : {std::pair{1, 0}, {1, 3}, {1, 16}, {1, 32}, {0, 8}, {2, 8}}) {
    header.code_kind = static_cast<CodeKind>(kind);
    header.bits = static_cast<uint8_t>(bits);
    EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kUnsupported))
        << kind << ' ' << bits;
  }
}

// All rows of a segment, list by list, through its writer and its directory.
TEST(CodedSegment, WriterRoundTrip) {
  Random random(8);
  for (uint32_t bits : kWidths)
    for (uint64_t part_bytes : {0, 65536}) {
      const CodeFormat format = Coded(bits, 100);
      Routing routing;
      routing.dimensions = 100;
      routing.mean.resize(100);
      routing.radii.resize(4);
      routing.group_first = {0, 4};
      routing.group_centroids.resize(100);
      routing.centroids.resize(400);
      SegmentHeader header;
      header.dimensions = 100;
      header.list_count = 4;
      header.code_kind = format.kind;
      header.bits = static_cast<uint8_t>(bits);
      header.part_bytes = part_bytes;
      SegmentWriter writer(header, &routing);
      const uint32_t sizes[] = {33, 0, part_bytes == 0 ? 5000u : 300u, 1};
      std::vector<ByteVector> rows;
      for (uint32_t list = 0; list < 4; ++list)
        for (uint32_t i = 0; i < sizes[list]; ++i) {
          rows.push_back(RandomRow(random, format));
          ASSERT_OK(writer.Add(list, list, TidOf(static_cast<uint32_t>(rows.size())), rows.back().data()));
        }
      ASSERT_OK(writer.Finish(writer.copies()));
      ByteVector bytes(writer.bytes());
      for (const auto& chunk : writer.TakeOutput())
        std::copy(chunk.bytes.begin(), chunk.bytes.end(), bytes.begin() + static_cast<ptrdiff_t>(chunk.offset));
      size_t row = 0;
      for (const BlockEntry& entry : writer.directory().blocks) {
        EXPECT_EQ(entry.centroid, entry.list);
        BlockView view;
        ASSERT_OK(DecodeBlock(Bytes(bytes).subspan(entry.offset, entry.length), format, entry, &view));
        for (uint32_t i = 0; i < view.rows(); ++i) {
          ASSERT_EQ(RowOf(view, format, i), rows[row]) << row;
          ASSERT_EQ(view.tid(i), TidOf(static_cast<uint32_t>(++row)));
        }
      }
      EXPECT_EQ(row, rows.size());
    }
}

}  // namespace
}  // namespace ivfremote
