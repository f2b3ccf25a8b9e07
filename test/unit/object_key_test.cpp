#include "core/object_key.h"

#include "support.h"

namespace ivfremote {
namespace {

const std::string kIncarnation = "000102030405060708090a0b0c0d0e0f";
const std::string kIndex = "f0e1d2c3-b4a5-9687-7869-5a4b3c2d1e0f";
const std::string kName = "00000000000004d2-fedcba9876543210";
const std::string kKey = kIncarnation + "/" + kIndex + "/" + kName + ".seg";

SegmentName ExampleName() {
  SegmentName name{};
  for (uint8_t i = 0; i < 16; ++i) {
    name.incarnation[i] = i;
    name.index_uuid[i] = static_cast<uint8_t>((15 - i) << 4 | i);
  }
  name.mint_xid = 1234;
  name.random = 0xfedcba9876543210;
  return name;
}

// What Parse accepts is what Format writes: nothing, or the same string.
void ExpectIdentityOrNothing(const std::string& text) {
  const std::optional<ObjectKey> key = ParseObjectKey(text);
  if (key.has_value()) {
    EXPECT_EQ(FormatObjectKey(*key), text);
  }
}

TEST(ObjectKey, Format) {
  EXPECT_EQ(FormatObjectKey({ExampleName(), 0}), kKey);
  EXPECT_EQ(FormatObjectKey({ExampleName(), 1}), kKey + ".1");
  EXPECT_EQ(FormatObjectKey({ExampleName(), 1234}), kKey + ".1234");
  EXPECT_EQ(FormatUuid(ExampleName().index_uuid), kIndex);
  EXPECT_EQ(FormatIncarnation(ExampleName().incarnation), kIncarnation);
}

TEST(ObjectKey, Valid) {
  const struct {
    std::string text;
    uint32_t part;
  } cases[] = {
      {kKey, 0}, {kKey + ".1", 1}, {kKey + ".9", 9}, {kKey + ".10", 10}, {kKey + ".99999", 99999},
  };
  for (const auto& c : cases) {
    const std::optional<ObjectKey> key = ParseObjectKey(c.text);
    ASSERT_TRUE(key.has_value()) << c.text;
    EXPECT_EQ(key->segment, ExampleName()) << c.text;
    EXPECT_EQ(key->part, c.part) << c.text;
    EXPECT_EQ(FormatObjectKey(*key), c.text);
  }
}

TEST(ObjectKey, Invalid) {
  const std::string directory = kIncarnation + "/" + kIndex + "/";
  const std::string cases[] = {
      "",
      "/",
      "x",
      kIncarnation,
      kIncarnation + "/" + kIndex,
      directory,
      directory + ".seg",
      directory + kName,  // no extension
      directory + kName + "seg",
      directory + kName + ".se",
      directory + kName + ".segment",
      directory + kName + ".SEG",
      directory + kName + ".tmp",
      kKey + ".",  // parts are numbered from 1, without leading zeros or signs
      kKey + ".0",
      kKey + ".00",
      kKey + ".01",
      kKey + ".-1",
      kKey + ".+1",
      kKey + ". 1",
      kKey + ".1 ",
      kKey + ".1.",
      kKey + ".1.1",
      kKey + ".1a",
      kKey + ".0x1",
      kKey + ".100000",      // beyond the largest part
      kKey + ".4294967297",  // 2^32 + 1
      kKey + ".99999999999999999999999",
      kKey + "/",
      kKey + "/1",
      kKey + "\n",
      kKey + std::string(1, '\0'),
      " " + kKey,
      "/" + kKey,
      "./" + kKey,
      "../" + kKey,
      kIncarnation + "//" + kIndex + "/" + kName + ".seg",
      kIncarnation + "/../" + kIndex + "/" + kName + ".seg",
      kIncarnation + "/" + kIndex + "//" + kName + ".seg",
      kIncarnation + "\\" + kIndex + "/" + kName + ".seg",
      "00" + kKey,  // fields of the wrong width
      kKey.substr(1),
      kIncarnation.substr(1) + "/" + kIndex + "/" + kName + ".seg",
      kIncarnation + "/0" + kIndex + "/" + kName + ".seg",
      directory + "4d2-fedcba9876543210.seg",
      directory + "000000000000004d2-fedcba9876543210.seg",
      directory + "00000000000004d2-fedcba987654321.seg",
      directory + "00000000000004d2-fedcba98765432100.seg",
      directory + "00000000000004d2_fedcba9876543210.seg",
      directory + "00000000000004d2fedcba9876543210.seg",
      directory + "00000000000004D2-fedcba9876543210.seg",  // upper case
      directory + "00000000000004d2-FEDCBA9876543210.seg",
      "000102030405060708090A0B0C0D0E0F/" + kIndex + "/" + kName + ".seg",
      kIncarnation + "/F0E1D2C3-B4A5-9687-7869-5A4B3C2D1E0F/" + kName + ".seg",
      kIncarnation + "/f0e1d2c3b4a5968778695a4b3c2d1e0f/" + kName + ".seg",      // the uuid has its dashes
      kIncarnation + "/f0e1-d2c3b4a5-9687-7869-5a4b3c2d1e0f/" + kName + ".seg",  // in their places
      "00010203-0405-0607-0809-0a0b0c0d0e0f/" + kIndex + "/" + kName + ".seg",   // the incarnation has none
      directory + "000000000000g4d2-fedcba9876543210.seg",
      directory + "0x000000000004d2-fedcba9876543210.seg",
      directory + "+0000000000004d2-fedcba9876543210.seg",
  };
  for (const std::string& text : cases) EXPECT_FALSE(ParseObjectKey(text).has_value()) << text;
}

TEST(ObjectKey, RoundTripOfRandomNames) {
  Random random(3);
  for (int i = 0; i < 1000; ++i) {
    ObjectKey key{};
    for (uint8_t& byte : key.segment.incarnation) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : key.segment.index_uuid) byte = static_cast<uint8_t>(random());
    key.segment.mint_xid = random();
    key.segment.random = random();
    key.part = static_cast<uint32_t>(Below(random, 100000));
    const std::optional<ObjectKey> parsed = ParseObjectKey(FormatObjectKey(key));
    ASSERT_TRUE(parsed.has_value()) << FormatObjectKey(key);
    ASSERT_EQ(*parsed, key);
  }
}

TEST(ObjectKey, OneCharacterAway) {
  for (const std::string& key : {kKey, kKey + ".17"}) {
    for (size_t at = 0; at <= key.size(); ++at) {
      for (int c = 0; c < 256; ++c) {
        std::string inserted = key;
        inserted.insert(at, 1, static_cast<char>(c));
        ExpectIdentityOrNothing(inserted);
        if (at == key.size()) continue;
        std::string changed = key;
        changed[at] = static_cast<char>(c);
        ExpectIdentityOrNothing(changed);
      }
      ExpectIdentityOrNothing(key.substr(0, at));
      ExpectIdentityOrNothing(key.substr(at));
    }
  }
}

// Garbage collection lists an index's objects by such a prefix, oldest first.
TEST(ObjectKey, KeysSortByMintXid) {
  SegmentName young = ExampleName();
  SegmentName old = ExampleName();
  old.mint_xid = 999;
  old.random = ~uint64_t{0};
  EXPECT_LT(FormatObjectKey({old, 0}), FormatObjectKey({young, 0}));
  young.mint_xid = uint64_t{1} << 40;
  EXPECT_LT(FormatObjectKey({old, 0}), FormatObjectKey({young, 0}));
}

TEST(ObjectKey, Incarnation) {
  EXPECT_EQ(ParseIncarnation(kIncarnation), ExampleName().incarnation);
  for (const std::string& text : {std::string(), kIncarnation.substr(1), kIncarnation + "0", kIncarnation + "/",
                                  std::string("000102030405060708090A0B0C0D0E0F"), kIndex})
    EXPECT_FALSE(ParseIncarnation(text).has_value()) << text;
}

}  // namespace
}  // namespace ivfremote
