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
};

BuildRun RunBuild(Connection* connection, const std::string& create_index);

}  // namespace ivfremote::bench
