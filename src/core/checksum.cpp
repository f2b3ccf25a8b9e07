#include "core/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <climits>

namespace ivfremote {

uint32_t Crc32c(Bytes bytes, uint32_t seed) {
  uint32_t crc = ~seed;
  while (!bytes.empty()) {
    // ISA-L takes an int for the length.
    const size_t length = std::min<size_t>(bytes.size(), INT_MAX);
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    crc = crc32_iscsi(data, static_cast<int>(length), crc);
    bytes = bytes.subspan(length);
  }
  return ~crc;
}

}  // namespace ivfremote
