#include "core/code_kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/code_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ivfremote {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Queries are padded to a multiple of 16, so vectors of at most 16 lanes leave no rest.
constexpr size_t kStep = 16;
// Rows scored between two visits of the factors.
constexpr uint32_t kBatch = 256;

// -- the query

QueryMagnitudes MeasureQuery(const float* HWY_RESTRICT y, uint32_t length) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  auto squares0 = hn::Zero(d);
  auto squares1 = squares0;
  auto sum0 = squares0;
  auto sum1 = squares0;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < length; i += 2 * lanes) {
    const auto v0 = hn::PromoteTo(d, hn::LoadU(df, y + i));
    const auto v1 = hn::PromoteTo(d, hn::LoadU(df, y + i + lanes));
    squares0 = hn::MulAdd(v0, v0, squares0);
    squares1 = hn::MulAdd(v1, v1, squares1);
    sum0 = hn::Add(sum0, hn::Abs(v0));
    sum1 = hn::Add(sum1, hn::Abs(v1));
  }
  QueryMagnitudes magnitudes;
  magnitudes.squared_norm = hn::GetLane(hn::SumOfLanes(d, hn::Add(squares0, squares1)));
  magnitudes.absolute_sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));

#if HWY_TARGET == HWY_SCALAR
  magnitudes.largest = magnitudes.largest_group = 0;
  for (size_t i = 0; i < length; i += 4) {
    float v[4];
    for (size_t k = 0; k < 4; ++k) v[k] = y[i + k] < 0 ? -y[i + k] : y[i + k];
    magnitudes.largest = std::max({magnitudes.largest, v[0], v[1], v[2], v[3]});
    magnitudes.largest_group = std::max(magnitudes.largest_group, (v[0] + v[1]) + (v[2] + v[3]));
  }
#else
  const hn::CappedTag<float, kStep> d4;
  auto largest = hn::Zero(d4);
  auto largest_group = largest;
  for (size_t i = 0; i < length; i += hn::Lanes(d4)) {
    const auto v = hn::Abs(hn::LoadU(d4, y + i));
    const auto pairs = hn::Add(v, hn::Shuffle2301(v));
    largest = hn::Max(largest, v);
    largest_group = hn::Max(largest_group, hn::Add(pairs, hn::Shuffle1032(pairs)));
  }
  magnitudes.largest = hn::GetLane(hn::MaxOfLanes(d4, largest));
  magnitudes.largest_group = hn::GetLane(hn::MaxOfLanes(d4, largest_group));
#endif
  return magnitudes;
}

int32_t BuildIntegers(const float* HWY_RESTRICT y, uint32_t length, float multiplier, int16_t* HWY_RESTRICT integers) {
  const hn::CappedTag<float, kStep> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int16_t, decltype(d)> d16;
  const auto factor = hn::Set(d, multiplier);
  auto sum = hn::Zero(di);
  for (size_t i = 0; i < length; i += hn::Lanes(d)) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, y + i), factor));
    hn::StoreU(hn::DemoteTo(d16, rounded), d16, integers + i);
    sum = hn::Add(sum, rounded);
  }
  return hn::GetLane(hn::SumOfLanes(di, sum));
}

// Sums are made of |y_i| rounded to 1/256 of an entry's unit, so that 16 bits hold them and an entry is the high byte.
#if HWY_TARGET == HWY_SCALAR

void BuildTables(const float* HWY_RESTRICT y, uint32_t length, float multiplier, uint8_t* HWY_RESTRICT tables) {
  const hn::CappedTag<float, 1> d;
  for (size_t group = 0; group < length / 4; ++group) {
    int32_t value[4];
    for (size_t i = 0; i < 4; ++i)
      value[i] = hn::GetLane(hn::NearestInt(hn::Set(d, y[4 * group + i] * (multiplier * 256))));
    for (uint32_t nibble = 0; nibble < 16; ++nibble) {
      int32_t sum = 128;
      for (size_t i = 0; i < 4; ++i) sum += std::max((nibble >> i & 1) != 0 ? value[i] : -value[i], 0);
      tables[16 * group + nibble] = static_cast<uint8_t>(sum >> 8);
    }
  }
}

