// The exact answer, by brute force.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/dataset.h"

namespace ivfremote::bench {

// The Euclidean distances of each query's k nearest rows, ascending.
std::vector<std::vector<double>> NearestDistances(const Vectors& rows, const Vectors& queries, size_t k);

// The Euclidean distance of each query's k-th nearest row.
std::vector<double> ExactDistances(const Vectors& rows, const Vectors& queries, size_t k);

// The share of the k nearest that `results` (ids of rows, one result for each query) hold. A row as near as the k-th
// nearest counts, whichever of several such rows it is.
double Recall(const Vectors& rows, const Vectors& queries, const std::vector<double>& exact, size_t k,
              const std::vector<std::vector<int32_t>>& results);

}  // namespace ivfremote::bench
