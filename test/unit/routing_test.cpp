#include "core/routing.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "core/coding.h"
#include "core/distance.h"
#include "core/half.h"
#include "core/little_endian.h"
#include "routing_fixture.h"
#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

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
  EXPECT_EQ(Load<uint16_t>(&bytes[4]), 1);  // version
  EXPECT_EQ(Load<uint8_t>(&bytes[6]), 1);   // metric
  EXPECT_EQ(Load<uint8_t>(&bytes[7]), 1);   // float16 centroids
  EXPECT_EQ(Load<uint32_t>(&bytes[16]), 3u);
  EXPECT_EQ(Load<uint32_t>(&bytes[20]), 5u);
  EXPECT_EQ(Load<uint32_t>(&bytes[24]), 2u);
  EXPECT_EQ(Load<int16_t>(&bytes[28]), routing.exponent);
  for (size_t i = 30; i < 128; ++i) EXPECT_EQ(bytes[i], std::byte{0}) << "no codes";
  const RoutingHeader header = routing.header();
  EXPECT_EQ(header.MeanOffset(), 128u);
  EXPECT_EQ(header.GroupsOffset(), 140u);
  EXPECT_EQ(header.GroupCentroidsOffset(), 152u);
  EXPECT_EQ(header.RadiiOffset(), 192u);
  EXPECT_EQ(header.CodesOffset(), 256u);
  EXPECT_EQ(header.CentroidsOffset(), 256u);
  EXPECT_EQ(header.EncodedBytes(), 286u);
  EXPECT_EQ(bytes.size(), 286u);
  EXPECT_EQ(Load<float>(&bytes[128]), routing.mean[0]);
  EXPECT_EQ(Load<uint32_t>(&bytes[148]), 5u);
  EXPECT_EQ(Load<float>(&bytes[192]), routing.radii[0]);
  const auto centroid = [&](size_t at) {
    const auto half = Load<uint16_t>(&bytes[at]);
    float value;
    FromHalves(&half, 1, std::ldexp(1.0f, routing.exponent), &value);
    return value;
  };
  EXPECT_EQ(centroid(152), routing.group_centroids[0]);
  EXPECT_EQ(centroid(256), routing.centroids[0]);
  EXPECT_EQ(centroid(284), routing.centroids[14]);
}

TEST(RoutingFormat, CodesAreWhereTheFormatPutsThem) {
  Random random(16);
  Routing routing = RandomRouting(random, Metric::kL2, 20, 40, 3);  // 13, 13 and 14 lists
  CodeAll(77, &routing);
  const ByteVector bytes = routing.Encode();
  EXPECT_EQ(Load<uint8_t>(&bytes[30]), 1);  // RaBitQ
  EXPECT_EQ(Load<uint8_t>(&bytes[31]), 4);
  EXPECT_EQ(Load<uint64_t>(&bytes[40]), 77u);
  const RoutingHeader header = routing.header();
  const uint32_t padded = header.code_format().padded();
  const uint64_t group_bytes = AlignUp(13 * (12 + padded / 2), 64);
  EXPECT_EQ(Load<uint64_t>(&bytes[32]), 2 * group_bytes + AlignUp(14 * (12 + padded / 2), 64));
  EXPECT_EQ(header.CodesOffset() % 64, 0u);
  EXPECT_EQ(header.CentroidsOffset(), header.CodesOffset() + Load<uint64_t>(&bytes[32]));

  // List 30 is number 4 of the third group's 14.
  const std::byte* group = &bytes[header.CodesOffset() + 2 * group_bytes];
  std::vector<float> scaled(20);
  for (size_t j = 0; j < 20; ++j) scaled[j] = std::ldexp(routing.centroids[30 * 20 + j], -routing.exponent);
  std::vector<float> rotated(padded);
  routing.rotation->Apply(scaled.data(), rotated.data());
  ByteVector code(CodeBytes(padded, 4));
  const CodeFactors factors = EncodeResidual(Metric::kL2, padded, 4, rotated.data(), 0, code.data());
  EXPECT_EQ(Load<float>(group + 4 * 4), factors.a);
  EXPECT_EQ(Load<float>(group + 4 * (14 + 4)), factors.s);
  EXPECT_EQ(Load<float>(group + 4 * (28 + 4)), factors.e);
  ByteVector stored(code.size());
  UnpackFromGroup(group + 12 * 14, padded, 4, 14, 4, stored.data());
  EXPECT_EQ(stored, code);
}

