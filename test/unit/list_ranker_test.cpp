#include "core/list_ranker.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "routing_fixture.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

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

std::vector<uint32_t> NumbersOf(const std::vector<RankedList>& ranked) {
  std::vector<uint32_t> lists;
  for (const RankedList& list : ranked) lists.push_back(list.list);
  return lists;
}

// What a ranker that has all it needs makes of a query.
std::vector<RankedList> Ranked(const Routing& routing, const float* query, const RankWish& wish) {
  ListRanker ranker(&routing, query, wish);
  RoutingRange range;
  EXPECT_FALSE(ranker.Next(&range)) << "all is there";
  std::vector<RankedList> lists;
  ranker.Rank(wish.rule, &lists);
  return lists;
}

// The best `count` lists by distance alone.
std::vector<uint32_t> Best(const Routing& routing, const float* query, uint32_t count) {
  return NumbersOf(Ranked(routing, query, {ProbeRule(), count, kAnyStop}));
}

// What of the encoded routing a ranker has asked for.
struct Reading {
  std::vector<RoutingRange> ranges;
  uint64_t bytes = 0;
};

// Gives a ranker what it asks for.
void Serve(const Routing& routing, const ByteVector& encoded, ListRanker* ranker, Reading* reading) {
  const RoutingHeader header = routing.header();
  RoutingRange range;
  while (ranker->Next(&range)) {
    ASSERT_GT(range.length, 0u);
    ASSERT_GE(range.offset, header.CodesOffset());
    ASSERT_LE(range.offset + range.length, encoded.size());
    ASSERT_OK(ranker->Feed(Bytes(encoded).subspan(range.offset, range.length)));
    reading->ranges.push_back(range);
    reading->bytes += range.length;
  }
}

// As a scan does that has only this part of the routing.
std::vector<RankedList> RankedFrom(RoutingPart part, const ByteVector& encoded, const float* query, const RankWish& wish,
                                   Reading* reading) {
  RoutingHeader header;
  EXPECT_OK(DecodeRoutingHeader(encoded, &header));
  Routing routing;
  EXPECT_OK(DecodeRouting(Bytes(encoded).first(header.EndOf(part)), part, &routing));
  ListRanker ranker(&routing, query, wish);
  Serve(routing, encoded, &ranker, reading);
  std::vector<RankedList> lists;
  ranker.Rank(wish.rule, &lists);
  return lists;
}

std::vector<float> NearCentroid(Random& random, const Routing& routing, uint32_t list, float noise) {
  std::vector<float> query = UniformVector(random, routing.dimensions);
  for (uint32_t j = 0; j < routing.dimensions; ++j)
    query[j] = routing.mean[j] + routing.centroids[size_t{list} * routing.dimensions + j] + noise * query[j];
  return query;
}

class ListRankerTest : public testing::TestWithParam<std::tuple<Metric, uint32_t>> {};

