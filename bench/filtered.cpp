// Searches with a WHERE clause: whether LIMIT is filled, with what recall, and against pgvector's HNSW with iterative scans.
// Called by filtered.sh; the argument is the directory of the file:// server to create.
#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>

#include "core/distance.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/figures.h"
#include "lib/rounds.h"
#include "lib/tuning.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr double kSelectivities[] = {0.5, 0.1, 0.01, 0.001};
// Attributes of a row: its place in an order of all rows. One has nothing to do with the vectors; the other is that of their products
// with a random direction, so that the rows of a filter are close together, and far from most queries.
const char* const kAttributes[] = {"chance", "direction"};
constexpr size_t kAttributeCount = std::size(kAttributes);

using Places = std::vector<uint32_t>;  // by row

Places PlacesOf(const std::vector<double>& values) {
  Places order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return values[a] < values[b]; });
  Places places(values.size());
  for (uint32_t i = 0; i < order.size(); ++i) places[order[i]] = i;
  return places;
}

// The rows that pass a filter, and their exact neighbours.
struct Truth {
  std::string filter;
  std::vector<double> exact;  // of each query, the distance of the k-th nearest row that passes
};

struct Bench {
  Dataset data;
  Vectors rows;     // as distances are taken: under cosine, of norm 1
  Vectors queries;
  Places places[kAttributeCount];
  double goal = 0;

  size_t RowsOf(double selectivity) const { return static_cast<size_t>(selectivity * static_cast<double>(rows.count())); }
  Truth TruthOf(size_t attribute, double selectivity) const;
  double RecallOf(const Truth& truth, const SearchRun& run) const {
    return Recall(rows, queries, truth.exact, kNeighbours, run.results);
  }
};

Truth Bench::TruthOf(size_t attribute, double selectivity) const {
  const size_t limit = RowsOf(selectivity);
  Vectors passing;
  passing.dimensions = rows.dimensions;
  for (size_t i = 0; i < rows.count(); ++i)
    if (places[attribute][i] < limit)
      passing.values.insert(passing.values.end(), rows[i], rows[i] + rows.dimensions);
  return {Format("%s < %zu", kAttributes[attribute], limit), ExactDistances(passing, queries, kNeighbours)};
}

Bench Configure() {
  Bench bench;
  bench.data = ReadDataset();
  const bool cosine = bench.data.metric == Metric::kCosine;
  bench.rows = cosine ? Normalised(bench.data.rows) : bench.data.rows;
  bench.queries = cosine ? Normalised(bench.data.queries) : bench.data.queries;
  bench.goal = std::stod(Environment("RECALL", "0.95"));
  std::mt19937_64 random(20261121);
  std::uniform_real_distribution<double> uniform;
  std::normal_distribution<float> normal;
  const size_t n = bench.rows.count();
  std::vector<double> chance(n);
  for (double& value : chance) value = uniform(random);
  std::vector<float> direction(bench.rows.dimensions);
  for (float& value : direction) value = normal(random);
  std::vector<double> products(n);
  for (size_t i = 0; i < n; ++i) products[i] = InnerProduct(bench.rows[i], direction.data(), direction.size());
  bench.places[0] = PlacesOf(chance);
  bench.places[1] = PlacesOf(products);
  return bench;
}

// A table of the rows with their attributes, and one index.
void BuildTable(const Bench& bench, Connection* connection, const std::string& table, VectorType type,
                const std::string& index) {
  const std::string column = type == VectorType::kVector ? Format("vector(%zu)", bench.rows.dimensions) : "real[]";
  connection->Query("CREATE TABLE loading (id integer PRIMARY KEY, embedding " + column + ")");
  connection->CopyVectors("loading", bench.data.rows, type);
  connection->Query("CREATE TABLE " + table + " (id integer, chance integer, direction integer, embedding " + column + ")");
  connection->Query("ALTER TABLE " + table + " ALTER embedding SET STORAGE " + Environment("STORAGE", "EXTERNAL"));
  connection->Query("INSERT INTO " + table + " SELECT id, chance, direction, embedding FROM loading JOIN attributes USING (id) ORDER BY id");
  connection->Query("DROP TABLE loading");
  connection->Query("VACUUM (FREEZE, ANALYZE) " + table);
  const Stopwatch watch;
  connection->Query("CREATE INDEX " + table + "_index ON " + table + " USING " + index);
  std::printf("%-8s built in %.1f s: USING %s\n", table.c_str(), watch.seconds(), index.c_str());
  std::fflush(stdout);
}

