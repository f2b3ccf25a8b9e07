#include "core/code_scorer.h"

#include <hwy/targets.h>

#include <cfloat>
#include <cmath>
#include <limits>

#include "core/code_kernels.h"
#include "core/distance.h"
#include "core/object_store.h"
#include "core/rotation.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr uint32_t kWidths[] = {1, 2, 4, 8};
constexpr uint32_t kPadded[] = {8, 16, 24, 32, 40, 48, 104, 112, 784, 1000, 1040, 4096, 16000};

// Runs `check` once for every instruction set that this machine has.
template <class Check>
void OnEveryTarget(Check check) {
  const auto choose = [](int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    choose(target);
    SCOPED_TRACE(hwy::TargetName(target));
    check();
    choose(0);
  }
}

// Rows whose codes are still one after the other.
struct Rows {
  uint32_t padded;
  uint32_t bits;
  uint32_t count;
  std::vector<std::byte> codes;
  std::vector<float> a, s, e;

  // As code.h says what a code is.
  int V(uint32_t row, uint32_t dimension) const {
    const std::byte* code = &codes[row * CodeBytes(padded, bits)];
    uint32_t value;
    if (bits == 1) {
      value = static_cast<uint32_t>(code[dimension / 8]) >> dimension % 8 & 1;
    } else {
      const uint32_t at = dimension % (32 / bits);
      const auto word = Load<uint32_t>(code + dimension / (32 / bits) * 4);
      value = word >> (at % 2 * 16 + at / 2 * bits) & ((1u << bits) - 1);
    }
    return 2 * static_cast<int>(value) - static_cast<int>((1u << bits) - 1);
  }
};

Rows RandomRows(Random& random, uint32_t padded, uint32_t bits, uint32_t count) {
  Rows rows{padded, bits, count, {}, {}, {}, {}};
  rows.codes.resize(count * CodeBytes(padded, bits));
  for (std::byte& byte : rows.codes) byte = static_cast<std::byte>(random());
  for (uint32_t i = 0; i < count; ++i) {
    rows.a.push_back(1 + Uniform(random));
    rows.s.push_back((2 + Uniform(random)) / std::sqrt(static_cast<float>(padded)) / static_cast<float>(1u << bits));
    rows.e.push_back(0.1f + 0.1f * Uniform(random));
  }
  return rows;
}

// The first `count` rows in groups, `offset` bytes off any alignment, with nothing readable after the slack.
class Block {
 public:
  Block(const Rows& rows, uint32_t count, size_t offset = 0)
      : bytes_(offset + GroupedBytes(rows.padded, rows.bits, count) + RangeBuffer::kSlack) {
    std::byte* out = bytes_.data() + offset;
    rows_ = {count, rows.a.data(), rows.s.data(), rows.e.data(), out};
    const uint32_t group = GroupRows(rows.bits);
    for (uint32_t row = 0; row < count; row += group) {
      const uint32_t n = std::min(group, count - row);
      PackGroup(&rows.codes[row * CodeBytes(rows.padded, rows.bits)], rows.padded, rows.bits, n, out);
      out += GroupBytes(rows.padded, rows.bits, n);
    }
    for (size_t i = 0; i < RangeBuffer::kSlack; ++i) out[i] = std::byte{0xa5};
  }
  const CodedRows& rows() const { return rows_; }

 private:
  std::vector<std::byte> bytes_;
  CodedRows rows_;
};

// The formula in double, with what rounding is relative to.
struct Exact {
  double bound;
  double magnitude;
};

Exact Evaluate(const Rows& rows, uint32_t row, Metric metric, const QueryResidual& query, double epsilon) {
  double product = 0;
  double squared_norm = 0;
  for (uint32_t i = 0; i < rows.padded; ++i) {
    product += rows.V(row, i) * double{query.y[i]};
    squared_norm += double{query.y[i]} * query.y[i];
  }
  product *= rows.s[row];
  const double error = epsilon * rows.e[row] * std::sqrt(squared_norm);
  if (metric == Metric::kInnerProduct)
    return {-(query.centroid_product + query.alpha * rows.a[row] + product) - error,
            std::abs(query.centroid_product) + std::abs(query.alpha * rows.a[row]) + std::abs(product) + error};
  return {rows.a[row] + squared_norm - 2 * product - 2 * error,
          std::abs(rows.a[row]) + squared_norm + 2 * std::abs(product) + 2 * error};
}

