#include "core/routing.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "core/page_format.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

Routing RandomRouting(Random& random, Metric metric, uint32_t dimensions, uint32_t lists, uint32_t groups) {
  Routing routing;
  routing.dimensions = dimensions;
  routing.metric = metric;
  routing.mean = UniformVector(random, dimensions);
  routing.radii = UniformVector(random, lists);
  for (float& radius : routing.radii) radius = std::abs(radius);
  for (uint32_t g = 0; g <= groups; ++g)
    routing.group_first.push_back(static_cast<uint32_t>(uint64_t{lists} * g / groups));
  routing.group_centroids = UniformVector(random, size_t{groups} * dimensions);
  routing.centroids = UniformVector(random, size_t{lists} * dimensions);
  return routing;
}

// -- bytes

TEST(RoutingFormat, RoundTrip) {
  Random random(5);
  const Routing example = RandomRouting(random, Metric::kCosine, 7, 20, 4);
  const ByteVector bytes = example.Encode();
  Routing routing;
  ASSERT_OK(DecodeRouting(bytes, &routing));
  EXPECT_EQ(routing.dimensions, 7u);
  EXPECT_EQ(routing.metric, Metric::kCosine);
  EXPECT_EQ(routing.mean, example.mean);
  EXPECT_EQ(routing.radii, example.radii);
  EXPECT_EQ(routing.group_first, example.group_first);
  EXPECT_EQ(routing.group_centroids, example.group_centroids);
  EXPECT_EQ(routing.centroids, example.centroids);
  EXPECT_EQ(routing.list_count(), 20u);
  EXPECT_EQ(routing.group_count(), 4u);
  EXPECT_EQ(routing.Encode(), bytes);
}

TEST(RoutingFormat, FieldsAreWhereTheFormatPutsThem) {
  Random random(6);
  const Routing routing = RandomRouting(random, Metric::kInnerProduct, 3, 5, 2);
  const ByteVector bytes = routing.Encode();
  EXPECT_EQ(Text(Bytes(bytes).first(4)), "ROUT");
  EXPECT_EQ(Load<uint16_t>(&bytes[4]), 0);  // version
  EXPECT_EQ(Load<uint8_t>(&bytes[6]), 1);   // metric
  EXPECT_EQ(Load<uint8_t>(&bytes[7]), 0);   // float32 centroids
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 3u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 5u);
  EXPECT_EQ(Load<uint32_t>(&bytes[24]), 2u);
  const RoutingHeader header = routing.header();
  EXPECT_EQ(header.MeanOffset(), 64u);
  EXPECT_EQ(header.RadiiOffset(), 76u);
  EXPECT_EQ(header.GroupsOffset(), 96u);
  EXPECT_EQ(header.GroupCentroidsOffset(), 108u);
  EXPECT_EQ(header.CentroidsOffset(), 132u);
  EXPECT_EQ(header.EncodedBytes(), 192u);
  EXPECT_EQ(bytes.size(), 192u);
  EXPECT_EQ(Load<float>(&bytes[64]), routing.mean[0]);
  EXPECT_EQ(Load<float>(&bytes[76]), routing.radii[0]);
  EXPECT_EQ(Load<uint32_t>(&bytes[104]), 5u);
  EXPECT_EQ(Load<float>(&bytes[108]), routing.group_centroids[0]);
  EXPECT_EQ(Load<float>(&bytes[188]), routing.centroids[14]);
}

TEST(RoutingFormat, LargestRoutingsDoNotOverflow) {
  const RoutingHeader header{kMaxDimensions, Metric::kL2, kMaxLists, kMaxLists};
  EXPECT_EQ(header.EncodedBytes(), 64 + uint64_t{kMaxDimensions} * 4 + uint64_t{kMaxLists} * 4 +
                                       (uint64_t{kMaxLists} + 1) * 4 + 2 * uint64_t{kMaxLists} * kMaxDimensions * 4);
}

