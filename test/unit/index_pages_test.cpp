// Pages made byte by byte as docs/format.md says, with what the golden indexes are too small for.
#include <gtest/gtest.h>

#include <cmath>

#include "core/bits.h"
#include "core/code.h"
#include "golden/index_file.h"
#include "golden_files.h"
#include "routing_fixture.h"

namespace ivfremote {
namespace {

constexpr uint64_t kRoutingId = 2;
constexpr uint64_t kGeneration = 5;
constexpr uint32_t kNone = 0xffffffff;

class IndexPagesTest : public testing::Test {
 protected:
  // A trained index of some lists, with a pending generation whose directory and routing are put where the caller says.
  IndexPagesTest() {
    Page(1, 0, 0, 8056);
    Text(0, "IFRM");
    Put<uint16_t>(0, 4, 1);
    Put<uint8_t>(0, 22, 32);  // bits: float32
    Put<uint64_t>(0, 56, 100);  // next id
    Put<uint64_t>(0, 64, kGeneration);
    Put<uint32_t>(0, 72, 1);  // groups
    Put<uint32_t>(0, 80, 1);  // root of its directory
    Put<uint64_t>(0, 144, kRoutingId);
    Stream(0, 152, 1, 0, 1);
    Stream(0, 240, kNone, 0, 0);
  }

  // Appends a page; its block.
  uint32_t Page(uint16_t kind, uint64_t owner, uint32_t number, uint32_t used) {
    const auto block = static_cast<uint32_t>(file_.size() / 8192);
    file_.resize(file_.size() + 8192);
    std::byte* special = &file_[file_.size() - 40];
    std::memcpy(special, "IFRE", 4);
    Store<uint16_t>(special + 4, 1);
    Store(special + 6, kind);
    Store(special + 12, kNone);
    Store(special + 16, owner);
    Store(special + 32, number);
    Store(special + 36, used);
    return block;
  }
  std::byte* Special(uint32_t block) { return &file_[(block + size_t{1}) * 8192 - 40]; }

  template <typename T>
  void Put(uint32_t block, size_t at, T value) {
    Store(&file_[block * size_t{8192} + 24 + at], value);
  }
  void Text(uint32_t block, const char* text) { std::memcpy(&file_[block * size_t{8192} + 24], text, std::strlen(text)); }
  void Stream(uint32_t block, size_t at, uint32_t root, uint32_t depth, uint64_t length) {
    Put(block, at, root);
    Put(block, at + 4, depth);
    Put(block, at + 8, length);
  }

  // A tree page above these.
  uint32_t Tree(uint64_t owner, const std::vector<std::pair<uint32_t, uint32_t>>& entries) {
    const uint32_t block = Page(2, owner, 1, static_cast<uint32_t>(entries.size()));
    for (size_t i = 0; i < entries.size(); ++i) {
      Put(block, 8 * i, entries[i].first);
      Put(block, 8 * i + 4, entries[i].second);
    }
    return block;
  }
  // Leaves of a byte stream and the tree page above.
  uint32_t Leaves(uint64_t owner, Bytes bytes) {
    std::vector<std::pair<uint32_t, uint32_t>> entries;
    for (uint32_t i = 0; i * size_t{8128} < bytes.size(); ++i) {
      const Bytes leaf = bytes.subspan(i * size_t{8128}, std::min<size_t>(8128, bytes.size() - i * size_t{8128}));
      entries.push_back({i, Page(3, owner, i, static_cast<uint32_t>(leaf.size()))});
      std::memcpy(&file_[entries.back().second * size_t{8192} + 24], leaf.data(), leaf.size());
    }
    return Tree(owner, entries);
  }

  void PutRow(uint32_t block, size_t at, uint32_t heap_block, uint16_t heap_offset, uint32_t list) {
    Put(block, at, heap_block);
    Put(block, at + 4, heap_offset);
    Put(block, at + 8, list);
    Put(block, at + 12, list);
  }

