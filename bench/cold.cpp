// What a query reads of a bucket when nothing is cached. Called by cold.sh, with an S3 server and a front that writes down
// what it is asked for and delays it.
#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>

#include "lib/access_log.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/search_run.h"
#include "lib/tuning.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

std::string Endpoint(const char* port) { return "http://127.0.0.1:" + Environment(port, ""); }

std::string Quoted(const std::string& text) { return "'" + text + "'"; }

void BuildIndex(Connection* connection, const Dataset& data) {
  connection->Query("CREATE EXTENSION ivfremote");
  connection->Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bench/vectors', endpoint " +
                    Quoted(Endpoint("FRONT_HTTP_PORT")) + ")");
  connection->Query("CREATE USER MAPPING FOR CURRENT_USER SERVER lake OPTIONS (access_key_id " +
                    Quoted(Environment("AWS_ACCESS_KEY_ID", "")) + ", secret_access_key " +
                    Quoted(Environment("AWS_SECRET_ACCESS_KEY", "")) + ")");
  connection->Query("CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  connection->CopyVectors("items", data.rows);
  connection->Query("VACUUM (FREEZE, ANALYZE) items");
  const std::string options = Environment("INDEX_OPTIONS", "");
  const std::string index = std::string("ivfremote (embedding ") +
                            (data.metric == Metric::kCosine ? "real_cosine_ops" : "real_l2_ops") +
                            ") WITH (server = 'lake'" + (options.empty() ? "" : ", " + options) + ")";
  connection->Query("CREATE INDEX items_index ON items USING " + index);
  std::printf("USING %s: %s lists, segments of %.1f MB\n", index.c_str(),
              connection->Value("SELECT lists FROM ivfremote_info('items_index')").c_str(),
              connection->Number("SELECT segment_bytes FROM ivfremote_info('items_index')") / 1e6);
}

void Prepare(Connection* connection, Metric metric, const Knob& knob, int setting) {
  connection->Query("LOAD 'ivfremote'");
  // What an index may keep of blocks.
  if (!connection->Query("SELECT 1 FROM pg_settings WHERE name = 'ivfremote.use_cache'").empty())
    connection->Query("SET ivfremote.use_cache = off");
  connection->Query(knob.Sql(setting));
  connection->PrepareSearch("items", metric);
}

struct Counted {
  double requests = 0;
  double bytes = 0;
  double waves = 0;
};

// One query after the other, each with the log to itself; means.
Counted CountByLog(Connection* connection, const Vectors& queries, SearchRun* run) {
  AccessLog log;
  Counted counted;
  const auto n = static_cast<double>(queries.count());
  for (size_t i = 0; i < queries.count(); ++i) {
    const SearchRun one = RunSearches(connection, queries, i, 1, true);
    const std::vector<LoggedRequest> requests = log.Read();
    counted.requests += static_cast<double>(requests.size()) / n;
    counted.waves += static_cast<double>(CountWaves(requests)) / n;
    for (const LoggedRequest& request : requests) {
      if (request.method != "GET" || !request.range || request.status != 206)
        throw std::runtime_error("a request that is no range read, or failed");
      counted.bytes += static_cast<double>(request.sent) / n;
    }
    run->ms.push_back(one.ms[0]);
    run->results.push_back(one.results[0]);
    run->requests += one.requests / n;
    run->bytes += one.bytes / n;
    run->waves += one.waves / n;
    run->rows_scored += one.rows_scored / n;
  }
  return counted;
}

struct Measured {
  double recall;
  double rows_scored;
};

