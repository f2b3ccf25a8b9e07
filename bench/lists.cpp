// The number of lists against what a query costs. Called by lists.sh; the argument is the directory of the file:// server.
#include <algorithm>
#include <cstdio>
#include <sstream>

#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/mixture.h"
#include "lib/search_run.h"
#include "lib/tuning.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

Dataset ReadRows() {
  if (Environment("DATA", "") != "mixture") return ReadDataset();
  return {"mixture", Metric::kL2, MixtureRows(0, std::stoul(Environment("ROWS", "250000"))),
          MixtureRows(kMixtureQueries, 1000)};
}

std::vector<size_t> ListCounts(size_t rows) {
  std::vector<size_t> counts;
  std::istringstream lists(Environment("LISTS", ""));
  for (size_t count; lists >> count;) counts.push_back(count);
  std::istringstream shares(Environment("ROWS_PER_LIST", "75 100 150 200 300 400 600"));
  if (counts.empty())
    for (size_t share; shares >> share;) counts.push_back(std::max<size_t>(rows / share, 1));
  return counts;
}

void Run(const std::string& store_directory) {
  const Dataset data = ReadRows();
  const bool cosine = data.metric == Metric::kCosine;
  const Vectors rows = cosine ? Normalised(data.rows) : data.rows;
  const Vectors queries = cosine ? Normalised(data.queries) : data.queries;
  const std::vector<double> exact = ExactDistances(rows, queries, kNeighbours);
  const double goal = std::stod(Environment("RECALL", "0.95"));
  Connection setup;
  setup.Query("CREATE EXTENSION ivfremote");
  setup.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory +
              "', request_latency '30', bandwidth '50')");
  setup.Query("CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  setup.Query("ALTER TABLE items ALTER embedding SET STORAGE EXTERNAL");
  setup.CopyVectors("items", data.rows);
  setup.Query("VACUUM (FREEZE, ANALYZE) items");
  std::printf("%s: %zu rows of %zu dimensions, %zu queries, recall %.2f\n", data.name.c_str(), data.rows.count(),
              data.rows.dimensions, data.queries.count(), goal);
  std::vector<std::string> lines;
  Figures figures;
  for (const size_t lists : ListCounts(data.rows.count())) {
    const Stopwatch watch;
    setup.Query("DROP INDEX IF EXISTS items_index; CREATE INDEX items_index ON items USING ivfremote (embedding " +
                std::string(cosine ? "real_cosine_ops" : "real_l2_ops") + ") WITH (server = 'lake', lists = " +
                std::to_string(lists) + ")");
    const double build_s = watch.seconds();
    Connection connection;
    connection.Query("LOAD 'ivfremote'");
    const Knob knob = OurKnob(&connection);
    connection.PrepareSearch("items", data.metric);
    const auto search = [&](int setting, bool counted) {
      connection.Query(knob.Sql(setting));
      return RunSearches(&connection, data.queries, 0, data.queries.count(), counted);
    };
    const Tuned tuned = SmallestSetting("ivfremote", knob.first, knob.last, goal, [&](int setting) {
      return Recall(rows, queries, exact, kNeighbours, search(setting, false).results);
    });
    const SearchRun counted = search(tuned.setting, true);
    const double ms = Median(search(tuned.setting, false).ms);
    lines.push_back(Format("%7zu %8.1f %8.4f %9.1f %9.0f %9.0f %9.3f %9.3f %9.2f", lists, build_s, tuned.recall,
                           counted.requests, counted.bytes / 1e3, counted.rows_scored, ms, counted.quantizer_ms,
                           setup.Number("SELECT pg_relation_size('items_index')") / 1e6));
    std::printf("%s\n", lines.back().c_str());
    const std::string suffix = "_" + std::to_string(lists);
    figures.Add("requests" + suffix, counted.requests, 1);
    figures.Add("kb" + suffix, counted.bytes / 1e3, 0);
    figures.Add("ms" + suffix, ms, 3);
  }
  std::printf("\n%7s %8s %8s %9s %9s %9s %9s %9s %9s\n", "lists", "build s", "recall", "requests", "kB", "rows", "ms",
              "rank ms", "local MB");
  for (const std::string& line : lines) std::printf("%s\n", line.c_str());
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
