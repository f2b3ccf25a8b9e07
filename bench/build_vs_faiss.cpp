// CREATE INDEX against Faiss's train and add, and what a build leaves in Postgres and in its WAL.
// Called by build_vs_faiss.sh; the argument is the directory of the file:// server to create.
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <omp.h>

#include <map>

#include "lib/build_run.h"
#include "lib/command.h"
#include "lib/figures.h"

using namespace ivfremote::bench;

namespace {

constexpr size_t kLists = 256;
constexpr int kThreads = 2;

struct FaissBuild {
  double train_s;
  double add_s;
};

FaissBuild RunFaiss(const Vectors& rows) {
  omp_set_num_threads(kThreads);
  faiss::IndexFlatL2 quantizer(static_cast<faiss::Index::idx_t>(rows.dimensions));
  faiss::IndexIVFFlat index(&quantizer, rows.dimensions, kLists);
  const auto count = static_cast<faiss::Index::idx_t>(rows.count());
  const Stopwatch train;
  index.train(count, rows.values.data());
  const double train_s = train.seconds();
  const Stopwatch add;
  index.add(count, rows.values.data());
  return {train_s, add.seconds()};
}

struct OurBuild {
  BuildRun run;
  double wal_share;
  double header_share;
  double shared_mb;
};

OurBuild RunOurs() {
  Connection connection;  // a new backend, whose memory is this build's
  connection.Query("SET maintenance_work_mem = '" + Environment("MAINTENANCE_WORK_MEM", "1GB") + "'");
  connection.Query("SET max_parallel_maintenance_workers = " + std::to_string(kThreads - 1));
  connection.Query("DROP INDEX IF EXISTS items_index");
  connection.Query("CHECKPOINT");
  const std::string start = connection.Value("SELECT pg_current_wal_insert_lsn()");
  OurBuild build;
  build.run = RunBuild(&connection,
                       "CREATE INDEX items_index ON items USING ivfremote (embedding) WITH (server = 'lake', lists = " +
                           std::to_string(kLists) + ")");
  const double wal_bytes =
      connection.Number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '" + start + "')");
  const double segment_bytes = connection.Number("SELECT segment_bytes FROM ivfremote_info('items_index')");
  build.wal_share = wal_bytes / segment_bytes;
  build.header_share = connection.Number("SELECT header_bytes FROM ivfremote_info('items_index')") / segment_bytes;
  build.shared_mb = MemoryMb(connection.Value("SELECT pg_backend_pid()"), "RssShmem");
  return build;
}

void Run(const std::string& store_directory) {
  const FashionMnist data = ReadFashionMnist();
  const auto rounds = static_cast<size_t>(std::stoul(Environment("ROUNDS", "5")));
  Connection setup;
  setup.Query("CREATE EXTENSION ivfremote");
  setup.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory + "')");
  setup.Query("CREATE TABLE items (id integer PRIMARY KEY, embedding real[])");
  setup.Query("ALTER TABLE items ALTER embedding SET STORAGE " + Environment("STORAGE", "EXTERNAL"));
  setup.CopyVectors("items", data.rows);
  setup.Query("VACUUM (FREEZE, ANALYZE) items");
  std::printf("%zu rows of %zu dimensions (storage %s), %zu lists, %d threads, maintenance_work_mem %s\n\n",
              data.rows.count(), data.rows.dimensions, Environment("STORAGE", "EXTERNAL").c_str(), kLists, kThreads,
              Environment("MAINTENANCE_WORK_MEM", "1GB").c_str());

  std::printf("%5s %12s %12s %12s   seconds\n", "round", "faiss train", "faiss add", "CREATE INDEX");
  std::vector<double> ratios, ours_s, faiss_s, wal, header, hwm, shared;
  std::map<std::string, std::vector<double>> phases;
  std::vector<std::string> phase_order;
  // Round 0 warms the caches and counts for nothing.
  for (size_t round = 0; round <= rounds; ++round) {
    const FaissBuild faiss = RunFaiss(data.rows);
    const OurBuild ours = RunOurs();
    if (round == 0) continue;
    std::printf("%5zu %12.2f %12.2f %12.2f\n", round, faiss.train_s, faiss.add_s, ours.run.seconds);
    faiss_s.push_back(faiss.train_s + faiss.add_s);
    ours_s.push_back(ours.run.seconds);
    ratios.push_back(ours_s.back() / faiss_s.back());
    wal.push_back(ours.wal_share);
    header.push_back(ours.header_share);
    hwm.push_back(ours.run.hwm_mb);
    shared.push_back(ours.shared_mb);
    for (const auto& [phase, seconds] : ours.run.phases) {
      if (!phases.contains(phase)) phase_order.push_back(phase);
      phases[phase].push_back(seconds);
    }
  }

  std::printf("\nCREATE INDEX by phase (medians):\n");
  for (const std::string& phase : phase_order)
    std::printf("  %-20s %6.2f s\n", phase.c_str(), Median(phases[phase]));
  std::printf("memory of its backend: %.0f MB at most, of which %.0f MB are shared buffers\n\n", Median(hwm),
              Median(shared));

  Figures figures;
  figures.Add("build_ratio", Median(ratios), 2);
  figures.Add("build_s", Median(ours_s), 2);
  figures.Add("faiss_s", Median(faiss_s), 2);
  figures.Add("header_share", Median(header), 4);
  figures.Add("wal_share", Median(wal), 4);
  figures.Add("hwm_mb", Median(hwm), 0);
  figures.Add("hwm_shared_mb", Median(shared), 0);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
