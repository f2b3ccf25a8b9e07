// What a build costs as a table grows, and a query after it. Called by growth.sh, with an S3 server and a front that writes
// down what it is asked for.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <stdexcept>

#include "lib/access_log.h"
#include "lib/build_run.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/mixture.h"
#include "lib/search_run.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

struct Measured {
  double rows;
  double build_s;
  double query_bytes;
  double local_share;
};

std::string Quoted(const std::string& text) { return "'" + text + "'"; }

void CreateTable(Connection* connection) {
  connection->Query("CREATE EXTENSION ivfremote");
  connection->Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bench/vectors', endpoint " +
                    Quoted("http://127.0.0.1:" + Environment("FRONT_HTTP_PORT", "")) + ")");
  connection->Query("CREATE USER MAPPING FOR CURRENT_USER SERVER lake OPTIONS (access_key_id " +
                    Quoted(Environment("AWS_ACCESS_KEY_ID", "")) + ", secret_access_key " +
                    Quoted(Environment("AWS_SECRET_ACCESS_KEY", "")) + ")");
  connection->Query("CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  connection->Query("ALTER TABLE items ALTER embedding SET STORAGE " + Environment("STORAGE", "EXTERNAL"));
}

// In pieces, so that the text of a COPY never stands in memory beside all the rows.
void AddRows(Connection* connection, const Vectors& all, size_t first, size_t count) {
  constexpr size_t kPiece = 50'000;
  for (size_t done = 0; done < count; done += kPiece) {
    const size_t piece = std::min(kPiece, count - done);
    const auto begin = all.values.begin() + static_cast<ptrdiff_t>((first + done) * all.dimensions);
    connection->CopyVectors("items",
                            {all.dimensions, {begin, begin + static_cast<ptrdiff_t>(piece * all.dimensions)}},
                            VectorType::kRealArray, first + done);
  }
  connection->Query("VACUUM (FREEZE, ANALYZE) items");
}

double TempBytes(Connection* connection) {
  connection->Query("SELECT pg_stat_force_next_flush()");
  return connection->Number("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()");
}

struct Built {
  BuildRun run;
  double wal_bytes;
  double temp_bytes;
  size_t puts = 0;
  size_t other_requests = 0;
  double lists;
  double local_bytes;
  double segment_bytes;
};

Built Build() {
  Connection connection;  // a new backend, whose memory is this build's
  AccessLog log;
  connection.Query("SET maintenance_work_mem = " + Quoted(Environment("MAINTENANCE_WORK_MEM", "256MB")));
  connection.Query("DROP INDEX IF EXISTS items_index");
  connection.Query("CHECKPOINT");
  Built built;
  const double temp = TempBytes(&connection);
  const std::string lsn = connection.Value("SELECT pg_current_wal_insert_lsn()");
  const std::string options = Environment("INDEX_OPTIONS", "");
  built.run = RunBuild(&connection, "CREATE INDEX items_index ON items USING ivfremote (embedding) WITH (server = 'lake'" +
                                        (options.empty() ? "" : ", " + options) + ")");
  built.wal_bytes = connection.Number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '" + lsn + "')");
  built.temp_bytes = TempBytes(&connection) - temp;
  for (const LoggedRequest& request : log.Read()) {
    if (request.method == "PUT" || request.method == "POST")
      ++built.puts;
    else
      ++built.other_requests;
  }
  built.lists = connection.Number("SELECT lists FROM ivfremote_info('items_index')");
  built.local_bytes = connection.Number("SELECT pg_relation_size('items_index')");
  built.segment_bytes = connection.Number("SELECT segment_bytes FROM ivfremote_info('items_index')");
  return built;
}

void PrintBuilt(size_t rows, const Built& built) {
  std::printf("%zu rows: %.1f s (%.1f minutes), %.0f lists\n", rows, built.run.seconds, built.run.seconds / 60, built.lists);
  for (const auto& [phase, seconds] : built.run.phases) std::printf("  %-20s %8.1f s\n", phase.c_str(), seconds);
  std::printf(
      "  memory of the backend: VmHWM %.0f MB, its own at most %.0f MB; temporary files %.0f MB; WAL %.1f MB;\n"
      "  %zu PUT and POST, %zu other requests; local pages %.1f MB, segment %.1f MB\n",
      built.run.hwm_mb, built.run.own_mb, built.temp_bytes / 1e6, built.wal_bytes / 1e6, built.puts, built.other_requests,
      built.local_bytes / 1e6, built.segment_bytes / 1e6);
}

