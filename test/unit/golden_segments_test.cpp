// Segments, routings and a recall curve that were written when version 1 was frozen: every later build must read them,
// and write the same bytes for the same content.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/checksum.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/list_ranker.h"
#include "core/search.h"
#include "golden/golden.h"
#include "golden_files.h"
#include "support.h"

namespace ivfremote::golden {
namespace {

std::string NameOf(const testing::TestParamInfo<Segment>& info) { return info.param.name; }

class GoldenSegmentTest : public testing::TestWithParam<Segment> {
 protected:
  void SetUp() override {
    for (size_t part = 0;; ++part) {
      const std::string name = "segments/" + PartName(GetParam().name, part);
      if (part > 0 && !HasGoldenFile(name)) break;
      parts_.push_back(GoldenFile(name));
      ASSERT_FALSE(parts_.back().empty());
    }
    const uint64_t part_bytes = GetParam().part_bytes;
    for (size_t part = 0; part < parts_.size(); ++part) {
      bytes_.resize(part * part_bytes);
      bytes_.insert(bytes_.end(), parts_[part].begin(), parts_[part].end());
    }
    ASSERT_OK(DecodeSegmentHeader(bytes_, &header_));
    ASSERT_OK(DecodeSegmentTrailer(Bytes(bytes_).last(SegmentTrailer::kBytes), bytes_.size(), &trailer_));
    ASSERT_OK(DecodeRouting(Section(trailer_.routing), &routing_));
    ASSERT_OK(DecodeDirectory(Section(trailer_.directory), bytes_.size(), &directory_));
  }

  Bytes Section(const SegmentSection& section) const {
    const Bytes bytes = Bytes(bytes_).subspan(section.offset, section.bytes);
    EXPECT_EQ(Crc32c(bytes), section.crc);
    return bytes;
  }

  struct Row {
    uint32_t list;
    uint32_t number;              // of golden.h
    Tid tid;
    std::vector<std::byte> bytes;  // as a writer takes it
  };

  // All rows in the order of the segment, each checked to be where golden.h puts it.
  std::vector<Row> Rows() const {
    const CodeFormat format = GetParam().format();
    std::vector<Row> rows;
    for (uint32_t list = 0; list < kLists; ++list) {
      const std::vector<uint32_t> numbers = RowsOf(GetParam(), list);
      size_t next = 0;
      for (uint32_t b = 0; b < directory_.lists[list].block_count; ++b) {
        const BlockEntry& entry = directory_.blocks[directory_.lists[list].first_block + b];
        EXPECT_EQ(entry.centroid, list);
        std::vector<std::byte> block(bytes_.begin() + static_cast<ptrdiff_t>(entry.offset),
                                     bytes_.begin() + static_cast<ptrdiff_t>(entry.offset + entry.length));
        block.resize(block.size() + RangeBuffer::kSlack);
        BlockView view;
        EXPECT_OK(DecodeBlock(Bytes(block).first(entry.length), format, entry, &view));
        for (uint32_t i = 0; i < view.rows() && next < numbers.size(); ++i, ++next) {
          EXPECT_EQ(view.tid(i), TidOf(numbers[next])) << list << ' ' << i;
          rows.push_back({list, numbers[next], view.tid(i), RowBytesOf(format, view, i)});
        }
      }
      EXPECT_EQ(next, numbers.size()) << list;
    }
    return rows;
  }

  static std::vector<std::byte> RowBytesOf(const CodeFormat& format, const BlockView& view, uint32_t i) {
    std::vector<std::byte> bytes(format.RowBytes());
    if (format.kind == CodeKind::kBits) {
      std::memcpy(bytes.data(), view.bits() + i * bytes.size(), bytes.size());
      return bytes;
    }
    if (!format.coded()) {
      std::memcpy(bytes.data(), view.row(i), bytes.size());
      return bytes;
    }
    const CodedRows coded = view.coded();
    Store(bytes.data(), CodeFactors{coded.a[i], coded.s[i], coded.e[i]});
    const uint32_t group = GroupRows(format.bits);
    const uint32_t first = i / group * group;
    UnpackFromGroup(coded.codes + first / group * GroupBytes(format.padded(), format.bits, group), format.padded(),
                    format.bits, std::min(group, view.rows() - first), i - first, bytes.data() + sizeof(CodeFactors));
    return bytes;
  }

