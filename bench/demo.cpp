// The demo: builds an index over real data, shows what lies where, searches it, and draws one search.
// Called by demo.sh; the argument is the directory of the file:// server to create.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "lib/build_run.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/search_run.h"
#include "lib/waterfall.h"

using namespace ivfremote::bench;

namespace {

constexpr const char* kDemoTarget = "0.95";
constexpr double kDollarsPerMillionGets = 0.40;  // S3 standard

void Title(const char* text) { std::printf("\n%s\n\n", text); }

void Show(const std::string& sql) { std::printf("    %s;\n", sql.c_str()); }

// Prints a statement as the reader would type it, and runs it.
std::vector<Connection::Row> ShowAndRun(Connection* connection, const std::string& sql) {
  Show(sql);
  return connection->Query(sql);
}

std::string Megabytes(double bytes) { return Format("%.1f MB", bytes / 1e6); }

void LoadTable(Connection* connection, const Vectors& rows) {
  Title("1. A table with vectors, and a place for the index's objects");
  ShowAndRun(connection, "CREATE EXTENSION ivfremote");
  ShowAndRun(connection, "CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  Show("COPY items FROM STDIN (FORMAT binary)");
  const Stopwatch watch;
  connection->CopyVectors("items", rows);
  const double seconds = watch.seconds();
  connection->Query("VACUUM (ANALYZE) items");
  std::printf("        %zu rows of %zu dimensions in %.1f s; the table has %s\n", rows.count(), rows.dimensions,
              seconds, Megabytes(connection->Number("SELECT pg_table_size('items')")).c_str());
}

BuildRun BuildIndex(Connection* connection, bool embedded) {
  Title("2. The index");
  const std::string sql = std::string("CREATE INDEX items_embedding ON items USING ivfremote (embedding)") +
                          (embedded ? "" : " WITH (server = 'lake')");
  Show(sql);
  const BuildRun build = RunBuild(connection, sql);
  std::printf("\n");
  for (const auto& [phase, seconds] : build.phases)
    if (seconds >= 0.005)
      std::printf("    %-18s%6.2f s  %s\n", phase.c_str(), seconds,
                  std::string(static_cast<size_t>(seconds / build.seconds * 40 + 0.5), '#').c_str());
  std::printf("    %-18s%6.2f s\n", "total", build.seconds);
  return build;
}

// What is local and what is not; returns the bytes of both.
struct Sizes {
  double local_bytes;
  double object_bytes;
};

Sizes ShowSizes(Connection* connection, const std::string& store_directory, const std::string& store) {
  const bool embedded = store == "embedded";
  Title("3. What lies where");
  const auto info = ShowAndRun(connection, "SELECT * FROM ivfremote_info('items_embedding')").at(0);
  const std::vector<std::string> columns = connection->columns();
  for (size_t i = 0; i < info.size(); ++i)
    std::printf("        %-16s %s\n", columns[i].c_str(), info[i].empty() ? "-" : info[i].c_str());
  const double header_bytes = connection->Number("SELECT header_bytes FROM ivfremote_info('items_embedding')");
  const double segment_bytes = connection->Number("SELECT segment_bytes FROM ivfremote_info('items_embedding')");
  std::printf("\n    header   %9s  %5.2f %%  centroids, directory, TIDs: %.0f pages of the index\n",
              Megabytes(header_bytes).c_str(), 100 * header_bytes / (header_bytes + segment_bytes),
              header_bytes / 8192);
  std::printf("    segment  %9s  %5.2f %%  codes of the vectors by list: %s\n", Megabytes(segment_bytes).c_str(),
              100 * segment_bytes / (header_bytes + segment_bytes),
              embedded ? "further pages of the index" : "objects on the server");
  if (embedded) return {connection->Number("SELECT relation_bytes FROM ivfremote_info('items_embedding')"), 0};
  if (store == "s3") {
    std::printf("\n    SELECT object_key, bytes FROM ivfremote_segments('items_embedding');\n");
    for (const auto& row : connection->Query("SELECT object_key, bytes FROM ivfremote_segments('items_embedding')"))
      std::printf("        %s  %s\n", row[1].c_str(), row[0].c_str());
    return {header_bytes, segment_bytes};
  }

  std::printf("\n    below %s:\n", store_directory.c_str());
  int objects = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_directory))
    // Hidden ones are the store's own.
    if (entry.is_regular_file() && entry.path().filename().string()[0] != '.') {
      std::printf("        %10ju  %s\n", static_cast<uintmax_t>(entry.file_size()),
                  entry.path().lexically_relative(store_directory).c_str());
      ++objects;
    }
  std::printf("        %d object%s\n", objects, objects == 1 ? "" : "s");
  return {header_bytes, segment_bytes};
}

// The exact answer through SQL, for comparison: the same statement without the index.
double SequentialMs(const Vectors& queries) {
  Connection connection;
  connection.Query("SET ivfremote.enable_scan = off; SET max_parallel_workers_per_gather = 0");
  connection.PrepareSearch("items");
  return Median(RunSearches(&connection, queries, 0, 3, false).ms);
}

struct DemoSearch {
  double recall;
  SearchRun run;
};

