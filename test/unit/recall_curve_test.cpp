#include "core/recall_curve.h"

#include <cmath>
#include <limits>

#include "support.h"

namespace ivfremote {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Stop values grow with k and with recall; all lists beyond recall 0.99 of 1000.
RecallCurve ExampleCurve() {
  RecallCurve curve;
  curve.rule = kAdaptiveRule;
  curve.queries = 1000;
  curve.bound_loss = 0.01f;
  float step = 1;
  for (uint32_t k : {1u, 10u, 100u, 1000u}) {
    for (float recall : kCurveRecalls) {
      const bool all = k == 1000 && recall > 0.99f;
      curve.points.push_back({k, recall, all ? kInfinity : step, 2 * step, 300 * step, 5000 * step});
      step += 1;
    }
  }
  return curve;
}

const CurvePoint& PointOf(const RecallCurve& curve, uint32_t k, float recall) {
  for (const CurvePoint& point : curve.points)
    if (point.k == k && point.recall == recall) return point;
  ADD_FAILURE() << "no point at " << k << ' ' << recall;
  return curve.points.front();
}

void ExpectSame(const CurvePoint& a, const CurvePoint& b) {
  EXPECT_EQ(a.k, b.k);
  EXPECT_EQ(a.recall, b.recall);
  EXPECT_EQ(a.stop, b.stop);
  EXPECT_EQ(a.lists, b.lists);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.bytes, b.bytes);
}

// -- bytes

TEST(RecallCurveFormat, RoundTrip) {
  RecallCurve example = ExampleCurve();
  for (bool from_queries : {false, true}) {
    example.from_queries = from_queries;
    const std::vector<std::byte> bytes = example.Encode();
    EXPECT_EQ(bytes.size(), 64 + 24 * example.points.size());
    RecallCurve curve;
    ASSERT_OK(DecodeRecallCurve(bytes, &curve));
    EXPECT_EQ(curve.rule.radius_weight, 0.3f);
    EXPECT_EQ(curve.rule.ratio_weight, 4.0f);
    EXPECT_EQ(curve.queries, 1000u);
    EXPECT_EQ(curve.from_queries, from_queries);
    EXPECT_EQ(curve.bound_loss, 0.01f);
    ASSERT_EQ(curve.points.size(), example.points.size());
    for (size_t i = 0; i < curve.points.size(); ++i) ExpectSame(curve.points[i], example.points[i]);
    EXPECT_EQ(curve.Encode(), bytes);
  }
}

TEST(RecallCurveFormat, FieldsAreWhereTheFormatPutsThem) {
  const std::vector<std::byte> bytes = ExampleCurve().Encode();
  EXPECT_EQ(Text(Bytes(bytes).first(4)), "CURV");
  EXPECT_EQ(Load<uint16_t>(&bytes[4]), 1);   // version
  EXPECT_EQ(Load<uint16_t>(&bytes[6]), 24);  // of a point
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 40u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 1000u);  // queries
  EXPECT_EQ(Load<float>(&bytes[24]), 0.3f);
  EXPECT_EQ(Load<float>(&bytes[28]), 4.0f);
  EXPECT_EQ(Load<float>(&bytes[32]), 0.01f);
  EXPECT_EQ(Load<uint8_t>(&bytes[36]), 0);
  EXPECT_EQ(Load<uint32_t>(&bytes[64 + 24]), 1u);  // k of the second point
  EXPECT_EQ(Load<float>(&bytes[64 + 28]), 0.85f);
  EXPECT_EQ(Load<float>(&bytes[64 + 32]), 2.0f);   // stop
  EXPECT_EQ(Load<float>(&bytes[64 + 44]), 10000);  // bytes
}

TEST(RecallCurveFormat, EveryOtherLengthIsNoticed) {
  std::vector<std::byte> bytes = ExampleCurve().Encode();
  const size_t right = bytes.size();
  bytes.resize(right + 50);
  RecallCurve curve;
  for (size_t length = 0; length <= bytes.size(); ++length) {
    if (length == right) continue;
    EXPECT_TRUE(Fails(DecodeRecallCurve(Bytes(bytes).first(length), &curve), StatusCode::kCorrupt)) << length;
  }
}

