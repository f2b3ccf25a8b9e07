// CRC-32C (Castagnoli), the checksum of every block, header, directory and trailer.
#pragma once

#include "core/types.h"

namespace ivfremote {

// The standard CRC-32C of `bytes` (of "123456789": 0xe3069283). `seed` is the checksum of the bytes before them.
uint32_t Crc32c(Bytes bytes, uint32_t seed = 0);

}  // namespace ivfremote