std::vector<float> NormalVector(Random& random, size_t n) {
  std::vector<float> values(n);
  for (float& value : values) {
    const double u = (Uniform(random) + 1.0 + 0x1p-30) / 2.0 * 0.999;
    value = static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(M_PI * Uniform(random)));
  }
  return values;
}

struct NamedQuery {
  const char* name;
  std::vector<float> y;
};

std::vector<NamedQuery> ExtremeQueries(Random& random, uint32_t padded) {
  std::vector<NamedQuery> queries = {
      {"uniform", UniformVector(random, padded)},     {"normal", NormalVector(random, padded)},
      {"constant", std::vector<float>(padded, 0.7f)}, {"negative constant", std::vector<float>(padded, -1e-3f)},
      {"one huge", UniformVector(random, padded)},    {"one only", std::vector<float>(padded, 0.0f)},
      {"zeros", std::vector<float>(padded, -0.0f)},   {"denormals", UniformVector(random, padded)},
      {"tiny", UniformVector(random, padded)},        {"1e15", UniformVector(random, padded)},
      {"1e30", UniformVector(random, padded)},        {"corner", std::vector<float>(padded, FLT_MAX)}};
  queries[4].y[padded / 2] = 1e6f;
  queries[5].y[padded - 1] = -3.0f;
  for (float& x : queries[7].y) x *= 1e-40f;
  for (float& x : queries[8].y) x *= 1e-29f;
  for (float& x : queries[9].y) x *= 1e15f;
  for (float& x : queries[10].y) x *= 1e30f;
  return queries;
}

// Scores with kernel and reference on this target; bounds must be equal but for rounding.
void ExpectAgreement(const CodeScorer& scorer, const Block& block, const std::vector<double>& magnitudes,
                     const std::string& what) {
  const uint32_t n = block.rows().rows;
  constexpr float kUntouched = 12345;
  std::vector<float> bounds(n + 1, kUntouched);
  std::vector<float> expected(n);
  scorer.Score(block.rows(), bounds.data());
  scorer.ScoreReference(block.rows(), expected.data());
  EXPECT_EQ(bounds[n], kUntouched) << what;
  for (uint32_t i = 0; i < n; ++i) {
    ASSERT_FALSE(std::isnan(bounds[i])) << what << ", row " << i;
    ASSERT_LT(bounds[i], kInfinity) << what << ", row " << i;
    if (bounds[i] == expected[i] || magnitudes[i] > 1e38) continue;
    ASSERT_NEAR(bounds[i], expected[i], 0x1p-20 * magnitudes[i] + 2 * double{FLT_MIN})
        << what << ", row " << i << " of " << n;
  }
}

std::vector<double> Magnitudes(const Rows& rows, Metric metric, const QueryResidual& query, double epsilon) {
  std::vector<double> magnitudes;
  for (uint32_t i = 0; i < rows.count; ++i) magnitudes.push_back(Evaluate(rows, i, metric, query, epsilon).magnitude);
  return magnitudes;
}

std::string Describe(uint32_t padded, uint32_t bits, const std::string& more) {
  return std::to_string(bits) + " bits, " + std::to_string(padded) + " dimensions, " + more;
}

TEST(CodeScorerTest, KernelsAgreeWithPlainLoops) {
  Random random(31);
  std::vector<uint32_t> counts;
  for (uint32_t n = 0; n <= 40; ++n) counts.push_back(n);
  counts.insert(counts.end(), {63, 64, 65});
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : kPadded) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      const uint32_t many = padded <= 1040 ? 4096 : 300;
      const Rows rows = RandomRows(random, padded, bits, many);
      const std::vector<float> y = NormalVector(random, padded);
      const QueryResidual query{y.data(), 0, 0};
      CodeScorer scorer(Metric::kL2, padded, bits, 1.9);
      scorer.SetQuery(query);
      const std::vector<double> magnitudes = Magnitudes(rows, Metric::kL2, query, 1.9);
      std::vector<Block> blocks;
      for (uint32_t n : counts) blocks.emplace_back(rows, n, n % 7);
      blocks.emplace_back(rows, many);
      OnEveryTarget([&] {
        scorer.SetQuery(query);
        for (const Block& block : blocks) ExpectAgreement(scorer, block, magnitudes, Describe(padded, bits, "any"));
      });
    }
  }
}

