// Every object key is built and parsed here.
//
//   <incarnation>/<index uuid>/<mint xid>-<random>.seg        part 0 of a segment
//   <incarnation>/<index uuid>/<mint xid>-<random>.seg.<n>    part n >= 1
//   <incarnation>/OWNER                                       whose it is (owner.h)
//   <incarnation>/GARBAGE                                     what waits to be deleted (garbage.h)
//
// relative to the server's url. All fields are lower-case hexadecimal of fixed width; the index uuid has its usual dashes.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "core/types.h"

namespace ivfremote {

using Uuid = std::array<uint8_t, 16>;

// What identifies a segment for ever. Plain data: it is stored in the segment table and in the segment's own header.
struct SegmentName {
  Uuid incarnation;   // of the cluster that wrote it, and that alone may delete it
  Uuid index_uuid;    // of the index it was written for
  uint64_t mint_xid;  // the next full transaction id when it was named: garbage collection compares it with the horizon
  uint64_t random;

  friend bool operator==(const SegmentName&, const SegmentName&) = default;
  friend auto operator<=>(const SegmentName&, const SegmentName&) = default;
};

struct ObjectKey {
  SegmentName segment;
  uint32_t part = 0;

  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
};

std::string FormatUuid(const Uuid& uuid);         // 8-4-4-4-12
std::string FormatIncarnation(const Uuid& uuid);  // 32 digits
std::optional<Uuid> ParseIncarnation(std::string_view text);

std::string FormatObjectKey(const ObjectKey& key);

// Nothing for any string FormatObjectKey cannot return.
std::optional<ObjectKey> ParseObjectKey(std::string_view text);

std::string FormatOwnerKey(const Uuid& incarnation);
std::string FormatGarbageKey(const Uuid& incarnation);

}  // namespace ivfremote
