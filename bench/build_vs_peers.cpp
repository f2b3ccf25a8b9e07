// CREATE INDEX against pgvector's. Called by build_vs_peers.sh; the argument is the directory of the file:// server to create.
#include <cstdio>

#include "lib/build_run.h"
#include "lib/command.h"
#include "lib/figures.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

struct Built {
  std::string name;
  std::string create;  // ON ...
  std::vector<double> seconds = {};
  std::vector<double> ratios = {};  // ours to it
};

std::string Column(Metric metric, const std::string& type) {
  return " (embedding " + type + (metric == Metric::kCosine ? "_cosine_ops)" : "_l2_ops)");
}

void CreateTable(Connection* connection, const std::string& table, VectorType type, const Vectors& rows) {
  connection->Query("CREATE TABLE " + table + " (id integer PRIMARY KEY, embedding " +
                    (type == VectorType::kVector ? Format("vector(%zu)", rows.dimensions) : "real[]") + ")");
  connection->Query("ALTER TABLE " + table + " ALTER embedding SET STORAGE " + Environment("STORAGE", "EXTERNAL"));
  connection->CopyVectors(table, rows, type);
  connection->Query("VACUUM (FREEZE, ANALYZE) " + table);
}

double Build(Built* built, bool print_phases) {
  Connection connection;
  connection.Query("DROP INDEX IF EXISTS measured");
  connection.Query("CHECKPOINT");
  const BuildRun run = RunBuild(&connection, "CREATE INDEX measured ON " + built->create);
  built->seconds.push_back(run.seconds);
  if (print_phases)
    for (const auto& [phase, seconds] : run.phases) std::printf("  %-20s %8.2f s\n", phase.c_str(), seconds);
  return run.seconds;
}

void Run(const std::string& store_directory) {
  const Dataset data = ReadDataset();
  const auto rounds = std::stoul(Environment("ROUNDS", "5"));
  const auto hnsw_rounds = std::stoul(Environment("HNSW_ROUNDS", "1"));
  const bool cosine = data.metric == Metric::kCosine;
  Connection setup;
  setup.Query("CREATE EXTENSION ivfremote; CREATE EXTENSION vector");
  setup.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory + "')");
  CreateTable(&setup, "ours", VectorType::kRealArray, data.rows);
  CreateTable(&setup, "theirs", VectorType::kVector, data.rows);
  const std::string options = Environment("INDEX_OPTIONS", "");
  const std::string peer_lists = Environment("PEER_LISTS", cosine ? "1200" : "256");
  Built file{"file://", "ours USING ivfremote" + Column(data.metric, "real") + " WITH (server = 'lake'" +
                            (options.empty() ? "" : ", " + options) + ")"};
  Built embedded{"embedded", "ours USING ivfremote" + Column(data.metric, "real") +
                                 (options.empty() ? "" : " WITH (" + options + ")")};
  Built ivfflat{"pgvector IVFFlat", "theirs USING ivfflat" + Column(data.metric, "vector") + " WITH (lists = " + peer_lists + ")"};
  Built hnsw{"pgvector HNSW", "theirs USING hnsw" + Column(data.metric, "vector") + " WITH (" +
                                  Environment("HNSW_OPTIONS", "m = 16, ef_construction = 64") + ")"};
  std::printf("%s: %zu rows of %zu dimensions, IVFFlat with %s lists, ours by rows; seconds\n", data.name.c_str(),
              data.rows.count(), data.rows.dimensions, peer_lists.c_str());
  for (size_t round = 0; round < rounds; ++round) {
    const double ours = Build(&file, round + 1 == rounds);
    Build(&embedded, false);
    ivfflat.ratios.push_back(ours / Build(&ivfflat, false));
    if (round < hnsw_rounds) hnsw.ratios.push_back(ours / Build(&hnsw, false));
    std::printf("round %zu: file:// %.2f, embedded %.2f, IVFFlat %.2f\n", round + 1, file.seconds.back(),
                embedded.seconds.back(), ivfflat.seconds.back());
  }
  Figures figures;
  figures.Add("ivfflat_ratio", Median(ivfflat.ratios), 3);
  if (!hnsw.ratios.empty()) figures.Add("hnsw_ratio", Median(hnsw.ratios), 3);
  figures.Add("build_s", Median(file.seconds), 2);
  figures.Add("embedded_s", Median(embedded.seconds), 2);
  figures.Add("ivfflat_s", Median(ivfflat.seconds), 2);
  if (!hnsw.seconds.empty()) figures.Add("hnsw_s", Median(hnsw.seconds), 2);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