  void Dimensions(uint32_t dimensions, uint8_t bits) {
    Put(0, 16, dimensions);
    Put<uint8_t>(0, 21, bits == 32 ? 0 : 1);
    Put(0, 22, bits);
    Put<uint8_t>(0, 88, bits == 32 ? 0 : 1);
  }
  void Bits(uint32_t dimensions) {
    Dimensions(dimensions, 1);
    Put<uint8_t>(0, 20, 3);  // metric
    Put<uint8_t>(0, 21, 2);
    Put<uint8_t>(0, 88, 2);
  }
  // Of the index, and when the generation began.
  void Lists(uint32_t lists) {
    Put(0, 168, lists);
    Put(0, 84, lists);
  }

  void ReadPending(std::vector<IndexFile::Pending>* rows) {
    const IndexFile index(file_);
    ASSERT_OK(index.ReadMeta(&meta_));
    ASSERT_OK(index.ReadPending(meta_, meta_.current, rows));
  }

  golden::File file_;
  MetaPage meta_;
};

// 600 chains, 508 a page: list l is of chain l * 600 / 700.
TEST_F(IndexPagesTest, PendingDirectoryOfTwoPages) {
  Dimensions(2, 32);
  Lists(700);
  Put<uint32_t>(0, 72, 600);
  Put<uint32_t>(0, 76, 1);  // depth
  const uint32_t directory[] = {Page(5, kGeneration, 0, 508), Page(5, kGeneration, 1, 92)};
  Put(0, 80, Tree(kGeneration, {{0, directory[0]}, {1, directory[1]}}));
  for (uint32_t chain = 0; chain < 600; ++chain) {
    Put(directory[chain / 508], 16 * (chain % 508), kNone);
    Put(directory[chain / 508], 16 * (chain % 508) + 4, kNone);
  }
  for (const uint32_t chain : {0u, 507u, 508u, 599u}) {
    const uint32_t block = Page(6, kGeneration, 0, 2);
    Put(directory[chain / 508], 16 * (chain % 508), block);
    Put(directory[chain / 508], 16 * (chain % 508) + 4, block);
    Put<uint64_t>(directory[chain / 508], 16 * (chain % 508) + 8, 2);
    const uint32_t list = (chain * 700 + 599) / 600;  // the chain's first
    for (uint16_t i = 0; i < 2; ++i) {
      PutRow(block, 24 * i, chain, static_cast<uint16_t>(i + 1), list);
      Put(block, 24 * i + 16, static_cast<float>(chain));
      Put(block, 24 * i + 20, -0.5f);
    }
  }
  std::vector<IndexFile::Pending> rows;
  ASSERT_NO_FATAL_FAILURE(ReadPending(&rows));
  ASSERT_EQ(rows.size(), 8u);
  const uint32_t chains[] = {0, 507, 508, 599};
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].row.tid_block, chains[i / 2]);
    EXPECT_EQ(rows[i].row.tid_offset, i % 2 + 1);
    EXPECT_EQ(PendingGroupOf(rows[i].row.list, meta_.current), chains[i / 2]);
    ASSERT_EQ(rows[i].code.size(), 8u);
    EXPECT_EQ(Load<float>(rows[i].code.data()), static_cast<float>(chains[i / 2]));
    EXPECT_EQ(Load<float>(rows[i].code.data() + 4), -0.5f);
  }
  EXPECT_EQ(PendingGroupOf(699, meta_.current), 599u);
  EXPECT_EQ(PendingGroupOf(5000, meta_.current), 599u) << "a list that came later";

  Store<uint32_t>(Special(directory[1]) + 36, 91);
  const IndexFile index(file_);
  EXPECT_TRUE(Fails(index.ReadPending(meta_, meta_.current, &rows), StatusCode::kCorrupt));
}

