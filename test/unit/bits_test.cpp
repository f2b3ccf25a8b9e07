#include "core/bits.h"

#include <hwy/targets.h>

#include "core/checksum.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/search.h"
#include "core/segment_format.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

CodeFormat BitsOf(uint32_t dimensions) { return {CodeKind::kBits, 1, dimensions}; }

std::vector<float> RandomBits(Random& random, size_t n) {
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(random() >> 63);
  return values;
}

ByteVector Packed(const std::vector<float>& values) {
  ByteVector bits(PackedBytes(static_cast<uint32_t>(values.size())), std::byte{0xff});
  PackBits(values.data(), static_cast<uint32_t>(values.size()), bits.data());
  return bits;
}

uint32_t Different(const std::vector<float>& a, const std::vector<float>& b) {
  uint32_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) different += a[i] != b[i] ? 1 : 0;
  return different;
}

std::vector<uint32_t> Lengths() {
  std::vector<uint32_t> lengths;
  for (uint32_t n = 1; n <= 130; ++n) lengths.push_back(n);
  // Around a vector's bytes, and where the sums of four start.
  for (uint32_t n : {128, 256, 512, 1024, 1536, 2048, 4096}) lengths.insert(lengths.end(), {n - 1, n, n + 1});
  lengths.insert(lengths.end(), {1000, 16000, kMaxBits - 1, kMaxBits});
  return lengths;
}

TEST(Bits, AreAsPostgresHasThem) {
  EXPECT_EQ(Packed({1, 0, 0, 0, 0, 0, 0, 0}), ByteVector{std::byte{0x80}});
  EXPECT_EQ(Packed({1, 1, 0, 0, 0, 0, 0, 1, 0, 1}), (ByteVector{std::byte{0xc1}, std::byte{0x40}}));
  EXPECT_EQ(Packed(std::vector<float>(13, 1)), (ByteVector{std::byte{0xff}, std::byte{0xf8}}));
}

TEST(Bits, ComeBack) {
  Random random(71);
  for (uint32_t n : Lengths()) {
    const std::vector<float> values = RandomBits(random, n);
    ByteVector bits = Packed(values);
    std::vector<float> back(n, -1.0f);
    UnpackBits(bits.data(), n, back.data());
    EXPECT_EQ(back, values) << n;
    if (n % 8 == 0) continue;
    EXPECT_EQ(bits.back() & std::byte{0xff} >> n % 8, std::byte{0}) << n;
    bits.back() |= std::byte{0xff} >> n % 8;
    UnpackBits(bits.data(), n, back.data());
    EXPECT_EQ(back, values) << n;
  }
}

