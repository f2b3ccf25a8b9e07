// Warm scans through SQL against Faiss's IndexIVFFlat in memory (lib/faiss_peer.h).
// Called by scan_vs_faiss.sh; the argument is the directory of the file:// server to create.
#include <omp.h>

#include <cmath>
#include <map>
#include <stdexcept>

#include "core/distance.h"
#include "lib/command.h"
#include "lib/exact.h"
#include "lib/faiss_peer.h"
#include "lib/figures.h"
#include "lib/rounds.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr size_t kProbes = 8;
// Faiss computes in float32: nearer to each other than this, two distances are a tie.
constexpr double kTie = 1e-5;

// One table and one index.
void CreateTable(Connection* connection, const std::string& table, const std::string& storage,
                 const std::string& index_options, const Vectors& rows) {
  connection->Query("CREATE TABLE " + table + " (id integer PRIMARY KEY, embedding real[])");
  connection->Query("ALTER TABLE " + table + " ALTER embedding SET STORAGE " + storage);
  connection->CopyVectors(table, rows);
  connection->Query("VACUUM (FREEZE, ANALYZE) " + table);
  connection->Query("CREATE INDEX " + table + "_index ON " + table + " USING ivfremote (embedding) WITH (" +
                    index_options + ", quantization = none)");
}

void PrepareTable(Connection* connection, const std::string& table) {
  connection->Query("SET ivfremote.probes = " + std::to_string(kProbes));
  connection->PrepareSearch(table);
}

// Ids by address.
std::map<Tid, int64_t> ReadIds(Connection* connection, const std::string& table) {
  std::map<Tid, int64_t> ids;
  for (const auto& row : connection->Query("SELECT ctid, id FROM " + table)) {
    unsigned block;
    unsigned offset;
    if (std::sscanf(row[0].c_str(), "(%u,%u)", &block, &offset) != 2) throw std::runtime_error("unexpected ctid");
    ids[{block, static_cast<uint16_t>(offset)}] = std::stol(row[1]);
  }
  return ids;
}

// How many queries have other results than Faiss's, ties aside.
int CountMismatches(const Vectors& rows, const Vectors& queries, const SearchRun& ours, const SearchRun& theirs,
                    int* ties) {
  int mismatches = 0;
  *ties = 0;
  for (size_t q = 0; q < ours.results.size(); ++q) {
    if (ours.results[q] == theirs.results[q]) continue;
    bool tie = ours.results[q].size() == theirs.results[q].size();
    for (size_t i = 0; tie && i < ours.results[q].size(); ++i) {
      const auto distance = [&](int32_t id) {
        return std::sqrt(SquaredL2(rows[static_cast<size_t>(id)], queries[q], rows.dimensions));
      };
      const double our_distance = distance(ours.results[q][i]);
      tie = theirs.results[q][i] >= 0 &&
            std::abs(our_distance - distance(theirs.results[q][i])) <= kTie * our_distance;
    }
    ++(tie ? *ties : mismatches);
  }
  return mismatches;
}

void PrintScans(const char* name, const SearchRun& run) {
  std::printf("%-10s %6.0f rows scored, %4.1f requests, %5.2f MB;"
              " quantizer %.2f, fetch %.2f, scoring %.2f of %.2f ms\n",
              name, run.rows_scored, run.requests, run.bytes / 1e6, run.quantizer_ms, run.fetch_ms, run.score_ms,
              Mean(run.ms));
}

void Run(const std::string& store_directory) {
  const FashionMnist data = ReadFashionMnist();
  const Vectors& queries = data.queries;
  const std::string storage = Environment("STORAGE", "EXTERNAL");
  const auto rounds = static_cast<size_t>(std::stoul(Environment("ROUNDS", "15")));
  const std::vector<double> exact = ExactDistances(data.rows, queries, kNeighbours);

  Connection setup;
  setup.Query("CREATE EXTENSION ivfremote");
  setup.Query("CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://" + store_directory + "')");
  CreateTable(&setup, "remote", storage, "server = 'lake', lists = 256", data.rows);
  CreateTable(&setup, "embedded", storage, "lists = 256", data.rows);
  const SegmentContents segment =
      ReadSegment(store_directory + "/" + setup.Value("SELECT object_key FROM ivfremote_segments('remote_index')"));
  const std::map<Tid, int64_t> id_of = ReadIds(&setup, "remote");
  const FaissPeer faiss(segment, id_of, kProbes, FaissPeer::Distance::kDebian);
  const FaissPeer vectorised_faiss(segment, id_of, kProbes, FaissPeer::Distance::kVectorised);
  Connection remote;
  Connection embedded;
  PrepareTable(&remote, "remote");
  PrepareTable(&embedded, "embedded");
  // For the peers: what used BLAS is done.
  omp_set_num_threads(1);
  std::printf("%zu rows of %zu dimensions (storage %s), %zu queries, 256 lists, probes %zu, LIMIT %zu, one thread\n",
              data.rows.count(), data.rows.dimensions, storage.c_str(), queries.count(), kProbes, kNeighbours);

  // All queries once: results, counts, and warm caches.
  const SearchRun ours = RunSearches(&remote, queries, 0, queries.count(), true);
  const SearchRun theirs = faiss.Run(queries, 0, queries.count());
  PrintScans("file://", ours);
  PrintScans("embedded", RunSearches(&embedded, queries, 0, queries.count(), true));
  int ties;
  const int mismatches = CountMismatches(data.rows, queries, ours, theirs, &ties);
  std::printf("file:// against Faiss: %zu queries with the same ids, %d that differ by ties only, %d that differ\n",
              queries.count() - static_cast<size_t>(ties + mismatches), ties, mismatches);

  std::vector<Side> sides{
      {"file://", {[&](size_t first, size_t n) { return RunSearches(&remote, queries, first, n, false); }}},
      {"Faiss", {[&](size_t first, size_t n) { return faiss.Run(queries, first, n); }}},
      {"embedded", {[&](size_t first, size_t n) { return RunSearches(&embedded, queries, first, n, false); }}},
      {"Faiss, vectorised", {[&](size_t first, size_t n) { return vectorised_faiss.Run(queries, first, n); }}}};
  RunRounds(&sides, rounds, queries.count());

  Figures figures;
  figures.Add("scan_ratio", Ratio(sides[0], sides[1]), 2);
  figures.Add("embedded_ratio", Ratio(sides[2], sides[1]), 2);
  figures.Add("scan_vectorised_ratio", Ratio(sides[0], sides[3]), 2);
  figures.Add("embedded_vectorised_ratio", Ratio(sides[2], sides[3]), 2);
  figures.Add("scan_ms", Median(sides[0].ms), 3);
  figures.Add("embedded_ms", Median(sides[2].ms), 3);
  figures.Add("faiss_ms", Median(sides[1].ms), 3);
  figures.Add("faiss_vectorised_ms", Median(sides[3].ms), 3);
  figures.Add("recall@10", Recall(data.rows, queries, exact, kNeighbours, ours.results), 4);
  figures.Add("faiss_recall@10", Recall(data.rows, queries, exact, kNeighbours, theirs.results), 4);
  figures.Add("mismatches", mismatches, 0);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
