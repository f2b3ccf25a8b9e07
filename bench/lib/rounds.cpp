#include "lib/rounds.h"

#include <omp.h>
#include <sched.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <thread>

#include "lib/figures.h"

namespace ivfremote::bench {
namespace {

constexpr size_t kRoundQueries = 200;

// The clients' mean time of a query.
double RunRound(const Side& side, size_t round, size_t query_count) {
  const size_t batches = query_count / kRoundQueries;
  const size_t clients = side.clients.size();
  const auto run = [&](size_t client) {
    // Clients ask different things at a time.
    const size_t batch = (round + client * batches / clients) % batches;
    return Mean(side.clients[client](batch * kRoundQueries, kRoundQueries).ms);
  };
  if (clients == 1) return run(0);
  std::vector<double> ms(clients);
  std::vector<std::exception_ptr> errors(clients);
  std::vector<std::thread> threads;
  for (size_t client = 0; client < clients; ++client)
    threads.emplace_back([&, client] {
      try {
        omp_set_num_threads(1);  // a setting of each thread's
        PinToProcessorOf(client, 0);
        ms[client] = run(client);
      } catch (...) {
        errors[client] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  return Mean(ms);
}

}  // namespace

void PinToProcessorOf(size_t client, int thread) {
  cpu_set_t processors;
  CPU_ZERO(&processors);
  CPU_SET(client % std::max(1u, std::thread::hardware_concurrency()), &processors);
  if (sched_setaffinity(thread, sizeof processors, &processors) != 0)
    throw std::runtime_error("could not pin a client to a processor");
}

void RunRounds(std::vector<Side>* sides, size_t rounds, size_t query_count) {
  if (query_count < kRoundQueries) throw std::runtime_error("too few queries for a round");
  std::printf("\n%5s", "round");
  for (const Side& side : *sides) std::printf(" %18s", side.name.c_str());
  std::printf("   mean ms a query\n");
  for (size_t round = 0; round < rounds; ++round) {
    std::printf("%5zu", round + 1);
    for (Side& side : *sides) {
      side.before_round();
      side.ms.push_back(RunRound(side, round, query_count));
      std::printf(" %18.3f", side.ms.back());
      std::fflush(stdout);
    }
    std::printf("\n");
  }
}

double Ratio(const Side& ours, const Side& theirs) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.ms.size(); ++i) ratios.push_back(ours.ms[i] / theirs.ms[i]);
  return Median(ratios);
}

}  // namespace ivfremote::bench
