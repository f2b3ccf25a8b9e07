#include "core/calibration.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/assignment.h"
#include "core/coding.h"
#include "core/distance.h"
#include "core/segment_format.h"
#include "support.h"
#include "training_run.h"

namespace ivfremote {
namespace {

constexpr uint32_t kDimensions = 16;
constexpr uint64_t kSeed = 77;

// A sum of uniforms is as good as a normal here.
float Normal(Random& random) {
  float sum = 0;
  for (int i = 0; i < 6; ++i) sum += Uniform(random);
  return sum * 0.7f;
}

// Clouds that touch, so that neighbours lie in several lists.
std::vector<std::vector<float>> CloudedRows(Random& random, size_t n, const std::vector<std::vector<float>>& centres) {
  std::vector<std::vector<float>> rows(n);
  for (auto& row : rows) {
    row = centres[Below(random, centres.size())];
    for (float& x : row) x += Normal(random);
  }
  return rows;
}

// An index as far as calibration sees it: rows in lists, and their codes.
class CalibrationTest : public testing::Test {
 protected:
  void SetRows(std::vector<std::vector<float>> rows) { rows_ = std::move(rows); }

  void Build(Metric metric, uint32_t lists, CodeFormat format = {CodeKind::kFloat32, 32, kDimensions}) {
    metric_ = metric;
    format_ = format;
    const std::vector<float> space = InRoutingSpace(rows_);
    TrainingOptions options;
    options.metric = metric;
    options.dimensions = kDimensions;
    options.lists = lists;
    ASSERT_OK(Train(options, space, &routing_));
    Assign();
  }

  // With the routing there is.
  void Assign() {
    centred_ = InRoutingSpace(rows_);
    list_of_.resize(rows_.size());
    Assigner assigner(&routing_);
    const size_t batch = std::min<size_t>(assigner.batch_rows(), 1000);
    for (size_t i = 0; i < rows_.size(); i += batch)
      assigner.Assign(&centred_[i * kDimensions], std::min(batch, rows_.size() - i), &list_of_[i]);
    routing_.radii = assigner.Radii();
  }

  std::vector<float> InRoutingSpace(const std::vector<std::vector<float>>& rows) const {
    std::vector<float> space(rows.size() * kDimensions);
    for (size_t i = 0; i < rows.size(); ++i)
      ToRoutingSpace(metric_, rows[i].data(), kDimensions, &space[i * kDimensions]);
    return space;
  }

  static Tid TidOf(size_t row) { return {static_cast<uint32_t>(row / 50), static_cast<uint16_t>(row % 50 + 1)}; }

  // With every `stride`-th row as a query; `known`: calibration is told which rows they are.
  RecallCurve Calibrate(size_t stride, bool known = true, double epsilon = 1.9) {
    std::vector<std::vector<float>> queries;
    std::vector<Tid> tids;
    for (size_t i = 0; i < rows_.size(); i += stride) {
      queries.push_back(rows_[i]);
      tids.push_back(TidOf(i));
    }
    if (!known) tids.clear();
    return Calibrate(queries, std::move(tids), epsilon);
  }

  RecallCurve Calibrate(const std::vector<std::vector<float>>& queries, std::vector<Tid> tids, double epsilon = 1.9) {
    Calibration calibration({metric_, format_, kSeed, epsilon}, &routing_, InRoutingSpace(queries), std::move(tids));
    AddRows(&calibration, 0, rows_.size());
    return CurveOf(&calibration);
  }

  void AddRows(Calibration* calibration, size_t from, size_t to) {
    RowCoder coder(metric_, format_, kSeed, routing_.mean.data());
    std::vector<std::byte> codes;
    std::vector<Tid> row_tids;
    for (size_t first = from; first < to; first += 300) {
      const size_t n = std::min<size_t>(300, to - first);
      codes.resize(n * format_.RowBytes());
      row_tids.clear();
      for (size_t i = 0; i < n; ++i) {
        coder.Encode(rows_[first + i].data(), &routing_.centroids[list_of_[first + i] * kDimensions], &codes[i * format_.RowBytes()]);
        row_tids.push_back(TidOf(first + i));
      }
      calibration->Add(&centred_[first * kDimensions], n, &list_of_[first],
                       second_list_of_.empty() ? nullptr : &second_list_of_[first], row_tids.data(), codes.data());
    }
  }