TEST(RoutingFormat, EveryOtherLengthIsNoticed) {
  Random random(7);
  ByteVector bytes = RandomRouting(random, Metric::kL2, 3, 5, 2).Encode();
  const size_t right = bytes.size();
  bytes.resize(right + 64);
  Routing routing;
  for (size_t length = 0; length <= bytes.size(); ++length) {
    if (length == right) continue;
    EXPECT_TRUE(Fails(DecodeRouting(Bytes(bytes).first(length), &routing), StatusCode::kCorrupt)) << length;
  }
}

TEST(RoutingFormat, NewerVersionIsNamed) {
  Random random(8);
  ByteVector bytes = RandomRouting(random, Metric::kL2, 3, 5, 2).Encode();
  Poke<uint16_t>(&bytes, 4, 3);
  Routing routing;
  EXPECT_TRUE(Fails(DecodeRouting(bytes, &routing), StatusCode::kUnsupported, {"version 3", "up to 0"}));
}

TEST(RoutingFormat, ImpossibleFields) {
  const struct {
    const char* what;
    size_t at;
    size_t width;
    uint32_t value;
    StatusCode code;
  } cases[] = {
      {"magic", 0, 4, 0, StatusCode::kCorrupt},
      {"version", 4, 2, 1, StatusCode::kUnsupported},
      {"metric", 6, 1, 3, StatusCode::kCorrupt},
      {"coded centroids", 7, 1, 1, StatusCode::kUnsupported},
      {"required feature", 8, 4, 1, StatusCode::kUnsupported},
      {"last required feature", 8, 4, 0x80000000, StatusCode::kUnsupported},
      {"ignorable feature", 12, 4, 1, StatusCode::kOk},
      {"no dimensions", 16, 4, 0, StatusCode::kCorrupt},
      {"other dimensions", 16, 4, 4, StatusCode::kCorrupt},
      {"too many dimensions", 16, 4, kMaxDimensions + 1, StatusCode::kCorrupt},
      {"no lists", 20, 4, 0, StatusCode::kCorrupt},
      {"more lists", 20, 4, 6, StatusCode::kCorrupt},
      {"too many lists", 20, 4, kMaxLists + 1, StatusCode::kCorrupt},
      {"no groups", 24, 4, 0, StatusCode::kCorrupt},
      {"more groups than lists", 24, 4, 6, StatusCode::kCorrupt},
      {"first group that does not start at 0", 96, 4, 1, StatusCode::kCorrupt},
      {"group that ends before it starts", 100, 4, 6, StatusCode::kCorrupt},
      {"groups that end before the last list", 104, 4, 4, StatusCode::kCorrupt},
      {"groups that end after the last list", 104, 4, 6, StatusCode::kCorrupt},
      {"an empty group", 100, 4, 0, StatusCode::kOk},
  };
  Random random(9);
  const ByteVector good = RandomRouting(random, Metric::kL2, 3, 5, 2).Encode();
  for (const auto& c : cases) {
    ByteVector bytes = good;
    std::memcpy(&bytes[c.at], &c.value, c.width);
    Routing routing;
    EXPECT_EQ(DecodeRouting(bytes, &routing).code(), c.code) << c.what;
  }
}

// -- routing space

TEST(RoutingSpace, OnlyCosineNormalises) {
  const float row[] = {3, 0, 4};
  float out[3];
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
    ASSERT_TRUE(ToRoutingSpace(metric, row, 3, out));
    EXPECT_EQ(std::vector<float>(out, out + 3), (std::vector<float>{3, 0, 4}));
  }
  ASSERT_TRUE(ToRoutingSpace(Metric::kCosine, row, 3, out));
  EXPECT_EQ(std::vector<float>(out, out + 3), (std::vector<float>{0.6f, 0, 0.8f}));
}

TEST(RoutingSpace, InPlace) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    float row[] = {0, 2};
    ASSERT_TRUE(ToRoutingSpace(metric, row, 2, row));
    EXPECT_EQ(row[1], metric == Metric::kCosine ? 1.0f : 2.0f);
  }
}

