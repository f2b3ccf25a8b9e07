// What the golden files hold, by formula: shared by the tool that wrote them and the test that reads them. To change
// anything here would be to claim that the files hold something else: add files instead.
#pragma once

#include <vector>

#include "core/recall_curve.h"
#include "core/routing.h"
#include "core/segment_writer.h"

namespace ivfremote::golden {

inline constexpr uint32_t kDimensions = 20;

// Value j of row i, the same in SQL (write_indexes.sh): exact in float32.
inline float Value(uint32_t i, uint32_t j) {
  return static_cast<float>(static_cast<int>((i * 37 + j * 101 + i * j % 17 * 13) % 257) - 128) / 64;
}
inline std::vector<float> Row(uint32_t i, uint32_t dimensions = kDimensions) {
  std::vector<float> row(dimensions);
  for (uint32_t j = 0; j < dimensions; ++j) row[j] = Value(i, j);
  return row;
}

// -- segments

inline constexpr uint32_t kRows = 120;
inline constexpr uint32_t kLists = 5;
inline constexpr uint64_t kSeed = 20261121;

struct Segment {
  const char* name;
  Metric metric;
  CodeKind kind;
  uint32_t bits;
  bool spilled;
  uint64_t part_bytes;
  uint32_t sample_rows = 0;