#else

void BuildTables(const float* HWY_RESTRICT y, uint32_t length, float multiplier, uint8_t* HWY_RESTRICT tables) {
  const hn::CappedTag<float, kStep> d;
  const hn::Rebind<uint16_t, decltype(d)> half;
#if HWY_HAVE_SCALABLE
  const hn::CappedTag<uint16_t, 8> d16;
#else
  const hn::CappedTag<uint16_t, 32> d16;
#endif
  const hn::Repartition<uint8_t, decltype(d16)> d8;
  // Of a block of 4 positive parts, then 4 negative parts: which one an entry takes for dimension i. Entries 0 to 7 are
  // in one vector, 8 to 15, with bit 3, in another.
  HWY_ALIGN static constexpr uint8_t kTake[3][16] = {{8, 9, 0, 1, 8, 9, 0, 1, 8, 9, 0, 1, 8, 9, 0, 1},
                                                     {10, 11, 10, 11, 2, 3, 2, 3, 10, 11, 10, 11, 2, 3, 2, 3},
                                                     {12, 13, 12, 13, 12, 13, 12, 13, 4, 5, 4, 5, 4, 5, 4, 5}};
  HWY_ALIGN static constexpr uint8_t kHighBytes[2][16] = {
      {1, 3, 5, 7, 9, 11, 13, 15, 128, 128, 128, 128, 128, 128, 128, 128},
      {128, 128, 128, 128, 128, 128, 128, 128, 1, 3, 5, 7, 9, 11, 13, 15}};
  const auto take0 = hn::LoadDup128(d8, kTake[0]);
  const auto take1 = hn::LoadDup128(d8, kTake[1]);
  const auto take2 = hn::LoadDup128(d8, kTake[2]);
  const auto take3_clear = hn::BitCast(d8, hn::Set(d16, 15 << 8 | 14));
  const auto take3_set = hn::BitCast(d8, hn::Set(d16, 7 << 8 | 6));
  const auto high0 = hn::LoadDup128(d8, kHighBytes[0]);
  const auto high1 = hn::LoadDup128(d8, kHighBytes[1]);
  const auto round = hn::Set(d16, 128);
  const auto factor = hn::Set(d, multiplier * 256);

  constexpr size_t kDimensions = 256;
  HWY_ALIGN uint16_t parts[2 * kDimensions];
  for (size_t begin = 0; begin < length; begin += kDimensions) {
    const size_t n = std::min<size_t>(kDimensions, length - begin);
    for (size_t i = 0; i < n; i += hn::Lanes(d)) {
      const auto value = hn::NearestInt(hn::Mul(hn::LoadU(d, y + begin + i), factor));
      const hn::Repartition<uint64_t, decltype(half)> d64;
      hn::StoreInterleaved2(hn::BitCast(d64, hn::DemoteTo(half, value)),
                            hn::BitCast(d64, hn::DemoteTo(half, hn::Neg(value))), d64,
                            reinterpret_cast<uint64_t*>(parts + 2 * i));
    }
    uint8_t* out = tables + 4 * begin;
    for (size_t i = 0; i < 2 * n; i += hn::Lanes(d16)) {
      const auto block = hn::BitCast(d8, hn::Load(d16, parts + i));
      const auto taken = [&](auto which) HWY_ATTR { return hn::BitCast(d16, hn::TableLookupBytes(block, which)); };
      const auto low = hn::Add(hn::Add(taken(take0), taken(take1)), hn::Add(taken(take2), round));
      const auto clear = hn::BitCast(d8, hn::Add(low, taken(take3_clear)));
      const auto set = hn::BitCast(d8, hn::Add(low, taken(take3_set)));
      hn::StoreU(hn::Or(hn::TableLookupBytesOr0(clear, high0), hn::TableLookupBytesOr0(set, high1)), d8, out + 2 * i);
    }
  }
}

#endif

// -- 1 bit: sums of table entries, 32 rows at once

#if HWY_TARGET == HWY_SCALAR