TEST(RoutingSpace, ZeroHasNoDirection) {
  const float zero[] = {0.0f, -0.0f};
  float out[2];
  EXPECT_FALSE(ToRoutingSpace(Metric::kCosine, zero, 2, out));
  EXPECT_TRUE(ToRoutingSpace(Metric::kL2, zero, 2, out));
}

TEST(RoutingSpace, TinyAndHugeRowsHaveADirection) {
  for (float value : {1e-45f, 1e-38f, 1e38f, FLT_MAX}) {
    const std::vector<float> row(100, value);
    std::vector<float> out(100);
    ASSERT_TRUE(ToRoutingSpace(Metric::kCosine, row.data(), 100, out.data()));
    for (float x : out) ASSERT_FLOAT_EQ(x, 0.1f) << value;
  }
}

// -- ranking

// Lists best first by definition: no SIMD, no pages.
std::vector<uint32_t> BruteForce(const Routing& routing, const std::vector<float>& user_query, bool nearest) {
  const size_t d = routing.dimensions;
  std::vector<long double> query(user_query.begin(), user_query.end());
  long double norm = 0;
  for (long double x : query) norm += x * x;
  norm = std::sqrt(norm);
  if (routing.metric == Metric::kCosine) {
    for (long double& x : query) x = static_cast<float>(x / norm);
    norm = 1;
  }
  std::vector<long double> scores(routing.list_count());
  for (size_t list = 0; list < scores.size(); ++list) {
    long double distance = 0;
    long double product = 0;
    for (size_t j = 0; j < d; ++j) {
      const long double centroid = routing.centroids[list * d + j];
      const long double residual = static_cast<float>(query[j] - routing.mean[j]);
      distance += (residual - centroid) * (residual - centroid);
      product += query[j] * centroid;
    }
    scores[list] = routing.metric == Metric::kInnerProduct && !nearest
                       ? -product - 2 * norm / std::sqrt(static_cast<long double>(d)) * routing.radii[list]
                       : distance;
  }
  std::vector<uint32_t> lists(scores.size());
  std::iota(lists.begin(), lists.end(), 0u);
  std::stable_sort(lists.begin(), lists.end(), [&](uint32_t a, uint32_t b) { return scores[a] < scores[b]; });
  return lists;
}

// A way to cut a routing's bytes into what Feed gets; the first piece holds the header.
struct Cut {
  std::string name;
  std::vector<size_t> pieces;  // repeated
};

Status FeedIn(const Cut& cut, const ByteVector& bytes, ListRanker* ranker) {
  size_t piece = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = std::min(bytes.size() - at, cut.pieces[piece++ % cut.pieces.size()]);
    IVFREMOTE_RETURN_IF_ERROR(ranker->Feed(Bytes(bytes).subspan(at, length)));
    at += length;
  }
  return Status::Ok();
}

const Cut kWhole{"whole", {~size_t{0}}};
const Cut kPages{"pages", {kPayloadBytes}};

// The best `count` lists by distance alone.
Status Best(ListRanker* ranker, uint32_t count, std::vector<uint32_t>* lists) {
  std::vector<RankedList> ranked;
  IVFREMOTE_RETURN_IF_ERROR(ranker->Rank(ProbeRule(), count, kAnyStop, &ranked));
  lists->clear();
  for (const RankedList& list : ranked) lists->push_back(list.list);
  return Status::Ok();
}

class ListRankerTest : public testing::TestWithParam<std::tuple<Metric, uint32_t>> {};

