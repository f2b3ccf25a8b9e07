// CREATE INDEX, timed phase by phase.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lib/postgres.h"

namespace ivfremote::bench {

struct BuildRun {
  double seconds = 0;
  // In the order they ran, as pg_stat_progress_create_index names them ("training lists"); sampled from another
  // connection, so good to some 10 ms. Their sum is `seconds`.
  std::vector<std::pair<std::string, double>> phases;
  // Of the backend that builds, at most: all it has had in use (VmHWM), shared buffers that it touched included; and,
  // sampled as the phases are, what is its own (anonymous memory and mapped files).
  double hwm_mb = 0;
  double own_mb = 0;
};

// A value of /proc/<pid>/status in MB, "VmHWM" or the like.
double MemoryMb(const std::string& pid, const std::string& name);

BuildRun RunBuild(Connection* connection, const std::string& create_index);

}  // namespace ivfremote::bench
