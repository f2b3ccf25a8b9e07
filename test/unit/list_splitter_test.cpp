#include "core/list_splitter.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <set>

#include "core/assignment.h"
#include "core/distance.h"
#include "core/list_ranker.h"
#include "routing_fixture.h"
#include "support.h"
#include "training_run.h"

namespace ivfremote {
namespace {

constexpr uint32_t kDimensions = 16;

bool interrupted = false;
bool CheckInterrupt() { return interrupted; }

// An index trained on rows of the first clouds, when rows of all of them are there.
class ListSplitterTest : public testing::Test {
 protected:
  // `old_clouds` of `clouds` are trained on, of so many rows each; coordinates times `scale`.
  void Build(uint32_t clouds, uint32_t old_clouds, size_t rows_per_cloud, uint32_t lists, float scale = 1) {
    std::vector<float> trained;
    for (uint32_t cloud = 0; cloud < clouds; ++cloud) {
      const std::vector<float> centre = UniformVector(random_, kDimensions);
      for (size_t i = 0; i < rows_per_cloud; ++i)
        for (const float x : centre) rows_.push_back(scale * (10 + x + 0.2f * Uniform(random_)));
      if (cloud + 1 == old_clouds) trained = rows_;
    }
    TrainingOptions options;
    options.dimensions = kDimensions;
    options.lists = lists;
    ASSERT_OK(Train(options, trained, &routing_));
    Assign();
    routing_.radii = radii_;
  }

  size_t row_count() const { return rows_.size() / kDimensions; }

  // All rows to their nearest lists; centred_, list_of_ and counts_ are of these.
  void Assign() {
    Assigner assigner(&routing_);
    centred_ = rows_;
    list_of_.resize(row_count());
    for (size_t i = 0; i < row_count(); i += assigner.batch_rows())
      assigner.Assign(&centred_[i * kDimensions], std::min(assigner.batch_rows(), row_count() - i), &list_of_[i]);
    counts_.assign(routing_.list_count(), 0);
    for (const uint32_t list : list_of_) ++counts_[list];
    radii_ = assigner.Radii();
  }

  // Adds all rows and takes all steps.
  Status Run(ListSplitter* splitter) {
    for (size_t i = 0; i < row_count(); ++i) splitter->Add(list_of_[i], &centred_[i * kDimensions]);
    for (bool done = false; !done;) IVFREMOTE_RETURN_IF_ERROR(splitter->Step(&done));
    return Status::Ok();
  }

  // What holds of every result: old lists are as they were, new ones come after, and the routing can be stored.
  void ExpectExtended(const Routing& result) const {
    const Routing& old = routing_;
    EXPECT_EQ(result.exponent, old.exponent);
    EXPECT_EQ(result.mean, old.mean);
    ASSERT_GE(result.list_count(), old.list_count());
    const auto starts_with = [](const auto& longer, const auto& shorter) {
      return longer.size() >= shorter.size() && std::equal(shorter.begin(), shorter.end(), longer.begin());
    };
    EXPECT_TRUE(starts_with(result.centroids, old.centroids));
    EXPECT_TRUE(starts_with(result.radii, old.radii));
    EXPECT_TRUE(starts_with(result.group_first, old.group_first));
    EXPECT_TRUE(starts_with(result.group_centroids, old.group_centroids));
    EXPECT_TRUE(starts_with(result.code_offsets, old.code_offsets));
    EXPECT_EQ(result.centroids.size(), size_t{result.list_count()} * result.dimensions);
    EXPECT_EQ(result.group_centroids.size(), size_t{result.group_count()} * result.dimensions);
    EXPECT_TRUE(AllFinite(result.centroids.data(), result.centroids.size()));
    Routing decoded;
    ASSERT_OK(DecodeRouting(result.Encode(), &decoded));
    EXPECT_EQ(decoded.centroids, result.centroids) << "not what is stored";
    EXPECT_EQ(decoded.group_centroids, result.group_centroids);
    EXPECT_EQ(decoded.radii, result.radii);
    // New lists differ from all others.
    std::set<std::vector<float>> distinct;
    for (uint32_t list = 0; list < result.list_count(); ++list) {
      const auto from = result.centroids.begin() + static_cast<ptrdiff_t>(size_t{list} * result.dimensions);
      distinct.insert({from, from + result.dimensions});
    }
    EXPECT_EQ(distinct.size(), result.list_count());
    for (uint32_t g = old.group_count(); g < result.group_count(); ++g) EXPECT_GT(result.ListsOf(g), 0u);
  }