  static RecallCurve CurveOf(Calibration* calibration) {
    for (bool done = false; !done;) EXPECT_OK(calibration->Step(Later(), &done));
    RecallCurve curve = calibration->TakeCurve();
    // What is found can be stored.
    RecallCurve decoded;
    if (curve.queries > 0) {
      EXPECT_OK(DecodeRecallCurve(curve.Encode(), &decoded));
    }
    return curve;
  }

  // The share of the true k nearest rows that lie in the lists up to the threshold; ties count.
  double Recall(const RecallCurve& curve, const CurvePoint& point, const std::vector<std::vector<float>>& queries) {
    const size_t k = std::min<size_t>(point.k, rows_.size());
    size_t found = 0;
    lists_probed_ = 0;
    for (const auto& query : queries) {
      std::vector<std::pair<double, size_t>> rows;
      const Scorer scorer(metric_, query.data(), kDimensions);
      for (size_t i = 0; i < rows_.size(); ++i) rows.push_back({scorer.Distance(rows_[i].data()), i});
      std::nth_element(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(k) - 1, rows.end());
      std::vector<RankedList> ranked;
      ListRanker(&routing_, query.data(), {curve.rule, ~0u, kAnyStop}).Rank(curve.rule, &ranked);
      std::set<uint32_t> probed;
      for (const RankedList& list : ranked)
        if (list.stop <= point.stop) probed.insert(list.list);
      for (size_t i = 0; i < k; ++i) found += probed.contains(list_of_[rows[i].second]);
      lists_probed_ += static_cast<double>(probed.size());
    }
    lists_probed_ /= static_cast<double>(queries.size());
    return static_cast<double>(found) / static_cast<double>(k * queries.size());
  }

  void SetClouds(size_t n, size_t queries, float spread = 2.5f) {
    std::vector<std::vector<float>> centres(40);
    for (auto& centre : centres) {
      centre = UniformVector(random_, kDimensions);
      for (float& x : centre) x = 3 + spread * x;
    }
    SetRows(CloudedRows(random_, n, centres));
    held_out_ = CloudedRows(random_, queries, centres);
  }

  Random random_{31};
  Metric metric_ = Metric::kL2;
  CodeFormat format_;
  Routing routing_;
  std::vector<std::vector<float>> rows_;
  std::vector<std::vector<float>> held_out_;
  std::vector<float> centred_;
  std::vector<uint32_t> list_of_;
  std::vector<uint32_t> second_list_of_;  // empty: none
  double lists_probed_ = 0;  // mean of the last Recall
};

TEST_F(CalibrationTest, HeldOutQueriesReachTheirTarget) {
  SetClouds(8000, 400);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    SCOPED_TRACE(static_cast<int>(metric));
    ASSERT_NO_FATAL_FAILURE(Build(metric, 120));
    const RecallCurve curve = Calibrate(10);
    EXPECT_EQ(curve.queries, 800u);
    EXPECT_EQ(curve.bound_loss, 0) << "of floats";
    for (uint32_t k : {1u, 10u, 100u})
      for (double target : {0.90, 0.95, 0.99}) {
        const CurvePoint point = curve.At(k, target);
        const double recall = Recall(curve, point, held_out_);
        EXPECT_GE(recall, target - 0.02) << k << ' ' << target;
        EXPECT_LE(recall, target + 0.35 * (1 - target) + 0.02) << k << ' ' << target << ": too many lists";
        EXPECT_NEAR(point.lists, lists_probed_, 0.1 * lists_probed_ + 0.5) << k << ' ' << target;
        EXPECT_LT(point.lists, 110) << k << ' ' << target;
      }
  }
}

TEST_F(CalibrationTest, PointsOfTheCurve) {
  SetClouds(4000, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 50));
  const RecallCurve curve = Calibrate(10);
  ASSERT_EQ(curve.points.size(), std::size(kCurveNeighbours) * std::size(kCurveRecalls));
  EXPECT_FALSE(curve.from_queries);
  for (size_t i = 0; i < curve.points.size(); ++i) {
    const CurvePoint& point = curve.points[i];
    EXPECT_EQ(point.k, kCurveNeighbours[i / std::size(kCurveRecalls)]);
    EXPECT_EQ(point.recall, kCurveRecalls[i % std::size(kCurveRecalls)]);
    EXPECT_GE(point.lists, 1);
    EXPECT_LE(point.lists, 50);
    EXPECT_LE(point.rows, 4000);
    EXPECT_GE(point.bytes, point.rows * (kDimensions * 4 + kTidBytes));
    EXPECT_LE(point.bytes, point.rows * (kDimensions * 4 + kTidBytes) + point.lists * 200);
    if (i % std::size(kCurveRecalls) == 0) continue;
    EXPECT_GE(point.stop, curve.points[i - 1].stop) << i;
    EXPECT_GE(point.lists, curve.points[i - 1].lists) << i;
    EXPECT_GE(point.rows, curve.points[i - 1].rows) << i;
  }
  // All lists hold all rows.
  for (const CurvePoint& point : curve.points)
    if (std::isinf(point.stop)) {
      EXPECT_EQ(point.lists, 50);
      EXPECT_EQ(point.rows, 4000);
    }
}

