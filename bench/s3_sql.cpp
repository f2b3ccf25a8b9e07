// What a query over a distant S3 server costs through SQL. Called by s3_sql.sh with the S3 server's CA file;
// the environment has the S3 server, and the port of one in front of it that delays each answer.
#include <cstdio>
#include <random>
#include <stdexcept>

#include "core/s3_store.h"
#include "lib/command.h"
#include "lib/dataset.h"
#include "lib/distant.h"
#include "lib/figures.h"
#include "lib/postgres.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

// Lists of 32 rows of 784 dimensions: blocks of 100 kB.
constexpr size_t kRows = 16000;
constexpr size_t kLists = 500;
constexpr size_t kProbes = 32;
constexpr size_t kRounds = 15;
constexpr size_t kWarm = 5;
constexpr std::chrono::milliseconds kRoundTrip{30};

std::string Endpoint(const std::string& scheme, const std::string& port) { return scheme + "://127.0.0.1:" + port; }

void CreateIndex(Connection* connection, const std::string& ca_file, const Vectors& rows) {
  connection->Query("CREATE EXTENSION ivfremote");
  connection->Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bench/sql', endpoint '" +
                    Endpoint("http", Environment("S3_HTTP_PORT", "")) + "', ca_file '" + ca_file + "')");
  connection->Query("CREATE USER MAPPING FOR PUBLIC SERVER lake OPTIONS (access_key_id '" +
                    Environment("AWS_ACCESS_KEY_ID", "") + "', secret_access_key '" +
                    Environment("AWS_SECRET_ACCESS_KEY", "") + "')");
  connection->Query("CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  connection->CopyVectors("items", rows);
  connection->Query("VACUUM (FREEZE, ANALYZE) items");
  connection->Query("CREATE INDEX items_index ON items USING ivfremote (embedding) WITH (server = 'lake', lists = " +
                    std::to_string(kLists) + ", quantization = none, flush_threshold = 1)");
}

void SetEndpoint(Connection* connection, const std::string& endpoint) {
  connection->Query("ALTER SERVER lake OPTIONS (SET endpoint '" + endpoint + "')");
}

void SetProbes(Connection* connection) { connection->Query("SET ivfremote.probes = " + std::to_string(kProbes)); }

double SearchMs(Connection* connection, const Vectors& queries, size_t number) {
  const Stopwatch watch;
  if (connection->Search(queries[number], queries.dimensions).size() != kNeighbours)
    throw std::runtime_error("a query found too few rows");
  return watch.milliseconds();
}

double GetMs(S3Store* store, const RangeRequest& request) {
  const Stopwatch watch;
  std::unique_ptr<RangeWave> wave;
  Status status = store->GetRanges({request}, 1, &wave);
  std::vector<RangeCompletion> completions;
  while (status.ok() && completions.empty())
    status = wave->Step(ivfremote::Clock::now() + std::chrono::milliseconds(100), &completions);
  if (status.ok()) status = completions[0].status;
  if (!status.ok()) throw std::runtime_error(status.message());
  return watch.milliseconds();
}

