// Things that are compared take turns, so that a noisy moment hits all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lib/search_run.h"

namespace ivfremote::bench {

// One of the things compared: how its clients search, and how long each round took a query.
struct Side {
  using Search = std::function<SearchRun(size_t first, size_t count)>;

  std::string name;
  std::vector<Search> clients;
  std::function<void()> before_round = [] {};
  std::vector<double> ms = {};
};

// A round is 200 queries of each client on each side; the clients of a side run at the same time, each on a processor of its
// own if there are several.
void RunRounds(std::vector<Side>* sides, size_t rounds, size_t query_count);

// The median of the rounds' ratios.
double Ratio(const Side& ours, const Side& theirs);

// Keeps a thread, by its number in the kernel (0: the one that calls), on the client's processor.
void PinToProcessorOf(size_t client, int thread);

}  // namespace ivfremote::bench