// A row is at distance 0 from itself, in the list that is probed first: counted, it would make recall look good.
TEST_F(CalibrationTest, RowIsNotItsOwnNeighbour) {
  SetClouds(6000, 500, 1.0f);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 120));
  const RecallCurve excluded = Calibrate(10, true);
  const RecallCurve included = Calibrate(10, false);
  for (double target : {0.90, 0.95}) {
    EXPECT_LT(included.At(1, target).lists, 0.5 * excluded.At(1, target).lists);
    EXPECT_LT(included.At(10, target).lists, excluded.At(10, target).lists);
    EXPECT_LT(Recall(included, included.At(1, target), held_out_), target - 0.1);
    EXPECT_GE(Recall(excluded, excluded.At(1, target), held_out_), target - 0.03);
  }
}

// The user's own queries are nobody's rows.
TEST_F(CalibrationTest, QueriesThatAreNoRows) {
  SetClouds(4000, 600);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 80));
  const std::vector<std::vector<float>> tuning(held_out_.begin(), held_out_.begin() + 400);
  const std::vector<std::vector<float>> test(held_out_.begin() + 400, held_out_.end());
  const RecallCurve curve = Calibrate(tuning, {});
  EXPECT_EQ(curve.queries, 400u);
  EXPECT_GE(Recall(curve, curve.At(10, 0.95), test), 0.93);
  // On what it rests on, the target is reached without doubt.
  for (float target : {0.90f, 0.95f, 0.99f}) EXPECT_GE(Recall(curve, curve.At(10, target), tuning), target);
}

TEST_F(CalibrationTest, DuplicatesAreNeighbours) {
  SetClouds(1500, 200);
  std::vector<std::vector<float>> rows;
  for (const auto& row : rows_)
    for (int copy = 0; copy < 4; ++copy) rows.push_back(row);
  SetRows(rows);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 80));
  const RecallCurve curve = Calibrate(13);
  // The nearest other row is a copy, in the same list.
  EXPECT_NEAR(curve.At(1, 0.99).lists, 1, 0.2);
  EXPECT_GT(curve.At(10, 0.99).lists, 2);
  // Three of ten neighbours of a row are its copies; those of other queries are a little harder to find.
  EXPECT_GE(Recall(curve, curve.At(10, 0.95), held_out_), 0.91);
}

TEST_F(CalibrationTest, AllRowsEqual) {
  for (uint32_t bits : {32u, 1u, 4u, 8u})
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      SetRows(std::vector<std::vector<float>>(500, std::vector<float>(kDimensions, 0.3f)));
      const CodeKind kind = bits == 32 ? CodeKind::kFloat32 : CodeKind::kRabitq;
      ASSERT_NO_FATAL_FAILURE(Build(metric, 5, {kind, bits, kDimensions}));
      const RecallCurve curve = Calibrate(5);
      EXPECT_EQ(curve.bound_loss, 0) << bits;
      EXPECT_NEAR(curve.At(10, 0.99).lists, 1, 0.01) << bits;
    }
}

