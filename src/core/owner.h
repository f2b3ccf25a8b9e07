// The OWNER object of an incarnation: which cluster writes and deletes under it. JSON, for people; docs/format.md.
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"

namespace ivfremote {

struct Owner {
  static constexpr size_t kMaxBytes = 64 << 10;

  std::string cluster;            // cluster_name, perhaps empty
  std::string system_identifier;  // decimal
  std::string host;
  std::string directory;          // of the data
  std::string version_of_library;
  std::string written;            // when
  uint64_t token = 0;             // grows with each write
  std::string nonce;              // 32 hexadecimal digits, other ones with each write
};

std::string EncodeOwner(const Owner& owner);

// Members it does not know are left out, missing descriptions empty; without a token and a nonce it is corrupt.
Status DecodeOwner(std::string_view text, Owner* owner);

}  // namespace ivfremote