TEST_P(ListRankerTest, EqualsBruteForceWhereverTheCentroidsAre) {
  const auto [metric, dimensions] = GetParam();
  Random random(10 + dimensions);
  const uint32_t lists = dimensions > 1000 ? 20 : 150;
  const Routing routing = RandomRouting(random, metric, dimensions, lists, 12);
  const ByteVector bytes = routing.Encode();
  for (uint32_t i = 0; i < 3; ++i) {
    // Far from all lists the order of the nearest says little; most queries are near one.
    const std::vector<float> query =
        i == 0 ? UniformVector(random, dimensions) : NearCentroid(random, routing, i, 0.1f);
    const std::vector<uint32_t> expected = BruteForce(routing, query, false);
    EXPECT_EQ(Best(routing, query.data(), lists), expected);
    EXPECT_EQ(Best(routing, query.data(), 5), std::vector<uint32_t>(expected.begin(), expected.begin() + 5));
    Reading reading;
    EXPECT_EQ(NumbersOf(RankedFrom(RoutingPart::kLists, bytes, query.data(), {ProbeRule(), lists, kAnyStop}, &reading)),
              expected);
    EXPECT_EQ(reading.bytes, bytes.size() - routing.header().CentroidsOffset()) << "each centroid once";
    for (const RoutingRange& range : reading.ranges) EXPECT_LE(range.length, std::max(65536u, 2 * dimensions));
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
    return ivfremote::Best(routing_, &query, count);
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

// As an insert does: the groups, then the lists of the nearest of them.
TEST_F(RankingTest, NearestThroughGroups) {
  Random random(7);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t groups : {1u, 5u, 8u, 30u}) {
      Routing routing = ClusteredRouting(random, metric, 24, 120, groups, 0.2f);
      CodeAll(5, &routing);  // of no use here
      const ByteVector bytes = routing.Encode();
      const RoutingHeader header = routing.header();
      Routing part;
      ASSERT_OK(DecodeRouting(Bytes(bytes).first(header.EndOf(RoutingPart::kGroups)), RoutingPart::kGroups, &part));
      for (uint32_t i = 0; i < 20; ++i) {
        const std::vector<float> row = NearCentroid(random, routing, i * 6, 0.2f);
        ListRanker ranker = ListRanker::ForInsert(&part, row.data());
        Reading reading;
        Serve(part, bytes, &ranker, &reading);
        std::vector<RankedList> nearest;
        ranker.Rank(ProbeRule(), &nearest);
        ASSERT_EQ(nearest.size(), 1u);
        EXPECT_EQ(nearest[0].list, BruteForce(routing, row, true).front());
        EXPECT_EQ(reading.bytes, 120 / groups * std::min(groups, 8u) * header.CentroidBytes());
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

// With no weights the threshold is a number of lists.
TEST_F(RankingTest, StopValuesOfDistanceAlone) {
  Random random(13);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    const Routing routing = RandomRouting(random, metric, 20, 60, 5);
    const std::vector<float> query = UniformVector(random, 20);
    const std::vector<RankedList> lists = Ranked(routing, query.data(), {{0, 0}, 60, kAnyStop});
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
        const std::vector<float> user_query = query;
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
          const std::vector<RankedList> lists = Ranked(routing, user_query.data(), {rule, count, kAnyStop});
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
            const std::vector<RankedList> near = Ranked(routing, user_query.data(), {rule, count, stop});
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
  routing_.metric = Metric::kL2;
  std::vector<RankedList> lists = Ranked(routing_, &query, {kAdaptiveRule, 4, kAnyStop});
  const double scores[] = {0.3, 9.3, 16.3, 400.3};
  for (size_t j = 0; j < 4; ++j) {
    EXPECT_EQ(lists[j].list, j);
    EXPECT_NEAR(lists[j].stop, std::log(1.0 + static_cast<double>(j)) + 4 * std::log(scores[j] / scores[0]), 1e-4);
  }
  // A wide list comes after a narrow one that is a little further away.
  Lists({2, -2.1f}, {3, 0});
  EXPECT_EQ(Ranked(routing_, &query, {{0, 0}, 2, kAnyStop})[0].list, 0u);
  lists = Ranked(routing_, &query, {kAdaptiveRule, 2, kAnyStop});
  EXPECT_EQ(lists[0].list, 1u);
}

// Lists of equal rows, and a query that is such a row: everything else is infinitely far by comparison.
TEST_F(RankingTest, QueryOnACentroidOfEqualRows) {
  Lists({1, 1, 5, 7});
  const float query = 1;
  routing_.metric = Metric::kL2;
  std::vector<RankedList> lists = Ranked(routing_, &query, {kAdaptiveRule, 4, kAnyStop});
  EXPECT_EQ(lists[0].stop, 0);
  EXPECT_FLOAT_EQ(lists[1].stop, std::log(2.0f)) << "the other list at distance 0";
  for (size_t j = 2; j < 4; ++j) {
    EXPECT_TRUE(std::isfinite(lists[j].stop));
    EXPECT_GT(lists[j].stop, 20);
  }
  // One list of no radius among others counts as if it had theirs.
  Lists({1, 1.5f, 5, 7}, {0, 1, 1, 1});
  lists = Ranked(routing_, &query, {kAdaptiveRule, 4, kAnyStop});
  EXPECT_NEAR(lists[1].stop, std::log(2.0) + 4 * std::log(0.55 / 0.225), 1e-4);
}

TEST_F(RankingTest, InnerProductHasNoRule) {
  Random random(15);
  const Routing routing = RandomRouting(random, Metric::kInnerProduct, 20, 60, 5);
  const std::vector<float> query = UniformVector(random, 20);
  const std::vector<RankedList> plain = Ranked(routing, query.data(), {{0, 0}, 60, kAnyStop});
  const std::vector<RankedList> adaptive = Ranked(routing, query.data(), {kAdaptiveRule, 60, kAnyStop});
  for (size_t j = 0; j < 60; ++j) {
    EXPECT_EQ(plain[j].list, adaptive[j].list);
    EXPECT_EQ(plain[j].stop, adaptive[j].stop);
  }
}

TEST_F(RankingTest, HugeScoresHaveFiniteStops) {
  Lists({-FLT_MAX, 0, 1, FLT_MAX}, {FLT_MAX, 0, 0, FLT_MAX});
  const float query = 0;
  routing_.metric = Metric::kL2;
  std::vector<RankedList> lists = Ranked(routing_, &query, {kAdaptiveRule, 4, kAnyStop});
  EXPECT_EQ(lists[0].list, 1u);
  for (const RankedList& list : lists) EXPECT_TRUE(std::isfinite(list.stop) && list.stop >= 0);
}

// -- codes

// Groups far apart, lists within them less so.
class CodedRankingTest : public testing::TestWithParam<Metric> {
 protected:
  void Make(uint32_t dimensions, uint32_t lists, uint32_t groups, float width) {
    routing_ = ClusteredRouting(random_, GetParam(), dimensions, lists, groups, width);
    for (float& radius : routing_.radii) radius *= 0.1f;
    flat_ = routing_;
    CodeAll(99, &routing_);
  }

  Random random_{31};
  Routing routing_;
  Routing flat_;  // the same without codes
};

TEST_P(CodedRankingTest, FindsWhatFlatRankingFinds) {
  for (const uint32_t dimensions : {24u, 100u, 300u}) {
    SCOPED_TRACE(dimensions);
    Make(dimensions, 600, 25, 0.3f);
    const ByteVector encoded = routing_.Encode();
    size_t wanted = 0;
    size_t found = 0;
    for (uint32_t i = 0; i < 60; ++i) {
      const std::vector<float> query = NearCentroid(random_, routing_, i * 10, 0.3f);
      const RankWish wish{kAdaptiveRule, 20, kAnyStop};
      const std::vector<RankedList> flat = Ranked(flat_, query.data(), wish);
      const std::vector<RankedList> coded = Ranked(routing_, query.data(), wish);
      ASSERT_EQ(coded.size(), flat.size());
      EXPECT_EQ(coded[0].list, flat[0].list);
      // In the order of exact distances: of lists found the values are the same.
      for (const RankedList& list : coded) {
        const auto same = std::find_if(flat.begin(), flat.end(), [&](const auto& other) { return other.list == list.list; });
        if (same != flat.end()) ++found;
      }
      wanted += flat.size();
      // Wherever codes and centroids come from.
      Reading codes_held;
      Reading nothing_held;
      EXPECT_EQ(NumbersOf(RankedFrom(RoutingPart::kCodes, encoded, query.data(), wish, &codes_held)), NumbersOf(coded));
      EXPECT_EQ(NumbersOf(RankedFrom(RoutingPart::kLists, encoded, query.data(), wish, &nothing_held)), NumbersOf(coded));
      EXPECT_EQ(codes_held.bytes, 40 * routing_.header().CentroidBytes()) << "twice the lists wanted";
      EXPECT_EQ(nothing_held.bytes, codes_held.bytes + routing_.code_offsets.back());
    }
    EXPECT_GE(static_cast<double>(found), 0.998 * static_cast<double>(wanted));
  }
}

TEST_P(CodedRankingTest, OrderIsOfExactDistances) {
  Make(64, 500, 20, 0.3f);
  for (uint32_t i = 0; i < 30; ++i) {
    const std::vector<float> query = NearCentroid(random_, routing_, i * 15, 0.5f);
    const std::vector<uint32_t> order = NumbersOf(Ranked(routing_, query.data(), {ProbeRule(), 12, kAnyStop}));
    const std::vector<uint32_t> expected = BruteForce(flat_, query, false);
    const auto rank = [&](uint32_t list) { return std::find(expected.begin(), expected.end(), list) - expected.begin(); };
    for (size_t j = 1; j < order.size(); ++j) EXPECT_LT(rank(order[j - 1]), rank(order[j]));
  }
}

// A threshold is reached by few of the lists it allows: no more than some of these are compared exactly.
TEST_P(CodedRankingTest, ThresholdLimitsWhatIsRead) {
  if (GetParam() == Metric::kInnerProduct) return;
  Make(64, 600, 25, 0.3f);
  const ByteVector encoded = routing_.Encode();
  size_t wanted = 0;
  size_t found = 0;
  for (uint32_t i = 0; i < 30; ++i) {
    const std::vector<float> query = NearCentroid(random_, routing_, i * 20, 0.3f);
    const std::vector<RankedList> all = Ranked(flat_, query.data(), {kAdaptiveRule, 600, kAnyStop});
    const float stop = all[10].stop;
    Reading reading;
    const RankWish wish{kAdaptiveRule, 100, stop};
    const std::vector<RankedList> coded = RankedFrom(RoutingPart::kCodes, encoded, query.data(), wish, &reading);
    const std::vector<RankedList> flat = Ranked(flat_, query.data(), wish);
    for (const RankedList& list : coded) {
      const auto same = std::find_if(flat.begin(), flat.end(), [&](const auto& other) { return other.list == list.list; });
      found += same != flat.end();
      EXPECT_LE(list.stop, stop);
    }
    wanted += flat.size();
    EXPECT_LE(reading.bytes, 100 * routing_.header().CentroidBytes());
    EXPECT_GE(reading.bytes, 16 * routing_.header().CentroidBytes());
  }
  EXPECT_GE(static_cast<double>(found), 0.99 * static_cast<double>(wanted));
}

// Scales of float32's edges, a query from afar and one that is the mean.
TEST_P(CodedRankingTest, WhateverTheScale) {
  for (const int exponent : {-120, -60, 0, 60, 125}) {
    if (GetParam() == Metric::kCosine && exponent != 0) continue;  // directions have a scale
    SCOPED_TRACE(exponent);
    Make(32, 300, 12, 0.3f);
    for (auto* values : {&routing_.mean, &routing_.radii, &routing_.group_centroids, &routing_.centroids})
      for (float& value : *values) value = std::ldexp(value, exponent);
    RoundCentroids(&routing_);
    flat_ = routing_;
    flat_.code_bits = 0;
    CodeAll(99, &routing_);
    const RankWish wish{kAdaptiveRule, 20, kAnyStop};
    size_t found = 0;
    for (uint32_t i = 0; i < 20; ++i) {
      std::vector<float> query = routing_.mean;
      for (uint32_t j = 0; j < 32; ++j) query[j] += routing_.centroids[i * 15 * 32 + j];
      const std::vector<uint32_t> flat = NumbersOf(Ranked(flat_, query.data(), wish));
      const std::vector<uint32_t> coded = NumbersOf(Ranked(routing_, query.data(), wish));
      for (const uint32_t list : coded) found += std::find(flat.begin(), flat.end(), list) != flat.end();
    }
    EXPECT_GE(found, 395u);
    for (std::vector<float> query : {routing_.mean, std::vector<float>(32, FLT_MAX), std::vector<float>(32, 1e-45f)}) {
      for (const RankedList& list : Ranked(routing_, query.data(), wish)) EXPECT_TRUE(std::isfinite(list.stop));
      EXPECT_EQ(Ranked(routing_, query.data(), wish).size(), 20u);
    }
  }
}

// A query a million times as far away as the lists are from each other.
TEST_P(CodedRankingTest, OrderHoldsFromAfar) {
  if (GetParam() == Metric::kCosine) return;  // directions are never far
  for (const uint32_t dimensions : {32u, 300u}) {
    SCOPED_TRACE(dimensions);
    Make(dimensions, 600, 25, 0.3f);
    size_t found = 0;
    for (uint32_t i = 0; i < 20; ++i) {
      std::vector<float> query = UniformVector(random_, dimensions);
      for (float& x : query) x *= 1e6f;
      const std::vector<uint32_t> expected = BruteForce(flat_, query, GetParam() == Metric::kL2);
      EXPECT_EQ(NumbersOf(Ranked(flat_, query.data(), {ProbeRule(), 600, kAnyStop})), expected);
      const std::vector<uint32_t> coded = NumbersOf(Ranked(routing_, query.data(), {ProbeRule(), 20, kAnyStop}));
      EXPECT_EQ(coded[0], expected[0]);
      for (const uint32_t list : coded) found += std::find(expected.begin(), expected.begin() + 20, list) < expected.begin() + 20;
    }
    EXPECT_GE(found, 396u) << "of 400";
  }
}

// Where most lists would be compared exactly, codes save nothing.
TEST_P(CodedRankingTest, ManyListsNeedNoCodes) {
  Make(32, 100, 10, 0.3f);
  const ByteVector encoded = routing_.Encode();
  const std::vector<float> query = NearCentroid(random_, routing_, 3, 0.3f);
  Reading reading;
  const RankWish wish{ProbeRule(), 60, kAnyStop};
  EXPECT_EQ(NumbersOf(RankedFrom(RoutingPart::kLists, encoded, query.data(), wish, &reading)),
            NumbersOf(Ranked(flat_, query.data(), wish)));
  EXPECT_EQ(reading.bytes, 100 * routing_.header().CentroidBytes());
}

// Beyond kMaxFlatLists only groups that are near are looked at.
TEST_P(CodedRankingTest, TreeFindsWhatFlatRankingFinds) {
  const uint32_t lists = ListRanker::kMaxFlatLists + 8;
  Make(8, lists, 200, 0.35f);
  const ByteVector encoded = routing_.Encode();
  size_t wanted = 0;
  size_t found = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    const std::vector<float> query = NearCentroid(random_, routing_, i * 800, 0.2f);
    const RankWish wish{kAdaptiveRule, 50, kAnyStop};
    const std::vector<uint32_t> flat = NumbersOf(Ranked(flat_, query.data(), wish));
    Reading reading;
    const std::vector<uint32_t> tree = NumbersOf(RankedFrom(RoutingPart::kLists, encoded, query.data(), wish, &reading));
    EXPECT_EQ(tree, NumbersOf(Ranked(routing_, query.data(), wish)));
    for (const uint32_t list : tree) found += std::find(flat.begin(), flat.end(), list) != flat.end();
    wanted += flat.size();
    EXPECT_LT(reading.bytes, 0.43 * static_cast<double>(routing_.code_offsets.back()));
  }
  EXPECT_GE(static_cast<double>(found), 0.995 * static_cast<double>(wanted));
  // Who wants all lists gets all.
  const std::vector<float> query = NearCentroid(random_, routing_, 7, 0.2f);
  EXPECT_EQ(Ranked(routing_, query.data(), {kAdaptiveRule, lists, kAnyStop}).size(), lists);
}

// Long rows, far apart, have the largest products, but not the nearest groups.
TEST_F(RankingTest, TreeFindsTheLargestProducts) {
  Random random(33);
  const uint32_t lists = ListRanker::kMaxFlatLists + 8;
  Routing routing = ClusteredRouting(random, Metric::kInnerProduct, 8, lists, 200, 1);
  for (uint32_t g = 0; g < 200; ++g) {
    const auto scale = static_cast<float>(1 + 9 * (g % 10 == 0));
    for (uint32_t list = routing.group_first[g]; list < routing.group_first[g + 1]; ++list) {
      routing.radii[list] = 0.1f * scale;
      for (uint32_t j = 0; j < 8; ++j) {
        const float centre = routing.group_centroids[g * 8 + j];
        float* value = &routing.centroids[size_t{list} * 8 + j];
        *value = centre + scale * (*value - centre);
      }
    }
  }
  RoundCentroids(&routing);
  const Routing flat = routing;
  CodeAll(99, &routing);
  size_t found = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    const std::vector<float> query = UniformVector(random, 8);
    const RankWish wish{kAdaptiveRule, 50, kAnyStop};
    const std::vector<uint32_t> expected = NumbersOf(Ranked(flat, query.data(), wish));
    for (const uint32_t list : NumbersOf(Ranked(routing, query.data(), wish)))
      found += std::find(expected.begin(), expected.end(), list) != expected.end();
  }
  EXPECT_GE(found, 1990u) << "of 2000";
}

INSTANTIATE_TEST_SUITE_P(Metrics, CodedRankingTest, testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine));

// -- feeding

TEST_F(RankingTest, WhatNobodyAskedForIsRefused) {
  Lists({1, 2, 3});
  RoundCentroids(&routing_);
  const ByteVector bytes = routing_.Encode();
  Routing part;
  const uint64_t end = routing_.header().EndOf(RoutingPart::kLists);
  ASSERT_OK(DecodeRouting(Bytes(bytes).first(end), RoutingPart::kLists, &part));
  const float query = 1;
  ListRanker ranker(&part, &query, {ProbeRule(), 3, kAnyStop});
  EXPECT_TRUE(Fails(ranker.Feed(Bytes(bytes).first(2)), StatusCode::kInternal)) << "before it asks";
  RoutingRange range;
  ASSERT_TRUE(ranker.Next(&range));
  EXPECT_EQ(range.offset, end);
  EXPECT_EQ(range.length, 6u);
  EXPECT_TRUE(Fails(ranker.Feed(Bytes(bytes).subspan(end, 4)), StatusCode::kInternal));
  ASSERT_OK(ranker.Feed(Bytes(bytes).subspan(end, 6)));
  EXPECT_FALSE(ranker.Next(&range));
  EXPECT_TRUE(Fails(ranker.Feed(Bytes(bytes).subspan(end, 6)), StatusCode::kInternal)) << "after the last";
}

TEST_F(RankingTest, GroupsWithoutLists) {
  Lists({1, 2, 3});
  routing_.group_first = {0, 0, 3, 3};
  routing_.group_centroids = {9, 2, 8};
  EXPECT_EQ(Best(Metric::kL2, 3, 3), (Order{2, 1, 0}));
  Random random(32);
  Routing routing = RandomRouting(random, Metric::kL2, 16, 60, 4);
  routing.group_first = {0, 0, 30, 30, 60, 60};
  routing.group_centroids.resize(5 * 16);
  CodeAll(1, &routing);
  const std::vector<float> query = UniformVector(random, 16);
  Reading reading;
  const RankWish wish{ProbeRule(), 3, kAnyStop};
  EXPECT_EQ(NumbersOf(RankedFrom(RoutingPart::kLists, routing.Encode(), query.data(), wish, &reading)),
            NumbersOf(Ranked(routing, query.data(), wish)));
}

// Rows that are nearly all equal make many groups without lists, which may be the nearest of all.
TEST_F(RankingTest, InsertPassesOverGroupsWithoutLists) {
  constexpr uint32_t kEmpty = 2 * ListRanker::kInsertGroups;
  Lists({100, 200, 300});
  routing_.group_first.assign(kEmpty, 0);
  routing_.group_centroids.assign(kEmpty, 0.0f);
  routing_.group_first.insert(routing_.group_first.end(), {0, 3});
  routing_.group_centroids.push_back(150);
  const float row = 1;
  ListRanker ranker = ListRanker::ForInsert(&routing_, &row);
  std::vector<RankedList> lists;
  ranker.Rank(ProbeRule(), &lists);
  EXPECT_EQ(NumbersOf(lists), Order{0});
}

}  // namespace
}  // namespace ivfremote