// A table in some order: a dense cloud of one list first, then one of many lists.
TEST_F(CalibrationTest, QueriesForManyNeighboursLieAllOverTheTable) {
  constexpr uint32_t kLists = 40;
  std::vector<std::vector<float>> centres(kLists, std::vector<float>(kDimensions));
  for (uint32_t list = 1; list < kLists; ++list)
    for (float& x : centres[list]) x = 100 + 3 * Normal(random_);
  std::vector<std::vector<float>> rows;
  for (uint32_t list = 0; list < kLists; ++list)
    for (uint32_t i = 0; i < (list == 0 ? 1500 : 40); ++i) {
      rows.push_back(centres[list]);
      for (float& x : rows.back()) x += Normal(random_);
    }
  SetRows(rows);
  format_ = {CodeKind::kFloat32, 32, kDimensions};
  routing_.dimensions = kDimensions;
  routing_.mean.assign(kDimensions, 0.0f);
  routing_.radii.resize(kLists);
  routing_.group_first = {0, kLists};
  routing_.group_centroids.assign(kDimensions, 0.0f);
  routing_.centroids.clear();
  for (const auto& centre : centres) routing_.centroids.insert(routing_.centroids.end(), centre.begin(), centre.end());
  Assign();
  // Half of the queries need 23 lists or more, the others one.
  const RecallCurve curve = Calibrate(3);
  EXPECT_GT(curve.At(1000, 0.95).lists, 10);
  EXPECT_LT(curve.At(1, 0.80).lists, 5);
}

// A row is found where either of its lists is probed, and is scored in both.
TEST_F(CalibrationTest, SecondLists) {
  SetClouds(4000, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 50));
  const RecallCurve once = Calibrate(10);
  second_list_of_ = list_of_;
  for (uint32_t& list : second_list_of_) list = (list + 25) % 50;
  const RecallCurve twice = Calibrate(10);
  std::swap(list_of_, second_list_of_);
  const RecallCurve other = Calibrate(10);
  for (float recall : {0.80f, 0.90f, 0.95f}) {
    EXPECT_LE(twice.At(10, recall).lists, once.At(10, recall).lists * 1.01);
    EXPECT_EQ(twice.At(10, recall).stop, other.At(10, recall).stop);
    EXPECT_GT(twice.At(10, recall).rows, 1.5 * once.At(10, recall).rows);
  }
}

TEST_F(CalibrationTest, FewerRowsThanNeighbours) {
  SetClouds(60, 20);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 6));
  const RecallCurve curve = Calibrate(1);
  for (uint32_t k : kCurveNeighbours)
    for (float recall : kCurveRecalls) {
      const CurvePoint point = curve.At(k, recall);
      EXPECT_GE(point.lists, 1);
      EXPECT_LE(point.lists, 6);
      EXPECT_LE(point.rows, 60);
    }
  // Of 59 others nearly all lists are needed; of one not.
  EXPECT_GT(curve.At(1000, 0.99).lists, 5);
  EXPECT_LT(curve.At(1, 0.80).lists, 5);
  EXPECT_GE(Recall(curve, curve.At(100, 0.90), held_out_), 0.85);
}

// Its only query has no neighbour to be found or missed.
TEST_F(CalibrationTest, OneRow) {
  SetRows({std::vector<float>(kDimensions, 1.0f)});
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 1));
  const RecallCurve curve = Calibrate(1);
  EXPECT_EQ(curve.queries, 0u);
  EXPECT_TRUE(curve.points.empty());
}

TEST_F(CalibrationTest, OneList) {
  SetClouds(500, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kCosine, 1));
  const RecallCurve curve = Calibrate(5);
  for (uint32_t k : kCurveNeighbours)
    for (float recall : kCurveRecalls) {
      EXPECT_EQ(curve.At(k, recall).lists, 1);
      EXPECT_EQ(curve.At(k, recall).rows, 500);
    }
}

TEST_F(CalibrationTest, NoQueries) {
  SetClouds(100, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 3));
  Calibration calibration({metric_, format_, kSeed, 1.9}, &routing_, {}, {});
  for (bool done = false; !done;) ASSERT_OK(calibration.Step(Later(), &done));
  const RecallCurve curve = calibration.TakeCurve();
  EXPECT_EQ(curve.queries, 0u);
  for (const CurvePoint& point : curve.points) EXPECT_FALSE(std::isnan(point.lists) || std::isnan(point.rows));
}

// Lists that no row of the table is in still cost a probe.
TEST_F(CalibrationTest, EmptyLists) {
  SetClouds(2000, 200);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 40));
  for (uint32_t list : {3u, 20u, 39u})
    for (uint32_t j = 0; j < kDimensions; ++j) routing_.centroids[list * kDimensions + j] += 50;
  Assign();
  const RecallCurve curve = Calibrate(5);
  EXPECT_GE(Recall(curve, curve.At(10, 0.95), held_out_), 0.93);
}