void BuildAttributes(const Bench& bench, Connection* connection) {
  connection->Query("CREATE TABLE attributes (id integer PRIMARY KEY, chance integer, direction integer)");
  for (size_t first = 0; first < bench.rows.count(); first += 10000) {
    std::string values;
    for (size_t i = first; i < std::min(first + 10000, bench.rows.count()); ++i)
      values += Format("%s(%zu,%u,%u)", values.empty() ? "" : ",", i, bench.places[0][i], bench.places[1][i]);
    connection->Query("INSERT INTO attributes VALUES " + values);
  }
}

void Prepare(const Bench& bench, Connection* connection, const std::string& table, VectorType type, const Truth& truth) {
  connection->PrepareSearch(table, bench.data.metric, type, truth.filter);
  std::string plan;
  for (const auto& row : connection->Query("EXPLAIN (COSTS OFF) EXECUTE search(NULL)")) plan += row[0] + "\n";
  if (plan.find("Index Scan using " + table + "_index") == std::string::npos)
    throw std::runtime_error("the plan does not use the index:\n" + plan);
}

// --------------------------------------------------------------------------------------------------------------------
// LIMIT filled

struct Filled {
  double recall = 0;
  double filled = 0;  // share of the queries that got all of LIMIT
};

Filled MeasureFilled(const Bench& bench, Connection* connection, const Truth& truth, const std::string& what) {
  const size_t count = std::min<size_t>(std::stoul(Environment("QUERIES", "400")), bench.queries.count());
  RunSearches(connection, bench.data.queries, 0, std::min<size_t>(20, count), false);
  const SearchRun run = RunSearches(connection, bench.data.queries, 0, count, true);
  Filled filled;
  for (const auto& ids : run.results) filled.filled += ids.size() == kNeighbours;
  filled.filled /= static_cast<double>(count);
  filled.recall = bench.RecallOf(truth, run);
  std::printf("%-20s %-22s filled %.4f  recall %.4f  waves %4.1f  requests %5.1f  rows scored %7.0f  %7.3f ms\n",
              truth.filter.c_str(), what.c_str(), filled.filled, filled.recall, run.waves, run.requests, run.rows_scored,
              Median(run.ms));
  std::fflush(stdout);
  return filled;
}

void MeasureAllFilled(const Bench& bench, Figures* figures) {
  Connection connection;
  connection.Query("LOAD 'ivfremote'");
  double least_filled = 1;
  for (size_t attribute = 0; attribute < kAttributeCount; ++attribute)
    for (const double selectivity : kSelectivities) {
      const Truth truth = bench.TruthOf(attribute, selectivity);
      Prepare(bench, &connection, "ours", VectorType::kRealArray, truth);
      connection.Query("SET ivfremote.iterative_scan = off");
      MeasureFilled(bench, &connection, truth, "off");
      connection.Query("SET ivfremote.iterative_scan = strict_order");
      const Filled defaults = MeasureFilled(bench, &connection, truth, "strict_order");
      connection.Query("SET ivfremote.max_probes = 1000000");
      const Filled strict = MeasureFilled(bench, &connection, truth, "strict_order, all");
      connection.Query("SET ivfremote.iterative_scan = relaxed_order");
      const Filled relaxed = MeasureFilled(bench, &connection, truth, "relaxed_order, all");
      connection.Query("RESET ivfremote.iterative_scan; RESET ivfremote.max_probes");
      least_filled = std::min({least_filled, strict.filled, relaxed.filled});
      if (selectivity != 0.1) continue;
      figures->Add(Format("%s_recall", kAttributes[attribute]), defaults.recall, 4);
      figures->Add(Format("%s_recall_all", kAttributes[attribute]), strict.recall, 4);
    }
  figures->Add("least_filled", least_filled, 4);
}

// --------------------------------------------------------------------------------------------------------------------
// Against HNSW

struct Peer {
  std::string name;
  std::string table;
  VectorType type;
  std::string settings;
  Knob knob;
};

