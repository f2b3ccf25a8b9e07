// What the fuzz targets share: an input read field by field, and how an invariant is asserted.
//
// An input is not a file of ours but a list of choices. Most targets start from a valid structure made in code and let
// the input overwrite bytes of it, so a corpus of files is not needed to get past the first checks.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "core/little_endian.h"
#include "core/types.h"

#define REQUIRE(condition)                                                 \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                        \
    }                                                                      \
  } while (0)

namespace ivfremote {

// Reads choices off the front; zeros after the end.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  template <typename T>
  T Take() {
    T value{};
    const size_t n = std::min(sizeof value, rest_.size());
    if (n > 0) std::memcpy(&value, rest_.data(), n);
    rest_ = rest_.subspan(n);
    return value;
  }

  // In [low, high].
  uint32_t TakeBetween(uint32_t low, uint32_t high) { return low + Take<uint16_t>() % (high - low + 1); }

  bool empty() const { return rest_.empty(); }
  Bytes rest() const { return rest_; }

  // Overwrites bytes of `bytes` where and with what the rest of the input says: bytes of the input, or an extreme value
  // in an aligned field.
  void Spoil(std::vector<std::byte>* bytes) {
    while (!rest_.empty() && !bytes->empty()) {
      const size_t at = Take<uint16_t>() % bytes->size();
      const uint8_t choice = Take<uint8_t>();
      if (choice >= 192) {
        const uint32_t extreme = choice % 2 == 0 ? ~0u - choice / 2 % 16 : 1u << choice / 2 % 32;
        std::memcpy(bytes->data() + at / 4 * 4, &extreme, std::min<size_t>(4, bytes->size() - at / 4 * 4));
        continue;
      }
      const size_t n = std::min<size_t>({1u + choice % 8, rest_.size(), bytes->size() - at});
      if (n > 0) std::memcpy(bytes->data() + at, rest_.data(), n);
      rest_ = rest_.subspan(n);
    }
  }

 private:
  Bytes rest_;
};

// A copy that ends where its allocation ends, so that the address sanitizer sees every read beyond it; aligned as
// buffers and pages are.
class ExactCopy {
 public:
  explicit ExactCopy(Bytes bytes) : data_(std::make_unique<std::byte[]>(bytes.size())), size_(bytes.size()) {
    if (size_ > 0) std::memcpy(data_.get(), bytes.data(), size_);
  }
  Bytes bytes() const { return {data_.get(), size_}; }
  MutableBytes mutable_bytes() { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_;
};

inline bool SameBytes(Bytes a, Bytes b) { return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin()); }

}  // namespace ivfremote