// Values whose squares are not float32 any more: no curve is wrong enough to fail.
TEST_F(CalibrationTest, HugeRows) {
  for (uint32_t bits : {32u, 1u}) {
    SetClouds(300, 0);
    for (size_t i = 0; i < rows_.size(); i += 3)
      for (float& x : rows_[i]) x *= 1e20f;
    const CodeKind kind = bits == 32 ? CodeKind::kFloat32 : CodeKind::kRabitq;
    ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 10, {kind, bits, kDimensions}));
    // Less their mean all rows are huge: no distance is a float32, and none is a neighbour.
    const RecallCurve curve = Calibrate(4);
    EXPECT_EQ(curve.queries, 0u);
    EXPECT_TRUE(curve.points.empty());
  }
}

// -- codes

TEST_F(CalibrationTest, BoundsOfFewErrorsLoseNeighbours) {
  SetClouds(4000, 0, 1.0f);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    SCOPED_TRACE(static_cast<int>(metric));
    ASSERT_NO_FATAL_FAILURE(Build(metric, 40, {CodeKind::kRabitq, 1, kDimensions}));
    const RecallCurve none = Calibrate(10, true, 6);
    const RecallCurve few = Calibrate(10, true, 1.9);
    const RecallCurve many = Calibrate(10, true, 0.3);
    EXPECT_EQ(none.bound_loss, 0);
    EXPECT_LT(few.bound_loss, 0.04);
    EXPECT_GT(many.bound_loss, 0.05);
    EXPECT_LT(many.bound_loss, 0.5);
    // More lists make up for what bounds hide.
    EXPECT_GT(many.At(10, 0.90).stop, none.At(10, 0.90).stop);
    EXPECT_GE(few.At(10, 0.90).stop, none.At(10, 0.90).stop);
    EXPECT_NEAR(none.At(10, 0.90).bytes, none.At(10, 0.90).rows * (12 + 2 + 6) + none.At(10, 0.90).lists * 64, 10);
  }
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 40, {CodeKind::kRabitq, 8, kDimensions}));
  EXPECT_LT(Calibrate(10, true, 2.5).bound_loss, 0.002);
}

// The products that find the neighbours round more than codes of 8 bits do: that is no loss.
TEST_F(CalibrationTest, CloudsFarApartLoseNoNeighbours) {
  std::vector<std::vector<float>> centres(20);
  for (auto& centre : centres) {
    centre = UniformVector(random_, kDimensions);
    for (float& x : centre) x *= 2000;
  }
  SetRows(CloudedRows(random_, 4000, centres));
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
    ASSERT_NO_FATAL_FAILURE(Build(metric, 20, {CodeKind::kRabitq, 8, kDimensions}));
    EXPECT_LE(Calibrate(10, true, 2.5).bound_loss, 0.01);
  }
}

// -- rows decoded from codes

// As maintenance recalibrates: neighbours by estimates, and the loss by bounds that was measured with the rows.
TEST_F(CalibrationTest, DecodedRowsGiveTheCurveOfTheRows) {
  SetClouds(8000, 400);
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t bits : {1u, 4u}) {
      SCOPED_TRACE(testing::Message() << bits << " bits, metric " << static_cast<int>(metric));
      ASSERT_NO_FATAL_FAILURE(Build(metric, 120, {CodeKind::kRabitq, bits, kDimensions}));
      const RecallCurve of_rows = Calibrate(10);
      std::vector<std::vector<float>> queries;
      std::vector<Tid> tids;
      std::vector<Tid> row_tids;
      for (size_t i = 0; i < rows_.size(); ++i) {
        row_tids.push_back(TidOf(i));
        if (i % 10 != 0) continue;
        queries.push_back(rows_[i]);
        tids.push_back(TidOf(i));
      }
      RowCoder coder(metric_, format_, kSeed, routing_.mean.data());
      RowDecoder decoder(metric_, format_, kSeed, routing_.mean.data());
      std::vector<float> decoded(rows_.size() * kDimensions);
      std::vector<float> excess(rows_.size());
      std::vector<std::byte> code(format_.RowBytes());
      for (size_t i = 0; i < rows_.size(); ++i) {
        const float* centroid = &routing_.centroids[list_of_[i] * kDimensions];
        coder.Encode(rows_[i].data(), centroid, code.data());
        decoder.Decode(code.data(), centroid, &decoded[i * kDimensions], &excess[i]);
      }
      Calibration calibration({metric_, format_, kSeed, 1.9, 0, of_rows.bound_loss}, &routing_, InRoutingSpace(queries),
                              tids);
      calibration.Add(decoded.data(), rows_.size(), list_of_.data(), nullptr, row_tids.data(), nullptr, excess.data());
      const RecallCurve of_codes = CurveOf(&calibration);
      EXPECT_EQ(of_codes.bound_loss, of_rows.bound_loss);
      EXPECT_EQ(of_codes.queries, 800u);
      // Errors of codes as large as distances are, here, seem to scatter neighbours: with 1 bit more lists are probed than need be.
      for (double target : {0.90, 0.95}) {
        const double recall = Recall(of_codes, of_codes.At(10, target), held_out_);
        EXPECT_GE(recall, target - 0.015) << target;
        if (bits == 1) continue;
        EXPECT_LE(recall, target + 0.5 * (1 - target) + 0.02) << target;
        const float rows = of_rows.At(10, target).rows;
        EXPECT_NEAR(of_codes.At(10, target).rows, rows, 0.15 * rows) << target;
      }
    }
}