template <bool kFull>
HWY_INLINE void SumGroup1(const uint8_t* HWY_RESTRICT codes, const uint8_t* HWY_RESTRICT tables, uint32_t groups,
                          uint32_t stride, int32_t* HWY_RESTRICT sums) {
  int32_t low[16] = {};
  int32_t high[16] = {};
  for (size_t g = 0; g < groups; ++g, codes += stride, tables += 16) {
    for (uint32_t i = 0; i < stride; ++i) {
      low[i] += tables[codes[i] & 15];
      high[i] += tables[codes[i] >> 4];
    }
  }
  std::copy_n(low, 16, sums);
  std::copy_n(high, 16, sums + stride);
}

#else

// Blocks of 16 bytes that start `stride` apart.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const uint8_t* HWY_RESTRICT from, size_t stride) {
#if !HWY_HAVE_SCALABLE
  if constexpr (hn::MaxLanes(D()) > 16) {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, from + hn::MaxLanes(half) / 16 * stride, stride),
                       LoadBlocks(half, from, stride));
  }
#else
  (void)stride;
#endif
  return hn::LoadU(d, from);
}

template <class V>
HWY_INLINE auto SumOfBlocks(V v) {
  const hn::DFromV<V> d;
#if !HWY_HAVE_SCALABLE
  if constexpr (hn::MaxLanes(decltype(d)()) > 8) {
    const hn::Half<decltype(d)> half;
    return SumOfBlocks(hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else
#endif
  {
    (void)d;
    return v;
  }
}

// Writes 8 sums, or adds them to those that are there.
template <class V>
HWY_INLINE void StoreSums(V v, bool add, int32_t* HWY_RESTRICT sums) {
  const hn::Half<hn::DFromV<V>> half;
  const hn::Rebind<int32_t, decltype(half)> d;
  auto low = hn::PromoteTo(d, hn::LowerHalf(half, v));
  auto high = hn::PromoteTo(d, hn::UpperHalf(half, v));
  if (add) {
    low = hn::Add(low, hn::LoadU(d, sums));
    high = hn::Add(high, hn::LoadU(d, sums + 4));
  }
  hn::StoreU(low, d, sums);
  hn::StoreU(high, d, sums + 4);
}

// Row j of the low nibbles to sums[j], of the high ones to sums[stride + j]; writes stride + 16 sums.
template <bool kFull>
HWY_INLINE void SumGroup1(const uint8_t* HWY_RESTRICT codes, const uint8_t* HWY_RESTRICT tables, uint32_t groups,
                          uint32_t stride, int32_t* HWY_RESTRICT sums) {
#if HWY_HAVE_SCALABLE
  const hn::CappedTag<uint8_t, 16> d8;
#else
  const hn::CappedTag<uint8_t, 64> d8;
#endif
  const hn::Repartition<uint16_t, decltype(d8)> d16;
  const auto nibble = hn::Set(d8, 15);
  const uint32_t blocks = static_cast<uint32_t>(hn::Lanes(d8) / 16);
  HWY_ALIGN int32_t apart[32];
  int32_t* out = kFull ? sums : apart;
  // 256 entries of at most 255 fit into 16 bits.
  for (uint32_t begin = 0; begin < groups; begin += 256) {
    const uint32_t end = std::min(begin + 256, groups);
    // The u16 sum of two entries, one of them shifted; and of the one that is shifted.
    auto both0 = hn::Zero(d16);
    auto both1 = both0;
    auto odd0 = both0;
    auto odd1 = both0;
    for (uint32_t g = begin; g < end; g += blocks) {
      const auto code =
          kFull ? hn::LoadU(d8, codes + size_t{16} * g) : LoadBlocks(d8, codes + size_t{stride} * g, stride);
      const auto table = hn::LoadU(d8, tables + size_t{16} * g);
      const auto entry0 = hn::BitCast(d16, hn::TableLookupBytes(table, hn::And(code, nibble)));
      const auto entry1 = hn::BitCast(
          d16,
          hn::TableLookupBytes(table, hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d16, code))), nibble)));
      both0 = hn::Add(both0, entry0);
      both1 = hn::Add(both1, entry1);
      odd0 = hn::Add(odd0, hn::ShiftRight<8>(entry0));
      odd1 = hn::Add(odd1, hn::ShiftRight<8>(entry1));
    }
    const auto rows_odd0 = SumOfBlocks(odd0);
    const auto rows_odd1 = SumOfBlocks(odd1);
    const auto rows_even0 = hn::Sub(SumOfBlocks(both0), hn::ShiftLeft<8>(rows_odd0));
    const auto rows_even1 = hn::Sub(SumOfBlocks(both1), hn::ShiftLeft<8>(rows_odd1));
    const hn::DFromV<decltype(rows_odd0)> d;
    StoreSums(hn::InterleaveLower(d, rows_even0, rows_odd0), begin > 0, out);
    StoreSums(hn::InterleaveUpper(d, rows_even0, rows_odd0), begin > 0, out + 8);
    StoreSums(hn::InterleaveLower(d, rows_even1, rows_odd1), begin > 0, out + 16);
    StoreSums(hn::InterleaveUpper(d, rows_even1, rows_odd1), begin > 0, out + 24);
  }
  if constexpr (!kFull) {
    std::copy_n(apart, 16, sums);
    std::copy_n(apart + 16, 16, sums + stride);
  }
}