TEST(RoutingFormat, CodesRoundTrip) {
  Random random(17);
  Routing example = RandomRouting(random, Metric::kL2, 20, 40, 3);
  const ByteVector without = example.Encode();
  CodeAll(78, &example);
  const ByteVector bytes = example.Encode();
  EXPECT_EQ(example.Encode(/*with_codes=*/false), without);
  Routing routing;
  ASSERT_OK(DecodeRouting(bytes, &routing));
  EXPECT_EQ(routing.codes, example.codes);
  EXPECT_EQ(routing.code_offsets, example.code_offsets);
  EXPECT_EQ(routing.centroids, example.centroids);
  EXPECT_EQ(routing.rotation_seed, 78u);
  EXPECT_EQ(routing.Encode(), bytes);
}

TEST(RoutingFormat, Parts) {
  Random random(18);
  Routing example = RandomRouting(random, Metric::kL2, 20, 40, 3);
  for (const bool coded : {false, true}) {
    if (coded) CodeAll(78, &example);
    const ByteVector bytes = example.Encode();
    for (const RoutingPart part : {RoutingPart::kGroups, RoutingPart::kLists, RoutingPart::kCodes}) {
      Routing routing;
      const uint64_t end = example.header().EndOf(part);
      ASSERT_OK(DecodeRouting(Bytes(bytes).first(end), part, &routing));
      EXPECT_EQ(routing.mean, example.mean);
      EXPECT_EQ(routing.group_first, example.group_first);
      EXPECT_EQ(routing.group_centroids, example.group_centroids);
      EXPECT_EQ(routing.radii, part == RoutingPart::kGroups ? std::vector<float>(40) : example.radii);
      EXPECT_EQ(routing.codes, part == RoutingPart::kCodes ? example.codes : ByteVector());
      EXPECT_TRUE(routing.centroids.empty());
      EXPECT_EQ(routing.header().EncodedBytes(), bytes.size());
      for (const uint64_t length : {end - 1, end + 1})
        EXPECT_TRUE(Fails(DecodeRouting(Bytes(bytes).first(std::min(length, bytes.size() - 1)), part, &routing),
                          StatusCode::kCorrupt));
    }
  }
}