TEST(CodeScorerTest, CodesStartAnywhere) {
  Random random(32);
  for (uint32_t bits : kWidths) {
    const Rows rows = RandomRows(random, 48, bits, 45);
    const std::vector<float> y = NormalVector(random, 48);
    const QueryResidual query{y.data(), 0.25, -3};
    CodeScorer scorer(Metric::kInnerProduct, 48, bits, 2.5);
    scorer.SetQuery(query);
    const std::vector<double> magnitudes = Magnitudes(rows, Metric::kInnerProduct, query, 2.5);
    for (size_t offset = 0; offset < 64; ++offset) {
      const Block block(rows, rows.count, offset);
      OnEveryTarget([&] { ExpectAgreement(scorer, block, magnitudes, Describe(48, bits, std::to_string(offset))); });
    }
  }
}

TEST(CodeScorerTest, ExtremeQueriesAndCodes) {
  Random random(33);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : kPadded) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      Rows rows = RandomRows(random, padded, bits, 37);
      const size_t code_bytes = CodeBytes(padded, bits);
      std::fill_n(rows.codes.begin(), code_bytes, std::byte{0});
      std::fill_n(rows.codes.begin() + static_cast<ptrdiff_t>(code_bytes), code_bytes, std::byte{0xff});
      std::fill_n(rows.codes.end() - static_cast<ptrdiff_t>(code_bytes), code_bytes, std::byte{0xff});
      const Block block(rows, rows.count, 3);
      for (const NamedQuery& named : ExtremeQueries(random, padded)) {
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
          const QueryResidual query{named.y.data(), -0.5, 0.25};
          const std::vector<double> magnitudes = Magnitudes(rows, metric, query, 1.9);
          CodeScorer scorer(metric, padded, bits, 1.9);
          OnEveryTarget([&] {
            scorer.SetQuery(query);
            ExpectAgreement(scorer, block, magnitudes, Describe(padded, bits, named.name));
          });
        }
      }
    }
  }
}

// With every query, not only likely ones: what quantising loses is at most half a unit for each rounding.
TEST(CodeScorerTest, EstimatesAreNearTheFormula) {
  Random random(34);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : kPadded) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      Rows rows = RandomRows(random, padded, bits, 37);
      const size_t code_bytes = CodeBytes(padded, bits);
      std::fill_n(rows.codes.begin(), code_bytes, std::byte{0});
      std::fill_n(rows.codes.begin() + static_cast<ptrdiff_t>(code_bytes), code_bytes, std::byte{0xff});
      const Block block(rows, rows.count);
      for (const NamedQuery& named : ExtremeQueries(random, padded)) {
        if (std::abs(named.y[0]) > 1e20f) continue;
        float largest = 0;
        double sum = 0;
        for (float x : named.y) largest = std::max(largest, std::abs(x)), sum += std::abs(x);
        const double integer_unit = std::max(largest / 8191.0, sum * ((1 << bits) - 1) / (0x1p31 - 0x1p22));
        const double loss = bits == 1 ? 0.51 * 2 * std::min(4.0 * largest, sum) / 255 * padded / 4
                                      : 0.51 * integer_unit * ((1 << bits) - 1) * padded;
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
          const QueryResidual query{named.y.data(), 0.5, -2};
          CodeScorer scorer(metric, padded, bits, 0);
          std::vector<Exact> exact;
          for (uint32_t i = 0; i < rows.count; ++i) exact.push_back(Evaluate(rows, i, metric, query, 0));
          OnEveryTarget([&] {
            scorer.SetQuery(query);
            std::vector<float> bounds(rows.count);
            scorer.Score(block.rows(), bounds.data());
            for (uint32_t i = 0; i < rows.count; ++i) {
              ASSERT_NEAR(bounds[i], exact[i].bound,
                          2 * rows.s[i] * loss + 0x1p-19 * exact[i].magnitude + 2 * double{FLT_MIN})
                  << Describe(padded, bits, named.name) << ", row " << i;
            }
          });
        }
      }
    }
  }
}

