// The small vocabulary every part of the core shares.
#pragma once

#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ivfremote {

// Formats are little-endian and read in place.
static_assert(std::endian::native == std::endian::little, "ivfremote supports little-endian machines only");

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;
using Clock = std::chrono::steady_clock;

inline constexpr uint32_t kMaxDimensions = 16000;  // of floats
inline constexpr uint32_t kMaxBits = 64000;
inline constexpr uint32_t kMaxLists = 1048576;

// Stored in segments and on pages: never renumber.
enum class Metric : uint8_t { kL2 = 0, kInnerProduct = 1, kCosine = 2, kHamming = 3 };
enum class CodeKind : uint8_t { kFloat32 = 0, kRabitq = 1, kBits = 2 };

constexpr bool IsKnownMetric(uint8_t metric) { return metric <= static_cast<uint8_t>(Metric::kHamming); }

// Rows compared by Hamming distance are bits, and no others are: in an index they are vectors of 0 and 1, stored as bits.
constexpr uint32_t MaxDimensions(Metric metric) { return metric == Metric::kHamming ? kMaxBits : kMaxDimensions; }

// A heap tuple's address, as Postgres numbers it: block from 0, offset from 1.
struct Tid {
  uint32_t block = 0;
  uint16_t offset = 0;

  friend bool operator==(const Tid&, const Tid&) = default;
  friend auto operator<=>(const Tid&, const Tid&) = default;
};

// Asks whether the user wants the running operation to stop. Called from the calling thread only; must not throw.
using InterruptCheck = bool (*)();

}  // namespace ivfremote
