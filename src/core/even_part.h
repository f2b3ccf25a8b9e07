// An even part of a sequence, chosen as it passes by.
#pragma once

#include <cstdint>

namespace ivfremote {

// Whether number `number` of `count` is one of `wanted` that lie evenly among them: rows come in the order of the table.
constexpr bool IsOneOf(uint64_t wanted, uint64_t number, uint64_t count) {
  return (number + 1) * wanted / count > number * wanted / count;
}

}  // namespace ivfremote
