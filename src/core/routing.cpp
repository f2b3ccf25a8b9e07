#include "core/routing.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "core/distance.h"
#include "core/format_version.h"
#include "core/half.h"
#include "core/little_endian.h"
#include "core/object_store.h"

namespace ivfremote {
namespace {

constexpr uint32_t kMagic = 0x54554f52;  // "ROUT"
constexpr uint16_t kVersion = 1;
constexpr uint8_t kFloat16 = 1;
constexpr uint64_t kAlignment = 64;
constexpr uint32_t kCodeBits = 4;
constexpr uint64_t kMaxFloatBytes = 1 << 20;
constexpr uint64_t kMaxCodeBytes = uint64_t{kMaxLists} * kMaxBits * 2;

// With these exponents every value that is written, at most kLargestHalf, is a float32 when multiplied with the power of two.
constexpr int32_t kMinExponent = -125;
constexpr int32_t kMaxExponent = 113;
// The largest centroid's value has this exponent as a float16; what would round up to the next is rounded down.
constexpr int32_t kHalfExponent = 14;
constexpr float kLargestHalf = 32752;

struct RawRoutingHeader {
  uint32_t magic;
  uint16_t version;
  uint8_t metric;
  uint8_t centroid_kind;
  uint32_t required_features;
  uint32_t ignorable_features;
  uint32_t dimensions;
  uint32_t list_count;
  uint32_t group_count;
  int16_t exponent;
  uint8_t code_kind;
  uint8_t code_bits;
  uint64_t code_bytes;
  uint64_t rotation_seed;
  uint8_t reserved[80];
};
static_assert(sizeof(RawRoutingHeader) == RoutingHeader::kBytes);
static_assert(offsetof(RawRoutingHeader, code_bytes) == 32 && offsetof(RawRoutingHeader, reserved) == 48);

float Scale(int32_t exponent) { return std::ldexp(1.0f, exponent); }

uint64_t GroupCodeBytes(const CodeFormat& format, uint32_t lists) {
  return AlignUp(3 * sizeof(float) * uint64_t{lists} + GroupedBytes(format.padded(), format.bits, lists), kAlignment);
}

std::vector<uint64_t> CodeOffsets(const CodeFormat& format, const std::vector<uint32_t>& group_first) {
  std::vector<uint64_t> offsets(group_first.size());
  for (size_t g = 1; g < offsets.size(); ++g)
    offsets[g] = offsets[g - 1] + GroupCodeBytes(format, group_first[g] - group_first[g - 1]);
  return offsets;
}

template <typename T>
void Put(const std::vector<T>& values, std::byte* to) {
  if (!values.empty()) std::memcpy(to, values.data(), values.size() * sizeof(T));
}

template <typename T>
void Take(const std::byte* from, size_t count, std::vector<T>* values) {
  values->resize(count);
  if (count > 0) std::memcpy(values->data(), from, count * sizeof(T));
}

void PutHalves(const std::vector<float>& values, int32_t exponent, std::byte* to) {
  ToHalves(values.data(), values.size(), Scale(exponent), reinterpret_cast<uint16_t*>(to));
}

void TakeHalves(const std::byte* from, size_t count, int32_t exponent, std::vector<float>* values) {
  values->resize(count);
  FromHalves(reinterpret_cast<const uint16_t*>(from), count, Scale(exponent), values->data());
}

// Gives the routing what its codes' place follows from.
void PlaceCodes(uint32_t bits, uint64_t rotation_seed, Routing* routing) {
  routing->code_bits = bits;
  routing->rotation_seed = rotation_seed;
  routing->rotation.reset();
  routing->code_offsets.clear();
  routing->codes.clear();
  if (bits == 0) return;
  routing->code_offsets = CodeOffsets({CodeKind::kRabitq, bits, routing->dimensions}, routing->group_first);
}

void PrepareRotation(Routing* routing) {
  const CodeFormat format = routing->header().code_format();
  routing->rotation.emplace(routing->dimensions, format.padded(), routing->rotation_seed);
}

}  // namespace

uint64_t RoutingHeader::RadiiOffset() const {
  return AlignUp(GroupCentroidsOffset() + group_count * CentroidBytes(), kAlignment);
}

uint64_t RoutingHeader::CodesOffset() const {
  return AlignUp(RadiiOffset() + uint64_t{list_count} * sizeof(float), kAlignment);
}

uint64_t RoutingHeader::EndOf(RoutingPart part) const {
  switch (part) {
    case RoutingPart::kGroups:
      return RadiiOffset();
    case RoutingPart::kLists:
      return CodesOffset();
    case RoutingPart::kCodes:
      return CentroidsOffset();
    case RoutingPart::kCentroids:
      break;
  }
  return EncodedBytes();
}

Status DecodeRoutingHeader(Bytes bytes, RoutingHeader* header) {
  if (bytes.size() < sizeof(RawRoutingHeader)) return Status::Corrupt("routing is shorter than its header");
  const auto raw = Load<RawRoutingHeader>(bytes.data());
  if (raw.magic != kMagic) return Status::Corrupt("not a routing");
  IVFREMOTE_RETURN_IF_ERROR(CheckVersion("routing", raw.version, kVersion));
  const bool known_code = raw.code_kind == static_cast<uint8_t>(CodeKind::kRabitq) ? IsCodeWidth(raw.code_bits)
                                                                                   : raw.code_kind == 0;
  if (raw.required_features != 0 || raw.centroid_kind != kFloat16 || !known_code || !IsKnownMetric(raw.metric))
    return Status::Unsupported("routing uses features this library does not know");
  if (raw.dimensions == 0 ||
      raw.dimensions > MaxDimensions(static_cast<Metric>(raw.metric)) || raw.list_count == 0 || raw.list_count > kMaxLists ||
      raw.group_count == 0 || raw.group_count > raw.list_count || raw.exponent < kMinExponent ||
      raw.exponent > kMaxExponent || raw.code_bytes > kMaxCodeBytes || raw.code_bytes % kAlignment != 0 ||
      (raw.code_bits == 0) != (raw.code_kind == 0) || (raw.code_bits == 0) != (raw.code_bytes == 0))
    return Status::Corrupt("routing has an impossible header");
  *header = {raw.dimensions, static_cast<Metric>(raw.metric), raw.list_count, raw.group_count, raw.exponent,
             raw.code_bits,  raw.code_bytes,                  raw.rotation_seed};
  return Status::Ok();
}

RoutingHeader Routing::header() const {
  return {dimensions, metric,    list_count(), group_count(), exponent,
          code_bits,  code_bits == 0 ? 0 : code_offsets.back(), rotation_seed};
}

size_t Routing::bytes() const {
  return (mean.size() + radii.size() + group_first.size() + group_centroids.size() + centroids.size()) * sizeof(float) +
         code_offsets.size() * sizeof(uint64_t) + codes.size() +
         (rotation ? Rotation::kRounds * rotation->padded() * sizeof(uint32_t) : 0);
}

std::vector<std::byte> Routing::Encode(bool with_codes) const {
  RoutingHeader header = this->header();
  if (!with_codes) {
    header.code_bits = 0;
    header.code_bytes = 0;
    header.rotation_seed = 0;
  }
  RawRoutingHeader raw{};
  raw.magic = kMagic;
  raw.version = kVersion;
  raw.metric = static_cast<uint8_t>(metric);
  raw.centroid_kind = kFloat16;
  raw.dimensions = header.dimensions;
  raw.list_count = header.list_count;
  raw.group_count = header.group_count;
  raw.exponent = static_cast<int16_t>(header.exponent);
  raw.code_kind = static_cast<uint8_t>(header.coded() ? CodeKind::kRabitq : CodeKind::kFloat32);
  raw.code_bits = static_cast<uint8_t>(header.code_bits);
  raw.code_bytes = header.code_bytes;
  raw.rotation_seed = header.rotation_seed;
  std::vector<std::byte> bytes(header.EncodedBytes());
  Store(bytes.data(), raw);
  Put(mean, &bytes[header.MeanOffset()]);
  Put(group_first, &bytes[header.GroupsOffset()]);
  PutHalves(group_centroids, exponent, bytes.data() + header.GroupCentroidsOffset());
  Put(radii, &bytes[header.RadiiOffset()]);
  if (header.coded()) std::memcpy(&bytes[header.CodesOffset()], codes.data(), header.code_bytes);
  PutHalves(centroids, exponent, bytes.data() + header.CentroidsOffset());
  return bytes;
}

Status DecodeRouting(Bytes bytes, RoutingPart part, Routing* routing) {
  RoutingHeader header;
  IVFREMOTE_RETURN_IF_ERROR(DecodeRoutingHeader(bytes, &header));
  if (bytes.size() != header.EndOf(part)) return Status::Corrupt("routing has the wrong length");
  const size_t d = header.dimensions;
  routing->dimensions = header.dimensions;
  routing->metric = header.metric;
  routing->exponent = header.exponent;
  const std::byte* from = bytes.data();
  Take(from + header.MeanOffset(), d, &routing->mean);
  Take(from + header.GroupsOffset(), header.group_count + size_t{1}, &routing->group_first);
  if (!std::is_sorted(routing->group_first.begin(), routing->group_first.end()) ||
      routing->group_first.front() != 0 || routing->group_first.back() != header.list_count)
    return Status::Corrupt("routing has impossible groups");
  if (!AllFinite(routing->mean.data(), d)) return Status::Corrupt("routing has an impossible mean");
  PlaceCodes(header.code_bits, header.rotation_seed, routing);
  if (header.coded() && routing->code_offsets.back() != header.code_bytes)
    return Status::Corrupt("routing has codes of another length than its groups");
  TakeHalves(from + header.GroupCentroidsOffset(), header.group_count * d, header.exponent, &routing->group_centroids);
  routing->radii.assign(header.list_count, 0.0f);
  routing->centroids.clear();
  if (part >= RoutingPart::kLists) {
    Take(from + header.RadiiOffset(), header.list_count, &routing->radii);
    if (!std::all_of(routing->radii.begin(), routing->radii.end(), [](float r) { return r >= 0 && r <= FLT_MAX; }))
      return Status::Corrupt("routing has an impossible radius");
    if (header.coded()) PrepareRotation(routing);
  }
  if (part >= RoutingPart::kCodes && header.coded()) {
    Take(from + header.CodesOffset(), header.code_bytes, &routing->codes);
    routing->codes.resize(header.code_bytes + RangeBuffer::kSlack);
  }
  if (part == RoutingPart::kCentroids)
    TakeHalves(from + header.CentroidsOffset(), header.list_count * d, header.exponent, &routing->centroids);
  return Status::Ok();
}

void RoundCentroids(Routing* routing, int headroom) {
  float largest = 0;
  for (const auto* values : {&routing->group_centroids, &routing->centroids})
    for (const float value : *values) largest = std::max(largest, std::abs(value));
  const int32_t exponent = largest > 0 ? std::ilogb(largest) - kHalfExponent + headroom : 0;
  routing->exponent = std::clamp(exponent, kMinExponent, kMaxExponent);
  for (auto* values : {&routing->group_centroids, &routing->centroids}) RoundCentroids(routing->exponent, values);
}

void RoundCentroids(int32_t exponent, std::vector<float>* centroids) {
  const float scale = Scale(exponent);
  for (float& value : *centroids) {
    const uint16_t half = RoundToHalf(std::clamp(value / scale, -kLargestHalf, kLargestHalf));
    FromHalves(&half, 1, scale, &value);
  }
}

bool WantsCodes(const Routing& routing) {
  return AutomaticFormat(routing.dimensions).coded() && routing.centroids.size() * sizeof(float) > kMaxFloatBytes;
}

void StartCodes(uint64_t rotation_seed, Routing* routing) {
  PlaceCodes(kCodeBits, rotation_seed, routing);
  PrepareRotation(routing);
  routing->codes.assign(routing->code_offsets.back() + RangeBuffer::kSlack, std::byte{0});
}

void CodeGroup(uint32_t group, Routing* routing) {
  const CodeFormat format = routing->header().code_format();
  const size_t d = routing->dimensions;
  const uint32_t padded = format.padded();
  const uint32_t lists = routing->ListsOf(group);
  const float scale = Scale(routing->exponent);
  const uint32_t in_group = GroupRows(format.bits);
  std::vector<float> scaled(d);
  std::vector<float> rotated(padded);
  std::vector<std::byte> codes(in_group * CodeBytes(padded, format.bits));
  std::byte* start = &routing->codes[routing->code_offsets[group]];
  std::byte* packed = start + 3 * sizeof(float) * size_t{lists};
  for (uint32_t first = 0; first < lists; first += in_group) {
    const uint32_t count = std::min(in_group, lists - first);
    for (uint32_t i = first; i < first + count; ++i) {
      const float* centroid = &routing->centroids[(routing->group_first[group] + size_t{i}) * d];
      for (size_t j = 0; j < d; ++j) scaled[j] = centroid[j] / scale;
      routing->rotation->Apply(scaled.data(), rotated.data());
      const CodeFactors factors = EncodeResidual(Metric::kL2, padded, format.bits, rotated.data(), 0,
                                                 &codes[(i - first) * CodeBytes(padded, format.bits)]);
      Store(start + i * sizeof(float), factors.a);
      Store(start + (lists + i) * sizeof(float), factors.s);
      Store(start + (2 * size_t{lists} + i) * sizeof(float), factors.e);
    }
    PackGroup(codes.data(), padded, format.bits, count, packed);
    packed += GroupBytes(padded, format.bits, count);
  }
}

CodedRows ViewGroupCodes(const std::byte* bytes, uint32_t lists) {
  const auto* factors = reinterpret_cast<const float*>(bytes);
  return {lists, factors, factors + lists, factors + 2 * size_t{lists}, bytes + 3 * sizeof(float) * size_t{lists}};
}

bool ToRoutingSpace(Metric metric, const float* row, size_t dimensions, float* out) {
  if (metric != Metric::kCosine) {
    if (out != row) std::memcpy(out, row, dimensions * sizeof(float));
    return true;
  }
  const double norm = std::sqrt(SquaredNorm(row, dimensions));
  if (norm == 0) return false;
  for (size_t i = 0; i < dimensions; ++i) out[i] = static_cast<float>(row[i] / norm);
  return true;
}

}  // namespace ivfremote