#endif

// Of `rows` rows in groups, the last of which may be smaller; writes at most rows rounded up to a multiple of 32 sums.
HWY_INLINE void SumGroups1(const uint8_t* HWY_RESTRICT codes, const uint8_t* HWY_RESTRICT tables, uint32_t padded,
                           uint32_t rows, int32_t* HWY_RESTRICT sums) {
  uint32_t row = 0;
  for (; row + 32 <= rows; row += 32, codes += GroupBytes(padded, 1, 32))
    SumGroup1<true>(codes, tables, padded / 4, 16, sums + row);
  if (row < rows) SumGroup1<false>(codes, tables, padded / 4, (rows - row + 1) / 2, sums + row);
}

// -- 2, 4 and 8 bits: sums of products, a vector of rows at once, or two that share the loads of the query

// The rows' dimensions 2k and 2k + 1 of a word, times two of the integers.
template <uint32_t kBits, uint32_t kPair, class D, class V>
HWY_INLINE V AddPair(D d, V word, const int16_t* HWY_RESTRICT integers, V sum) {
  constexpr uint32_t kMask = (1u << kBits) - 1;
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  // Both products of a pair go to its own lane here; elsewhere to lanes that "reorder" leaves open.
  const hn::Repartition<int16_t, D> d16;
  const hn::Repartition<uint16_t, D> du16;
  int32_t pair;
  std::memcpy(&pair, integers + 2 * kPair, sizeof pair);
  auto code = hn::ShiftRight<kPair * kBits>(hn::BitCast(du16, word));
  if constexpr (kPair + 1 < 16 / kBits) code = hn::And(code, hn::Set(du16, kMask));
  auto unused = hn::Zero(d);
  return hn::ReorderWidenMulAccumulate(d, hn::BitCast(d16, code), hn::BitCast(d16, hn::Set(d, pair)), sum, unused);
#else
  const auto mask = hn::Set(d, static_cast<int32_t>(kMask));
  const auto code0 = hn::And(hn::ShiftRight<kPair * kBits>(word), mask);
  const auto code1 = hn::And(hn::ShiftRight<kPair * kBits + 16>(word), mask);
  sum = hn::MulAdd(code0, hn::Set(d, integers[2 * kPair]), sum);
  return hn::MulAdd(code1, hn::Set(d, integers[2 * kPair + 1]), sum);
#endif
}

