// Reads a segment's object without Postgres: it describes itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/routing.h"
#include "lib/dataset.h"

namespace ivfremote::bench {

struct SegmentContents {
  Routing routing;
  Vectors rows;
  std::vector<Tid> tids;       // of each row
  std::vector<int64_t> lists;  // of each row
};

SegmentContents ReadSegment(const std::string& path);

}  // namespace ivfremote::bench