  Random random_{17};
  Routing routing_;
  std::vector<float> rows_;
  std::vector<float> centred_;
  std::vector<uint32_t> list_of_;
  std::vector<uint64_t> counts_;
  std::vector<float> radii_;
};

TEST_F(ListSplitterTest, LargeListsAreSplit) {
  for (const int threads : {1, 2}) {
    rows_.clear();
    ASSERT_NO_FATAL_FAILURE(Build(40, 20, 200, 80));
    ListSplitter splitter(routing_, counts_, 50, {threads});
    const std::vector<uint32_t> large = splitter.lists();
    double wanted = 0;
    for (const uint32_t list : large) wanted += std::ceil(static_cast<double>(counts_[list]) / 50) - 1;
    for (uint32_t list = 0; list < 80; ++list)
      EXPECT_TRUE(counts_[list] <= 100 || std::binary_search(large.begin(), large.end(), list)) << list;
    ASSERT_GE(large.size(), 5u);
    ASSERT_OK(Run(&splitter));
    EXPECT_LE(splitter.new_lists(), wanted);
    EXPECT_GE(splitter.new_lists(), 0.8 * wanted);
    const std::vector<uint32_t> old_list_of = list_of_;
    const double old_largest = static_cast<double>(*std::max_element(counts_.begin(), counts_.end()));
    std::vector<bool> reassigned;
    for (uint32_t list = 0; list < 200; ++list) reassigned.push_back(splitter.Reassigned(list));
    const uint32_t new_lists = splitter.new_lists();
    const Routing result = splitter.TakeRouting();
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(result));
    for (const uint32_t list : large) EXPECT_TRUE(reassigned[list]);
    for (uint32_t list = 80; list < 200; ++list) EXPECT_FALSE(reassigned[list]) << "no row was in it";
    EXPECT_GT(result.group_count(), routing_.group_count() + 2);

    routing_ = result;
    Assign();
    EXPECT_LT(static_cast<double>(*std::max_element(counts_.begin(), counts_.end())), 0.5 * old_largest);
    size_t elsewhere = 0;
    for (size_t i = 0; i < row_count(); ++i)
      if (list_of_[i] != old_list_of[i] && !reassigned[old_list_of[i]]) ++elsewhere;
    EXPECT_LT(elsewhere, row_count() / 200);
    double radii = 0;
    double radii_of_rows = 0;
    for (uint32_t list = 80; list < result.list_count(); ++list) {
      radii += result.radii[list] / new_lists;
      radii_of_rows += radii_[list] / new_lists;
    }
    EXPECT_GT(radii, radii_of_rows) << "with rows that other new lists have taken";
    EXPECT_LT(radii, 1.5 * radii_of_rows);
  }
}

// Twice as many rows are not too many, unless there are too few lists.
TEST_F(ListSplitterTest, WhichListsAreSplit) {
  routing_ = RandomRouting(random_, Metric::kL2, kDimensions, 4, 1);
  const auto lists = [&](const std::vector<uint64_t>& rows) { return ListSplitter(routing_, rows, 100, {}).lists(); };
  using Lists = std::vector<uint32_t>;
  EXPECT_EQ(lists({200, 60, 60, 60}), Lists{});
  EXPECT_EQ(lists({201, 180, 10, 10}), Lists{0}) << "there are five then";
  EXPECT_EQ(lists({120, 60, 60, 201}), Lists{3});
  EXPECT_EQ(lists({151, 150, 60, 160}), (Lists{0, 3}));
  EXPECT_EQ(lists({151, 60, 60, 160}), Lists{3}) << "five are enough for 431 rows";
  EXPECT_EQ(lists({150, 150, 150, 150}), Lists{});
}

TEST_F(ListSplitterTest, NothingToSplit) {
  ASSERT_NO_FATAL_FAILURE(Build(4, 4, 100, 4));
  const auto largest = static_cast<double>(*std::max_element(counts_.begin(), counts_.end()));
  ListSplitter splitter(routing_, counts_, largest, {});
  EXPECT_TRUE(splitter.lists().empty());
  ASSERT_OK(Run(&splitter));
  EXPECT_EQ(splitter.new_lists(), 0u);
  for (uint32_t list = 0; list < 4; ++list) EXPECT_FALSE(splitter.Reassigned(list));
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
}

TEST_F(ListSplitterTest, EqualRowsAreGivenUp) {
  ASSERT_NO_FATAL_FAILURE(Build(5, 5, 100, 5));
  // A thousand rows that are equal, away from every centroid: they get a list of their own, which can't be split again.
  const std::vector<float> row = UniformVector(random_, kDimensions);
  for (int i = 0; i < 1000; ++i)
    for (const float x : row) rows_.push_back(10 + x);
  Assign();
  ListSplitter splitter(routing_, counts_, 120, {});
  ASSERT_EQ(splitter.lists().size(), 1u);
  ASSERT_OK(Run(&splitter));
  EXPECT_GE(splitter.new_lists(), 1u);
  EXPECT_LE(splitter.new_lists(), 4u) << "a list for each of the other rows";
  const Routing result = splitter.TakeRouting();
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(result));
  routing_ = result;
  Assign();
  ListSplitter again(routing_, counts_, 120, {});
  ASSERT_EQ(again.lists().size(), 1u);
  ASSERT_OK(Run(&again));
  EXPECT_EQ(again.new_lists(), 0u);
  for (uint32_t list = 0; list < routing_.list_count(); ++list) EXPECT_FALSE(again.Reassigned(list));
}