TEST_P(ListRankerTest, EqualsBruteForceHoweverTheBytesCome) {
  const auto [metric, dimensions] = GetParam();
  Random random(10 + dimensions);
  const uint32_t lists = dimensions > 1000 ? 20 : 150;
  const Routing routing = RandomRouting(random, metric, dimensions, lists, 12);
  const ByteVector bytes = routing.Encode();
  const Cut cuts[] = {kWhole,
                      kPages,
                      {"just the header first", {64, ~size_t{0}}},
                      {"odd", {4 * 17, 4 * 1, 4 * 33, 4 * 101}},
                      {"rows", {64, dimensions * sizeof(float)}},
                      {"a float more than a row", {64, (dimensions + 1) * sizeof(float)}}};
  for (int i = 0; i < 3; ++i) {
    std::vector<float> query = UniformVector(random, dimensions);
    // Far from all lists the order of the nearest says little; most queries are near one.
    if (i > 0)
      for (uint32_t j = 0; j < dimensions; ++j)
        query[j] = routing.mean[j] + routing.centroids[size_t(i) * dimensions + j] + 0.1f * query[j];
    const std::vector<uint32_t> expected = BruteForce(routing, query, false);
    for (const Cut& cut : cuts) {
      SCOPED_TRACE(cut.name);
      ListRanker ranker(metric, query.data(), dimensions);
      ASSERT_OK(FeedIn(cut, bytes, &ranker));
      std::vector<uint32_t> best;
      ASSERT_OK(Best(&ranker, lists, &best));
      EXPECT_EQ(best, expected);
      ASSERT_OK(Best(&ranker, 5, &best));
      EXPECT_EQ(best, std::vector<uint32_t>(expected.begin(), expected.begin() + 5));
      uint32_t nearest = ~0u;
      ASSERT_OK(ranker.Nearest(&nearest));
      EXPECT_EQ(nearest, BruteForce(routing, query, true).front());
    }
  }
}

std::string NameOf(const testing::TestParamInfo<std::tuple<Metric, uint32_t>>& info) {
  const char* const metrics[] = {"L2", "InnerProduct", "Cosine"};
  return metrics[static_cast<size_t>(std::get<0>(info.param))] + std::to_string(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Widths, ListRankerTest,
                         testing::Combine(testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine),
                                          testing::Values(1u, 3u, 100u, 784u, kMaxDimensions)),
                         NameOf);

class RankingTest : public testing::Test {
 protected:
  // One dimension, mean 0, one group: centroids and radii as given.
  void Lists(std::vector<float> centroids, std::vector<float> radii = {}) {
    routing_.dimensions = 1;
    routing_.mean = {0};
    routing_.radii = radii.empty() ? std::vector<float>(centroids.size(), 0.0f) : std::move(radii);
    routing_.group_first = {0, static_cast<uint32_t>(centroids.size())};
    routing_.group_centroids = {0};
    routing_.centroids = std::move(centroids);
  }

  std::vector<uint32_t> Best(Metric metric, float query, uint32_t count) {
    routing_.metric = metric;
    ListRanker ranker(metric, &query, 1);
    EXPECT_OK(ranker.Feed(routing_.Encode()));
    std::vector<uint32_t> lists;
    EXPECT_OK(ivfremote::Best(&ranker, count, &lists));
    return lists;
  }

  Routing routing_;
};

using Order = std::vector<uint32_t>;

TEST_F(RankingTest, TiesByListNumber) {
  Lists({5, 1, 3, 1, 3, 1});
  EXPECT_EQ(Best(Metric::kL2, 2, 6), (Order{1, 2, 3, 4, 5, 0}));
  EXPECT_EQ(Best(Metric::kL2, 2, 3), (Order{1, 2, 3}));
  EXPECT_EQ(Best(Metric::kInnerProduct, 1, 6), (Order{0, 2, 4, 1, 3, 5}));
}

TEST_F(RankingTest, TiesByListNumberAcrossPages) {
  Random random(11);
  Routing routing = RandomRouting(random, Metric::kL2, 50, 200, 10);
  for (float& x : routing.centroids) x = std::round(x * 4);  // sums of these are exact
  for (size_t list = 100; list < 200; ++list)
    std::copy_n(&routing.centroids[(list - 100) * 50], 50, &routing.centroids[list * 50]);
  routing.mean.assign(50, 0.0f);
  const std::vector<float> query(50, 0.5f);
  ListRanker ranker(Metric::kL2, query.data(), 50);
  ASSERT_OK(FeedIn(kPages, routing.Encode(), &ranker));
  std::vector<uint32_t> lists;
  ASSERT_OK(ivfremote::Best(&ranker, 200, &lists));
  EXPECT_EQ(lists, BruteForce(routing, query, false));
}