// Whatever a byte becomes: an error, or a curve that can be used.
TEST(RecallCurveFormat, AnyByteMayBeWrong) {
  const std::vector<std::byte> good = ExampleCurve().Encode();
  size_t refused = 0;
  for (size_t at = 0; at < good.size(); ++at)
    for (uint8_t value : {0x00, 0x01, 0x3f, 0x7f, 0x80, 0xff}) {
      std::vector<std::byte> bytes = good;
      bytes[at] = std::byte{value};
      RecallCurve curve;
      const Status status = DecodeRecallCurve(bytes, &curve);
      if (!status.ok()) {
        EXPECT_TRUE(status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kUnsupported) << at;
        ++refused;
        continue;
      }
      ASSERT_TRUE(curve.bound_loss >= 0 && curve.bound_loss <= 1) << at;
      for (uint32_t k : {1u, 5u, 10u, 700u, 20000u})
        for (double recall : {0.0, 0.5, 0.91, 0.999, 1.0}) {
          const CurvePoint point = curve.At(k, recall);
          ASSERT_TRUE(point.stop >= 0 && point.lists >= 0 && point.rows >= 0 && point.bytes >= 0)
              << at << ": " << int{value} << " at " << k << ' ' << recall;
        }
    }
  EXPECT_GT(refused, good.size() / 4);
}

TEST(RecallCurveFormat, ImpossibleFields) {
  const uint32_t nan = 0x7fc00000;
  const uint32_t infinity = 0x7f800000;
  const uint32_t minus_one = 0xbf800000;
  const struct {
    const char* what;
    size_t at;
    uint32_t value;
    StatusCode code;
  } cases[] = {
      {"magic", 0, 0, StatusCode::kCorrupt},
      {"version", 4, 24u << 16 | 2, StatusCode::kUnsupported},
      {"version of development", 4, 24u << 16, StatusCode::kCorrupt},
      {"wider points", 4, 28u << 16 | 1, StatusCode::kUnsupported},
      {"narrower points", 4, 20u << 16 | 1, StatusCode::kCorrupt},
      {"required feature", 8, 1, StatusCode::kUnsupported},
      {"ignorable feature", 12, 1, StatusCode::kOk},
      {"no points", 16, 0, StatusCode::kCorrupt},
      {"more points", 16, 41, StatusCode::kCorrupt},
      {"points whose bytes overflow", 16, 0x80000000, StatusCode::kCorrupt},
      {"radius weight of nothing", 24, nan, StatusCode::kCorrupt},
      {"endless radius weight", 24, infinity, StatusCode::kCorrupt},
      {"negative radius weight", 24, minus_one, StatusCode::kCorrupt},
      {"ratio weight of nothing", 28, nan, StatusCode::kCorrupt},
      {"endless ratio weight", 28, infinity, StatusCode::kCorrupt},
      {"negative ratio weight", 28, minus_one, StatusCode::kCorrupt},
      {"bound loss of nothing", 32, nan, StatusCode::kCorrupt},
      {"negative bound loss", 32, minus_one, StatusCode::kCorrupt},
      {"no neighbours", 64, 0, StatusCode::kCorrupt},
      {"neighbours out of order", 64, 2, StatusCode::kCorrupt},
      {"recall 0", 68, 0, StatusCode::kCorrupt},
      {"recall 1", 68, 0x3f800000, StatusCode::kCorrupt},
      {"recall of nothing", 68, nan, StatusCode::kCorrupt},
      {"recalls out of order", 68, 0x3f666666, StatusCode::kCorrupt},
      {"negative stop", 72, minus_one, StatusCode::kCorrupt},
      {"stop of nothing", 72, nan, StatusCode::kCorrupt},
      {"lists of nothing", 76, nan, StatusCode::kCorrupt},
      {"negative rows", 80, minus_one, StatusCode::kCorrupt},
      {"negative bytes", 84, minus_one, StatusCode::kCorrupt},
  };
  const std::vector<std::byte> good = ExampleCurve().Encode();
  for (const auto& c : cases) {
    std::vector<std::byte> bytes = good;
    Poke(&bytes, c.at, c.value);
    RecallCurve curve;
    EXPECT_EQ(DecodeRecallCurve(bytes, &curve).code(), c.code) << c.what;
  }
}

TEST(RecallCurveFormat, NewerVersionIsNamed) {
  std::vector<std::byte> bytes = ExampleCurve().Encode();
  Poke<uint16_t>(&bytes, 4, 3);
  RecallCurve curve;
  EXPECT_TRUE(Fails(DecodeRecallCurve(bytes, &curve), StatusCode::kUnsupported, {"version 3", "up to 1"}));
}

// -- At

TEST(RecallCurve, AtItsPoints) {
  const RecallCurve curve = ExampleCurve();
  for (const CurvePoint& point : curve.points) ExpectSame(curve.At(point.k, point.recall), point);
}