// The width of a bound with e = 0 is the scorer's own sigma: it says how far estimates are from the formula, and is
// small against |y|, the scale of <v,y>.
TEST(CodeScorerTest, SigmaIsTheErrorOfQuantising) {
  Random random(35);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : {112u, 784u, 4096u}) {
      Rows rows = RandomRows(random, padded, bits, 100);
      std::fill(rows.a.begin(), rows.a.end(), 0.0f);
      std::fill(rows.s.begin(), rows.s.end(), 1.0f);
      std::fill(rows.e.begin(), rows.e.end(), 0.0f);
      const Block block(rows, rows.count);
      CodeScorer estimator(Metric::kInnerProduct, padded, bits, 0);
      CodeScorer bounder(Metric::kInnerProduct, padded, bits, 1);
      std::vector<float> estimates(rows.count);
      std::vector<float> bounds(rows.count);
      double squares = 0;
      constexpr int kQueries = 20;
      for (int repeat = 0; repeat < kQueries; ++repeat) {
        const std::vector<float> y = NormalVector(random, padded);
        const QueryResidual query{y.data(), 0, 0};
        estimator.SetQuery(query);
        bounder.SetQuery(query);
        estimator.Score(block.rows(), estimates.data());
        bounder.Score(block.rows(), bounds.data());
        for (uint32_t i = 0; i < rows.count; ++i) {
          const double sigma = double{estimates[i]} - bounds[i];
          ASSERT_GT(sigma, 0);
          ASSERT_LT(sigma, (bits == 1 ? 0.03 : 0.001 * (1 << bits)) * std::sqrt(static_cast<double>(padded)));
          const Exact exact = Evaluate(rows, i, Metric::kInnerProduct, query, 0);
          const double z = (estimates[i] - exact.bound) / sigma;
          EXPECT_LT(std::abs(z), 6);
          squares += z * z;
        }
      }
      const double deviation = std::sqrt(squares / (kQueries * rows.count));
      EXPECT_LT(deviation, 1.2) << Describe(padded, bits, "deviation");
      EXPECT_GT(deviation, 0.3) << Describe(padded, bits, "deviation");
    }
  }
}

TEST(CodeScorerTest, BoundsAreFiniteOrMinusInfinity) {
  const float extremes[] = {0,       -0.0f,    1,         -1,         1e-45f, 1e20f,  -1e20f,
                            FLT_MAX, -FLT_MAX, kInfinity, -kInfinity, kNaN,   FLT_MIN};
  Random random(36);
  for (uint32_t bits : kWidths) {
    Rows rows = RandomRows(random, 32, bits, 13 * 13 * 13);
    for (uint32_t i = 0; i < rows.count; ++i) {
      rows.a[i] = extremes[i % 13];
      rows.s[i] = extremes[i / 13 % 13];
      rows.e[i] = extremes[i / 169];
    }
    const Block block(rows, rows.count);
    for (const NamedQuery& named : ExtremeQueries(random, 32)) {
      for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
        for (double epsilon : {0.0, 1.9}) {
          CodeScorer scorer(metric, 32, bits, epsilon);
          OnEveryTarget([&] {
            scorer.SetQuery({named.y.data(), 0.5, 1});
            std::vector<float> bounds(rows.count);
            scorer.Score(block.rows(), bounds.data());
            for (uint32_t i = 0; i < rows.count; ++i) {
              ASSERT_LE(bounds[i], FLT_MAX) << named.name << ", row " << i;
              if (!std::isfinite(rows.a[i]) || !std::isfinite(rows.s[i]) || !std::isfinite(rows.e[i])) {
                ASSERT_EQ(bounds[i], -kInfinity) << named.name << ", row " << i;
              }
            }
            scorer.ScoreReference(block.rows(), bounds.data());
            for (float bound : bounds) ASSERT_LE(bound, FLT_MAX);
          });
        }
      }
    }
  }
}