// Searches with all queries at several settings; returns the run at kDemoTarget.
DemoSearch Search(Connection* connection, const FashionMnist& data) {
  Title("4. Searches: 1000 other images, one after the other");
  const std::vector<double> exact = ExactDistances(data.rows, data.queries, kNeighbours);
  connection->Query("SET plan_cache_mode = force_generic_plan");
  Show("PREPARE search(real[]) AS SELECT id FROM items ORDER BY embedding <-> $1 LIMIT 10");
  connection->PrepareSearch("items");
  std::printf("    EXPLAIN (COSTS OFF) EXECUTE search(...);\n");
  for (const auto& line : connection->Query(
           "EXPLAIN (COSTS OFF)"
           " SELECT id FROM items ORDER BY embedding <-> array_fill(0, ARRAY[784])::real[] LIMIT 10"))
    std::printf("        %.60s%s\n", line[0].c_str(), line[0].size() > 60 ? "..." : "");

  std::printf("\n    SET ivfremote.recall_target = ...;\n\n");
  std::printf("    target  recall@10  p50 ms  p99 ms  waves  requests     MB read  rows scored\n");
  DemoSearch demo{};
  for (const std::string target : {"0.8", "0.9", "0.95", "0.98", "0.99", "0.999"}) {
    connection->Query("SET ivfremote.recall_target = " + target);
    RunSearches(connection, data.queries, 0, 50, false);  // warms up
    const SearchRun run = RunSearches(connection, data.queries, 0, data.queries.count(), true);
    const double recall = Recall(data.rows, data.queries, exact, kNeighbours, run.results);
    std::printf("    %6s  %9.3f  %6.2f  %6.2f  %5.1f  %8.1f  %10.3f  %11.0f\n", target.c_str(), recall, Median(run.ms),
                Quantile(run.ms, 0.99), run.waves, run.requests, run.bytes / 1e6, run.rows_scored);
    if (target == kDemoTarget) demo = {recall, run};
  }
  std::printf("    %6s  %9.3f  %6.0f           sequential scan\n", "none", 1.0, SequentialMs(data.queries));
  return demo;
}

void DrawOne(Connection* connection, const Vectors& queries, const SearchRun& run) {
  Title("5. One of these searches, at recall target 0.95");
  connection->Query(std::string("SET ivfremote.recall_target = ") + kDemoTarget);
  Show("SELECT * FROM ivfremote_last_scan(), ivfremote_last_scan_requests()");
  std::printf("\n");
  // A typical one: as long as the median, of a few.
  double total_ms = 0;
  for (int i = 0; i < 20; ++i) {
    const Stopwatch watch;
    connection->Search(queries[0], queries.dimensions);
    total_ms = watch.milliseconds();
    if (i > 0 && total_ms <= 1.1 * Median(run.ms)) break;
  }
  PrintWaterfall(connection, total_ms);
  if (run.requests > 0)
    std::printf(" On S3, at $%.2f per million GETs, a million such queries would cost $%.2f.\n", kDollarsPerMillionGets,
                run.requests * kDollarsPerMillionGets);
}

const char* Describe(const std::string& store) {
  if (store == "embedded") return "all in Postgres (STORE=embedded)";
  if (store == "s3") return "codes in objects of an S3 bucket (STORE=s3: Ceph's radosgw on this machine)";
  return "codes in objects below a directory (STORE=file)";
}

void CreateServer(Connection* connection, const std::string& store_directory, const std::string& store) {
  if (store == "file")
    ShowAndRun(connection, "CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" +
                               store_directory + "')");
  if (store != "s3") return;
  ShowAndRun(connection,
             "CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote\n        OPTIONS (url 's3://demo/vectors', endpoint '" +
                 Environment("S3_ENDPOINT", "") + "')");
  Show("CREATE USER MAPPING FOR CURRENT_USER SERVER lake\n        OPTIONS (access_key_id '...', secret_access_key '...')");
  connection->Query("CREATE USER MAPPING FOR CURRENT_USER SERVER lake OPTIONS (access_key_id '" +
                    Environment("AWS_ACCESS_KEY_ID", "") + "', secret_access_key '" +
                    Environment("AWS_SECRET_ACCESS_KEY", "") + "')");
  Show("SELECT * FROM ivfremote_check_server('lake')");
  for (const auto& row : connection->Query("SELECT \"check\", ok, detail FROM ivfremote_check_server('lake')"))
    std::printf("        %-16s %s  %s\n", row[0].c_str(), row[1] == "t" ? "ok" : "NOT OK", row[2].c_str());
}

void Run(const std::string& store_directory) {
  const std::string store = Environment("STORE", "file");
  const bool embedded = store == "embedded";
  const FashionMnist data = ReadFashionMnist();
  std::printf("ivfremote on Fashion-MNIST: %zu images as vectors of %zu dimensions, %s.\n", data.rows.count(),
              data.rows.dimensions, Describe(store));

  Connection connection;
  LoadTable(&connection, data.rows);
  CreateServer(&connection, store_directory, store);
  const BuildRun build = BuildIndex(&connection, embedded);
  const Sizes sizes = ShowSizes(&connection, store_directory, store);
  const auto [recall, run] = Search(&connection, data);
  DrawOne(&connection, data.queries, run);

  std::printf("\n");
  Figures figures;
  figures.Add("recall@10", recall, 4);
  figures.Add("p50_ms", Median(run.ms), 2);
  figures.Add("p99_ms", Quantile(run.ms, 0.99), 2);
  figures.Add("waves", run.waves, 0);
  figures.Add("requests", run.requests, 1);
  figures.Add("bytes", run.bytes, 0);
  figures.Add("build_s", build.seconds, 2);
  figures.Add("local_mb", sizes.local_bytes / 1e6, 2);
  figures.Add("object_mb", sizes.object_bytes / 1e6, 1);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
