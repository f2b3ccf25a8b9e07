// Warm scans through SQL against pgvector's HNSW and IVFFlat, and against Faiss's IndexIVFFlat in memory.
// Called by warm_vs_peers.sh; the argument is the directory of the file:// server to create.
#include <omp.h>

#include <memory>
#include <stdexcept>

#include "lib/cold_heap.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/faiss_peer.h"
#include "lib/figures.h"
#include "lib/rounds.h"
#include "lib/tuning.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

// Queries that warm up a session of a server whose tables are cold: few, for they read rows.
constexpr size_t kSessionWarmUp = 3;

struct Config {
  Dataset data;
  // Rows and queries as exact neighbours and Faiss have them: under cosine, of norm 1.
  Vectors rows;
  Vectors queries;
  std::vector<double> exact;
  double goal;
  std::string storage;
  size_t clients;
  bool cold_heap;

  double RecallOf(const SearchRun& run) const { return Recall(rows, queries, exact, kNeighbours, run.results); }
};

Config Configure() {
  Config config;
  config.data = ReadDataset();
  const bool cosine = config.data.metric == Metric::kCosine;
  config.rows = cosine ? Normalised(config.data.rows) : config.data.rows;
  config.queries = cosine ? Normalised(config.data.queries) : config.data.queries;
  config.exact = ExactDistances(config.rows, config.queries, kNeighbours);
  config.goal = std::stod(Environment("RECALL", cosine ? "0.95" : "0.99"));
  config.storage = Environment("STORAGE", "EXTERNAL");
  config.clients = std::stoul(Environment("CLIENTS", "1"));
  config.cold_heap = Environment("COLD_HEAP", "0") != "0";
  return config;
}

// An index, on a table of its own: the planner has no choice.
struct SqlIndex {
  std::string name;   // of the side
  std::string table;  // the index is <table>_index
  VectorType type;
  std::string create;  // USING ...
  Knob knob;
};

std::string OperatorClass(Metric metric, VectorType type) {
  const std::string prefix = type == VectorType::kVector ? "vector" : "real";
  return prefix + (metric == Metric::kCosine ? "_cosine_ops" : "_l2_ops");
}

void BuildIndex(Connection* connection, const Config& config, const SqlIndex& index) {
  const Vectors& rows = config.data.rows;
  const std::string type = index.type == VectorType::kVector ? Format("vector(%zu)", rows.dimensions) : "real[]";
  connection->Query("CREATE TABLE " + index.table + " (id integer PRIMARY KEY, embedding " + type + ")");
  connection->Query("ALTER TABLE " + index.table + " ALTER embedding SET STORAGE " + config.storage);
  connection->CopyVectors(index.table, rows, index.type);
  connection->Query("VACUUM (FREEZE, ANALYZE) " + index.table);
  const Stopwatch watch;
  connection->Query("CREATE INDEX " + index.table + "_index ON " + index.table + " USING " + index.create);
  const double seconds = watch.seconds();
  std::printf("%-16s built in %5.1f s, %6.1f MB of pages: USING %s\n", index.name.c_str(), seconds,
              connection->Number("SELECT pg_relation_size('" + index.table + "_index')") / 1e6, index.create.c_str());
}

void Prepare(Connection* connection, const Config& config, const SqlIndex& index) {
  connection->PrepareSearch(index.table, config.data.metric, index.type);
  std::string plan;
  for (const auto& row : connection->Query("EXPLAIN (COSTS OFF) EXECUTE search(NULL)")) plan += row[0] + "\n";
  if (plan.find("Index Scan using " + index.table + "_index") == std::string::npos)
    throw std::runtime_error(index.name + ": the plan does not use the index:\n" + plan);
}

// One of the indexes at its setting, with a session for each client.
class SqlSide {
 public:
  SqlSide(const Config& config, SqlIndex index) : config_(config), index_(std::move(index)) { Connect(); }

  // Goes to the smallest setting that reaches the recall.
  void Tune() {
    const Vectors& queries = config_.data.queries;
    Connection* const connection = connections_[0].get();
    PrewarmIndex();
    PrewarmTable();
    const auto recall_of = [&](int setting) {
      connection->Query(index_.knob.Sql(setting));
      return config_.RecallOf(RunSearches(connection, queries, 0, queries.count(), false));
    };
    tuned_ = SmallestSetting(index_.name, index_.knob.first, index_.knob.last, config_.goal, recall_of);
    for (const auto& each : connections_) each->Query(index_.knob.Sql(tuned_.setting));
    std::printf("%-16s recall %.4f: %s\n", index_.name.c_str(), tuned_.recall,
                index_.knob.Sql(tuned_.setting).c_str());
    // Its own caches, in each session.
    for (const auto& each : connections_) RunSearches(each.get(), queries, 0, queries.count(), false);
  }

  Side AsSide() {
    Side side{index_.name, {}};
    for (size_t client = 0; client < config_.clients; ++client)
      side.clients.push_back([this, client](size_t first, size_t count) {
        return RunSearches(connections_[client].get(), config_.data.queries, first, count, false);
      });
    if (config_.cold_heap) side.before_round = [this] { MakeHeapCold(); };
    return side;
  }