// A code that no page holds is in a stream of its own.
TEST_F(IndexPagesTest, WideCodedRow) {
  constexpr uint32_t kPadded = 16000;
  Dimensions(kPadded, 8);
  Lists(3);
  ASSERT_EQ(Page(5, kGeneration, 0, 1), 1u);
  const uint32_t block = Page(6, kGeneration, 0, 2);
  Put(1, 0, block);
  Put(1, 4, block);
  Put<uint64_t>(1, 8, 2);
  for (uint32_t row = 0; row < 2; ++row) {
    golden::File code(12 + kPadded);
    Store(code.data(), 4.0f + static_cast<float>(row));
    Store(code.data() + 4, 0.25f);
    Store(code.data() + 8, 0.125f);
    // Dimension 2k + h of a word is its 8 bits from bit 16 h + 8 k on.
    for (uint32_t i = 0; i < kPadded; i += 4) {
      uint32_t word = 0;
      for (uint32_t k = 0; k < 2; ++k)
        for (uint32_t h = 0; h < 2; ++h) word |= (i + 2 * k + h + row) * 7 % 256 << (16 * h + 8 * k);
      Store(code.data() + 12 + i, word);
    }
    const uint32_t root = Leaves(kGeneration, code);
    PutRow(block, 32 * row, 9, static_cast<uint16_t>(row + 1), 2);
    Stream(block, 32 * row + 16, root, 1, code.size());
  }
  std::vector<IndexFile::Pending> rows;
  ASSERT_NO_FATAL_FAILURE(ReadPending(&rows));
  ASSERT_EQ(rows.size(), 2u);
  for (uint32_t row = 0; row < 2; ++row) {
    EXPECT_EQ(rows[row].row.tid_offset, row + 1);
    EXPECT_EQ(rows[row].row.centroid, 2u);
    ASSERT_EQ(rows[row].code.size(), 12u + kPadded);
    const auto factors = Load<CodeFactors>(rows[row].code.data());
    EXPECT_EQ(factors.a, 4.0f + static_cast<float>(row));
    EXPECT_EQ(factors.s, 0.25f);
    EXPECT_EQ(factors.e, 0.125f);
    std::vector<float> v(kPadded);
    DecodeResidual(kPadded, 8, rows[row].code.data() + 12, 1, v.data());
    for (uint32_t i = 0; i < kPadded; ++i)
      ASSERT_EQ(v[i], 2 * static_cast<float>((i + row) * 7 % 256) - 255) << row << ' ' << i;
  }
}

// 784 dimensions of 1 bit: 16 + 12 + 98 bytes are followed by 2 zeros.
TEST_F(IndexPagesTest, RowsAreOfWholeWords) {
  Dimensions(784, 1);
  Lists(3);
  ASSERT_EQ(Page(5, kGeneration, 0, 1), 1u);
  const uint32_t block = Page(6, kGeneration, 0, 63);
  Put(1, 0, block);
  Put(1, 4, block);
  Put<uint64_t>(1, 8, 63);
  for (uint32_t row = 0; row < 63; ++row) {
    PutRow(block, 128 * row, row, 1, row % 3);
    Put(block, 128 * row + 16, static_cast<float>(row));
    Put<uint8_t>(block, 128 * row + 28 + 97, static_cast<uint8_t>(row));  // dimensions 776 to 783
  }
  std::vector<IndexFile::Pending> rows;
  ASSERT_NO_FATAL_FAILURE(ReadPending(&rows));
  ASSERT_EQ(rows.size(), 63u);
  for (uint32_t row = 0; row < 63; ++row) {
    EXPECT_EQ(rows[row].row.tid_block, row);
    EXPECT_EQ(rows[row].row.list, row % 3);
    ASSERT_EQ(rows[row].code.size(), 110u);
    EXPECT_EQ(Load<float>(rows[row].code.data()), static_cast<float>(row));
    std::vector<float> v(784);
    DecodeResidual(784, 1, rows[row].code.data() + 12, 1, v.data());
    for (uint32_t i = 776; i < 784; ++i) EXPECT_EQ(v[i], (row >> (i - 776) & 1) != 0 ? 1 : -1);
  }
  Store<uint32_t>(Special(block) + 36, 64);
  EXPECT_TRUE(Fails(IndexFile(file_).ReadPending(meta_, meta_.current, &rows), StatusCode::kCorrupt, {"more rows"}));
}