// A list whose rows are all far from its centroid keeps it: the rows' k-means has to do without.
TEST_F(ListSplitterTest, TheOldCentroidIsOneOfTheParts) {
  routing_.dimensions = kDimensions;
  routing_.mean.assign(kDimensions, 0.0f);
  routing_.centroids.assign(2 * kDimensions, 0.0f);
  std::fill_n(routing_.centroids.begin(), kDimensions, -8.0f);
  routing_.radii = {1, 1};
  routing_.group_first = {0, 2};
  routing_.group_centroids.assign(kDimensions, 0.0f);
  RoundCentroids(&routing_);
  ListSplitter splitter(routing_, {1, 200}, 100 - 1e-9, {1, nullptr, 0});
  ASSERT_EQ(splitter.lists(), std::vector<uint32_t>{1});
  for (int i = 0; i < 200; ++i) {
    const std::vector<float> row(kDimensions, i < 100 ? 4.0f : 6.0f);
    splitter.Add(1, row.data());
  }
  for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
  ASSERT_EQ(splitter.new_lists(), 1u);
  EXPECT_NEAR(splitter.TakeRouting().centroids[2 * kDimensions], 5, 0.5) << "near half of the rows only";
}

// Centroids that differ by less than float16 tells.
TEST_F(ListSplitterTest, PartsThatRoundToTheSame) {
  routing_.dimensions = 1;
  routing_.mean = {0};
  routing_.centroids = {-32000, 900};
  routing_.radii = {1, 1};
  routing_.group_first = {0, 2};
  routing_.group_centroids = {0};
  RoundCentroids(&routing_);
  // So few rows are compared without products, which would not tell them apart either.
  ListSplitter splitter(routing_, {1, 10}, 3, {});
  for (int i = 0; i < 10; ++i) {
    const float row = i % 2 == 0 ? 1000.1f : 1000.2f;
    splitter.Add(1, &row);
  }
  for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
  EXPECT_EQ(splitter.new_lists(), 1u);
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
}

TEST_F(ListSplitterTest, FewerRowsThanWereAnnounced) {
  ASSERT_NO_FATAL_FAILURE(Build(5, 5, 100, 5));
  for (const size_t rows : {0u, 1u, 2u, 50u}) {
    ListSplitter splitter(routing_, std::vector<uint64_t>(5, 1000), 100, {});
    for (size_t i = 0; i < rows; ++i) splitter.Add(2, &centred_[i * kDimensions]);
    for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
    EXPECT_LE(splitter.new_lists(), rows);
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
  }
}

// Where memory is short the largest lists are split, from as many rows as suffice.
TEST_F(ListSplitterTest, LittleMemory) {
  ASSERT_NO_FATAL_FAILURE(Build(20, 10, 400, 20));
  const size_t row_bytes = kDimensions * sizeof(float);
  ListSplitter all(routing_, counts_, 100, {});
  ListSplitter some(routing_, counts_, 100, {1, nullptr, 600 * row_bytes});
  ASSERT_LT(some.lists().size(), all.lists().size());
  ASSERT_FALSE(some.lists().empty());
  uint64_t least = ~0ull;
  for (const uint32_t list : some.lists()) least = std::min(least, counts_[list]);
  for (const uint32_t list : all.lists())
    EXPECT_TRUE(counts_[list] <= least || std::binary_search(some.lists().begin(), some.lists().end(), list)) << list;
  ASSERT_OK(Run(&some));
  EXPECT_GE(some.new_lists(), 8u);
  EXPECT_LE(some.new_lists(), 20u) << "600 rows are 30 each for 20";
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(some.TakeRouting()));
  // In no memory at all one list becomes two.
  ListSplitter least_memory(routing_, counts_, 100, {1, nullptr, 0});
  ASSERT_EQ(least_memory.lists().size(), 1u);
  ASSERT_OK(Run(&least_memory));
  EXPECT_EQ(least_memory.new_lists(), 1u);
}

