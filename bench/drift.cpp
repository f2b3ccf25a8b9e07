// Indexes whose rows came after them. Called by drift.sh; the argument is the directory of the file:// server.
#include <algorithm>
#include <cstdio>

#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/search_run.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

void Append(const Vectors& from, size_t row, Vectors* to) {
  to->dimensions = from.dimensions;
  to->values.insert(to->values.end(), from[row], from[row] + from.dimensions);
}

struct Bench {
  Vectors rows;  // those of the first half of the classes before the others
  Vectors first;
  Vectors rest;
  Vectors queries;
  std::vector<double> exact;
  Connection connection;
  Figures figures;
  double fresh_recall = 0;
  double fresh_rows = 0;
};

void CreateTable(Bench* bench) {
  bench->connection.Query(
      "DROP TABLE IF EXISTS items; CREATE TABLE items (id integer PRIMARY KEY, embedding real[]);"
      "ALTER TABLE items ALTER embedding SET STORAGE EXTERNAL");
}

void CreateIndex(Bench* bench) {
  bench->connection.Query("CREATE INDEX items_index ON items USING ivfremote (embedding) WITH (server = 'lake')");
}

void Measure(Bench* bench, const std::string& name, const std::string& key) {
  bench->connection.Query("ANALYZE items");
  Connection searching;
  searching.PrepareSearch("items");
  const SearchRun run = RunSearches(&searching, bench->queries, 0, bench->queries.count(), true);
  const double recall = Recall(bench->rows, bench->queries, bench->exact, kNeighbours, run.results);
  const double lists = bench->connection.Number("SELECT lists FROM ivfremote_info('items_index')");
  const double segments = bench->connection.Number("SELECT segments FROM ivfremote_info('items_index')");
  if (bench->fresh_rows == 0) {
    bench->fresh_recall = recall;
    bench->fresh_rows = run.rows_scored;
  }
  std::printf("%-42s recall %.4f (%+.4f)  rows scored %6.0f (%.2f)  requests %5.1f  %7.1f kB  %4.0f lists  %2.0f segments\n",
              name.c_str(), recall, recall - bench->fresh_recall, run.rows_scored, run.rows_scored / bench->fresh_rows,
              run.requests, run.bytes / 1e3, lists, segments);
  std::fflush(stdout);
  bench->figures.Add(key + "_recall", recall, 4);
  bench->figures.Add(key + "_rows", run.rows_scored, 0);
}

void Run(const std::string& store_directory) {
  Bench bench;
  const FashionMnist data = ReadFashionMnist();
  const std::vector<uint8_t> labels = ReadFashionLabels();
  for (size_t i = 0; i < data.rows.count(); ++i) Append(data.rows, i, labels[i] < 5 ? &bench.first : &bench.rest);
  bench.rows = bench.first;
  bench.rows.values.insert(bench.rows.values.end(), bench.rest.values.begin(), bench.rest.values.end());
  bench.queries = data.queries;
  bench.exact = ExactDistances(bench.rows, bench.queries, kNeighbours);
  Connection& connection = bench.connection;
  connection.Query("CREATE EXTENSION ivfremote");
  connection.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory +
                   "', request_latency '30', bandwidth '50')");

  CreateTable(&bench);
  connection.CopyVectors("items", bench.rows);
  CreateIndex(&bench);
  Measure(&bench, "built from all rows", "fresh");

  CreateTable(&bench);
  CreateIndex(&bench);
  connection.CopyVectors("items", bench.rows);
  connection.Query("VACUUM items");
  Measure(&bench, "created empty, COPY, VACUUM", "empty");

  CreateTable(&bench);
  connection.CopyVectors("items", bench.first);
  CreateIndex(&bench);
  connection.CopyVectors("items", bench.rest, VectorType::kRealArray, bench.first.count());
  Measure(&bench, "half, the other half pending", "pending");
  connection.Query("VACUUM items");
  Measure(&bench, "half, then the other half, VACUUM", "vacuum");
  connection.Query("CALL ivfremote_compact('items_index')");
  Measure(&bench, "and CALL ivfremote_compact", "compact");
  connection.Query("CALL ivfremote_compact('items_index')");
  Measure(&bench, "and once more", "again");
  bench.figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