// 70 bits, 9 bytes in rows of 28; and as many as there may be, of which a page holds one row. Before training and after it.
TEST_F(IndexPagesTest, RowsOfBits) {
  const struct {
    uint32_t dimensions, row_bytes, rows;
  } cases[] = {{70, 28, 290}, {64000, 8016, 1}};
  for (const bool trained : {true, false})
    for (const auto& c : cases) {
      file_.resize(8192);
      Bits(c.dimensions);
      Lists(trained ? 3 : 0);
      Put<uint64_t>(0, 144, trained ? kRoutingId : 0);
      Stream(0, 152, trained ? 1 : kNone, 0, trained ? 1 : 0);
      ASSERT_EQ(Page(5, kGeneration, 0, 1), 1u);
      const uint32_t block = Page(6, kGeneration, 0, c.rows);
      Put(1, 0, block);
      Put(1, 4, block);
      Put<uint64_t>(1, 8, c.rows);
      for (uint32_t row = 0; row < c.rows; ++row) {
        PutRow(block, size_t{c.row_bytes} * row, row, 1, trained ? row % 3 : 0);
        Put<uint8_t>(block, size_t{c.row_bytes} * row + 16, 0xc0);  // dimensions 0 and 1
        Put<uint8_t>(block, size_t{c.row_bytes} * row + 16 + 8, static_cast<uint8_t>(row % 64 << 2));  // 64 to 69
      }
      std::vector<IndexFile::Pending> rows;
      ASSERT_NO_FATAL_FAILURE(ReadPending(&rows));
      EXPECT_EQ(meta_.trained(), trained);
      EXPECT_EQ(meta_.metric, Metric::kHamming);
      EXPECT_EQ(meta_.FormatOf(meta_.current), (CodeFormat{CodeKind::kBits, 1, c.dimensions}));
      ASSERT_EQ(rows.size(), c.rows);
      for (uint32_t row = 0; row < c.rows; ++row) {
        EXPECT_EQ(rows[row].row.tid_block, row);
        ASSERT_EQ(rows[row].code.size(), (c.dimensions + 7) / 8);
        std::vector<float> values(c.dimensions);
        UnpackBits(rows[row].code.data(), c.dimensions, values.data());
        for (uint32_t i = 0; i < c.dimensions; ++i)
          ASSERT_EQ(values[i], i < 2 || (i >= 64 && i < 70 && (row >> (69 - i) & 1) != 0) ? 1 : 0) << row << ' ' << i;
      }
      Store<uint32_t>(Special(block) + 36, c.rows + 1);
      EXPECT_TRUE(Fails(IndexFile(file_).ReadPending(meta_, meta_.current, &rows), StatusCode::kCorrupt, {"more rows"}));
    }
}

// A routing with codes, over pages: its parts start anywhere in them.
TEST_F(IndexPagesTest, RoutingWithCodes) {
  Random random(3);
  Routing expected = RandomRouting(random, Metric::kL2, 24, 3000, 60);
  CodeAll(77, &expected);
  const std::vector<std::byte> encoded = expected.Encode();
  ASSERT_GT(expected.header().CodesOffset() / 8128, 0u);
  ASSERT_GT(expected.header().CentroidsOffset() / 8128, expected.header().CodesOffset() / 8128);
  Dimensions(24, 32);
  Lists(3000);
  Put<uint64_t>(0, 64, 0);  // no generation
  Stream(0, 152, Leaves(kRoutingId, encoded), 1, encoded.size());
  const IndexFile index(file_);
  ASSERT_OK(index.ReadMeta(&meta_));
  std::vector<std::byte> bytes;
  ASSERT_OK(index.ReadStream(meta_.routing_id, meta_.routing, &bytes));
  Routing routing;
  ASSERT_OK(DecodeRouting(bytes, &routing));
  EXPECT_EQ(routing.code_bits, 4u);
  EXPECT_EQ(routing.rotation_seed, 77u);
  EXPECT_EQ(routing.codes, expected.codes);
  EXPECT_EQ(routing.centroids, expected.centroids);
  EXPECT_EQ(routing.Encode(), encoded);
}