TEST(CodeScorerTest, QueriesThatAreNotFinite) {
  Random random(37);
  for (uint32_t bits : kWidths) {
    const Rows rows = RandomRows(random, 64, bits, 20);
    const Block block(rows, rows.count);
    for (float bad : {kInfinity, -kInfinity, kNaN}) {
      for (uint32_t at : {0u, 13u, 63u}) {
        std::vector<float> y = NormalVector(random, 64);
        y[at] = bad;
        for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
          CodeScorer scorer(metric, 64, bits, 1.9);
          OnEveryTarget([&] {
            scorer.SetQuery({y.data(), 1, 1});
            std::vector<float> bounds(rows.count);
            scorer.Score(block.rows(), bounds.data());
            for (float bound : bounds) ASSERT_EQ(bound, -kInfinity);
          });
        }
      }
    }
    const std::vector<float> y = NormalVector(random, 64);
    CodeScorer scorer(Metric::kInnerProduct, 64, bits, 1.9);
    for (QueryResidual query :
         {QueryResidual{y.data(), double{kNaN}, 1}, QueryResidual{y.data(), 1, double{kInfinity}}}) {
      scorer.SetQuery(query);
      std::vector<float> bounds(rows.count);
      scorer.Score(block.rows(), bounds.data());
      for (float bound : bounds) ASSERT_EQ(bound, -kInfinity);
    }
  }
}

// What a machine computes must not depend on its vectors: but for rounding, bounds are the same everywhere.
TEST(CodeScorerTest, PreparedQueriesAreTheSameOnEveryTarget) {
  Random random(38);
  for (uint32_t padded : kPadded) {
    if (padded % 16 != 0) continue;
    std::vector<float> y = NormalVector(random, padded);
    y[padded / 3] = 0;
    std::vector<uint8_t> tables(size_t{padded} * 4);
    std::vector<int16_t> integers(padded);
    const float multiplier = 255 / MeasureQuery(y.data(), padded).largest_group;
    bool first = true;
    OnEveryTarget([&] {
      EXPECT_EQ(255 / MeasureQuery(y.data(), padded).largest_group, multiplier);
      std::vector<uint8_t> own_tables(tables.size());
      std::vector<int16_t> own_integers(padded);
      BuildTables(y.data(), padded, multiplier, own_tables.data());
      int32_t sum = BuildIntegers(y.data(), padded, 1000, own_integers.data());
      for (int16_t integer : own_integers) sum -= integer;
      EXPECT_EQ(sum, 0);
      if (first) tables = own_tables, integers = own_integers;
      first = false;
      EXPECT_EQ(tables, own_tables);
      EXPECT_EQ(integers, own_integers);
    });
    for (uint32_t i = 0; i < tables.size(); ++i) {
      double entry = 0;
      for (uint32_t k = 0; k < 4; ++k) {
        const double x = y[i / 16 * 4 + k];
        entry += std::max((i >> k & 1) != 0 ? x : -x, 0.0);
      }
      ASSERT_NEAR(tables[i], entry * multiplier, 0.51);
    }
    for (uint32_t i = 0; i < padded; ++i) ASSERT_NEAR(integers[i], y[i] * 1000.0, 0.501);
  }
}

// True vectors about a centroid, coded; `offset` is common to all coordinates.
class CodedVectorsTest : public testing::TestWithParam<float> {
 protected:
  static constexpr uint32_t kDimensions = 100;
  static constexpr uint32_t kRows = 1000;
  static constexpr uint32_t kQueries = 10;