// The exponent of growth between two sizes.
double Exponent(double from, double to, double rows_from, double rows_to) {
  return std::log(to / from) / std::log(rows_to / rows_from);
}

Vectors FirstRows(const Vectors& all, size_t count) {
  return {all.dimensions, {all.values.begin(), all.values.begin() + static_cast<ptrdiff_t>(count * all.dimensions)}};
}

void Run(const std::string&) {
  std::vector<size_t> sizes;
  std::istringstream list(Environment("ROWS", "60000 250000 1000000"));
  for (size_t size; list >> size;) sizes.push_back(size);
  if (sizes.empty() || !std::is_sorted(sizes.begin(), sizes.end())) throw std::runtime_error("ROWS must ascend");
  const size_t query_count = std::stoul(Environment("QUERIES", "1000"));
  Vectors all = MixtureRows(0, sizes.back());
  const Vectors queries = MixtureRows(kMixtureQueries, query_count);
  std::printf("up to %zu rows of %zu dimensions, maintenance_work_mem %s, %s workers\n", sizes.back(), all.dimensions,
              Environment("MAINTENANCE_WORK_MEM", "256MB").c_str(), Environment("WORKERS", "2").c_str());

  Connection setup;
  CreateTable(&setup);
  std::vector<Measured> measured;
  Figures figures;
  size_t loaded = 0;
  for (const size_t size : sizes) {
    AddRows(&setup, all, loaded, size - loaded);
    loaded = size;
    const Built built = Build();
    PrintBuilt(size, built);

    const Vectors part = size == sizes.back() ? std::move(all) : FirstRows(all, size);
    const std::vector<double> exact = ExactDistances(part, queries, kNeighbours);
    Connection connection;
    connection.Query("LOAD 'ivfremote'");
    connection.PrepareSearch("items");
    RunSearches(&connection, queries, 0, std::min<size_t>(queries.count(), 20), false);
    const SearchRun run = RunSearches(&connection, queries, 0, queries.count(), true);
    const double recall = Recall(part, queries, exact, kNeighbours, run.results);
    std::printf(
        "  recall@10 %.4f at the default target; a query: %.1f requests, %.0f bytes, %.0f rows scored, %.2f waves,\n"
        "  %.2f ms to rank lists, %.2f ms in all (median); intrinsic dimension %.1f\n",
        recall, run.requests, run.bytes, run.rows_scored, run.waves, run.quantizer_ms, Median(run.ms),
        MeasureDimension(part, queries, 200));
    const double float_bytes = static_cast<double>(size * kMixtureDimensions * sizeof(float));
    measured.push_back({static_cast<double>(size), built.run.seconds, run.bytes, built.local_bytes / float_bytes});
    if (size != sizes.back()) continue;
    figures.Add("rows", static_cast<double>(size), 0);
    figures.Add("build_s", built.run.seconds, 1);
    figures.Add("hwm_mb", built.run.hwm_mb, 0);
    figures.Add("own_mb", built.run.own_mb, 0);
    figures.Add("temp_mb", built.temp_bytes / 1e6, 0);
    figures.Add("wal_mb", built.wal_bytes / 1e6, 1);
    figures.Add("puts", static_cast<double>(built.puts), 0);
    figures.Add("lists", built.lists, 0);
    figures.Add("local_mb", built.local_bytes / 1e6, 1);
    figures.Add("segment_mb", built.segment_bytes / 1e6, 1);
    figures.Add("recall", recall, 4);
    figures.Add("requests", run.requests, 1);
    figures.Add("query_bytes", run.bytes, 0);
    figures.Add("rows_scored", run.rows_scored, 0);
  }
  const Measured& first = measured.front();
  const Measured& last = measured.back();
  if (measured.size() > 1) {
    figures.Add("build_exponent", Exponent(first.build_s, last.build_s, first.rows, last.rows), 3);
    figures.Add("query_bytes_exponent", Exponent(first.query_bytes, last.query_bytes, first.rows, last.rows), 3);
  }
  figures.Add("local_share", last.local_share, 4);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
