// How long a coded row takes to score, and a query to be prepared for a list. Called by kernels.sh.
#include <benchmark/benchmark.h>

#include <random>

#include "core/code_scorer.h"
#include "lib/figures.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr uint32_t kBlockRows = 4096;
// What a list has. Its last group is not full.
constexpr uint32_t kListRows = 150;
constexpr size_t kSlack = 64;

struct Block {
  Block(uint32_t padded, uint32_t bits, uint32_t count)
      : a(count, 1.0f),
        s(count, 1.0f / static_cast<float>(padded)),
        e(count, 0.05f),
        codes(GroupedBytes(padded, bits, count) + kSlack) {
    std::minstd_rand random(7);
    for (std::byte& byte : codes) byte = static_cast<std::byte>(random() >> 8);
    rows = {count, a.data(), s.data(), e.data(), codes.data()};
  }
  std::vector<float> a, s, e;
  std::vector<std::byte> codes;
  CodedRows rows;
};

std::vector<float> Query(uint32_t padded) {
  std::minstd_rand random(8);
  std::normal_distribution<float> normal;
  std::vector<float> y(padded);
  for (float& x : y) x = normal(random);
  return y;
}

void Score(benchmark::State& state, uint32_t bits, uint32_t padded, uint32_t count) {
  const Block block(padded, bits, count);
  const std::vector<float> y = Query(padded);
  CodeScorer scorer(Metric::kL2, padded, bits, 1.9);
  scorer.SetQuery({y.data()});
  std::vector<float> bounds(count);
  for (auto _ : state) {
    scorer.Score(block.rows, bounds.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(block.codes.size() - kSlack + 12 * size_t{count}));
}

void SetQuery(benchmark::State& state, uint32_t bits, uint32_t padded) {
  const std::vector<float> y = Query(padded);
  CodeScorer scorer(Metric::kL2, padded, bits, 1.9);
  for (auto _ : state) {
    scorer.SetQuery({y.data()});
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}

// Prints as it goes; keeps the medians for the last line, in CPU time.
class Reporter : public benchmark::ConsoleReporter {
 public:
  Reporter() : ConsoleReporter(OO_None) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.aggregate_name != "median") continue;
      figures.Add(run.run_name.function_name, 1e9 / run.counters.at("items_per_second"), 2);
      const auto bytes = run.counters.find("bytes_per_second");
      if (bytes != run.counters.end()) figures.Add(run.run_name.function_name + "_gb_s", bytes->second / 1e9, 1);
    }
  }
  Figures figures;
};

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (uint32_t bits : {1, 2, 4, 8}) {
    for (uint32_t padded : {112, 128, 768, 784}) {
      const std::string suffix = Format("%u_bit_%u", bits, padded);
      for (uint32_t count : {kBlockRows, kListRows}) {
        const std::string name = (count == kBlockRows ? "row_ns_" : "list_row_ns_") + suffix;
        benchmark::RegisterBenchmark(name.c_str(), Score, bits, padded, count);
      }
      benchmark::RegisterBenchmark(("query_ns_" + suffix).c_str(), SetQuery, bits, padded);
    }
  }
  Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  reporter.figures.Print();
}