  // x - c, in routing space.
  std::vector<double> Residual(uint32_t row, uint32_t list) const {
    std::vector<float> routed(kDimensions);
    ToRoutingSpace(GetParam().metric, golden::Row(row).data(), kDimensions, routed.data());
    std::vector<double> residual(kDimensions);
    for (uint32_t j = 0; j < kDimensions; ++j) residual[j] = double{routed[j]} - Centroid(list, j);
    return residual;
  }
  double Centroid(uint32_t list, uint32_t j) const {
    return double{routing_.mean[j]} + routing_.centroids[list * kDimensions + j];
  }

  std::vector<File> parts_;
  File bytes_;
  SegmentHeader header_;
  SegmentTrailer trailer_;
  Routing routing_;
  Directory directory_;
};

double Product(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST_P(GoldenSegmentTest, SaysWhatItIs) {
  ASSERT_LT(header_.name.random, std::size(kSegments));
  const SegmentHeader expected = HeaderOf(kSegments[header_.name.random]);
  EXPECT_STREQ(kSegments[header_.name.random].name, GetParam().name);
  EXPECT_EQ(header_.version, 1);
  EXPECT_EQ(header_.required_features, 0u);
  EXPECT_EQ(header_.ignorable_features, 0u);
  EXPECT_EQ(header_.dimensions, kDimensions);
  EXPECT_EQ(header_.metric, GetParam().metric);
  EXPECT_EQ(header_.format(), GetParam().format());
  EXPECT_EQ(header_.list_count, kLists);
  EXPECT_EQ(header_.part_bytes, GetParam().part_bytes);
  EXPECT_EQ(header_.name, expected.name);
  EXPECT_EQ(header_.rotation_seed, kSeed);
  EXPECT_EQ(parts_.size() > 1, GetParam().part_bytes != 0);

  uint64_t copies = 0;
  for (uint32_t list = 0; list < kLists; ++list) copies += RowsOf(GetParam(), list).size();
  EXPECT_EQ(trailer_.rows, kRows);
  EXPECT_EQ(trailer_.copies, copies);
  EXPECT_EQ(trailer_.required_features, 0u);
  EXPECT_EQ(trailer_.ignorable_features, 0u);

  const Routing routing = MakeRouting(GetParam().metric, kLists, 2);
  EXPECT_EQ(routing_.metric, routing.metric);
  EXPECT_EQ(routing_.mean, routing.mean);
  EXPECT_EQ(routing_.radii, routing.radii);
  EXPECT_EQ(routing_.group_first, routing.group_first);
  EXPECT_EQ(routing_.group_centroids, routing.group_centroids);
  EXPECT_EQ(routing_.centroids, routing.centroids);

  ASSERT_EQ(trailer_.sample.bytes > 0, GetParam().sample_rows > 0);
  if (trailer_.sample.bytes == 0) return;
  SampleRows sample;
  ASSERT_OK(DecodeSampleRows(Section(trailer_.sample), trailer_.sample, &sample));
  EXPECT_EQ(sample.dimensions, kDimensions);
  EXPECT_EQ(sample.tids, SampleOf(GetParam()).tids);
  EXPECT_EQ(sample.rows, SampleOf(GetParam()).rows);
}

TEST_P(GoldenSegmentTest, HasItsRows) {
  const CodeFormat format = GetParam().format();
  const uint32_t padded = format.padded();
  Random random(6);
  const std::vector<float> direction = UniformVector(random, kDimensions);
  for (const Row& row : Rows()) {
    SCOPED_TRACE("row " + std::to_string(row.number) + " of list " + std::to_string(row.list));
    if (format.kind == CodeKind::kBits) {
      const std::vector<float> values = golden::Row(GetParam(), row.number);
      ASSERT_EQ(row.bytes.size(), 3u);
      for (uint32_t j = 0; j < 24; ++j)
        ASSERT_EQ((row.bytes[j / 8] & std::byte{0x80} >> j % 8) != std::byte{0}, j < kDimensions && values[j] == 1) << j;
      continue;
    }
    if (!format.coded()) {
      const std::vector<float> values = golden::Row(row.number);
      ASSERT_EQ(std::memcmp(row.bytes.data(), values.data(), row.bytes.size()), 0);
      continue;
    }
    // The factors are those of the row and its code; the code stands for the row's residual.
    const std::vector<double> residual = Residual(row.number, row.list);
    const double squared_norm = Product(residual, residual);
    std::vector<float> v(padded);
    DecodeResidual(padded, format.bits, row.bytes.data() + sizeof(CodeFactors), 1, v.data());
    std::vector<float> back(kDimensions);
    const Rotation rotation(kDimensions, padded, kSeed);
    rotation.ApplyInverse(v.data(), back.data());
    const double vu = Product({back.begin(), back.end()}, residual);
    double vv = 0;
    for (float x : v) vv += double{x} * x;
    const auto factors = Load<CodeFactors>(row.bytes.data());
    const double s = squared_norm / vu;
    EXPECT_NEAR(factors.s, s, 1e-5 * s);
    EXPECT_NEAR(factors.e, std::sqrt(std::max(0.0, s * s * vv - squared_norm) / (padded - 1)),
                1e-4 * std::sqrt(squared_norm));
    double a = squared_norm;
    if (GetParam().metric == Metric::kInnerProduct) {
      a = 0;
      for (uint32_t j = 0; j < kDimensions; ++j) a += residual[j] * Centroid(row.list, j);
    }
    EXPECT_NEAR(factors.a, a, 1e-5 * (squared_norm + std::abs(a)));
    EXPECT_GT(vu / std::sqrt(vv * squared_norm), format.bits == 1 ? 0.6 : format.bits == 2 ? 0.85 : 0.98);
  }
}

// The bounds of a query that is no row, to their formula, and never far above the truth.
TEST_P(GoldenSegmentTest, IsScored) {
  const CodeFormat format = GetParam().format();
  if (!format.coded()) return;
  const bool product = GetParam().metric == Metric::kInnerProduct;
  const std::vector<float> query = golden::Row(5000);
  std::vector<float> routed(kDimensions);
  ToRoutingSpace(GetParam().metric, query.data(), kDimensions, routed.data());
  const uint32_t padded = format.padded();
  constexpr double kEpsilon = 1.5;
  QueryCoder coder(GetParam().metric, format, query.data(), kSeed, routing_.mean.data());
  CodeScorer scorer(GetParam().metric, padded, format.bits, kEpsilon);
  std::vector<float> y(padded);
  for (const Row& row : Rows()) {
    SCOPED_TRACE("row " + std::to_string(row.number) + " of list " + std::to_string(row.list));
    const QueryResidual residual = coder.Residual(&routing_.centroids[row.list * kDimensions], y.data());
    scorer.SetQuery(residual);
    std::vector<std::byte> block(CodedRowsBytes(format, 1) + RangeBuffer::kSlack);
    PutCodedRows(format, row.bytes.data(), 1, block.data());
    float bound;
    scorer.Score(ViewCodedRows(block.data(), 1), &bound);

    const auto factors = Load<CodeFactors>(row.bytes.data());
    std::vector<float> v(padded);
    DecodeResidual(padded, format.bits, row.bytes.data() + sizeof(CodeFactors), 1, v.data());
    const double vy = Product({v.begin(), v.end()}, {y.begin(), y.end()});
    const double squared_norm = Product({y.begin(), y.end()}, {y.begin(), y.end()});
    const double error = factors.e * std::sqrt(squared_norm);
    const double estimate = product ? -(residual.centroid_product + residual.alpha * factors.a + factors.s * vy)
                                    : factors.a + squared_norm - 2 * factors.s * vy;
    const double unit = product ? 1 : 2;
    const double rounding = 0.02 * (squared_norm + std::abs(factors.a)) / (1 << format.bits);
    EXPECT_NEAR(bound, estimate - kEpsilon * unit * error, rounding);
    double truth = 0;
    const std::vector<double> x = Residual(row.number, row.list);
    for (uint32_t j = 0; j < kDimensions; ++j) {
      const double value = x[j] + Centroid(row.list, j);
      truth += product ? -value * routed[j] : (value - routed[j]) * (value - routed[j]);
    }
    EXPECT_NEAR(estimate, truth, 5 * unit * error + 1e-4 * squared_norm);
  }
}

// A search of all lists gives every row once, and exact distances in their order.
TEST_P(GoldenSegmentTest, IsSearched) {
  const CodeFormat format = GetParam().format();
  const std::vector<float> query = golden::Row(GetParam(), 5000);
  SearchOptions options;
  options.metric = GetParam().metric;
  options.format = format;
  options.rotation_seed = kSeed;
  options.epsilon = 1.9;
  options.routing_mean = routing_.mean.data();
  Search search(options, query.data());
  std::vector<uint32_t> lists(kLists);
  for (uint32_t list = 0; list < kLists; ++list) lists[list] = list;
  // As they are stored.
  const Bytes encoded = Section(trailer_.routing);
  const RoutingHeader routing = routing_.header();
  std::vector<uint16_t> centroids(kLists * kDimensions);
  std::memcpy(centroids.data(), &encoded[routing.CentroidsOffset()], centroids.size() * sizeof(uint16_t));
  search.SetLists({kLists, lists.data(), nullptr, centroids.data(), routing.scale()});
  SegmentEntry entry;
  entry.flags = GetParam().spilled ? SegmentEntry::kSpilled : 0;
  entry.bytes = bytes_.size();
  const uint16_t number = search.AddSegment(entry, directory_.blocks);
  for (size_t i = 0; i < search.RangesOf(number).size(); ++i) {
    const PlannedRange range = search.RangesOf(number)[i];
    std::memcpy(search.BufferFor(number, i), &bytes_[range.offset], range.length);
    ASSERT_OK(search.Deliver(number, i));
  }
  search.ScorePending();
  search.StartOrder();
  std::set<Tid> tids;
  double previous = -std::numeric_limits<double>::infinity();
  for (Candidate candidate; search.Next(&candidate); previous = candidate.distance) {
    EXPECT_TRUE(tids.insert(candidate.tid()).second) << testing::PrintToString(candidate.tid());
    EXPECT_LE(previous, candidate.distance);
    if (!search.exact()) continue;
    for (uint32_t row = 0; row < kRows; ++row)
      if (TidOf(row) == candidate.tid()) {
        EXPECT_EQ(candidate.distance, Scorer(GetParam().metric, query.data(), kDimensions).Distance(golden::Row(GetParam(), row).data()));
      }
  }
  EXPECT_EQ(tids.size(), kRows);
}

// If this fails, the format has changed: what is written now is not version 1.
TEST_P(GoldenSegmentTest, IsWrittenTheSameToday) {
  SegmentWriter writer(header_, &routing_);
  for (const Row& row : Rows()) ASSERT_OK(writer.Add(row.list, row.list, row.tid, row.bytes.data()));
  writer.SetSample(SampleOf(GetParam()));
  ASSERT_OK(writer.Finish(kRows));
  EXPECT_EQ(Parts(writer.TakeOutput(), header_.part_bytes), parts_);
}

// Of one bit there is one code for a row, on every machine.
TEST_P(GoldenSegmentTest, OneBitIsCodedTheSameToday) {
  if (GetParam().bits != 1 || !GetParam().format().coded()) return;
  RowCoder coder(GetParam().metric, GetParam().format(), kSeed, routing_.mean.data());
  std::vector<std::byte> bytes(GetParam().format().RowBytes());
  for (const Row& row : Rows()) {
    coder.Encode(golden::Row(row.number).data(), &routing_.centroids[row.list * kDimensions], bytes.data());
    ASSERT_TRUE(std::equal(bytes.begin() + sizeof(CodeFactors), bytes.end(), row.bytes.begin() + sizeof(CodeFactors)))
        << row.number;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenSegmentTest, testing::ValuesIn(kSegments), NameOf);

TEST(GoldenRouting, HasItsCentroids) {
  const Routing expected = MakeRouting(Metric::kCosine, 40, 5);
  for (const char* name : {"segments/plain.routing", "segments/coded.routing"}) {
    const File bytes = GoldenFile(name);
    Routing routing;
    ASSERT_OK(DecodeRouting(bytes, &routing)) << name;
    EXPECT_EQ(routing.metric, Metric::kCosine);
    EXPECT_EQ(routing.exponent, expected.exponent);
    EXPECT_EQ(routing.mean, expected.mean);
    EXPECT_EQ(routing.radii, expected.radii);
    EXPECT_EQ(routing.group_first, expected.group_first);
    EXPECT_EQ(routing.group_centroids, expected.group_centroids);
    EXPECT_EQ(routing.centroids, expected.centroids);
    EXPECT_EQ(routing.code_bits, std::string(name) == "segments/coded.routing" ? 4u : 0u);
    EXPECT_EQ(routing.Encode(), bytes) << name << ": the format has changed";
  }
}

// The codes lead to the lists that the centroids lead to.
TEST(GoldenRouting, CodesAreOfTheCentroids) {
  Routing plain;
  Routing coded;
  ASSERT_OK(DecodeRouting(GoldenFile("segments/plain.routing"), &plain));
  ASSERT_OK(DecodeRouting(GoldenFile("segments/coded.routing"), &coded));
  EXPECT_EQ(coded.rotation_seed, kSeed);
  for (uint32_t number = 5000; number < 5020; ++number) {
    const std::vector<float> query = golden::Row(number);
    std::vector<RankedList> lists[2];
    for (int i = 0; i < 2; ++i) {
      ListRanker ranker(i == 0 ? &plain : &coded, query.data(), {kAdaptiveRule, 5, kAnyStop});
      RoutingRange range;
      ASSERT_FALSE(ranker.Next(&range));
      ranker.Rank(kAdaptiveRule, &lists[i]);
    }
    ASSERT_EQ(lists[0].size(), 5u);
    ASSERT_EQ(lists[1].size(), 5u);
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(lists[1][i].list, lists[0][i].list) << number << ' ' << i;
  }
}

TEST(GoldenCurve, HasItsPoints) {
  const File bytes = GoldenFile("segments/example.curve");
  const RecallCurve expected = MakeCurve();
  RecallCurve curve;
  ASSERT_OK(DecodeRecallCurve(bytes, &curve));
  EXPECT_EQ(curve.rule.radius_weight, expected.rule.radius_weight);
  EXPECT_EQ(curve.rule.ratio_weight, expected.rule.ratio_weight);
  EXPECT_EQ(curve.queries, expected.queries);
  EXPECT_EQ(curve.from_queries, expected.from_queries);
  EXPECT_EQ(curve.bound_loss, expected.bound_loss);
  ASSERT_EQ(curve.points.size(), expected.points.size());
  EXPECT_EQ(std::memcmp(curve.points.data(), expected.points.data(), curve.points.size() * sizeof(CurvePoint)), 0);
  EXPECT_EQ(curve.Encode(), bytes) << "the format has changed";
}

// The files themselves are never written again.
TEST(GoldenFiles, AreWhatTheyWere) {
  const std::map<std::string, std::string> manifest = GoldenManifest();
  EXPECT_GT(manifest.size(), 20u);
  uint64_t bytes = 0;
  for (const std::string& name : GoldenFileNames()) {
    ASSERT_TRUE(manifest.contains(name)) << name << " is not in the manifest";
    const File file = GoldenFile(name);
    char text[64];
    std::snprintf(text, sizeof text, "%08x %zu", Crc32c(file), file.size());
    EXPECT_EQ(manifest.at(name), text) << name;
    bytes += file.size();
  }
  for (const auto& [name, content] : manifest) EXPECT_TRUE(HasGoldenFile(name)) << name << " is missing";
  EXPECT_LT(bytes, 600000u);
}

}  // namespace
}  // namespace ivfremote::golden