  // The share of bounds that exceed the truth.
  double TooHigh(Metric metric, uint32_t bits, double epsilon) {
    const Rotation rotation(kDimensions, PaddedDimensions(kDimensions, bits), 5);
    Rows rows{rotation.padded(), bits, kRows, {}, {}, {}, {}};
    rows.codes.resize(kRows * CodeBytes(rows.padded, bits));
    std::vector<float> u(rows.padded);
    for (uint32_t i = 0; i < kRows; ++i) {
      double centroid_product = 0;
      std::vector<float> residual(kDimensions);
      for (uint32_t k = 0; k < kDimensions; ++k) {
        residual[k] = vectors_[i][k] - centroid_[k];
        centroid_product += double{residual[k]} * centroid_[k];
      }
      rotation.Apply(residual.data(), u.data());
      const CodeFactors factors = EncodeResidual(metric, rows.padded, bits, u.data(), centroid_product,
                                                 &rows.codes[i * CodeBytes(rows.padded, bits)]);
      rows.a.push_back(factors.a);
      rows.s.push_back(factors.s);
      rows.e.push_back(factors.e);
    }
    const Block block(rows, kRows);
    CodeScorer scorer(metric, rows.padded, bits, epsilon);
    std::vector<float> bounds(kRows);
    uint32_t too_high = 0;
    for (uint32_t j = 0; j < kQueries; ++j) {
      const std::vector<float> q = Vector();
      double norm = 0;
      double product = 0;
      for (uint32_t k = 0; k < kDimensions; ++k) {
        norm += double{centroid_[k]} * centroid_[k];
        product += double{q[k]} * centroid_[k];
      }
      const double alpha = metric == Metric::kInnerProduct ? product / norm : 1;
      std::vector<float> residual(kDimensions);
      for (uint32_t k = 0; k < kDimensions; ++k) residual[k] = static_cast<float>(q[k] - alpha * centroid_[k]);
      std::vector<float> y(rows.padded);
      rotation.Apply(residual.data(), y.data());
      scorer.SetQuery({y.data(), alpha, product});
      scorer.Score(block.rows(), bounds.data());
      for (uint32_t i = 0; i < kRows; ++i) too_high += bounds[i] > Truth(metric, q, vectors_[i]);
    }
    return too_high / double{kRows * kQueries};
  }

  static double Truth(Metric metric, const std::vector<float>& q, const std::vector<float>& x) {
    return metric == Metric::kL2 ? SquaredL2(q.data(), x.data(), kDimensions)
                                 : -InnerProduct(q.data(), x.data(), kDimensions);
  }

  std::vector<float> Vector() {
    std::vector<float> values = NormalVector(random_, kDimensions);
    for (uint32_t k = 0; k < kDimensions; ++k) values[k] = values[k] * (k < 10 ? 5.0f : 0.5f) + GetParam();
    return values;
  }

  void SetUp() override {
    for (uint32_t i = 0; i < kRows; ++i) vectors_.push_back(Vector());
    centroid_ = Vector();
  }

  Random random_{39};
  std::vector<std::vector<float>> vectors_;
  std::vector<float> centroid_;
};

TEST_P(CodedVectorsTest, FewBoundsAreTooHigh) {
  for (uint32_t bits : kWidths) {
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
      const std::string what = Describe(kDimensions, bits, metric == Metric::kL2 ? "L2" : "inner product");
      EXPECT_LT(TooHigh(metric, bits, 1.9), 0.04) << what;
      // Estimates are as often too high as too low, but for the margin for rounding, which long vectors need.
      const double estimates = TooHigh(metric, bits, 0);
      EXPECT_LT(estimates, 0.6) << what;
      if (metric == Metric::kL2 || GetParam() == 0) {
        EXPECT_GT(estimates, 0.4) << what;
      }
    }
  }
}

// Where a code is exact, rounding alone does not lift a bound above the truth.
TEST_P(CodedVectorsTest, TheCentroidItselfIsBoundedClosely) {
  vectors_.assign(kRows, centroid_);
  for (uint32_t bits : kWidths)
    for (Metric metric : {Metric::kL2, Metric::kInnerProduct}) EXPECT_EQ(TooHigh(metric, bits, 0), 0) << bits;
}

INSTANTIATE_TEST_SUITE_P(Offsets, CodedVectorsTest, testing::Values(0.0f, 1.0f, 1000.0f));

}  // namespace
}  // namespace ivfremote