Side TunedSide(const Bench& bench, const Truth& truth, const Peer& peer, Connection* connection, Tuned* tuned) {
  connection->Query("LOAD 'ivfremote'; " + peer.settings);
  Prepare(bench, connection, peer.table, peer.type, truth);
  const Vectors& queries = bench.data.queries;
  *tuned = SmallestSetting(peer.name, peer.knob.first, peer.knob.last, bench.goal, [&](int setting) {
    connection->Query(peer.knob.Sql(setting));
    return bench.RecallOf(truth, RunSearches(connection, queries, 0, queries.count(), false));
  });
  connection->Query(peer.knob.Sql(tuned->setting));
  std::printf("%-22s recall %.4f: %s\n", peer.name.c_str(), tuned->recall, peer.knob.Sql(tuned->setting).c_str());
  return {peer.name, {[connection, &queries](size_t first, size_t count) {
            return RunSearches(connection, queries, first, count, false);
          }}};
}

void Compare(const Bench& bench, const std::vector<Peer>& peers, size_t attribute, Figures* figures) {
  const double selectivity = std::stod(Environment("SELECTIVITY", "0.1"));
  const Truth truth = bench.TruthOf(attribute, selectivity);
  std::printf("\nWHERE %s\n", truth.filter.c_str());
  std::vector<Connection> connections(peers.size());
  std::vector<Tuned> tuned(peers.size());
  std::vector<Side> sides;
  for (size_t i = 0; i < peers.size(); ++i)
    sides.push_back(TunedSide(bench, truth, peers[i], &connections[i], &tuned[i]));
  RunRounds(&sides, std::stoul(Environment("ROUNDS", "9")), bench.queries.count());
  const std::string prefix = kAttributes[attribute];
  double ratio = 0;
  for (size_t i = 1; i < sides.size(); ++i) {
    std::printf("%-22s %8.3f ms; ours to it %.3f\n", sides[i].name.c_str(), Median(sides[i].ms), Ratio(sides[0], sides[i]));
    // The faster of HNSW's two modes is the peer.
    ratio = std::max(ratio, Ratio(sides[0], sides[i]));
  }
  figures->Add(prefix + "_ms", Median(sides[0].ms), 3);
  figures->Add(prefix + "_tuned_recall", tuned[0].recall, 4);
  if (sides.size() > 1) figures->Add(prefix + "_hnsw_ratio", ratio, 3);
}

void Run(const std::string& store_directory) {
  const Bench bench = Configure();
  Connection setup;
  setup.Query("CREATE EXTENSION ivfremote");
  setup.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory + "')");
  const bool pgvector = !setup.Query("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").empty();
  std::printf("%s: %zu rows of %zu dimensions, %zu queries, LIMIT %zu\n", bench.data.name.c_str(), bench.rows.count(),
              bench.rows.dimensions, bench.queries.count(), kNeighbours);
  BuildAttributes(bench, &setup);
  const std::string metric = bench.data.metric == Metric::kCosine ? "cosine" : "l2";
  const std::string options = Environment("INDEX_OPTIONS", "");
  BuildTable(bench, &setup, "ours", VectorType::kRealArray,
             "ivfremote (embedding real_" + metric + "_ops) WITH (server = 'lake'" + (options.empty() ? "" : ", " + options) + ")");
  std::vector<Peer> peers{{"ours, strict_order", "ours", VectorType::kRealArray, "", OurKnob(&setup)}};
  if (pgvector) {
    setup.Query("CREATE EXTENSION vector");
    BuildTable(bench, &setup, "hnsw", VectorType::kVector,
               "hnsw (embedding vector_" + metric + "_ops) WITH (" +
                   Environment("HNSW_OPTIONS", "m = 16, ef_construction = 64") + ")");
    for (const std::string mode : {"strict_order", "relaxed_order"})
      peers.push_back({"HNSW, " + mode, "hnsw", VectorType::kVector, "LOAD 'vector'; SET hnsw.iterative_scan = " + mode,
                       {"hnsw.ef_search", 1, 1000, 1}});
  } else {
    std::printf("\n*** PGVECTOR is not set: pgvector's HNSW is NOT compared. ***\n\n");
  }
  setup.Query("CHECKPOINT");

  Figures figures;
  MeasureAllFilled(bench, &figures);
  for (size_t attribute = 0; attribute < kAttributeCount; ++attribute) Compare(bench, peers, attribute, &figures);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