// The recall curve's pages belong to the routing, or have an owner of their own.
TEST_F(IndexPagesTest, OwnerOfTheRecallCurve) {
  Dimensions(2, 32);
  Lists(3);
  const std::vector<std::byte> curve = golden::MakeCurve().Encode();
  for (const uint64_t owner : {uint64_t{0}, uint64_t{33}}) {
    const uint32_t block = Page(3, owner == 0 ? kRoutingId : owner, 0, static_cast<uint32_t>(curve.size()));
    std::memcpy(&file_[block * size_t{8192} + 24], curve.data(), curve.size());
    Stream(0, 240, block, 0, curve.size());
    Put(0, 264, owner);
    const IndexFile index(file_);
    ASSERT_OK(index.ReadMeta(&meta_));
    std::vector<std::byte> bytes;
    ASSERT_OK(index.ReadStream(meta_.curve_owner(), meta_.recall_curve, &bytes));
    EXPECT_EQ(bytes, curve);
  }
  std::vector<std::byte> bytes;
  EXPECT_TRUE(Fails(IndexFile(file_).ReadStream(kRoutingId, meta_.recall_curve, &bytes), StatusCode::kCorrupt, {"belongs"}));
}

// Live bits of two leaves: blocks 10 and 12, then from block 70000 on.
TEST_F(IndexPagesTest, TidMapOfTwoLeaves) {
  const uint32_t first = Page(4, 7, 0, 2);
  Put<uint32_t>(first, 0, 10);
  Put<uint16_t>(first, 8, 0);      // block 10
  Put<uint16_t>(first, 10, 8126);  // its bitmap, to the end of the payload
  Put<uint16_t>(first, 12, 2);     // block 12
  Put<uint16_t>(first, 14, 8125);
  Put<uint8_t>(first, 8126, 0x81);  // offsets 1 and 8
  Put<uint8_t>(first, 8127, 0x02);  // offset 10
  Put<uint8_t>(first, 8125, 0x04);  // offset 3
  const uint32_t second = Page(4, 7, 1, 1);
  Put<uint32_t>(second, 0, 70000);
  Put<uint16_t>(second, 8, 65535);
  Put<uint16_t>(second, 10, 8127);
  Put<uint8_t>(second, 8127, 0x10);  // offset 5
  const uint32_t root = Tree(7, {{10, first}, {70000, second}});
  const IndexFile index(file_);
  std::vector<Tid> tids;
  ASSERT_OK(index.ReadTidMap(7, {root, 1, 2}, &tids));
  EXPECT_EQ(tids, (std::vector<Tid>{{10, 1}, {10, 8}, {10, 10}, {12, 3}, {135535, 5}}));
  EXPECT_TRUE(TidMapContains(index.Payload(first), 2, {10, 10}));
  EXPECT_FALSE(TidMapContains(index.Payload(first), 2, {11, 1}));
  EXPECT_TRUE(TidMapContains(index.Payload(second), 1, {135535, 5}));
}

// Who follows an older reference may still read it.
TEST_F(IndexPagesTest, DeletedPage) {
  const uint32_t block = Page(3, 7, 0, 100);
  EXPECT_OK(IndexFile(file_).Check(block, PageKind::kStream, 7));
  Store<uint16_t>(Special(block) + 10, 1);
  Store<uint64_t>(Special(block) + 24, 12345);
  EXPECT_OK(IndexFile(file_).Check(block, PageKind::kStream, 7));
  EXPECT_EQ(IndexFile(file_).Special(block).retire_xid, 12345u);
}

}  // namespace
}  // namespace ivfremote