  const Tuned& tuned() const { return tuned_; }
  double parameter() const { return tuned_.setting * index_.knob.unit; }
  Connection* connection() { return connections_[0].get(); }
  void Disconnect() { connections_.clear(); }

 private:
  void Connect() {
    connections_.clear();
    for (size_t client = 0; client < config_.clients; ++client) {
      connections_.push_back(std::make_unique<Connection>());
      Connection* const connection = connections_.back().get();
      if (tuned_.setting != 0) connection->Query(index_.knob.Sql(tuned_.setting));
      Prepare(connection, config_, index_);
      if (config_.clients > 1)
        PinToProcessorOf(client, static_cast<int>(connection->Number("SELECT pg_backend_pid()")));
    }
  }

  void PrewarmIndex() { connection()->Query("SELECT pg_prewarm('" + index_.table + "_index')"); }
  void PrewarmTable() {
    connection()->Query("SELECT pg_prewarm(f) FROM pg_class, unnest(ARRAY[oid, reltoastrelid]) f WHERE oid = '" +
                        index_.table + "'::regclass AND f <> 0");
  }

  void MakeHeapCold() {
    Disconnect();
    RestartServer();
    Connect();
    PrewarmIndex();
    const Vectors& queries = config_.data.queries;
    for (const auto& each : connections_)
      RunSearches(each.get(), queries, queries.count() - kSessionWarmUp, kSessionWarmUp, false);
    EvictTable(connection(), index_.table);
  }

  const Config& config_;
  SqlIndex index_;
  Tuned tuned_{};
  std::vector<std::unique_ptr<Connection>> connections_;
};

std::vector<SqlIndex> OurIndexes(Connection* setup, Metric metric) {
  const Knob knob = OurKnob(setup);
  const std::string column = "ivfremote (embedding " + OperatorClass(metric, VectorType::kRealArray) + ")";
  const std::string options = Environment("INDEX_OPTIONS", "");
  return {{"file://", "remote", VectorType::kRealArray,
           column + " WITH (server = 'lake'" + (options.empty() ? "" : ", " + options) + ")", knob},
          {"embedded", "embedded", VectorType::kRealArray,
           column + (options.empty() ? "" : " WITH (" + options + ")"), knob}};
}

std::vector<SqlIndex> PgvectorIndexes(Metric metric, const std::string& lists) {
  const std::string column = " (embedding " + OperatorClass(metric, VectorType::kVector) + ") WITH (";
  return {{"pgvector HNSW", "hnsw", VectorType::kVector,
           "hnsw" + column + Environment("HNSW_OPTIONS", "m = 16, ef_construction = 64") + ")",
           {"hnsw.ef_search", kNeighbours, 1000, 1}},
          {"pgvector IVFFlat", "ivfflat", VectorType::kVector, "ivfflat" + column + "lists = " + lists + ")",
           {"ivfflat.probes", 1, std::stoi(lists), 1}}};
}

struct FaissSide {
  FaissPeer peer;
  Tuned tuned;

  FaissSide(const Config& config, const FaissLists& lists, int list_count, FaissPeer::Distance distance,
            const char* name)
      : peer(lists, config.rows, distance) {
    tuned = SmallestSetting(name, 1, list_count, config.goal, [&](int probes) {
      peer.set_probes(static_cast<size_t>(probes));
      return config.RecallOf(peer.Run(config.queries, 0, config.queries.count()));
    });
    peer.set_probes(static_cast<size_t>(tuned.setting));
    std::printf("%-16s recall %.4f: nprobe = %d\n", name, tuned.recall, tuned.setting);
  }

  Side AsSide(const Config& config, const char* name) const {
    return {name, std::vector<Side::Search>(config.clients, [&](size_t first, size_t count) {
              return peer.Run(config.queries, first, count);
            })};
  }
};

void PrintMissing() {
  std::printf("\n*** PGVECTOR is not set: pgvector's HNSW and IVFFlat are NOT compared. ***\n\n");
}

