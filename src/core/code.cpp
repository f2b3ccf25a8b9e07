#include "core/code.h"

#include <cassert>

#include "core/little_endian.h"

namespace ivfremote {

namespace {

constexpr size_t kWord = sizeof(uint32_t);

void PackNibbles(const std::byte* codes, size_t code_bytes, uint32_t rows, std::byte* out) {
  const uint32_t half = (rows + 1) / 2;
  for (uint32_t j = 0; j < half; ++j) {
    const std::byte* low = codes + j * code_bytes;
    const std::byte* high = j + half < rows ? low + half * code_bytes : nullptr;
    std::byte* to = out + j;
    for (size_t i = 0; i < code_bytes; ++i) {
      const std::byte l = low[i];
      const std::byte h = high != nullptr ? high[i] : std::byte{0};
      *to = (l & std::byte{0x0f}) | h << 4;
      to += half;
      *to = l >> 4 | (h & std::byte{0xf0});
      to += half;
    }
  }
}

void UnpackNibbles(const std::byte* group, size_t code_bytes, uint32_t rows, uint32_t row, std::byte* code) {
  const uint32_t half = (rows + 1) / 2;
  const int shift = row < half ? 0 : 4;
  const std::byte* from = group + row % half;
  for (size_t i = 0; i < code_bytes; ++i) {
    const std::byte even = *from >> shift & std::byte{0x0f};
    from += half;
    const std::byte odd = *from >> shift & std::byte{0x0f};
    from += half;
    code[i] = even | odd << 4;
  }
}

}  // namespace

void PackGroup(const std::byte* codes, uint32_t padded, uint32_t bits, uint32_t rows, std::byte* out) {
  assert(padded % 16 == 0 && IsCodeWidth(bits) && rows <= GroupRows(bits));
  const size_t code_bytes = CodeBytes(padded, bits);
  if (bits == 1) {
    PackNibbles(codes, code_bytes, rows, out);
    return;
  }
  for (size_t word = 0; word < code_bytes; word += kWord)
    for (uint32_t row = 0; row < rows; ++row, out += kWord)
      Store(out, Load<uint32_t>(codes + row * code_bytes + word));
}

void UnpackFromGroup(const std::byte* group, uint32_t padded, uint32_t bits, uint32_t rows, uint32_t row,
                     std::byte* code) {
  assert(padded % 16 == 0 && IsCodeWidth(bits) && rows <= GroupRows(bits) && row < rows);
  const size_t code_bytes = CodeBytes(padded, bits);
  if (bits == 1) {
    UnpackNibbles(group, code_bytes, rows, row, code);
    return;
  }
  for (size_t word = 0; word < code_bytes; word += kWord)
    Store(code + word, Load<uint32_t>(group + word * rows + row * kWord));
}

}  // namespace ivfremote