// Runs each test once for every instruction set that this machine has.
class HammingTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }

  static void Choose(int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(HammingTest, CountsTheBitsThatDiffer) {
  Random random(72);
  for (uint32_t n : Lengths()) {
    constexpr uint32_t kRows = 5;
    const std::vector<float> query = RandomBits(random, n);
    std::vector<uint32_t> expected;
    // At the end of what may be read.
    auto rows = std::make_unique<std::byte[]>(kRows * PackedBytes(n));
    for (uint32_t i = 0; i < kRows; ++i) {
      std::vector<float> row = i == 0 ? query : RandomBits(random, n);
      if (i == 1)
        for (size_t j = 0; j < n; ++j) row[j] = 1 - query[j];
      expected.push_back(Different(query, row));
      EXPECT_EQ(SquaredL2(query.data(), row.data(), n), expected.back());
      const ByteVector bits = Packed(row);
      std::copy(bits.begin(), bits.end(), rows.get() + i * bits.size());
    }
    std::vector<uint32_t> distances(kRows);
    HammingDistances(Packed(query).data(), rows.get(), PackedBytes(n), kRows, distances.data());
    EXPECT_EQ(distances, expected) << n;
    EXPECT_EQ(distances[0], 0u);
    EXPECT_EQ(distances[1], n);
  }
}

// Whichever bit it is, each counts once.
TEST_P(HammingTest, EveryBitCounts) {
  constexpr uint32_t kDimensions = 2100;
  const ByteVector query(PackedBytes(kDimensions));
  for (uint32_t i = 0; i < kDimensions; ++i) {
    ByteVector row = query;
    row[i / 8] |= std::byte{0x80} >> i % 8;
    uint32_t distance = 0;
    HammingDistances(query.data(), row.data(), row.size(), 1, &distance);
    ASSERT_EQ(distance, 1u) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, HammingTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

// -- rows

TEST(BitRows, AreCodedAsTheyAreAndDecodedExactly) {
  Random random(73);
  for (uint32_t d : {1u, 7u, 8u, 9u, 65u, 1000u}) {
    const CodeFormat format = BitsOf(d);
    EXPECT_EQ(format.RowBytes(), (d + 7) / 8);
    EXPECT_FALSE(format.coded());
    const std::vector<float> mean = UniformVector(random, d);
    const std::vector<float> centroid = UniformVector(random, d);
    const std::vector<float> row = RandomBits(random, d);
    ByteVector bytes(format.RowBytes());
    RowCoder(Metric::kHamming, format, 5, mean.data()).Encode(row.data(), centroid.data(), bytes.data());
    EXPECT_EQ(bytes, Packed(row));
    std::vector<float> values(d);
    RowToFloats(format, bytes.data(), values.data());
    EXPECT_EQ(values, row);
    std::vector<float> centred(d);
    float excess = 1;
    RowDecoder(Metric::kHamming, format, 5, mean.data()).Decode(bytes.data(), centroid.data(), centred.data(), &excess);
    EXPECT_EQ(excess, 0);
    for (uint32_t i = 0; i < d; ++i) EXPECT_EQ(centred[i], row[i] - mean[i]);
  }
}

class BitBlockTest : public testing::Test {
 protected:
  // A block of rows at TIDs (0,1), (1,1), ...
  void Build(uint32_t dimensions, uint32_t rows) {
    format_ = BitsOf(dimensions);
    rows_.clear();
    BlockBuilder builder(format_);
    for (uint32_t i = 0; i < rows; ++i) {
      rows_.push_back(RandomBits(random_, dimensions));
      builder.Add({i, 1}, Packed(rows_.back()).data());
    }
    bytes_ = builder.Finish(3, 3);
    entry_ = {0, static_cast<uint32_t>(bytes_.size()), rows, Crc32c(bytes_), 3, 3, 0};
  }

  Random random_{74};
  CodeFormat format_;
  std::vector<std::vector<float>> rows_;
  ByteVector bytes_;
  BlockEntry entry_{};
};

TEST_F(BitBlockTest, RowsAreWhereTheFormatPutsThem) {
  ASSERT_NO_FATAL_FAILURE(Build(20, 3));
  EXPECT_EQ(Load<uint8_t>(&bytes_[20]), 2);   // code kind
  EXPECT_EQ(Load<uint8_t>(&bytes_[21]), 1);   // bits
  EXPECT_EQ(Load<uint32_t>(&bytes_[24]), 64u);
  EXPECT_EQ(Load<uint32_t>(&bytes_[28]), 64u + 3 * 3);
  EXPECT_EQ(bytes_.size(), 128u);
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::ranges::equal(Bytes(bytes_).subspan(64 + 3 * i, 3), Packed(rows_[i]))) << i;
    EXPECT_EQ(Load<uint32_t>(&bytes_[73 + 6 * i]), i);
    EXPECT_EQ(Load<uint16_t>(&bytes_[77 + 6 * i]), 1);
  }
}

TEST_F(BitBlockTest, RowsComeBack) {
  for (uint32_t d : {1u, 7u, 64u, 65u, 16000u, kMaxBits})
    for (uint32_t rows : {1u, 2u, 33u}) {
      ASSERT_NO_FATAL_FAILURE(Build(d, rows));
      BlockView view;
      ASSERT_OK(DecodeBlock(bytes_, format_, entry_, &view));
      ASSERT_EQ(view.rows(), rows);
      for (uint32_t i = 0; i < rows; ++i) {
        ByteVector row(format_.RowBytes());
        view.TakeRow(format_, i, row.data());
        EXPECT_EQ(row, Packed(rows_[i])) << d << ' ' << i;
        EXPECT_EQ(view.tid(i), (Tid{i, 1}));
      }
      EXPECT_TRUE(Fails(DecodeBlock(bytes_, {CodeKind::kFloat32, 32, d}, entry_, &view), StatusCode::kCorrupt));
      EXPECT_TRUE(Fails(DecodeBlock(bytes_, {CodeKind::kRabitq, 1, d}, entry_, &view), StatusCode::kCorrupt));
    }
}

TEST_F(BitBlockTest, OtherWidthsAreUnknown) {
  ASSERT_NO_FATAL_FAILURE(Build(20, 3));
  for (int bits : {0, 2, 32}) {
    Poke(&bytes_, 21, static_cast<uint8_t>(bits));
    entry_.crc = Crc32c(bytes_);
    BlockView view;
    EXPECT_TRUE(Fails(DecodeBlock(bytes_, format_, entry_, &view), StatusCode::kUnsupported)) << bits;
  }
}

// Blocks and pending rows, with many equal distances: all exact, in their order, ties by TID.
TEST_F(BitBlockTest, AreSearchedExactly) {
  for (uint32_t d : {1u, 9u, 64u, 1000u}) {
    ASSERT_NO_FATAL_FAILURE(Build(d, 300));
    const std::vector<float> query = RandomBits(random_, d);
    SearchOptions options;
    options.metric = Metric::kHamming;
    options.format = format_;
    Search search(options, query.data());
    ASSERT_TRUE(search.exact());
    const uint32_t list = 3;
    search.SetLists({1, &list});
    SegmentEntry segment;
    segment.bytes = bytes_.size();
    const uint16_t number = search.AddSegment(segment, {entry_});
    std::memcpy(search.BufferFor(number, 0), bytes_.data(), bytes_.size());
    ASSERT_OK(search.Deliver(number, 0));
    std::vector<std::pair<uint32_t, Tid>> expected;
    for (uint32_t i = 0; i < 300; ++i) expected.push_back({Different(query, rows_[i]), {i, 1}});
    for (uint32_t i = 0; i < 100; ++i) {
      const std::vector<float> row = RandomBits(random_, d);
      // Nowhere near a boundary of words.
      ByteVector bytes = Packed(row);
      bytes.insert(bytes.begin(), 1, std::byte{0});
      ASSERT_OK(search.AddPending({i, 2}, list, &bytes[1]));
      expected.push_back({Different(query, row), {i, 2}});
    }
    search.ScorePending();
    search.StartOrder();
    std::sort(expected.begin(), expected.end());
    size_t next = 0;
    for (Candidate candidate; search.Next(&candidate); ++next) {
      ASSERT_LT(next, expected.size());
      EXPECT_EQ(candidate.distance, expected[next].first) << d << ' ' << next;
      EXPECT_EQ(candidate.tid(), expected[next].second) << d << ' ' << next;
    }
    EXPECT_EQ(next, expected.size());
    EXPECT_EQ(search.statistics().rows_scored, 400u);
    EXPECT_EQ(search.statistics().pending_rows_scored, 100u);
  }
}

// -- what else says which rows there are

TEST(BitSegment, HeaderRoundTrip) {
  SegmentHeader header;
  header.metric = Metric::kHamming;
  header.code_kind = CodeKind::kBits;
  header.bits = 1;
  header.list_count = 1;
  SegmentHeader decoded;
  for (uint32_t d : {1u, kMaxDimensions + 1, kMaxBits}) {
    header.dimensions = d;
    const ByteVector bytes = EncodeSegmentHeader(header);
    EXPECT_EQ(Load<uint8_t>(&bytes[24]), 3);
    EXPECT_EQ(Load<uint8_t>(&bytes[25]), 2);
    EXPECT_EQ(Load<uint8_t>(&bytes[26]), 1);
    ASSERT_OK(DecodeSegmentHeader(bytes, &decoded));
    EXPECT_EQ(decoded.metric, Metric::kHamming);
    EXPECT_EQ(decoded.format(), BitsOf(d));
  }
  header.dimensions = kMaxBits + 1;
  EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kCorrupt));
  // Bits by another metric, and other rows by this one.
  header.dimensions = 20;
  header.metric = Metric::kL2;
  EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kCorrupt));
  header.metric = Metric::kHamming;
  header.code_kind = CodeKind::kRabitq;
  EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kCorrupt));
  // What a library of today says to what comes next.
  header.code_kind = CodeKind::kBits;
  header.metric = static_cast<Metric>(4);
  EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kUnsupported));
  header.metric = Metric::kHamming;
  header.code_kind = static_cast<CodeKind>(3);
  EXPECT_TRUE(Fails(DecodeSegmentHeader(EncodeSegmentHeader(header), &decoded), StatusCode::kUnsupported));
}

}  // namespace
}  // namespace ivfremote