// Rows that stand off in a direction which no query has, each by another length: that is all excess.
TEST_F(CalibrationTest, ExcessIsSubtracted) {
  SetClouds(3000, 0);
  for (auto& row : rows_) row.back() = 0;
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 50));
  std::vector<Tid> tids;
  for (size_t i = 0; i < rows_.size(); ++i) tids.push_back(TidOf(i));
  std::vector<std::vector<float>> queries;
  for (size_t i = 0; i < rows_.size(); i += 10) queries.push_back(rows_[i]);
  const auto calibrate = [&](const std::vector<float>& centred, const float* excess) {
    Calibration calibration({metric_, format_, kSeed, 1.9}, &routing_, InRoutingSpace(queries), {});
    calibration.Add(centred.data(), rows_.size(), list_of_.data(), nullptr, tids.data(), nullptr, excess);
    return CurveOf(&calibration);
  };
  std::vector<float> longer = centred_;
  std::vector<float> excess(rows_.size());
  for (size_t i = 0; i < rows_.size(); ++i) {
    const float length = 3 * static_cast<float>(Below(random_, 4));
    longer[(i + 1) * kDimensions - 1] += length;
    excess[i] = length * length;
  }
  const double rows = calibrate(centred_, nullptr).At(10, 0.95).rows;
  EXPECT_NEAR(calibrate(longer, excess.data()).At(10, 0.95).rows, rows, 0.01 * rows);
  EXPECT_GT(std::abs(calibrate(longer, nullptr).At(10, 0.95).rows - rows), 0.05 * rows);
}

// -- shares of the rows

// As a worker's calibration goes to the leader's.
void Merge(Calibration* from, Calibration* into) {
  for (size_t part = 0; part < from->part_count(); ++part) ASSERT_OK(into->MergePart(part, from->EncodePart(part)));
}