// As an insert does: the groups, then the lists of the nearest of them.
TEST_F(RankingTest, NearestThroughGroups) {
  Random random(7);
  for (uint32_t groups : {1u, 5u, 8u, 30u}) {
    const Routing routing = RandomRouting(random, Metric::kL2, 24, 120, groups);
    const ByteVector bytes = routing.Encode();
    for (int i = 0; i < 20; ++i) {
      // A centroid of some group is nearest to itself, and its group is among the nearest where groups are compact;
      // with 8 groups or fewer all are looked at.
      std::vector<float> query(24);
      for (float& value : query) value = static_cast<float>(Below(random, 1000)) / 500.0f - 1;
      ListRanker all(Metric::kL2, query.data(), 24);
      ASSERT_OK(all.Feed(bytes));
      uint32_t expected = 0;
      ASSERT_OK(all.Nearest(&expected));

      ListRanker some(Metric::kL2, query.data(), 24);
      ASSERT_OK(some.Feed(Bytes(bytes).first(RoutingHeader::kBytes)));
      const auto prefix = static_cast<size_t>(some.centroids_offset());
      ASSERT_OK(some.Feed(Bytes(bytes).subspan(RoutingHeader::kBytes, prefix - RoutingHeader::kBytes)));
      std::vector<RoutingRange> ranges;
      ASSERT_OK(some.NearestGroups(8, &ranges));
      ASSERT_LE(ranges.size(), std::min(groups, 8u));
      uint32_t nearest = 0;
      EXPECT_TRUE(Fails(some.Nearest(&nearest), StatusCode::kCorrupt));
      uint64_t lists = 0;
      for (const RoutingRange& range : ranges) {
        ASSERT_OK(some.FeedCentroids(range, Bytes(bytes).subspan(range.offset, range.length)));
        lists += range.length / (24 * sizeof(float));
      }
      ASSERT_OK(some.Nearest(&nearest));
      if (groups <= 8) {
        EXPECT_EQ(lists, 120u);
        EXPECT_EQ(nearest, expected);
      } else {
        EXPECT_LT(lists, 120u);
      }
    }
  }
}

TEST_F(RankingTest, CountBeyondTheLists) {
  Lists({1, 2, 3});
  EXPECT_EQ(Best(Metric::kL2, 3, 100), (Order{2, 1, 0}));
  EXPECT_EQ(Best(Metric::kL2, 3, ~0u), (Order{2, 1, 0}));
  EXPECT_EQ(Best(Metric::kL2, 3, 0), Order{});
}

// A wide list may hold rows with larger products than a narrow list further along the query.
TEST_F(RankingTest, InnerProductPrefersWideLists) {
  Lists({1, 2}, {0, 0});
  EXPECT_EQ(Best(Metric::kInnerProduct, 1, 2), (Order{1, 0}));
  Lists({1, 2}, {1, 0});
  EXPECT_EQ(Best(Metric::kInnerProduct, 1, 2), (Order{0, 1}));
  EXPECT_EQ(Best(Metric::kL2, 2, 2), (Order{1, 0}));
}

TEST_F(RankingTest, CosineLooksAtDirectionsOnly) {
  Lists({1, -1});
  EXPECT_EQ(Best(Metric::kCosine, 1e-40f, 1), Order{0});
  EXPECT_EQ(Best(Metric::kCosine, -1e38f, 1), Order{1});
  EXPECT_EQ(Best(Metric::kCosine, 0, 2), (Order{0, 1}));  // no direction: all the same
}

TEST_F(RankingTest, HugeValuesAreStillRanked) {
  Lists({-FLT_MAX, 0, FLT_MAX});
  routing_.mean = {-FLT_MAX};
  EXPECT_EQ(Best(Metric::kL2, FLT_MAX, 3), (Order{2, 1, 0}));
  EXPECT_EQ(Best(Metric::kInnerProduct, FLT_MAX, 3), (Order{2, 1, 0}));
}

