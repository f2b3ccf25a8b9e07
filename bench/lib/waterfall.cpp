#include "lib/waterfall.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "lib/figures.h"

namespace ivfremote::bench {
namespace {

constexpr int kWidth = 60;

struct Span {
  double start_ms;
  double end_ms;
};

// One line: a name, a bar for each span on the common axis, a remark.
void PrintBars(const std::string& name, const std::vector<Span>& spans, double full_ms, const std::string& remark) {
  std::string line(kWidth, ' ');
  for (const Span& span : spans) {
    const auto column = [&](double ms) { return std::clamp(static_cast<int>(ms / full_ms * kWidth), 0, kWidth - 1); };
    for (int i = column(span.start_ms); i <= column(span.end_ms); ++i) line[static_cast<size_t>(i)] = '#';
  }
  std::printf(" %-10s%s %s\n", name.c_str(), line.c_str(), remark.c_str());
}

// The length of the axis: ten ticks of 1, 2 or 5 times a power of ten.
double FullScale(double total_ms) {
  for (double tick = 0.001;; tick *= 10)
    for (const double factor : {1.0, 2.0, 5.0})
      if (10 * factor * tick >= total_ms) return 10 * factor * tick;
}

void PrintAxis(double full_ms) {
  std::printf(" %-10s", "ms");
  for (int tick = 0; tick < 5; ++tick) std::printf("%-*g", kWidth / 5, full_ms * tick / 5);
  std::printf("%g\n", full_ms);
}

}  // namespace

void PrintWaterfall(Connection* connection, double total_ms) {
  const auto requests = connection->Query(
      "SELECT start_ms, end_ms, bytes FROM ivfremote_last_scan_requests() ORDER BY request");
  const auto scan = connection->Query(
      "SELECT lists_probed, quantizer_ms, fetch_ms, score_ms, rows_scored, rows_returned, waves, bytes_fetched"
      " FROM ivfremote_last_scan()").at(0);
  const double quantizer_ms = std::stod(scan[1]);
  const double score_ms = std::stod(scan[3]);
  const double scan_end_ms = quantizer_ms + std::stod(scan[2]) + score_ms;
  const double full_ms = FullScale(total_ms);

  PrintAxis(full_ms);
  PrintBars("quantize", {{0, quantizer_ms}}, full_ms, scan[0] + " lists to probe");
  // Blocks are scored as they arrive: from the end of a request to the start of the next.
  std::vector<Span> scoring;
  for (size_t i = 0; i < requests.size(); ++i) {
    const Span span{std::stod(requests[i][0]), std::stod(requests[i][1])};
    PrintBars(Format("GET %3zu", i + 1), {span}, full_ms, Format("%.0f kB", std::stod(requests[i][2]) / 1e3));
    scoring.push_back({span.end_ms, i + 1 < requests.size() ? std::stod(requests[i + 1][0]) : scan_end_ms});
  }
  if (requests.empty()) {
    PrintBars("pages", {{quantizer_ms, scan_end_ms - score_ms}}, full_ms,
              Format("%.0f kB from the index itself", std::stod(scan[7]) / 1e3));
    scoring.push_back({scan_end_ms - score_ms, scan_end_ms});
  }
  PrintBars("score", scoring, full_ms, scan[4] + " rows, " + Format("%.2f ms in all", score_ms));
  PrintBars("rows", {{scan_end_ms, total_ms}}, full_ms, scan[5] + " in order, from the table; executor, client");
  std::printf(" total %.2f ms", total_ms);
  if (!requests.empty())
    std::printf("   %s wave%s   %zu GET%s", scan[6].c_str(), scan[6] == "1" ? "" : "s", requests.size(),
                requests.size() == 1 ? "" : "s");
  std::printf("   %.1f MB\n", std::stod(scan[7]) / 1e6);
}

}  // namespace ivfremote::bench
