// How messages name objects and ranges, the same in every store.
#pragma once

#include <string>
#include <string_view>

#include "core/object_store.h"

namespace ivfremote {

inline std::string RangeText(std::string_view key, uint64_t offset, uint64_t length) {
  return "object \"" + std::string(key) + "\" bytes " + std::to_string(offset) + "-" +
         std::to_string(offset + length - 1);
}

inline std::string MissingObjectText(std::string_view key) {
  return "object \"" + std::string(key) + "\" does not exist";
}

inline std::string ExistingObjectText(std::string_view key) {
  return "object \"" + std::string(key) + "\" already exists";
}

inline std::string ChangedObjectText(std::string_view key) {
  return "object \"" + std::string(key) + "\" is not what it was";
}

inline std::string LongObjectText(std::string_view key, uint64_t limit) {
  return "object \"" + std::string(key) + "\" has more than the " + std::to_string(limit) + " bytes it should have";
}

inline std::string ShortObjectText(const RangeRequest& request, uint64_t size) {
  return RangeText(request.key, request.offset, request.length) + " lie beyond its end: it has " +
         std::to_string(size) + " bytes";
}

}  // namespace ivfremote