// -- rules

std::vector<float> StopsOf(const std::vector<RankedList>& lists) {
  std::vector<float> stops;
  for (const RankedList& list : lists) stops.push_back(list.stop);
  return stops;
}

// With no weights the threshold is a number of lists.
// Damaged bytes.
TEST_F(RankingTest, WhatIsNotANumberComesLast) {
  std::vector<float> centroids;
  Order order;
  for (uint32_t i = 0; i < 100; ++i) centroids.push_back(i % 3 == 0 ? NAN : static_cast<float>(i));
  for (uint32_t i = 0; i < 100; ++i)
    if (i % 3 != 0) order.push_back(i);
  Order reversed(order.rbegin(), order.rend());
  for (uint32_t i = 0; i < 100; i += 3) {
    order.push_back(i);
    reversed.push_back(i);
  }
  Lists(centroids);
  EXPECT_EQ(Best(Metric::kL2, 0, 100), order);
  EXPECT_EQ(Best(Metric::kInnerProduct, 1, 100), reversed);
}

TEST_F(RankingTest, StopValuesOfDistanceAlone) {
  Random random(13);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    const Routing routing = RandomRouting(random, metric, 20, 60, 5);
    const std::vector<float> query = UniformVector(random, 20);
    ListRanker ranker(metric, query.data(), 20);
    ASSERT_OK(ranker.Feed(routing.Encode()));
    std::vector<RankedList> lists;
    ASSERT_OK(ranker.Rank({0, 0}, 60, kAnyStop, &lists));
    const std::vector<uint32_t> expected = BruteForce(routing, query, false);
    for (size_t j = 0; j < 60; ++j) {
      EXPECT_EQ(lists[j].list, expected[j]);
      EXPECT_FLOAT_EQ(lists[j].stop, static_cast<float>(std::log(1.0 + static_cast<double>(j))));
    }
  }
}

TEST_F(RankingTest, AdaptiveRuleByDefinition) {
  Random random(14);
  for (Metric metric : {Metric::kL2, Metric::kCosine})
    for (const ProbeRule& rule : {kAdaptiveRule, ProbeRule{1, 0}, ProbeRule{0, 8}, ProbeRule{2.5f, 1}})
      for (int i = 0; i < 5; ++i) {
        Routing routing = RandomRouting(random, metric, 20, 60, 5);
        for (float& radius : routing.radii) radius *= 5;
        std::vector<float> query = UniformVector(random, 20);
        ListRanker ranker(metric, query.data(), 20);
        ASSERT_OK(ranker.Feed(routing.Encode()));

        ASSERT_TRUE(ToRoutingSpace(metric, query.data(), 20, query.data()));
        std::vector<std::pair<double, uint32_t>> scores;
        for (uint32_t list = 0; list < 60; ++list) {
          double score = 0;
          for (uint32_t j = 0; j < 20; ++j)
            score += std::pow(double{query[j]} - routing.mean[j] - routing.centroids[list * 20 + j], 2);
          scores.push_back({score + rule.radius_weight * std::pow(routing.radii[list], 2), list});
        }
        std::sort(scores.begin(), scores.end());
        // No list counts as nearer than what its rows' spread adds on average.
        double floor = 0;
        for (float radius : routing.radii) floor += rule.radius_weight * radius * radius / 60;
        for (uint32_t count : {1u, 7u, 60u, 1000u}) {
          std::vector<RankedList> lists;
          ASSERT_OK(ranker.Rank(rule, count, kAnyStop, &lists));
          ASSERT_EQ(lists.size(), std::min(count, 60u));
          for (size_t j = 0; j < lists.size(); ++j) {
            EXPECT_EQ(lists[j].list, scores[j].second);
            const double ratio = std::max(scores[j].first, floor) / std::max(scores[0].first, floor);
            EXPECT_NEAR(lists[j].stop, std::log(1.0 + static_cast<double>(j)) + rule.ratio_weight * std::log(ratio), 1e-4);
          }
          const std::vector<float> stops = StopsOf(lists);
          EXPECT_TRUE(std::is_sorted(stops.begin(), stops.end()));
          // A threshold leaves the lists up to it, and the best in any case.
          for (const float stop : {0.0f, stops[stops.size() / 2], 3.0f, stops.back()}) {
            std::vector<RankedList> near;
            ASSERT_OK(ranker.Rank(rule, count, stop, &near));
            const auto end = std::upper_bound(stops.begin(), stops.end(), stop);
            ASSERT_EQ(near.size(), std::max<size_t>(1, static_cast<size_t>(end - stops.begin())));
            for (size_t j = 0; j < near.size(); ++j) EXPECT_EQ(near[j].list, lists[j].list);
          }
        }
      }
}

