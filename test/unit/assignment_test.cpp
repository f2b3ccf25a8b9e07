#include "core/assignment.h"

#include <cfloat>
#include <cmath>

#include "support.h"

namespace ivfremote {
namespace {

// `lists` random centroids in `groups` groups around random group centroids.
Routing RandomRouting(Random& random, uint32_t dimensions, uint32_t lists, uint32_t groups) {
  Routing routing;
  routing.dimensions = dimensions;
  routing.mean = UniformVector(random, dimensions);
  routing.radii.resize(lists);
  routing.group_centroids = UniformVector(random, size_t{groups} * dimensions);
  for (uint32_t g = 0; g <= groups; ++g)
    routing.group_first.push_back(static_cast<uint32_t>(uint64_t{lists} * g / groups));
  for (uint32_t g = 0; g < groups; ++g)
    for (uint32_t list = routing.group_first[g]; list < routing.group_first[g + 1]; ++list)
      for (uint32_t j = 0; j < dimensions; ++j)
        routing.centroids.push_back(routing.group_centroids[g * dimensions + j] + 0.5f * Uniform(random));
  return routing;
}

// Rows near randomly chosen lists.
std::vector<float> RowsNear(Random& random, const Routing& routing, size_t n, float spread) {
  std::vector<float> rows;
  for (size_t i = 0; i < n; ++i) {
    const size_t list = Below(random, routing.list_count());
    for (size_t j = 0; j < routing.dimensions; ++j)
      rows.push_back(routing.mean[j] + routing.centroids[list * routing.dimensions + j] + spread * Uniform(random));
  }
  return rows;
}

// Squared distance of a row from a list's centroid.
double Distance(const Routing& routing, const float* row, size_t list) {
  double sum = 0;
  for (size_t j = 0; j < routing.dimensions; ++j) {
    const double residual = double{row[j]} - routing.mean[j] - routing.centroids[list * routing.dimensions + j];
    sum += residual * residual;
  }
  return sum;
}

double NearestDistance(const Routing& routing, const float* row) {
  double best = Distance(routing, row, 0);
  for (uint32_t list = 1; list < routing.list_count(); ++list) best = std::min(best, Distance(routing, row, list));
  return best;
}

// All rows, batch by batch.
std::vector<uint32_t> Assign(Assigner* assigner, size_t dimensions, std::vector<float> rows) {
  const size_t n = rows.size() / dimensions;
  std::vector<uint32_t> lists(n, ~0u);
  for (size_t i = 0; i < n; i += assigner->batch_rows())
    assigner->Assign(&rows[i * dimensions], std::min(assigner->batch_rows(), n - i), &lists[i]);
  return lists;
}

TEST(Assignment, FewGroupsAreExact) {
  Random random(28);
  for (uint32_t dimensions : {1u, 3u, 100u, 784u}) {
    for (uint32_t groups : {1u, 2u, 8u}) {
      const Routing routing = RandomRouting(random, dimensions, 50, groups);
      const std::vector<float> rows = RowsNear(random, routing, 500, 0.4f);
      Assigner assigner(&routing);
      const std::vector<uint32_t> lists = Assign(&assigner, dimensions, rows);
      for (size_t i = 0; i < lists.size(); ++i) {
        const float* row = &rows[i * dimensions];
        ASSERT_LT(lists[i], 50u);
        // Two lists may be equally near but for the rounding of float32.
        ASSERT_NEAR(Distance(routing, row, lists[i]), NearestDistance(routing, row), 2e-6 * dimensions);
      }
    }
  }
}

TEST(Assignment, TreeReachesTheNearestList) {
  Random random(29);
  const uint32_t dimensions = 32;
  const Routing routing = RandomRouting(random, dimensions, 1000, 32);
  const std::vector<float> rows = RowsNear(random, routing, 3000, 0.4f);
  Assigner assigner(&routing);
  const std::vector<uint32_t> lists = Assign(&assigner, dimensions, rows);
  size_t nearest = 0;
  for (size_t i = 0; i < lists.size(); ++i) {
    ASSERT_LT(lists[i], 1000u);
    const double best = NearestDistance(routing, &rows[i * dimensions]);
    nearest += Distance(routing, &rows[i * dimensions], lists[i]) <= best + 1e-5;
  }
  EXPECT_GT(nearest, lists.size() * 97 / 100);
}

TEST(Assignment, GroupsWithoutLists) {
  Random random(30);
  Routing routing = RandomRouting(random, 4, 5, 5);
  // Twenty groups, of which only the last has lists: the nearest groups have none.
  routing.group_centroids.assign(20 * 4, 0.0f);
  for (size_t j = 0; j < 4; ++j) routing.group_centroids[19 * 4 + j] = 100;
  routing.group_first.assign(20, 0);
  routing.group_first.push_back(5);
  const std::vector<float> rows = RowsNear(random, routing, 100, 0.1f);
  Assigner assigner(&routing);
  const std::vector<uint32_t> lists = Assign(&assigner, 4, rows);
  for (size_t i = 0; i < lists.size(); ++i)
    ASSERT_NEAR(Distance(routing, &rows[i * 4], lists[i]), NearestDistance(routing, &rows[i * 4]), 1e-5);
}

// As many equal rows make them: a batch must not take longer for it.
TEST(Assignment, BatchesAreSmallerWhereOneGroupHasMostLists) {
  Random random(32);
  Routing routing = RandomRouting(random, 64, 20000, 100);
  const size_t even = Assigner(&routing).batch_rows();
  for (uint32_t g = 1; g < 100; ++g) routing.group_first[g] = 19900 + g;
  const size_t uneven = Assigner(&routing).batch_rows();
  EXPECT_EQ(even, 1024u);
  // 2e9 operations, 128 for each list and group that a row meets.
  EXPECT_EQ(uneven, static_cast<size_t>(2e9 / 128 / (100 + 19901 + 7)));
}

TEST(Assignment, TiesGoToTheLowerList) {
  for (uint32_t groups : {1u, 20u}) {
    Routing routing;
    routing.dimensions = 2;
    routing.mean = {0, 0};
    routing.radii.resize(40);
    routing.group_centroids.assign(groups * 2, 0.0f);
    for (uint32_t g = 0; g <= groups; ++g) routing.group_first.push_back(40 * g / groups);
    for (uint32_t list = 0; list < 40; ++list) {  // 0, 1, .., 4, 0, 1, ..
      routing.centroids.push_back(static_cast<float>(list % 5));
      routing.centroids.push_back(1);
    }
    Assigner assigner(&routing);
    EXPECT_EQ(Assign(&assigner, 2, {3, 1, 0, 5, 4, -1, 2.5f, 1}), (std::vector<uint32_t>{3, 0, 4, 2})) << groups;
  }
}

TEST(Assignment, RadiiAreThoseOfAllRowsAssigned) {
  Random random(31);
  const uint32_t dimensions = 20;
  for (uint32_t groups : {4u, 16u}) {
    const Routing routing = RandomRouting(random, dimensions, 100, groups);
    const std::vector<float> rows = RowsNear(random, routing, 2500, 0.3f);
    Assigner assigner(&routing);
    EXPECT_EQ(assigner.Radii(), std::vector<float>(100, 0.0f));
    const std::vector<uint32_t> lists = Assign(&assigner, dimensions, rows);
    std::vector<double> sums(100);
    std::vector<double> counts(100);
    for (size_t i = 0; i < lists.size(); ++i) {
      sums[lists[i]] += Distance(routing, &rows[i * dimensions], lists[i]);
      ++counts[lists[i]];
    }
    const std::vector<float> radii = assigner.Radii();
    for (size_t list = 0; list < 100; ++list)
      ASSERT_NEAR(radii[list], counts[list] == 0 ? 0 : std::sqrt(sums[list] / counts[list]), 1e-5);
  }
}

TEST(Assignment, MergedSumsAreThoseOfAllRows) {
  Random random(36);
  const Routing routing = RandomRouting(random, 12, 60, 12);
  const std::vector<float> rows = RowsNear(random, routing, 1000, 0.3f);
  const auto middle = rows.begin() + 12 * 137;
  Assigner whole(&routing);
  Assign(&whole, 12, rows);
  Assigner first(&routing);
  Assign(&first, 12, {rows.begin(), middle});
  Assigner second(&routing);
  Assign(&second, 12, {middle, rows.end()});
  ASSERT_NE(first.Radii(), whole.Radii());
  ASSERT_OK(second.MergeSums(first.EncodeSums()));
  for (size_t list = 0; list < 60; ++list) ASSERT_FLOAT_EQ(second.Radii()[list], whole.Radii()[list]) << list;
  ASSERT_OK(second.MergeSums(Assigner(&routing).EncodeSums()));
  for (size_t list = 0; list < 60; ++list) ASSERT_FLOAT_EQ(second.Radii()[list], whole.Radii()[list]) << list;
}

TEST(Assignment, SumsOfOtherListsAreRefused) {
  Random random(37);
  const Routing routing = RandomRouting(random, 3, 20, 20);
  Assigner assigner(&routing);
  std::vector<std::byte> sums = assigner.EncodeSums();
  sums.pop_back();
  EXPECT_TRUE(Fails(assigner.MergeSums(sums), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(assigner.MergeSums({}), StatusCode::kCorrupt));
}

// The nearest lists are found in whatever number of products a group needs.
TEST(Assignment, OneGroupWithMostLists) {
  Random random(38);
  const uint32_t lists = 6000;
  Routing routing = RandomRouting(random, 4, lists, 20);
  for (uint32_t g = 1; g < 20; ++g) routing.group_first[g] = lists - 20 + g;
  const std::vector<float> rows = RowsNear(random, routing, 1000, 0.1f);
  Assigner assigner(&routing);
  ASSERT_EQ(assigner.batch_rows(), 1024u) << "all in one batch: more products than fit";
  const std::vector<uint32_t> assigned = Assign(&assigner, 4, rows);
  size_t nearest = 0;
  for (size_t i = 0; i < assigned.size(); ++i)
    nearest += Distance(routing, &rows[i * 4], assigned[i]) <= NearestDistance(routing, &rows[i * 4]) + 1e-6;
  // Group 0 holds nearly all lists wherever its centroid is, and is searched for 8 of 20 groups' rows.
  Assigner single(&routing);
  for (size_t i = 0; i < assigned.size(); ++i) {
    std::vector<float> row(rows.begin() + static_cast<ptrdiff_t>(i * 4), rows.begin() + static_cast<ptrdiff_t>(i * 4 + 4));
    uint32_t list = ~0u;
    single.Assign(row.data(), 1, &list);
    ASSERT_EQ(list, assigned[i]) << i;
  }
  EXPECT_GT(nearest, 100u);
}

TEST(Assignment, ResultsDoNotDependOnTheBatches) {
  Random random(32);
  const Routing routing = RandomRouting(random, 16, 200, 14);
  const std::vector<float> rows = RowsNear(random, routing, 600, 0.1f);
  Assigner whole(&routing);
  const std::vector<uint32_t> lists = Assign(&whole, 16, rows);
  Assigner single(&routing);
  for (size_t i = 0; i < lists.size(); ++i) {
    std::vector<float> row(rows.begin() + static_cast<ptrdiff_t>(i * 16),
                           rows.begin() + static_cast<ptrdiff_t>(i * 16 + 16));
    uint32_t list = ~0u;
    single.Assign(row.data(), 1, &list);
    ASSERT_EQ(list, lists[i]) << i;
  }
}

TEST(Assignment, HugeValuesGetAValidList) {
  Random random(33);
  const float values[] = {0.0f,  -0.0f,  1e-45f, 1.0f,   1e15f,   -1e19f,  1e20f,
                          1e30f, -1e30f, 3e38f,  -3e38f, FLT_MAX, -FLT_MAX};
  const auto some = [&](size_t n) {
    std::vector<float> v(n);
    for (float& x : v) x = values[Below(random, std::size(values))];
    return v;
  };
  for (uint32_t dimensions : {1u, 7u, 300u}) {
    for (uint32_t groups : {1u, 8u, 9u, 30u}) {
      Routing routing = RandomRouting(random, dimensions, 60, groups);
      routing.centroids = some(routing.centroids.size());
      routing.group_centroids = some(routing.group_centroids.size());
      if (groups != 9) routing.mean = some(dimensions);
      Assigner assigner(&routing);
      for (uint32_t list : Assign(&assigner, dimensions, some(size_t{200} * dimensions))) ASSERT_LT(list, 60u);
      for (float radius : assigner.Radii()) ASSERT_TRUE(std::isfinite(radius)) << radius;
    }
  }
}

// A row whose products overflow in float32 is compared in float64.
TEST(Assignment, HugeRowsReachTheNearestOfHugeLists) {
  Routing routing;
  routing.dimensions = 3;
  routing.mean = {0, 0, 0};
  routing.radii.resize(3);
  routing.group_first = {0, 3};
  routing.group_centroids = {0, 0, 0};
  routing.centroids = {1e30f, 0, 0, 0, 1e30f, 0, 0, 0, -3e38f};
  Assigner assigner(&routing);
  EXPECT_EQ(Assign(&assigner, 3, {2e30f, 1, 1, 1, 3e30f, 1, 1, 1, -2e38f}), (std::vector<uint32_t>{0, 1, 2}));
}

TEST(Assignment, BatchesAreBounded) {
  Random random(34);
  const Routing small = RandomRouting(random, 1, 1, 1);
  EXPECT_LE(Assigner(&small).batch_rows(), 1024u);
  const Routing wide = RandomRouting(random, kMaxDimensions, 500, 20);
  const size_t rows = Assigner(&wide).batch_rows();
  EXPECT_GE(rows, 1u);
  EXPECT_LE(static_cast<double>(rows) * 2 * kMaxDimensions * (20 + 500 * 8 / 20), 2e9);
  EXPECT_LE(rows * 2 * kMaxDimensions * sizeof(float), 8u << 20);
  EXPECT_GE(rows, 64u);
}

TEST(Assignment, EmptyBatch) {
  Random random(35);
  const Routing routing = RandomRouting(random, 3, 20, 20);
  Assigner assigner(&routing);
  assigner.Assign(nullptr, 0, nullptr);
  EXPECT_EQ(assigner.Radii(), std::vector<float>(20, 0.0f));
}

Routing OfLists(std::vector<float> centroids, uint32_t dimensions) {
  Routing routing;
  routing.dimensions = dimensions;
  routing.mean.assign(dimensions, 0.0f);
  routing.radii.resize(centroids.size() / dimensions);
  routing.group_first = {0, routing.list_count()};
  routing.group_centroids.assign(dimensions, 0.0f);
  routing.centroids = std::move(centroids);
  return routing;
}

// Rows that were centred before, and that are as much longer as their excess says.
TEST(AssignCentred, ExcessIsNoRadius) {
  const Routing routing = OfLists({0, 0, 4, 0}, 2);
  Assigner assigner(&routing);
  const std::vector<float> rows = {1, 2, 4, 3, 4, 0};
  const std::vector<float> excess = {4, 9, 1};
  uint32_t lists[3];
  assigner.AssignCentred(rows.data(), 3, lists, excess.data());
  EXPECT_EQ(lists[0], 0u);
  EXPECT_EQ(lists[1], 1u);
  EXPECT_EQ(lists[2], 1u);
  EXPECT_EQ(assigner.Radii()[0], 1);
  EXPECT_EQ(assigner.Radii()[1], 0) << "less than nothing";
}

// The next nearest list lies beyond the row, so its residual points the other way along the same line.
TEST(SecondList, PointsAnotherWay) {
  const Routing routing = OfLists({0, 0, 2.1f, 0, 1, 1.3f}, 2);
  Assigner assigner(&routing);
  std::vector<float> rows = {1, 0, 0, 0};  // the second one is on its centroid
  uint32_t lists[2];
  uint32_t second_lists[2];
  assigner.AssignTwo(rows.data(), 2, lists, second_lists);
  EXPECT_EQ(lists[0], 0u);
  EXPECT_EQ(second_lists[0], 2u);
  EXPECT_EQ(lists[1], 0u);
  EXPECT_EQ(second_lists[1], 2u);
  EXPECT_EQ(assigner.Radii()[0], std::sqrt(0.5f)) << "second lists don't count";
}

TEST(SecondList, OfOneList) {
  const Routing routing = OfLists({1, 2}, 2);
  Assigner assigner(&routing);
  std::vector<float> rows = {5, 5};
  uint32_t list;
  uint32_t second_list;
  assigner.AssignTwo(rows.data(), 1, &list, &second_list);
  EXPECT_EQ(list, 0u);
  EXPECT_EQ(second_list, 0u);
}

// By definition, where there are no more lists than candidates.
TEST(SecondList, EqualsBruteForce) {
  Random random(66);
  const Routing routing = RandomRouting(random, 20, Assigner::kSecondCandidates, 4);
  const std::vector<float> rows = RowsNear(random, routing, 300, 0.8f);
  Assigner assigner(&routing);
  std::vector<uint32_t> lists(300);
  std::vector<uint32_t> second_lists(300);
  std::vector<float> work = rows;
  assigner.AssignTwo(work.data(), 300, lists.data(), second_lists.data());
  for (size_t i = 0; i < 300; ++i) {
    const float* row = &work[i * 20];
    const auto loss = [&](uint32_t list) {
      double along = 0;
      for (size_t j = 0; j < 20; ++j)
        along += (row[j] - double{routing.centroids[list * 20 + j]}) *
                 (row[j] - double{routing.centroids[lists[i] * 20 + j]});
      return Distance(routing, &rows[i * 20], list) + along * along / Distance(routing, &rows[i * 20], lists[i]);
    };
    ASSERT_NE(second_lists[i], lists[i]);
    for (uint32_t list = 0; list < routing.list_count(); ++list) {
      if (list == lists[i]) continue;
      ASSERT_GE(loss(list), loss(second_lists[i]) - 1e-4);
    }
  }
}

}  // namespace
}  // namespace ivfremote
