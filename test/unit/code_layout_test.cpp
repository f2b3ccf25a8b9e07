#include "core/code.h"

#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

constexpr uint32_t kWidths[] = {1, 2, 4, 8};
constexpr uint32_t kPadded[] = {8, 16, 24, 32, 40, 48, 104, 112, 784, 1000};

// The layouts again, from the words of code.h and one dimension at a time.

uint32_t CodeAt(const ByteVector& code, uint32_t bits, uint32_t dimension) {
  if (bits == 1) return std::to_integer<uint32_t>(code[dimension / 8]) >> dimension % 8 & 1;
  const uint32_t per_word = 32 / bits;
  const uint32_t word = Load<uint32_t>(code.data() + dimension / per_word * 4);
  const uint32_t k = dimension % per_word / 2;
  const uint32_t h = dimension % 2;
  return word >> (16 * h + bits * k) & ((1u << bits) - 1);
}

uint32_t GroupedCodeAt(const ByteVector& group, uint32_t bits, uint32_t rows, uint32_t row, uint32_t dimension) {
  if (bits == 1) {
    const uint32_t bytes = (rows + 1) / 2;
    const bool high = row >= bytes;
    const auto byte = std::to_integer<uint32_t>(group[dimension / 4 * bytes + (high ? row - bytes : row)]);
    return byte >> (high ? 4 : 0) >> dimension % 4 & 1;
  }
  const uint32_t per_word = 32 / bits;
  const uint32_t word = Load<uint32_t>(group.data() + (dimension / per_word * rows + row) * 4);
  return word >> (16 * (dimension % 2) + bits * (dimension % per_word / 2)) & ((1u << bits) - 1);
}

ByteVector RandomBytes(Random& random, size_t n) {
  ByteVector bytes(n);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST(CodeGroup, SizesAddUp) {
  EXPECT_EQ(GroupBytes(784, 1, 32), 784u / 4 * 16);
  EXPECT_EQ(GroupBytes(784, 1, 5), 784u / 4 * 3);
  EXPECT_EQ(GroupBytes(112, 4, 16), 56u * 16);
  for (uint32_t bits : kWidths) {
    EXPECT_EQ(GroupBytes(112, bits, 0), 0u);
    EXPECT_EQ(GroupedBytes(112, bits, 0), 0u);
    EXPECT_EQ(GroupedBytes(112, bits, 100),
              100 / GroupRows(bits) * GroupBytes(112, bits, GroupRows(bits)) + GroupBytes(112, bits, 4));
  }
}

TEST(CodeGroup, OneBitByHand) {
  // Three rows of 16 dimensions; rows 0 and 1 are low nibbles, row 2 is the high nibble of byte 0.
  const ByteVector codes = {std::byte{0x21}, std::byte{0x43}, std::byte{0x65},
                            std::byte{0x87}, std::byte{0xa9}, std::byte{0xcb}};
  const uint8_t expected[] = {0x91, 0x05, 0xa2, 0x06, 0xb3, 0x07, 0xc4, 0x08};
  ByteVector group(GroupBytes(16, 1, 3));
  ASSERT_EQ(group.size(), std::size(expected));
  PackGroup(codes.data(), 16, 1, 3, group.data());
  for (size_t i = 0; i < group.size(); ++i) EXPECT_EQ(std::to_integer<uint8_t>(group[i]), expected[i]) << i;
}

TEST(CodeGroup, EveryDimensionIsWhereTheHeaderSays) {
  Random random(31);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : kPadded) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      for (uint32_t rows = 1; rows <= GroupRows(bits); ++rows) {
        const size_t size = CodeBytes(padded, bits);
        const ByteVector codes = RandomBytes(random, size * rows);
        // A byte more at the end, to see that it is left alone.
        ByteVector group(GroupBytes(padded, bits, rows) + 1, std::byte{0x5a});
        PackGroup(codes.data(), padded, bits, rows, group.data());
        EXPECT_EQ(group.back(), std::byte{0x5a});
        for (uint32_t row = 0; row < rows; ++row) {
          const ByteVector code(codes.begin() + static_cast<ptrdiff_t>(size * row),
                                codes.begin() + static_cast<ptrdiff_t>(size * (row + 1)));
          for (uint32_t i = 0; i < padded; ++i)
            ASSERT_EQ(GroupedCodeAt(group, bits, rows, row, i), CodeAt(code, bits, i))
                << bits << " bits, padded " << padded << ", row " << row << " of " << rows << ", dimension " << i;
          ByteVector unpacked(size + 1, std::byte{0x5a});
          UnpackFromGroup(group.data(), padded, bits, rows, row, unpacked.data());
          EXPECT_EQ(unpacked.back(), std::byte{0x5a});
          unpacked.pop_back();
          ASSERT_EQ(unpacked, code) << bits << " bits, padded " << padded << ", row " << row << " of " << rows;
        }
      }
    }
  }
}

// What a group holds is decided by its codes alone: no byte keeps what memory held before.
TEST(CodeGroup, PackingIsDeterministic) {
  Random random(32);
  for (uint32_t bits : kWidths) {
    for (uint32_t rows : {1u, 3u, 7u, 15u}) {
      const ByteVector codes = RandomBytes(random, CodeBytes(112, bits) * rows);
      ByteVector zeros(GroupBytes(112, bits, rows), std::byte{0});
      ByteVector ones(GroupBytes(112, bits, rows), std::byte{0xff});
      PackGroup(codes.data(), 112, bits, rows, zeros.data());
      PackGroup(codes.data(), 112, bits, rows, ones.data());
      EXPECT_EQ(zeros, ones);
    }
  }
}

TEST(CodeGroup, NoRows) {
  for (uint32_t bits : kWidths) PackGroup(nullptr, 784, bits, 0, nullptr);
}

TEST(Code, DecodesEveryDimension) {
  Random random(33);
  for (uint32_t bits : kWidths) {
    for (uint32_t padded : kPadded) {
      if (padded != PaddedDimensions(padded, bits)) continue;
      const ByteVector code = RandomBytes(random, CodeBytes(padded, bits));
      std::vector<float> decoded(padded + 1, 77);
      DecodeResidual(padded, bits, code.data(), 0.3f, decoded.data());
      EXPECT_EQ(decoded.back(), 77);
      for (uint32_t i = 0; i < padded; ++i) {
        const float v = 2 * static_cast<float>(CodeAt(code, bits, i)) - static_cast<float>((1 << bits) - 1);
        ASSERT_EQ(decoded[i], 0.3f * v) << bits << " bits, padded " << padded << ", dimension " << i;
      }
    }
  }
}

}  // namespace
}  // namespace ivfremote