TEST_F(RankingTest, AdaptiveStopsByHand) {
  Lists({0, 3, -4, 20}, {1, 1, 1, 1});
  const float query = 0;
  ListRanker ranker(Metric::kL2, &query, 1);
  ASSERT_OK(ranker.Feed(routing_.Encode()));
  std::vector<RankedList> lists;
  ASSERT_OK(ranker.Rank(kAdaptiveRule, 4, kAnyStop, &lists));
  const double scores[] = {0.3, 9.3, 16.3, 400.3};
  for (size_t j = 0; j < 4; ++j) {
    EXPECT_EQ(lists[j].list, j);
    EXPECT_NEAR(lists[j].stop, std::log(1.0 + static_cast<double>(j)) + 4 * std::log(scores[j] / scores[0]), 1e-4);
  }
  // A wide list comes after a narrow one that is a little further away.
  Lists({2, -2.1f}, {3, 0});
  ListRanker wide(Metric::kL2, &query, 1);
  ASSERT_OK(wide.Feed(routing_.Encode()));
  ASSERT_OK(wide.Rank({0, 0}, 2, kAnyStop, &lists));
  EXPECT_EQ(lists[0].list, 0u);
  ASSERT_OK(wide.Rank(kAdaptiveRule, 2, kAnyStop, &lists));
  EXPECT_EQ(lists[0].list, 1u);
}

// Lists of equal rows, and a query that is such a row: everything else is infinitely far by comparison.
TEST_F(RankingTest, QueryOnACentroidOfEqualRows) {
  Lists({1, 1, 5, 7});
  const float query = 1;
  ListRanker ranker(Metric::kL2, &query, 1);
  ASSERT_OK(ranker.Feed(routing_.Encode()));
  std::vector<RankedList> lists;
  ASSERT_OK(ranker.Rank(kAdaptiveRule, 4, kAnyStop, &lists));
  EXPECT_EQ(lists[0].stop, 0);
  EXPECT_FLOAT_EQ(lists[1].stop, std::log(2.0f)) << "the other list at distance 0";
  for (size_t j = 2; j < 4; ++j) {
    EXPECT_TRUE(std::isfinite(lists[j].stop));
    EXPECT_GT(lists[j].stop, 20);
  }
  // One list of no radius among others counts as if it had theirs.
  Lists({1, 1.5f, 5, 7}, {0, 1, 1, 1});
  ListRanker floored(Metric::kL2, &query, 1);
  ASSERT_OK(floored.Feed(routing_.Encode()));
  ASSERT_OK(floored.Rank(kAdaptiveRule, 4, kAnyStop, &lists));
  EXPECT_NEAR(lists[1].stop, std::log(2.0) + 4 * std::log(0.55 / 0.225), 1e-4);
}