// What recall targets bring on queries that are not in the table, and the rows they score as a share of those that a fixed
// number of lists of the same recall does.
void CompareTargets(Connection* connection, const std::function<Measured(const std::string& sql)>& scan,
                    const Knob& target, Figures* figures) {
  const auto lists = static_cast<int>(connection->Number("SELECT lists FROM ivfremote_info('items_index')"));
  const Knob probes{"ivfremote.probes", 1, lists, 1};
  for (const int thousandths : {900, 950, 990}) {
    const Measured adaptive = scan(target.Sql(thousandths));
    std::map<int, Measured> fixed;
    const Tuned tuned = SmallestSetting("probes", probes.first, probes.last, adaptive.recall, [&](int setting) {
      return (fixed[setting] = scan(probes.Sql(setting))).recall;
    });
    connection->Query(probes.Sql(-1));
    const std::string percent = std::to_string(thousandths / 10);
    figures->Add("recall_for_" + percent, adaptive.recall, 4);
    figures->Add("rows_ratio_" + percent, adaptive.rows_scored / fixed[tuned.setting].rows_scored, 3);
  }
}

void Run(const std::string&) {
  const Dataset data = ReadDataset();
  const bool cosine = data.metric == Metric::kCosine;
  const Vectors rows = cosine ? Normalised(data.rows) : data.rows;
  const Vectors queries = cosine ? Normalised(data.queries) : data.queries;
  const std::vector<double> exact = ExactDistances(rows, queries, kNeighbours);
  const double goal = std::stod(Environment("RECALL", "0.95"));
  const auto recall_of = [&](const SearchRun& run) { return Recall(rows, queries, exact, kNeighbours, run.results); };
  std::printf("%s: %zu rows of %zu dimensions, %zu queries, LIMIT %zu, recall %.2f\n", data.name.c_str(),
              data.rows.count(), data.rows.dimensions, data.queries.count(), kNeighbours, goal);

  Connection setup;
  BuildIndex(&setup, data);
  const Knob knob = OurKnob(&setup);
  Prepare(&setup, data.metric, knob, knob.first);
  std::printf("\n%-32s %8s %12s %9s %6s %12s   by ivfremote_last_scan(), a query\n", "", "recall", "rows scored",
              "requests", "waves", "bytes");
  const auto scan = [&](const std::string& sql) {
    setup.Query(sql);
    const SearchRun run = RunSearches(&setup, data.queries, 0, data.queries.count(), true);
    const Measured measured{recall_of(run), run.rows_scored};
    std::printf("%-32s %8.4f %12.0f %9.1f %6.2f %12.0f\n", sql.substr(4).c_str(), measured.recall, run.rows_scored,
                run.requests, run.waves, run.bytes);
    return measured;
  };
  const auto measure = [&](int setting) { return scan(knob.Sql(setting)).recall; };
  const Tuned tuned = SmallestSetting("ivfremote", knob.first, knob.last, goal, measure);

  Figures figures;
  if (knob.parameter == "ivfremote.recall_target") CompareTargets(&setup, scan, knob, &figures);

  setup.Query("ALTER SERVER lake OPTIONS (SET endpoint " + Quoted(Endpoint("FRONT_FAULTY_HTTP_PORT")) + ")");
  Connection slow;
  Prepare(&slow, data.metric, knob, tuned.setting);
  RunSearches(&slow, data.queries, 0, 1, false);  // what a session reads once
  SearchRun run;
  const Counted counted = CountByLog(&slow, data.queries, &run);
  std::printf("\n%s, answers after %s ms: %.1f ms a query (median)\n", knob.Sql(tuned.setting).c_str(),
              Environment("DELAY", "20").c_str(), Median(run.ms));
  std::printf("by the log: %.2f requests, %.0f bytes, %.3f waves a query; by ivfremote_last_scan(): %.2f, %.0f, %.3f\n",
              counted.requests, counted.bytes, counted.waves, run.requests, run.bytes, run.waves);

  figures.Add("requests", counted.requests, 2);
  figures.Add("bytes", counted.bytes, 0);
  figures.Add("waves", counted.waves, 3);
  figures.Add("recall", recall_of(run), 4);
  figures.Add("rows_scored", run.rows_scored, 0);
  figures.Add("setting", tuned.setting * knob.unit, 3);
  figures.Add("p50_ms", Median(run.ms), 1);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