TEST_F(ListSplitterTest, NoMoreListsThanThereMayBe) {
  routing_.dimensions = 1;
  routing_.mean = {0};
  for (uint32_t i = 0; i < kMaxLists - 2; ++i) routing_.centroids.push_back(static_cast<float>(i % 1000 * 10));
  routing_.radii.resize(routing_.centroids.size());
  routing_.group_first = {0, kMaxLists - 2};
  routing_.group_centroids = {0};
  RoundCentroids(&routing_);
  std::vector<uint64_t> counts(routing_.list_count(), 1);
  counts[17] = counts[500] = counts[501] = 1000;
  ListSplitter splitter(routing_, counts, 100, {});
  EXPECT_EQ(splitter.lists(), std::vector<uint32_t>{17});
  for (int i = 0; i < 1000; ++i) {
    const float row = 170 + 4 * Uniform(random_);
    splitter.Add(17, &row);
  }
  for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
  EXPECT_EQ(splitter.new_lists(), 2u);
  Routing decoded;
  EXPECT_OK(DecodeRouting(splitter.TakeRouting().Encode(), &decoded));
}

// Rows eight times as far from the mean as those that were trained on become lists as if they were near.
TEST_F(ListSplitterTest, DriftWithinTheHeadroom) {
  ASSERT_NO_FATAL_FAILURE(Build(5, 5, 100, 5));
  const float far = 8 * *std::max_element(routing_.centroids.begin(), routing_.centroids.end());
  ListSplitter splitter(routing_, {1, 1, 1, 1000, 1}, 100, {});
  std::vector<std::vector<float>> clouds;
  for (int cloud = 0; cloud < 10; ++cloud) clouds.push_back(UniformVector(random_, kDimensions));
  for (size_t i = 0; i < 1000; ++i) {
    std::vector<float> row = clouds[i % 10];
    for (float& x : row) x = far + x * far / 100;
    splitter.Add(3, row.data());
  }
  for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
  EXPECT_GE(splitter.new_lists(), 8u);
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
}

// Beyond it, lists of several parents come to the same centroid: once is enough.
TEST_F(ListSplitterTest, OneListForAllThatAreTooFar) {
  ASSERT_NO_FATAL_FAILURE(Build(5, 5, 100, 5));
  for (int round = 0; round < 2; ++round) {
    std::vector<uint64_t> counts(routing_.list_count(), 1);
    counts[1] = counts[3] = 500;
    ListSplitter splitter(routing_, counts, 100, {});
    for (size_t i = 0; i < 500; ++i)
      for (const uint32_t list : {1u, 3u}) {
        std::vector<float> row = UniformVector(random_, kDimensions);
        for (float& x : row) x = 1e6f * (2 + x);
        splitter.Add(list, row.data());
      }
    for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
    EXPECT_EQ(splitter.new_lists(), 1u - static_cast<uint32_t>(round));
    Routing result = splitter.TakeRouting();
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(result));
    routing_ = std::move(result);
  }
}

