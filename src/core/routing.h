// Routing: the centroids of an index. Which list a row belongs to, and which lists a query probes; the bytes, version 1.
//
// Centroids are relative to the mean of the sample they were trained on (normalised rows for cosine): a matrix product
// of rows with a large common offset would lose the distance in its rounding. Lists are numbered in layout order, a
// depth-first walk of the tree that training built, so neighbours in space are neighbours in the segment; a group is a
// node of that tree, and holds a run of consecutive lists.
//
// Centroids are float16 times one power of two, exactly: what an index assigns and codes rows by is what it stores.
// Where there are many, each also has a RaBitQ code about the mean, which is enough to find those worth a closer look.
//
// Encoded, in a segment and as a stream of pages:
//   header (128) | mean f32[d] | first list of each group u32[groups + 1] | group centroids f16[groups x d]
//   | radii f32[lists] | codes, by group | centroids f16[lists x d]
// The last three start at multiples of 64, and so do the codes of each group: a f32[n], s f32[n], e f32[n] of its n
// lists (core/code.h, L2 for every metric), then the codes, in groups as in a block. They are of u = P (c / 2^exponent),
// c the centroid and P the rotation.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "core/code_format.h"
#include "core/code_scorer.h"
#include "core/rotation.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

// How much of an encoded routing there is: all up to an end. An insert needs the groups, a scan the lists or the codes.
enum class RoutingPart { kGroups, kLists, kCodes, kCentroids };

struct RoutingHeader {
  static constexpr size_t kBytes = 128;

  uint32_t dimensions = 0;
  Metric metric = Metric::kL2;
  uint32_t list_count = 0;
  uint32_t group_count = 0;
  int32_t exponent = 0;      // of the centroids
  uint32_t code_bits = 0;    // 0: there are no codes
  uint64_t code_bytes = 0;   // of all groups
  uint64_t rotation_seed = 0;

  // What stored centroids are multiplied with.
  float scale() const { return std::ldexp(1.0f, exponent); }
  bool coded() const { return code_bits != 0; }
  CodeFormat code_format() const { return {CodeKind::kRabitq, code_bits, dimensions}; }

  uint64_t MeanOffset() const { return kBytes; }
  uint64_t GroupsOffset() const { return MeanOffset() + uint64_t{dimensions} * sizeof(float); }
  uint64_t GroupCentroidsOffset() const { return GroupsOffset() + (uint64_t{group_count} + 1) * sizeof(uint32_t); }
  uint64_t RadiiOffset() const;
  uint64_t CodesOffset() const;
  uint64_t CentroidsOffset() const { return CodesOffset() + code_bytes; }
  uint64_t CentroidBytes() const { return uint64_t{dimensions} * sizeof(uint16_t); }
  uint64_t CentroidOffset(uint32_t list) const { return CentroidsOffset() + list * CentroidBytes(); }
  uint64_t EncodedBytes() const { return CentroidOffset(list_count); }
  // Where the part ends, and what comes after it starts.
  uint64_t EndOf(RoutingPart part) const;
};

Status DecodeRoutingHeader(Bytes bytes, RoutingHeader* header);

struct Routing {
  uint32_t dimensions = 0;
  Metric metric = Metric::kL2;
  int32_t exponent = 0;                 // RoundCentroids sets it
  std::vector<float> mean;              // [d]
  std::vector<float> radii;             // [lists]: root mean square distance of a list's rows from its centroid
  std::vector<uint32_t> group_first;    // [groups + 1]
  std::vector<float> group_centroids;   // [groups x d]
  std::vector<float> centroids;         // [lists x d]; empty: where the routing is stored

  // Of the centroids; 0 bits: none. The codes' bytes may be where the routing is stored. The rotation comes with the lists.
  uint32_t code_bits = 0;
  std::optional<Rotation> rotation;
  uint64_t rotation_seed = 0;
  std::vector<uint64_t> code_offsets;   // [groups + 1], from the first
  std::vector<std::byte> codes;         // with RangeBuffer::kSlack more; empty: where the routing is stored

  uint32_t list_count() const { return static_cast<uint32_t>(radii.size()); }
  uint32_t group_count() const { return static_cast<uint32_t>(group_first.size()) - 1; }
  uint32_t ListsOf(uint32_t group) const { return group_first[group + 1] - group_first[group]; }
  RoutingHeader header() const;
  size_t bytes() const;  // of memory

  // The rounded centroids' bytes, all of them. Codes may be left out: they can be made again.
  std::vector<std::byte> Encode(bool with_codes = true) const;
};

// `bytes` are those up to the end of `part`; the rest of the routing stays empty, but for radii, which are 0 then.
Status DecodeRouting(Bytes bytes, RoutingPart part, Routing* routing);
inline Status DecodeRouting(Bytes bytes, Routing* routing) {
  return DecodeRouting(bytes, RoutingPart::kCentroids, routing);
}

// Binary orders of magnitude that training leaves above its largest component: lists split later have the same exponent, and are
// of rows it has not seen. float16 has the room: what is 2^-24 of the largest still has 11 bits.
inline constexpr int kHeadroom = 4;

// Rounds all centroids to what an index stores, in place. The largest fits, and 2^headroom times as much; no finite value becomes
// infinite. Rounding twice changes nothing.
void RoundCentroids(Routing* routing, int headroom = 0);
// The same for other centroids of a routing with that exponent. Those that are too large become the largest there is.
void RoundCentroids(int32_t exponent, std::vector<float>* centroids);

// Whether codes make ranking cheaper: reading all centroids as floats takes longer than the rest of a search, beyond 1 MB.
bool WantsCodes(const Routing& routing);

// Codes the rounded centroids: StartCodes, then CodeGroup for every group.
void StartCodes(uint64_t rotation_seed, Routing* routing);
void CodeGroup(uint32_t group, Routing* routing);

// The codes of one group's `lists` lists, at the start of its bytes. RangeBuffer::kSlack bytes after them must be readable.
CodedRows ViewGroupCodes(const std::byte* bytes, uint32_t lists);

// Brings a row or query into the space the centroids live in, apart from the mean: for cosine its direction, else
// itself. `out` may be `row`. A zero row under cosine has no direction: false.
bool ToRoutingSpace(Metric metric, const float* row, size_t dimensions, float* out);

}  // namespace ivfremote
