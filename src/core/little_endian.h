// Unaligned little-endian fields in byte buffers. Callers check bounds.
#pragma once

#include <concepts>
#include <cstring>
#include <type_traits>

#include "core/types.h"

namespace ivfremote {

template <typename T>
  requires std::is_trivially_copyable_v<T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
  requires std::is_trivially_copyable_v<T>
void Store(std::byte* to, const T& value) {
  std::memcpy(to, &value, sizeof value);
}

inline constexpr uint64_t AlignUp(uint64_t n, uint64_t alignment) {
  return (n + alignment - 1) / alignment * alignment;
}

}  // namespace ivfremote