TEST_F(ListSplitterTest, ANewListWithoutRowsIsACopyOfItsParent) {
  ASSERT_NO_FATAL_FAILURE(Build(40, 20, 200, 80));
  StartCodes(1, &routing_);
  for (uint32_t g = 0; g < routing_.group_count(); ++g) CodeGroup(g, &routing_);
  ListSplitter splitter(routing_, counts_, 50, {});
  ASSERT_OK(Run(&splitter));
  const Routing taken = splitter.TakeRouting();
  ASSERT_GT(taken.list_count(), 90u);
  std::vector<uint64_t> rows(taken.list_count(), 1);
  rows[7] = 0;  // of before
  Routing same = taken;
  EXPECT_TRUE(splitter.HideEmpty(rows, &same).empty());
  EXPECT_EQ(same.Encode(), taken.Encode());

  rows[81] = rows[90] = 0;
  Routing result = taken;
  for (const uint32_t group : splitter.HideEmpty(rows, &result)) CodeGroup(group, &result);
  for (uint32_t list = 0; list < result.list_count(); ++list) {
    const float* centroid = &result.centroids[size_t{list} * kDimensions];
    if (rows[list] > 0 || list == 7) {
      EXPECT_TRUE(std::equal(centroid, centroid + kDimensions, &taken.centroids[size_t{list} * kDimensions])) << list;
      continue;
    }
    std::vector<float> query(centroid, centroid + kDimensions);
    for (uint32_t j = 0; j < kDimensions; ++j) query[j] += result.mean[j];
    std::vector<RankedList> ranked;
    ListRanker(&result, query.data(), {ProbeRule(), 1}).Rank(ProbeRule(), &ranked);
    ASSERT_EQ(ranked.size(), 1u);
    EXPECT_GT(rows[ranked[0].list], 0u);
    EXPECT_LT(ranked[0].list, 80u) << "the parent";
    EXPECT_EQ(result.radii[list], result.radii[ranked[0].list]);
  }
  Routing again = result;
  StartCodes(1, &again);
  for (uint32_t g = 0; g < again.group_count(); ++g) CodeGroup(g, &again);
  EXPECT_EQ(again.Encode(), result.Encode()) << "codes are of the centroids";
}

// Rows far beyond what the exponent allows, and rows whose squares are hardly float32 either way.
TEST_F(ListSplitterTest, HugeAndTinyRows) {
  for (const float scale : {1e-18f, 1e15f, 1e18f}) {
    SCOPED_TRACE(scale);
    rows_.clear();
    ASSERT_NO_FATAL_FAILURE(Build(10, 5, 100, 5, scale));
    ListSplitter splitter(routing_, counts_, 60, {2});
    ASSERT_FALSE(splitter.lists().empty());
    ASSERT_OK(Run(&splitter));
    EXPECT_GE(splitter.new_lists(), 4u);
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
  }
  rows_.clear();
  ASSERT_NO_FATAL_FAILURE(Build(10, 10, 100, 10));
  std::vector<uint64_t> counts(10, 1);
  counts[3] = 500;
  for (const float scale : {1e10f, 1e30f, FLT_MAX, std::numeric_limits<float>::infinity()}) {
    ListSplitter splitter(routing_, counts, 60, {});
    for (int i = 0; i < 500; ++i) {
      std::vector<float> row = UniformVector(random_, kDimensions);
      for (float& x : row) x = scale == std::numeric_limits<float>::infinity() ? std::copysign(scale, x) : x * scale;
      splitter.Add(3, row.data());
    }
    for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
    EXPECT_GE(splitter.new_lists(), 1u);
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(splitter.TakeRouting()));
  }
}

// Rows far from those that lists were trained on go on being found by the tree.
TEST_F(ListSplitterTest, ManyListsAreRankedAndAssignedThroughTheTree) {
  ASSERT_NO_FATAL_FAILURE(Build(60, 30, 100, 400));
  ASSERT_GT(routing_.group_count(), Assigner::kGroups);
  ListSplitter splitter(routing_, counts_, 8, {2});
  ASSERT_OK(Run(&splitter));
  const Routing result = splitter.TakeRouting();
  ASSERT_NO_FATAL_FAILURE(ExpectExtended(result));
  EXPECT_NEAR(result.group_count() / 20.0, result.list_count() / 400.0, 0.5) << "groups of the usual size";
  routing_ = result;
  Assign();
  size_t nearest = 0;
  size_t inserted = 0;
  for (size_t i = 0; i < row_count(); ++i) {
    double best = INFINITY;
    for (uint32_t list = 0; list < result.list_count(); ++list)
      best = std::min(best, SquaredL2(&centred_[i * kDimensions], &result.centroids[list * kDimensions], kDimensions));
    const auto reaches = [&](uint32_t list) {
      return SquaredL2(&centred_[i * kDimensions], &result.centroids[list * kDimensions], kDimensions) <= best * (1 + 1e-4);
    };
    nearest += reaches(list_of_[i]);
    ListRanker ranker = ListRanker::ForInsert(&routing_, &rows_[i * kDimensions]);
    std::vector<RankedList> ranked;
    ranker.Rank(ProbeRule(), &ranked);
    inserted += reaches(ranked[0].list);
  }
  EXPECT_GE(static_cast<double>(nearest), 0.99 * static_cast<double>(row_count()));
  EXPECT_GE(static_cast<double>(inserted), 0.99 * static_cast<double>(row_count()));
}

