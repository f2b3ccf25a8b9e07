// What every format does with the version it finds.
#pragma once

#include <string>

#include "core/status.h"

namespace ivfremote {

// Whether a library that knows `what` up to version `newest` reads version `found`. 0 was development's, and is nothing.
inline Status CheckVersion(const char* what, uint32_t found, uint32_t newest) {
  if (found == 0) return Status::Corrupt(std::string(what) + " has format version 0");
  if (found > newest)
    return Status::Unsupported(std::string(what) + " has format version " + std::to_string(found) +
                               ", this library reads up to " + std::to_string(newest));
  return Status::Ok();
}

}  // namespace ivfremote