TEST(RoutingFormat, LargestRoutingsDoNotOverflow) {
  RoutingHeader header{kMaxDimensions, Metric::kL2, kMaxLists, kMaxLists};
  EXPECT_EQ(header.EncodedBytes(), 128 + uint64_t{kMaxDimensions} * 4 + uint64_t{kMaxLists} * 8 + 64 +
                                       2 * uint64_t{kMaxLists} * kMaxDimensions * 2);
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
  EXPECT_TRUE(Fails(DecodeRouting(bytes, &routing), StatusCode::kUnsupported, {"version 3", "up to 1"}));
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
      {"version", 4, 2, 2, StatusCode::kUnsupported},
      {"version of development", 4, 2, 0, StatusCode::kCorrupt},
      {"metric", 6, 1, 4, StatusCode::kUnsupported},
      {"float32 centroids", 7, 1, 0, StatusCode::kUnsupported},
      {"other centroids", 7, 1, 2, StatusCode::kUnsupported},
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
      {"centroids of no float32", 28, 2, 114, StatusCode::kCorrupt},
      {"centroids below float32", 28, 2, static_cast<uint16_t>(-126), StatusCode::kCorrupt},
      {"other codes", 30, 1, 2, StatusCode::kUnsupported},
      {"codes without a width", 30, 1, 1, StatusCode::kUnsupported},
      {"a width without codes", 31, 1, 4, StatusCode::kCorrupt},
      {"bytes without codes", 32, 4, 64, StatusCode::kCorrupt},
      {"far too many bytes", 36, 4, 0xffffffff, StatusCode::kCorrupt},
      {"first group that does not start at 0", 140, 4, 1, StatusCode::kCorrupt},
      {"group that ends before it starts", 144, 4, 6, StatusCode::kCorrupt},
      {"groups that end before the last list", 148, 4, 4, StatusCode::kCorrupt},
      {"groups that end after the last list", 148, 4, 6, StatusCode::kCorrupt},
      {"an empty group", 144, 4, 0, StatusCode::kOk},
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

// A mean is of finite rows, and radii end at the largest float32.
TEST(RoutingFormat, ImpossibleNumbers) {
  Random random(22);
  const Routing example = RandomRouting(random, Metric::kL2, 3, 5, 2);
  const ByteVector good = example.Encode();
  const RoutingHeader header = example.header();
  const auto decodes = [&](size_t at, float value, RoutingPart part) {
    ByteVector bytes = good;
    Poke<float>(&bytes, at, value);
    bytes.resize(header.EndOf(part));
    Routing routing;
    const Status status = DecodeRouting(bytes, part, &routing);
    EXPECT_TRUE(status.ok() || Fails(status, StatusCode::kCorrupt));
    return status.ok();
  };
  for (const RoutingPart part : {RoutingPart::kGroups, RoutingPart::kLists, RoutingPart::kCentroids}) {
    const bool radii_are_read = part != RoutingPart::kGroups;
    for (const size_t last : {0, 4}) {
      for (const float value : {NAN, INFINITY, -INFINITY}) {
        EXPECT_FALSE(decodes(128 + 2 * last, value, part)) << value;
        EXPECT_EQ(decodes(192 + 4 * last, value, part), !radii_are_read) << value;
      }
      EXPECT_EQ(decodes(192 + 4 * last, -1e-45f, part), !radii_are_read);
      for (const float value : {-FLT_MAX, -1.0f, FLT_MAX}) EXPECT_TRUE(decodes(128 + 2 * last, value, part)) << value;
      for (const float value : {0.0f, -0.0f, 1e-45f, FLT_MAX}) EXPECT_TRUE(decodes(192 + 4 * last, value, part)) << value;
    }
  }
}

// An insert reads the groups, and compares no codes.
TEST(RoutingFormat, GroupsNeedNoRotation) {
  Random random(23);
  Routing example = RandomRouting(random, Metric::kL2, 20, 40, 3);
  CodeAll(78, &example);
  const ByteVector bytes = example.Encode();
  for (const RoutingPart part : {RoutingPart::kGroups, RoutingPart::kLists, RoutingPart::kCodes}) {
    Routing routing;
    ASSERT_OK(DecodeRouting(Bytes(bytes).first(example.header().EndOf(part)), part, &routing));
    EXPECT_EQ(routing.rotation.has_value(), part != RoutingPart::kGroups);
  }
}

TEST(RoutingFormat, CodesOfAnotherLength) {
  Random random(19);
  Routing routing = RandomRouting(random, Metric::kL2, 20, 40, 3);
  CodeAll(78, &routing);
  const ByteVector good = routing.Encode();
  const auto bytes_of = [&](uint64_t code_bytes) {
    ByteVector bytes = good;
    Poke<uint64_t>(&bytes, 32, code_bytes);
    bytes.resize(good.size() + code_bytes - routing.code_offsets.back());
    return bytes;
  };
  Routing decoded;
  EXPECT_OK(DecodeRouting(bytes_of(routing.code_offsets.back()), &decoded));
  EXPECT_TRUE(Fails(DecodeRouting(bytes_of(routing.code_offsets.back() - 64), &decoded), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(DecodeRouting(bytes_of(routing.code_offsets.back() + 64), &decoded), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(DecodeRouting(bytes_of(routing.code_offsets.back() + 32), &decoded), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(DecodeRouting(bytes_of(0), &decoded), StatusCode::kCorrupt));
}

// -- rounding

// The centroids and group centroids of a routing with these values among others.
Routing RoutingOf(std::vector<float> values) {
  Routing routing;
  routing.dimensions = 1;
  routing.mean = {0};
  routing.radii.assign(values.size(), 0.0f);
  routing.group_first = {0, static_cast<uint32_t>(values.size())};
  routing.group_centroids = {values.empty() ? 0 : values[0]};
  routing.centroids = std::move(values);
  return routing;
}

TEST(RoundCentroids, KeepsElevenBitsOfWhatIsNotFarBelowTheLargest) {
  Random random(20);
  for (const int exponent : {-120, -20, 0, 20, 126}) {
    std::vector<float> values;
    for (int i = 0; i < 1000; ++i) values.push_back(std::ldexp(Uniform(random), exponent - i % 28));
    Routing routing = RoutingOf(values);
    RoundCentroids(&routing);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(routing.centroids[i], values[i], std::max(std::abs(values[i]) * 0x1p-11, std::ldexp(1.0, std::max(exponent - 39, -150))))
          << exponent << " " << i;
  }
}

TEST(RoundCentroids, IsWhatIsStored) {
  Random random(21);
  const float extremes[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f, -1e-45f, 1,     3e38f,
                            1e-38f,  0.1f,     -0.0f,   0,      65504,   65519, 65520};
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<float> values;
    for (uint64_t i = Below(random, 5) + 1; i > 0; --i)
      values.push_back(Below(random, 3) == 0 ? Uniform(random) : extremes[Below(random, std::size(extremes))]);
    Routing routing = RoutingOf(values);
    RoundCentroids(&routing);
    EXPECT_TRUE(AllFinite(routing.centroids.data(), routing.centroids.size()));
    Routing again = routing;
    RoundCentroids(&again);
    EXPECT_EQ(again.exponent, routing.exponent);
    EXPECT_EQ(again.centroids, routing.centroids);
    Routing decoded;
    ASSERT_OK(DecodeRouting(routing.Encode(), &decoded));
    EXPECT_EQ(decoded.centroids, routing.centroids);
    EXPECT_EQ(decoded.group_centroids, routing.group_centroids);
    const auto largest = std::max_element(values.begin(), values.end(),
                                          [](float a, float b) { return std::abs(a) < std::abs(b); });
    EXPECT_NEAR(routing.centroids[static_cast<size_t>(largest - values.begin())], *largest, std::abs(*largest) * 0x1p-10);
  }
}

TEST(RoundCentroids, HeadroomIsForWhatComesLater) {
  for (const float largest : {1.0f, 1.999f, 1e-30f, 1e30f}) {
    Routing routing = RoutingOf({largest, largest / 65536});
    RoundCentroids(&routing, kHeadroom);
    std::vector<float> later{15 * largest};
    RoundCentroids(routing.exponent, &later);
    EXPECT_NEAR(later[0], 15 * largest, 15 * largest * 0x1p-10);
    EXPECT_NEAR(routing.centroids[0], largest, largest * 0x1p-10);
    EXPECT_NEAR(routing.centroids[1], largest / 65536, largest / 65536 * 0x1p-10);
    Routing again = routing;
    RoundCentroids(&again, kHeadroom);
    EXPECT_EQ(again.exponent, routing.exponent);
    EXPECT_EQ(again.centroids, routing.centroids);
  }
}

TEST(RoundCentroids, GroupsCount) {
  Routing routing = RoutingOf({1e-3f});
  routing.group_centroids = {1e30f};
  RoundCentroids(&routing);
  EXPECT_EQ(routing.centroids[0], 0);
  EXPECT_NEAR(routing.group_centroids[0], 1e30f, 1e27f);
}

TEST(WantsCodes, BeyondAMegabyte) {
  Routing routing;
  routing.dimensions = 128;
  routing.centroids.resize(2048 * 128);
  EXPECT_FALSE(WantsCodes(routing));
  routing.centroids.resize(2049 * 128);
  EXPECT_TRUE(WantsCodes(routing));
  routing.dimensions = 7;  // a code is no shorter
  routing.centroids.resize(100000 * 7);
  EXPECT_FALSE(WantsCodes(routing));
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

}  // namespace
}  // namespace ivfremote