// The codes of centroids: those there were stay, and where there were too few lists for codes there may now be enough.
TEST_F(ListSplitterTest, CodesOfCentroids) {
  constexpr uint32_t d = 512;
  for (const bool coded : {true, false}) {
    routing_ = ClusteredRouting(random_, Metric::kL2, d, 500, 10, 0.3f);
    if (coded) CodeAll(5, &routing_);
    ASSERT_FALSE(WantsCodes(routing_));
    std::vector<uint64_t> counts(500, 1);
    std::fill_n(counts.begin(), 40, 100);
    ListSplitter splitter(routing_, counts, 33, {2, nullptr, size_t{64} << 20, 6});
    ASSERT_EQ(splitter.lists().size(), 40u);
    for (uint32_t list = 0; list < 40; ++list)
      for (int i = 0; i < 100; ++i) {
        std::vector<float> row = UniformVector(random_, d);
        for (uint32_t j = 0; j < d; ++j) row[j] = 0.3f * row[j] + routing_.centroids[list * d + j];
        splitter.Add(list, row.data());
      }
    for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
    const Routing result = splitter.TakeRouting();
    ASSERT_NO_FATAL_FAILURE(ExpectExtended(result));
    ASSERT_GT(result.list_count(), 550u);
    ASSERT_TRUE(WantsCodes(result));
    EXPECT_EQ(result.code_bits, 4u);
    EXPECT_EQ(result.rotation_seed, coded ? 5u : 6u);
    const auto old_bytes = static_cast<ptrdiff_t>(routing_.header().code_bytes);
    EXPECT_TRUE(std::equal(routing_.codes.begin(), routing_.codes.begin() + old_bytes, result.codes.begin()));
    Routing again = result;
    CodeAll(coded ? 5 : 6, &again);
    EXPECT_EQ(again.codes, result.codes);
    // What ranks by them finds the new lists.
    for (uint32_t list = 490; list < 510; ++list) {
      std::vector<float> query(result.mean);
      for (uint32_t j = 0; j < d; ++j) query[j] += result.centroids[list * d + j];
      ListRanker ranker(&result, query.data(), {ProbeRule(), 3, kAnyStop});
      std::vector<RankedList> ranked;
      ranker.Rank(ProbeRule(), &ranked);
      EXPECT_EQ(ranked[0].list, list);
    }
  }
}

// By definition, where few lists are split.
TEST_F(ListSplitterTest, NeighboursAreReassigned) {
  ASSERT_NO_FATAL_FAILURE(Build(100, 100, 30, 100));
  std::vector<uint64_t> counts(100, 1);
  counts[10] = counts[70] = 30;
  ListSplitter splitter(routing_, counts, 10, {});
  for (size_t i = 0; i < row_count(); ++i)
    if (i % 100 < 30) splitter.Add(i % 2 == 0 ? 10 : 70, &centred_[i * kDimensions]);
  for (bool done = false; !done;) ASSERT_OK(splitter.Step(&done));
  ASSERT_GE(splitter.new_lists(), 2u);
  std::set<uint32_t> expected = {10, 70};
  for (const uint32_t split : {10u, 70u}) {
    std::vector<std::pair<double, uint32_t>> others;
    for (uint32_t list = 0; list < 100; ++list)
      if (list != split)
        others.push_back({SquaredL2(&routing_.centroids[split * kDimensions], &routing_.centroids[list * kDimensions],
                                    kDimensions), list});
    std::sort(others.begin(), others.end());
    for (uint32_t i = 0; i < 8; ++i) expected.insert(others[i].second);
  }
  for (uint32_t list = 0; list < 100; ++list) EXPECT_EQ(splitter.Reassigned(list), expected.contains(list)) << list;
}

TEST_F(ListSplitterTest, Interrupted) {
  ASSERT_NO_FATAL_FAILURE(Build(20, 10, 200, 20));
  for (const int threads : {1, 2})
    for (const int steps : {0, 1, 2}) {
      ListSplitter splitter(routing_, counts_, 50, {threads, CheckInterrupt});
      for (size_t i = 0; i < row_count(); ++i) splitter.Add(list_of_[i], &centred_[i * kDimensions]);
      bool done = false;
      for (int i = 0; i < steps; ++i) ASSERT_OK(splitter.Step(&done));
      interrupted = true;
      Status status;
      while (status.ok() && !done) status = splitter.Step(&done);
      interrupted = false;
      EXPECT_TRUE(Fails(status, StatusCode::kCancelled)) << steps;
    }
}

}  // namespace
}  // namespace ivfremote