void Run(const std::string& store_directory) {
  const Config config = Configure();
  const Dataset& data = config.data;
  const std::string lists = Environment("PEER_LISTS", data.metric == Metric::kCosine ? "1200" : "256");
  const auto rounds = static_cast<size_t>(std::stoul(Environment("ROUNDS", "9")));
  auto setup = std::make_unique<Connection>();
  setup->Query("CREATE EXTENSION ivfremote; CREATE EXTENSION pg_prewarm");
  setup->Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory + "')");
  const bool pgvector = !setup->Query("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").empty();
  std::printf("%s: %zu rows of %zu dimensions (storage %s), %zu queries, LIMIT %zu, recall %.2f, %zu client%s, %s heap\n",
              data.name.c_str(), data.rows.count(), data.rows.dimensions, config.storage.c_str(), data.queries.count(),
              kNeighbours, config.goal, config.clients, config.clients == 1 ? "" : "s",
              config.cold_heap ? "cold" : "warm");

  std::vector<SqlIndex> indexes = OurIndexes(setup.get(), data.metric);
  if (pgvector) {
    setup->Query("CREATE EXTENSION vector");
    std::printf("pgvector %s\n",
                setup->Value("SELECT extversion FROM pg_extension WHERE extname = 'vector'").c_str());
    for (SqlIndex& index : PgvectorIndexes(data.metric, lists)) indexes.push_back(std::move(index));
  } else {
    PrintMissing();
  }
  for (const SqlIndex& index : indexes) BuildIndex(setup.get(), config, index);
  setup->Query("CHECKPOINT");  // not in the middle of the rounds
  const double local_bytes = setup->Number("SELECT pg_relation_size('remote_index')");
  const double segment_bytes = setup->Number("SELECT segment_bytes FROM ivfremote_info('remote_index')");
  const double float_bytes = static_cast<double>(data.rows.values.size() * sizeof(float));
  const double ivfflat_bytes = pgvector ? setup->Number("SELECT pg_relation_size('ivfflat_index')") : 0;
  const double hnsw_bytes = pgvector ? setup->Number("SELECT pg_relation_size('hnsw_index')") : 0;
  setup.reset();
  std::printf("ours: %.2f MB of local pages and segments of %.1f MB, 1/%.1f of the %.1f MB of floats\n",
              local_bytes / 1e6, segment_bytes / 1e6, float_bytes / segment_bytes, float_bytes / 1e6);

  std::vector<std::unique_ptr<SqlSide>> sql;
  for (const SqlIndex& index : indexes) {
    sql.push_back(std::make_unique<SqlSide>(config, index));
    sql.back()->Tune();
  }
  const FaissLists faiss_lists = TrainFaissLists(config.rows, std::stoul(lists));
  omp_set_num_threads(1);  // what used BLAS is done
  const FaissSide faiss(config, faiss_lists, std::stoi(lists), FaissPeer::Distance::kDebian, "Faiss");
  const FaissSide vectorised(config, faiss_lists, std::stoi(lists), FaissPeer::Distance::kVectorised,
                             "Faiss, vectorised");

  std::vector<Side> sides;
  for (const auto& side : sql) {
    sides.push_back(side->AsSide());
    if (config.cold_heap) side->Disconnect();
  }
  const size_t first_faiss = sides.size();
  sides.push_back(faiss.AsSide(config, "Faiss"));
  sides.push_back(vectorised.AsSide(config, "Faiss, vectorised"));
  RunRounds(&sides, rounds, data.queries.count());
  std::printf("\n%-18s %8s %16s %20s\n", "", "ms", "file:// to it", "embedded to it");
  for (const Side& side : sides)
    std::printf("%-18s %8.3f %16.3f %20.3f\n", side.name.c_str(), Median(side.ms), Ratio(sides[0], side),
                Ratio(sides[1], side));
  if (!pgvector) PrintMissing();

  Figures figures;
  const auto add_ratios = [&](const std::string& peer, const Side& side) {
    figures.Add(peer + "_ratio", Ratio(sides[0], side), 3);
    figures.Add("embedded_" + peer + "_ratio", Ratio(sides[1], side), 3);
  };
  if (pgvector) {
    add_ratios("hnsw", sides[2]);
    add_ratios("ivfflat", sides[3]);
  }
  add_ratios("faiss", sides[first_faiss]);
  add_ratios("faiss_vectorised", sides[first_faiss + 1]);
  figures.Add("recall", sql[0]->tuned().recall, 4);
  figures.Add("embedded_recall", sql[1]->tuned().recall, 4);
  if (pgvector) figures.Add("local_share", local_bytes / ivfflat_bytes, 4);
  figures.Add("bytes_ratio", segment_bytes / float_bytes, 4);
  figures.Add("local_mb", local_bytes / 1e6, 2);
  figures.Add("segment_mb", segment_bytes / 1e6, 1);
  if (pgvector) {
    figures.Add("ivfflat_mb", ivfflat_bytes / 1e6, 1);
    figures.Add("hnsw_mb", hnsw_bytes / 1e6, 1);
  }
  figures.Add("ms", Median(sides[0].ms), 3);
  figures.Add("embedded_ms", Median(sides[1].ms), 3);
  figures.Add("setting", sql[0]->parameter(), 3);
  figures.Add("embedded_setting", sql[1]->parameter(), 3);
  if (pgvector) {
    figures.Add("hnsw_ms", Median(sides[2].ms), 3);
    figures.Add("hnsw_recall", sql[2]->tuned().recall, 4);
    figures.Add("hnsw_ef", sql[2]->parameter(), 0);
    figures.Add("ivfflat_ms", Median(sides[3].ms), 3);
    figures.Add("ivfflat_recall", sql[3]->tuned().recall, 4);
    figures.Add("ivfflat_probes", sql[3]->parameter(), 0);
  }
  figures.Add("faiss_ms", Median(sides[first_faiss].ms), 3);
  figures.Add("faiss_vectorised_ms", Median(sides[first_faiss + 1].ms), 3);
  figures.Add("faiss_recall", faiss.tuned.recall, 4);
  figures.Add("faiss_nprobe", faiss.tuned.setting, 0);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