// Each query's ranges again, one at a time: what it would take if nothing but the slowest counted.
void MeasureWaves(const Vectors& queries, Figures* figures) {
  Connection connection;
  const std::string endpoint = Endpoint("http", Environment("FRONT_FAULTY_HTTP_PORT", ""));
  SetEndpoint(&connection, endpoint);
  SetProbes(&connection);
  connection.PrepareSearch("items");
  const std::string key = connection.Value("SELECT object_key FROM ivfremote_segments('items_index')");
  S3Location location;
  location.bucket = "bench";
  location.prefix = "sql";
  location.region = "us-east-1";
  location.endpoint = endpoint;
  location.virtual_host = false;
  S3Environment environment;
  environment.random = [] { return 0.5; };
  S3Store store(location, {Environment("AWS_ACCESS_KEY_ID", ""), Environment("AWS_SECRET_ACCESS_KEY", ""), ""},
                HttpOptions(), RetryPolicy(), environment);
  SearchMs(&connection, queries, 0);  // opens connections
  std::vector<double> times, slowest, ratios, requests, megabytes;
  for (size_t round = 0; round < kRounds; ++round) {
    times.push_back(SearchMs(&connection, queries, round));
    double single = 0;
    const auto ranges = connection.Query("SELECT object_offset, bytes, wave FROM ivfremote_last_scan_requests()");
    double bytes = 0;
    for (const auto& range : ranges) {
      if (range[2] != "1") throw std::runtime_error("a query had a second wave");
      bytes += std::stod(range[1]);
      single = std::max(single, GetMs(&store, {key, std::stoul(range[0]), static_cast<uint32_t>(std::stoul(range[1]))}));
    }
    slowest.push_back(single);
    requests.push_back(static_cast<double>(ranges.size()));
    megabytes.push_back(bytes / 1e6);
    ratios.push_back(times.back() / single);
  }
  std::printf("%zu blocks of 100 kB, answers 30 +- 10 ms late: %.0f requests, %.1f MB, %.1f ms through SQL; the slowest of the same "
              "requests one by one %.1f ms\n", kProbes, Median(requests), Median(megabytes), Median(times), Median(slowest));
  figures->Add("sql_ms", Median(times), 1);
  figures->Add("sql_slowest_get_ms", Median(slowest), 1);
  figures->Add("sql_ratio", Median(ratios), 2);
}

void MeasureNewBackends(const std::string& scheme, const char* port_variable, const Vectors& queries,
                        Figures* figures) {
  const Distant distant(static_cast<uint16_t>(std::stoul(Environment(port_variable, ""))), kRoundTrip);
  {
    Connection connection;
    SetEndpoint(&connection, Endpoint(scheme, std::to_string(distant.port())));
  }
  std::vector<double> first, warm, extra, first_fetch, warm_fetch;
  for (size_t round = 0; round < kRounds; ++round) {
    Connection connection;
    SetProbes(&connection);
    const Stopwatch watch;
    connection.PrepareSearch("items");  // loads the library, plans
    SearchMs(&connection, queries, round);
    first.push_back(watch.milliseconds());
    first_fetch.push_back(connection.Number("SELECT fetch_ms FROM ivfremote_last_scan()"));
    std::vector<double> again, fetch;
    for (size_t i = 0; i < kWarm; ++i) {
      again.push_back(SearchMs(&connection, queries, round));
      fetch.push_back(connection.Number("SELECT fetch_ms FROM ivfremote_last_scan()"));
    }
    warm.push_back(Median(again));
    warm_fetch.push_back(Median(fetch));
    extra.push_back((first.back() - warm.back()) / static_cast<double>(kRoundTrip.count()));
  }
  std::printf("%s, %lld ms away: a new backend's first query %.1f ms (fetching %.1f), the same again %.1f ms (fetching %.1f): "
              "%.2f round trips more\n", scheme.c_str(), static_cast<long long>(kRoundTrip.count()), Median(first),
              Median(first_fetch), Median(warm), Median(warm_fetch), Median(extra));
  figures->Add("first_" + scheme + "_ms", Median(first), 1);
  figures->Add("warm_" + scheme + "_ms", Median(warm), 1);
  figures->Add("first_" + scheme + "_round_trips", Median(extra), 2);
}

void Run(const std::string& ca_file) {
  FashionMnist data = ReadFashionMnist();
  data.rows.values.resize(kRows * data.rows.dimensions);
  {
    Connection connection;
    CreateIndex(&connection, ca_file, data.rows);
  }
  Figures figures;
  MeasureWaves(data.queries, &figures);
  MeasureNewBackends("http", "S3_HTTP_PORT", data.queries, &figures);
  MeasureNewBackends("https", "S3_HTTPS_PORT", data.queries, &figures);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