// Whichever rows each has seen. Coordinates are small integers, so products are exact, and many rows are equally near.
TEST_F(CalibrationTest, MergedIsAsIfOneHadSeenAllRows) {
  for (const uint32_t bits : {32u, 4u})
    for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      SCOPED_TRACE(testing::Message() << bits << " bits, metric " << static_cast<int>(metric));
      std::vector<std::vector<float>> rows(3000, std::vector<float>(kDimensions));
      for (auto& row : rows)
        for (float& x : row) x = static_cast<float>(Below(random_, 3));
      SetRows(std::move(rows));
      metric_ = metric;
      format_ = {bits == 32 ? CodeKind::kFloat32 : CodeKind::kRabitq, bits, kDimensions};
      routing_ = {};
      routing_.dimensions = kDimensions;
      routing_.metric = metric;
      routing_.mean.assign(kDimensions, 1.0f);
      routing_.radii.resize(30);
      routing_.group_first = {0, 30};
      routing_.group_centroids.assign(kDimensions, 0.0f);
      for (size_t i = 0; i < 30 * kDimensions; ++i) routing_.centroids.push_back(static_cast<float>(Below(random_, 3)) - 1);
      Assign();
      second_list_of_ = list_of_;
      for (size_t i = 0; i < rows_.size(); i += 2) second_list_of_[i] = static_cast<uint32_t>(Below(random_, 30));

      const auto calibration = [&] {
        std::vector<std::vector<float>> queries;
        std::vector<Tid> tids;
        for (size_t i = 0; i < rows_.size(); i += 10) {
          queries.push_back(rows_[i]);
          tids.push_back(TidOf(i));
        }
        return Calibration({metric_, format_, kSeed, 1.9, 0}, &routing_, InRoutingSpace(queries), tids);
      };
      Calibration whole = calibration();
      AddRows(&whole, 0, 3000);
      const std::vector<std::byte> expected = CurveOf(&whole).Encode();
      for (const size_t split : {0u, 1u, 90u, 1700u}) {
        Calibration first = calibration();
        Calibration second = calibration();
        Calibration third = calibration();
        AddRows(&first, split, 2000);
        AddRows(&second, 2000, 3000);
        AddRows(&third, 0, split);
        ASSERT_NO_FATAL_FAILURE(Merge(&first, &second));
        ASSERT_NO_FATAL_FAILURE(Merge(&third, &second));
        EXPECT_EQ(second.NearestOf(7, 10).limit, whole.NearestOf(7, 10).limit);
        EXPECT_EQ(CurveOf(&second).Encode(), expected) << "split at " << split;
      }
      Calibration some = calibration();
      AddRows(&some, 0, 1500);
      EXPECT_NE(CurveOf(&some).Encode(), expected) << "half of the rows make another curve";
    }
}

TEST_F(CalibrationTest, DamagedPartsAreRefused) {
  SetClouds(500, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 10, {CodeKind::kRabitq, 1, kDimensions}));
  Calibration calibration({metric_, format_, kSeed, 1.9, 0}, &routing_, InRoutingSpace(rows_), {});
  AddRows(&calibration, 0, 500);
  for (const size_t part : {0u, 1u, 300u}) {
    std::vector<std::byte> bytes = calibration.EncodePart(part);
    ASSERT_GT(bytes.size(), 8u);
    for (const size_t length : {size_t{0}, size_t{7}, bytes.size() - 1})
      EXPECT_TRUE(Fails(calibration.MergePart(part, Bytes(bytes).first(length)), StatusCode::kCorrupt)) << part;
    bytes.push_back({});
    EXPECT_TRUE(Fails(calibration.MergePart(part, bytes), StatusCode::kCorrupt)) << part;
  }
  std::vector<std::byte> bytes = calibration.EncodePart(1);
  Poke(&bytes, 0, ~0u);  // neighbours
  EXPECT_TRUE(Fails(calibration.MergePart(1, bytes), StatusCode::kCorrupt));
  bytes = calibration.EncodePart(1);
  Poke(&bytes, 12, 10u);  // the first one's list
  EXPECT_TRUE(Fails(calibration.MergePart(1, bytes), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(calibration.MergePart(calibration.part_count(), calibration.EncodePart(1)), StatusCode::kCorrupt));
}

// -- steps

TEST_F(CalibrationTest, StepsEndAtTheirDeadline) {
  SetClouds(500, 0);
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 10));
  Calibration calibration({metric_, format_, kSeed, 1.9}, &routing_, InRoutingSpace(rows_), {});
  bool done = false;
  int steps = 0;
  while (!done) {
    ASSERT_OK(calibration.Step(Past(), &done));
    ASSERT_LE(++steps, 501);
    ASSERT_EQ(calibration.queries_done(), static_cast<size_t>(steps));
  }
  EXPECT_GE(steps, 400) << "a step went on after its deadline";
}

TEST(CalibrationQueries, AsManyAsTheProductsAllow) {
  EXPECT_EQ(CalibrationQueries(0, 784), 0u);
  EXPECT_EQ(CalibrationQueries(50, 784), 50u);
  EXPECT_EQ(CalibrationQueries(10000, 100), 1000u);
  EXPECT_EQ(CalibrationQueries(1e9, 4000), 400u);
  EXPECT_EQ(CalibrationQueries(1e9, 16000), 131u) << "8 MB";
  const uint32_t between = CalibrationQueries(40000, 784);
  EXPECT_GT(between, 400u);
  EXPECT_LT(between, 1000u);
}

}  // namespace
}  // namespace ivfremote
