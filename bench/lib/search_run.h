// Searches with many queries, one after the other.
#pragma once

#include "lib/postgres.h"

namespace ivfremote::bench {

struct SearchRun {
  std::vector<double> ms;                     // of each query, as the client sees it
  std::vector<std::vector<int32_t>> results;  // ids

  // Means a query, from ivfremote_last_scan(); 0 unless counted.
  double waves = 0;
  double requests = 0;
  double bytes = 0;
  double rows_scored = 0;
  double quantizer_ms = 0;
  double fetch_ms = 0;
  double score_ms = 0;
};

// Queries first .. first + count - 1, with what Connection::PrepareSearch prepared. `counted`: asks for the figures of
// every scan, between the timed statements.
SearchRun RunSearches(Connection* connection, const Vectors& queries, size_t first, size_t count, bool counted);

}  // namespace ivfremote::bench
