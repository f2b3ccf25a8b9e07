#include "core/checksum.h"

#include <sys/mman.h>

#include "support.h"

namespace ivfremote {
namespace {

uint32_t Crc(std::string_view text) { return Crc32c(AsBytes(text)); }

// Bit by bit, as RFC 3720 defines it.
uint32_t SlowCrc(Bytes bytes) {
  uint32_t crc = ~0u;
  for (std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

TEST(Checksum, KnownVectors) {
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(Crc(""), 0u);
  EXPECT_EQ(Crc("a"), 0xc1d04330u);
  EXPECT_EQ(Crc("123456789"), 0xe3069283u);
  // From RFC 3720, B.4.
  EXPECT_EQ(Crc(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc(ascending), 0x46dd794eu);
  EXPECT_EQ(Crc(std::string(ascending.rbegin(), ascending.rend())), 0x113fdb5cu);
}

TEST(Checksum, EveryLengthAndAlignment) {
  Random random(1);
  const std::string text = RandomText(random, 600);
  for (size_t start = 0; start < 16; ++start) {
    for (size_t length = 0; length <= 512; length += length < 70 ? 1 : 31) {
      const Bytes bytes = AsBytes(text).subspan(start, length);
      ASSERT_EQ(Crc32c(bytes), SlowCrc(bytes)) << length << " bytes from " << start;
    }
  }
}

TEST(Checksum, SeedContinues) {
  Random random(2);
  const std::string text = RandomText(random, 300);
  const uint32_t whole = Crc(text);
  for (size_t split = 0; split <= text.size(); ++split) {
    const uint32_t first = Crc32c(AsBytes(text).first(split));
    ASSERT_EQ(Crc32c(AsBytes(text).subspan(split), first), whole) << split;
  }
}

TEST(Checksum, BeyondTwoGigabytes) {
  const size_t size = (size_t{1} << 31) + 4096;
  void* zeros = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (zeros == MAP_FAILED) GTEST_SKIP() << "no address space for 2 GiB of zeros";
  const Bytes bytes(static_cast<const std::byte*>(zeros), size);
  uint32_t pieces = 0;
  for (size_t at = 0; at < size;) {
    const size_t length = std::min<size_t>(size - at, 1 << 20);
    pieces = Crc32c(bytes.subspan(at, length), pieces);
    at += length;
  }
  EXPECT_EQ(Crc32c(bytes), pieces);
  munmap(zeros, size);
}

}  // namespace
}  // namespace ivfremote
