#include "lib/search_run.h"

#include "lib/figures.h"

namespace ivfremote::bench {

SearchRun RunSearches(Connection* connection, const Vectors& queries, size_t first, size_t count, bool counted) {
  SearchRun run;
  double* const sums[] = {&run.waves,        &run.requests, &run.bytes,   &run.rows_scored,
                          &run.quantizer_ms, &run.fetch_ms, &run.score_ms};
  for (size_t i = first; i < first + count; ++i) {
    const Stopwatch watch;
    run.results.push_back(connection->Search(queries[i], queries.dimensions));
    run.ms.push_back(watch.milliseconds());
    if (!counted) continue;
    const auto scan = connection->Query(
        "SELECT waves, requests, bytes_fetched, rows_scored, quantizer_ms, fetch_ms, score_ms"
        " FROM ivfremote_last_scan()");
    for (size_t column = 0; !scan.empty() && column < std::size(sums); ++column)
      *sums[column] += std::stod(scan[0][column]) / static_cast<double>(count);
  }
  return run;
}

}  // namespace ivfremote::bench