// Each sum is in two parts that take turns, so that additions need not wait for each other.
template <uint32_t kBits, bool kTwo, uint32_t kPair, class D, class V>
HWY_INLINE void AddPairs(D d, V word0, V word1, const int16_t* HWY_RESTRICT integers, V& sum0, V& sum1, V& other0,
                         V& other1) {
  if constexpr (kPair < 16 / kBits) {
    sum0 = AddPair<kBits, kPair>(d, word0, integers, sum0);
    if constexpr (kTwo) sum1 = AddPair<kBits, kPair>(d, word1, integers, sum1);
    AddPairs<kBits, kTwo, kPair + 1>(d, word0, word1, integers, other0, other1, sum0, sum1);
  }
}

// Sums of the rows whose first words start at `codes0` and, if kTwo, at `codes1`; next words are `stride` bytes on.
template <uint32_t kBits, bool kTwo, class D>
HWY_INLINE void SumRows(D d, const uint8_t* codes0, const uint8_t* codes1, size_t stride,
                        const int16_t* HWY_RESTRICT integers, uint32_t words, int32_t* HWY_RESTRICT sums) {
  auto sum0 = hn::Zero(d);
  auto sum1 = sum0;
  auto other0 = sum0;
  auto other1 = sum0;
  for (uint32_t w = 0; w < words; ++w, codes0 += stride, codes1 += stride, integers += 32 / kBits) {
    const auto word0 = hn::LoadU(d, reinterpret_cast<const int32_t*>(codes0));
    const auto word1 = hn::LoadU(d, reinterpret_cast<const int32_t*>(codes1));
    AddPairs<kBits, kTwo, 0>(d, word0, word1, integers, sum0, sum1, other0, other1);
  }
  hn::StoreU(hn::Add(sum0, other0), d, sums);
  if constexpr (kTwo) hn::StoreU(hn::Add(sum1, other1), d, sums + hn::Lanes(d));
}

// Of `rows` rows in groups, the last of which may be smaller; writes rows rounded up to a multiple of 16.
template <uint32_t kBits>
HWY_INLINE void SumGroups(const uint8_t* HWY_RESTRICT codes, const int16_t* HWY_RESTRICT integers, uint32_t padded,
                          uint32_t rows, int32_t* HWY_RESTRICT sums) {
  const hn::CappedTag<int32_t, 16> d;
  const size_t lanes = hn::Lanes(d);
  const uint32_t words = padded * kBits / 32;
  const size_t group_bytes = GroupBytes(padded, kBits, 16);
  const size_t full = rows / 16 * 16;
  const auto from = [&](size_t row) HWY_ATTR { return codes + row / 16 * group_bytes + row % 16 * 4; };
  size_t row = 0;
  for (; row + 2 * lanes <= full; row += 2 * lanes)
    SumRows<kBits, true>(d, from(row), from(row + lanes), 64, integers, words, sums + row);
  for (; row < full; row += lanes) SumRows<kBits, false>(d, from(row), from(row), 64, integers, words, sums + row);
  for (; row < rows; row += lanes)
    SumRows<kBits, false>(d, from(row), from(row), 4 * (rows - full), integers, words, sums + row);
}

// -- bounds

struct Factors {
  const float* a;
  const float* s;
  const float* e;
};

template <class D>
HWY_INLINE void Bound(D d, const BoundTerms& terms, const int32_t* HWY_RESTRICT sums, Factors factors,
                      float* HWY_RESTRICT bounds) {
  const hn::RebindToSigned<D> di;
  const auto sum = hn::ConvertTo(d, hn::Sub(hn::LoadU(di, sums), hn::Set(di, terms.center)));
  const auto s = hn::LoadU(d, factors.s);
  const auto e = hn::LoadU(d, factors.e);
  const auto own = hn::Mul(hn::LoadU(d, factors.a), hn::Set(d, terms.own));
  const auto product = hn::Mul(s, hn::MulAdd(sum, hn::Set(d, terms.scale), hn::Set(d, terms.offset)));
  const auto noise = hn::Mul(s, hn::Set(d, terms.noise));
  const auto error = hn::Sqrt(hn::MulAdd(noise, noise, hn::Mul(e, e)));
  auto bound = hn::Add(hn::Add(own, hn::Set(d, terms.shared)), product);
  bound = hn::NegMulAdd(error, hn::Set(d, terms.width), bound);
  bound = hn::NegMulAdd(hn::Add(hn::Abs(own), hn::Abs(product)), hn::Set(d, BoundTerms::kSafety), bound);
  const auto finite = hn::Le(hn::Abs(bound), hn::Set(d, std::numeric_limits<float>::max()));
  hn::StoreU(hn::IfThenElse(finite, bound, hn::Set(d, -std::numeric_limits<float>::infinity())), d, bounds);
}