TEST_F(RankingTest, InnerProductHasNoRule) {
  Random random(15);
  const Routing routing = RandomRouting(random, Metric::kInnerProduct, 20, 60, 5);
  const std::vector<float> query = UniformVector(random, 20);
  ListRanker ranker(Metric::kInnerProduct, query.data(), 20);
  ASSERT_OK(ranker.Feed(routing.Encode()));
  std::vector<RankedList> plain;
  std::vector<RankedList> adaptive;
  ASSERT_OK(ranker.Rank({0, 0}, 60, kAnyStop, &plain));
  ASSERT_OK(ranker.Rank(kAdaptiveRule, 60, kAnyStop, &adaptive));
  for (size_t j = 0; j < 60; ++j) {
    EXPECT_EQ(plain[j].list, adaptive[j].list);
    EXPECT_EQ(plain[j].stop, adaptive[j].stop);
  }
}

TEST_F(RankingTest, HugeScoresHaveFiniteStops) {
  Lists({-FLT_MAX, 0, 1, FLT_MAX}, {FLT_MAX, 0, 0, FLT_MAX});
  const float query = 0;
  ListRanker ranker(Metric::kL2, &query, 1);
  ASSERT_OK(ranker.Feed(routing_.Encode()));
  std::vector<RankedList> lists;
  ASSERT_OK(ranker.Rank(kAdaptiveRule, 4, kAnyStop, &lists));
  EXPECT_EQ(lists[0].list, 1u);
  for (const RankedList& list : lists) EXPECT_TRUE(std::isfinite(list.stop) && list.stop >= 0);
}

TEST_F(RankingTest, StreamThatIsCutOff) {
  Random random(12);
  const ByteVector bytes = RandomRouting(random, Metric::kL2, 3, 50, 5).Encode();
  const float query[] = {1, 2, 3};
  std::vector<uint32_t> lists;
  uint32_t list;
  {
    ListRanker unfed(Metric::kL2, query, 3);
    EXPECT_TRUE(Fails(ivfremote::Best(&unfed, 1, &lists), StatusCode::kCorrupt));
    EXPECT_TRUE(Fails(unfed.Nearest(&list), StatusCode::kCorrupt));
  }
  for (size_t length = 0; length < bytes.size(); length += 4) {
    ListRanker ranker(Metric::kL2, query, 3);
    const Status fed = ranker.Feed(Bytes(bytes).first(length));
    EXPECT_EQ(fed.code(), length < 64 ? StatusCode::kCorrupt : StatusCode::kOk) << length;
    EXPECT_TRUE(Fails(ivfremote::Best(&ranker, 1, &lists), StatusCode::kCorrupt)) << length;
    EXPECT_TRUE(Fails(ranker.Nearest(&list), StatusCode::kCorrupt)) << length;
  }
}

TEST_F(RankingTest, StreamThatIsTooLong) {
  Lists({1, 2, 3});
  const ByteVector bytes = routing_.Encode();
  const float query = 1;
  ListRanker ranker(Metric::kL2, &query, 1);
  ASSERT_OK(ranker.Feed(bytes));
  EXPECT_TRUE(Fails(ranker.Feed(Bytes(bytes).first(4)), StatusCode::kCorrupt));
  ByteVector longer = bytes;
  longer.resize(bytes.size() + 4);
  ListRanker other(Metric::kL2, &query, 1);
  EXPECT_TRUE(Fails(other.Feed(longer), StatusCode::kCorrupt));
}

TEST_F(RankingTest, RoutingOfOtherVectors) {
  Lists({1, 2, 3});
  const ByteVector bytes = routing_.Encode();
  const float query[] = {1, 2};
  ListRanker wider(Metric::kL2, query, 2);
  EXPECT_TRUE(Fails(wider.Feed(bytes), StatusCode::kCorrupt));
  ListRanker other_metric(Metric::kCosine, query, 1);
  EXPECT_TRUE(Fails(other_metric.Feed(bytes), StatusCode::kCorrupt));
}

TEST_F(RankingTest, PieceThatIsNoWholeFloat) {
  Lists({1, 2, 3});
  const ByteVector bytes = routing_.Encode();
  const float query = 1;
  ListRanker ranker(Metric::kL2, &query, 1);
  EXPECT_TRUE(Fails(ranker.Feed(Bytes(bytes).first(66)), StatusCode::kCorrupt));
}

}  // namespace
}  // namespace ivfremote