// A setting of 0.95 is a float64, and a point's recall the float32 next to it.
TEST(RecallCurve, AtItsPointsAsUsersWriteThem) {
  RecallCurve curve = ExampleCurve();
  for (CurvePoint& point : curve.points)
    if (point.recall > 0.99f) point.stop = kInfinity;
  const double written[] = {0.80, 0.85, 0.90, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999};
  for (uint32_t k : {1u, 10u, 100u, 1000u})
    for (size_t i = 0; i < std::size(written); ++i)
      ExpectSame(curve.At(k, written[i]), PointOf(curve, k, kCurveRecalls[i]));
}

TEST(RecallCurve, BetweenRecalls) {
  const RecallCurve curve = ExampleCurve();
  const CurvePoint low = PointOf(curve, 10, 0.90f);
  const CurvePoint high = PointOf(curve, 10, 0.93f);
  const CurvePoint point = curve.At(10, 0.92);
  EXPECT_EQ(point.k, 10u);
  EXPECT_FLOAT_EQ(point.recall, 0.92f);
  // 0.08 of 0.10 .. 0.07 are still missed, on a logarithmic scale.
  const double share = std::log(0.08 / 0.10) / std::log(0.07 / 0.10);
  EXPECT_NEAR(point.stop, low.stop + share * (high.stop - low.stop), 1e-4);
  EXPECT_NEAR(point.lists, low.lists + share * (high.lists - low.lists), 1e-3);
  EXPECT_NEAR(point.rows, low.rows + share * (high.rows - low.rows), 1e-1);
  EXPECT_NEAR(point.bytes, low.bytes + share * (high.bytes - low.bytes), 2);
}

TEST(RecallCurve, BetweenNeighbours) {
  const RecallCurve curve = ExampleCurve();
  const CurvePoint low = PointOf(curve, 10, 0.95f);
  const CurvePoint high = PointOf(curve, 100, 0.95f);
  const CurvePoint point = curve.At(40, 0.95);
  EXPECT_EQ(point.k, 40u);
  EXPECT_NEAR(point.stop, low.stop + std::log10(4.0) * (high.stop - low.stop), 1e-3);
  EXPECT_NEAR(point.lists, low.lists + std::log10(4.0) * (high.lists - low.lists), 1e-3);
}

TEST(RecallCurve, BeyondItsEnds) {
  const RecallCurve curve = ExampleCurve();
  // Less than the least recall is had with the least point.
  EXPECT_EQ(curve.At(10, 0.5).stop, PointOf(curve, 10, 0.80f).stop);
  EXPECT_EQ(curve.At(10, 0).stop, PointOf(curve, 10, 0.80f).stop);
  // More than the greatest with all lists.
  for (double recall : {0.9991, 0.9999, 1.0}) EXPECT_EQ(curve.At(10, recall).stop, kInfinity) << recall;
  EXPECT_EQ(curve.At(0, 0.95).stop, PointOf(curve, 1, 0.95f).stop);
  EXPECT_EQ(curve.At(50000, 0.95).stop, PointOf(curve, 1000, 0.95f).stop);
}

TEST(RecallCurve, NextToPointsThatNeedAllLists) {
  const RecallCurve curve = ExampleCurve();
  EXPECT_EQ(curve.At(1000, 0.99).stop, PointOf(curve, 1000, 0.99f).stop);
  EXPECT_EQ(curve.At(1000, 0.992).stop, kInfinity);
  EXPECT_EQ(curve.At(500, 0.995).stop, kInfinity);
  EXPECT_EQ(curve.At(100, 0.995).stop, PointOf(curve, 100, 0.995f).stop);
}

TEST(RecallCurve, GrowsWithRecallAndNeighbours) {
  const RecallCurve curve = ExampleCurve();
  for (uint32_t k = 1; k < 3000; k += 1 + k / 7) {
    float previous = 0;
    for (double recall = 0.7; recall <= 1.0; recall += 0.0007) {
      const CurvePoint point = curve.At(k, recall);
      ASSERT_GE(point.stop, previous) << k << ' ' << recall;
      ASSERT_GE(curve.At(k + 1, recall).stop, point.stop) << k << ' ' << recall;
      previous = point.stop;
    }
  }
}

TEST(RecallCurve, OfOnePoint) {
  RecallCurve curve;
  curve.points = {{10, 0.95f, 2, 3, 4, 5}};
  EXPECT_EQ(curve.At(10, 0.95).stop, 2);
  EXPECT_EQ(curve.At(1, 0.5).stop, 2);
  EXPECT_EQ(curve.At(1000, 0.5).stop, 2);
  EXPECT_EQ(curve.At(10, 0.96).stop, kInfinity);
}

}  // namespace
}  // namespace ivfremote