HWY_INLINE void Bounds(const BoundTerms& terms, const int32_t* HWY_RESTRICT sums, Factors factors, uint32_t rows,
                       float* HWY_RESTRICT bounds) {
  const hn::CappedTag<float, kStep> d;
  const uint32_t lanes = static_cast<uint32_t>(hn::Lanes(d));
  uint32_t i = 0;
  for (; i + lanes <= rows; i += lanes)
    Bound(d, terms, sums + i, {factors.a + i, factors.s + i, factors.e + i}, bounds + i);
  if (i == rows) return;
  HWY_ALIGN float last[4][kStep] = {};
  const size_t bytes = (rows - i) * sizeof(float);
  std::memcpy(last[0], factors.a + i, bytes);
  std::memcpy(last[1], factors.s + i, bytes);
  std::memcpy(last[2], factors.e + i, bytes);
  Bound(d, terms, sums + i, {last[0], last[1], last[2]}, last[3]);
  std::memcpy(bounds + i, last[3], bytes);
}

template <uint32_t kBits>
HWY_INLINE void ScoreCodesOf(uint32_t padded, const void* query, const BoundTerms& terms, const CodedRows& rows,
                             float* HWY_RESTRICT bounds) {
  const auto* codes = reinterpret_cast<const uint8_t*>(rows.codes);
  HWY_ALIGN int32_t sums[kBatch + 32];
  for (uint32_t begin = 0; begin < rows.rows; begin += kBatch) {
    const uint32_t n = std::min(kBatch, rows.rows - begin);
    if constexpr (kBits == 1) {
      SumGroups1(codes, static_cast<const uint8_t*>(query), padded, n, sums);
    } else {
      SumGroups<kBits>(codes, static_cast<const int16_t*>(query), padded, n, sums);
    }
    Bounds(terms, sums, {rows.a + begin, rows.s + begin, rows.e + begin}, n, bounds + begin);
    codes += GroupedBytes(padded, kBits, kBatch);
  }
}

void ScoreCodes(uint32_t padded, uint32_t bits, const void* query, const BoundTerms& terms, const CodedRows& rows,
                float* bounds) {
  switch (bits) {
    case 1:
      return ScoreCodesOf<1>(padded, query, terms, rows, bounds);
    case 2:
      return ScoreCodesOf<2>(padded, query, terms, rows, bounds);
    case 4:
      return ScoreCodesOf<4>(padded, query, terms, rows, bounds);
    default:
      return ScoreCodesOf<8>(padded, query, terms, rows, bounds);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ivfremote
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ivfremote {

HWY_EXPORT(MeasureQuery);
HWY_EXPORT(BuildTables);
HWY_EXPORT(BuildIntegers);
HWY_EXPORT(ScoreCodes);

QueryMagnitudes MeasureQuery(const float* y, uint32_t length) { return HWY_DYNAMIC_DISPATCH(MeasureQuery)(y, length); }

void BuildTables(const float* y, uint32_t length, float multiplier, uint8_t* tables) {
  HWY_DYNAMIC_DISPATCH(BuildTables)(y, length, multiplier, tables);
}

int32_t BuildIntegers(const float* y, uint32_t length, float multiplier, int16_t* integers) {
  return HWY_DYNAMIC_DISPATCH(BuildIntegers)(y, length, multiplier, integers);
}

void ScoreCodes(uint32_t padded, uint32_t bits, const void* query, const BoundTerms& terms, const CodedRows& rows,
                float* bounds) {
  HWY_DYNAMIC_DISPATCH(ScoreCodes)(padded, bits, query, terms, rows, bounds);
}

}  // namespace ivfremote
#endif  // HWY_ONCE