  CodeFormat format() const { return {kind, bits, kDimensions}; }
};

inline constexpr Segment kSegments[] = {
    {"float32_l2", Metric::kL2, CodeKind::kFloat32, 32, false, 0},
    {"float32_cosine_parts", Metric::kCosine, CodeKind::kFloat32, 32, false, 9024},
    {"float32_product_spilled", Metric::kInnerProduct, CodeKind::kFloat32, 32, true, 0},
    {"bits1_l2", Metric::kL2, CodeKind::kRabitq, 1, false, 0},
    {"bits1_cosine_spilled", Metric::kCosine, CodeKind::kRabitq, 1, true, 0},
    {"bits2_product", Metric::kInnerProduct, CodeKind::kRabitq, 2, false, 0},
    {"bits4_l2_parts", Metric::kL2, CodeKind::kRabitq, 4, false, 2880},
    {"bits4_cosine", Metric::kCosine, CodeKind::kRabitq, 4, false, 0},
    {"bits8_product", Metric::kInnerProduct, CodeKind::kRabitq, 8, false, 0},
    {"bits8_l2_spilled", Metric::kL2, CodeKind::kRabitq, 8, true, 0},
    {"bits4_l2_sampled_parts", Metric::kL2, CodeKind::kRabitq, 4, false, 2880, 40},
    {"bits_hamming", Metric::kHamming, CodeKind::kBits, 1, true, 0, 10},
};

// Of a segment of bits: where the values are positive.
inline std::vector<float> Row(const Segment& segment, uint32_t i) {
  std::vector<float> row = Row(i);
  if (segment.kind == CodeKind::kBits)
    for (float& value : row) value = value > 0 ? 1.0f : 0.0f;
  return row;
}

// List 1 has no rows, list 0 more than a group of codes of any width.
inline uint32_t ListOf(uint32_t row) {
  constexpr uint32_t kListOf[] = {0, 0, 0, 0, 0, 2, 2, 3, 4, 4};
  return kListOf[row % 10];
}
// Another list; of some rows the same, as when the second is no nearer.
inline uint32_t SecondListOf(uint32_t row) { return row % 7 == 0 ? ListOf(row) : (ListOf(row) + 2) % kLists; }
inline Tid TidOf(uint32_t row) { return {row / 11 * 3, static_cast<uint16_t>(1 + row % 11 * 5)}; }

inline Routing MakeRouting(Metric metric, uint32_t lists, uint32_t groups) {
  Routing routing;
  routing.dimensions = kDimensions;
  routing.metric = metric;
  const float scale = metric == Metric::kCosine ? 0.0625f : 1;
  for (uint32_t j = 0; j < kDimensions; ++j) routing.mean.push_back(scale * static_cast<float>(j % 5) / 8);
  for (uint32_t list = 0; list < lists; ++list) {
    routing.radii.push_back(scale * (1 + static_cast<float>(list) / 4));
    for (uint32_t j = 0; j < kDimensions; ++j) routing.centroids.push_back(scale * Value(1000 + list, j));
  }
  for (uint32_t group = 0; group <= groups; ++group) routing.group_first.push_back(lists * group / groups);
  for (uint32_t group = 0; group < groups; ++group)
    for (uint32_t j = 0; j < kDimensions; ++j) routing.group_centroids.push_back(scale * Value(2000 + group, j));
  RoundCentroids(&routing);
  return routing;
}

inline SegmentHeader HeaderOf(const Segment& segment) {
  SegmentHeader header;
  header.dimensions = kDimensions;
  header.metric = segment.metric;
  header.code_kind = segment.kind;
  header.bits = static_cast<uint8_t>(segment.bits);
  header.list_count = kLists;
  header.part_bytes = segment.part_bytes;
  header.rotation_seed = kSeed;
  for (uint8_t i = 0; i < 16; ++i) {
    header.name.incarnation[i] = static_cast<uint8_t>(0x10 + i);
    header.name.index_uuid[i] = static_cast<uint8_t>(0xa0 + i);
  }
  header.name.mint_xid = 0x123456789abcdef0;
  header.name.random = static_cast<uint64_t>(&segment - kSegments);
  return header;
}

// Every row of a list, in the order of TIDs.
inline std::vector<uint32_t> RowsOf(const Segment& segment, uint32_t list) {
  std::vector<uint32_t> rows;
  for (uint32_t row = 0; row < kRows; ++row)
    if (ListOf(row) == list || (segment.spilled && SecondListOf(row) == list)) rows.push_back(row);
  return rows;
}

// Every third row.
inline SampleRows SampleOf(const Segment& segment) {
  SampleRows sample{kDimensions, {}, {}};
  for (uint32_t i = 0; i < segment.sample_rows; ++i) {
    const std::vector<float> row = Row(segment, 3 * i);
    sample.tids.push_back(TidOf(3 * i));
    sample.rows.insert(sample.rows.end(), row.begin(), row.end());
  }
  return sample;
}

using File = std::vector<std::byte>;

// The objects of a segment, from what its writer put out.
inline std::vector<File> Parts(const std::vector<SegmentWriter::Chunk>& chunks, uint64_t part_bytes) {
  std::vector<File> parts;
  for (const SegmentWriter::Chunk& chunk : chunks) {
    const uint64_t part = part_bytes == 0 ? 0 : chunk.offset / part_bytes;
    const uint64_t at = chunk.offset - part * part_bytes;
    parts.resize(std::max<size_t>(parts.size(), part + 1));
    parts[part].resize(std::max<size_t>(parts[part].size(), at + chunk.bytes.size()));
    std::copy(chunk.bytes.begin(), chunk.bytes.end(), parts[part].begin() + static_cast<ptrdiff_t>(at));
  }
  return parts;
}

inline std::string PartName(const std::string& name, size_t part) {
  return name + ".seg" + (part == 0 ? "" : "." + std::to_string(part));
}

// -- a recall curve

inline RecallCurve MakeCurve() {
  RecallCurve curve;
  curve.rule = {0.3f, 4.0f};
  curve.queries = 777;
  curve.from_queries = true;
  curve.bound_loss = 0.0125f;
  for (uint32_t k : {1u, 10u, 100u})
    for (uint32_t i = 0; i < 3; ++i) {
      const auto step = static_cast<float>(i);
      const auto size = static_cast<float>(k);
      curve.points.push_back({k, 0.75f + step / 16, i == 2 ? std::numeric_limits<float>::infinity() : 1.5f + step,
                              2 + step + size, 100 * (1 + step) + size, 4096 * (1 + step) * size});
    }
  return curve;
}

}  // namespace ivfremote::golden
