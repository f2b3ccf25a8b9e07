#include "lib/exact.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/distance.h"

namespace ivfremote::bench {
namespace {

constexpr size_t kBatch = 100;
// Rows that the products find nearest; the exact distance then chooses among them.
constexpr size_t kSpare = 90;

double Distance(const Vectors& rows, size_t row, const float* query) {
  return std::sqrt(SquaredL2(rows[row], query, rows.dimensions));
}

}  // namespace

std::vector<std::vector<double>> NearestDistances(const Vectors& rows, const Vectors& queries, size_t k) {
  const size_t d = rows.dimensions;
  std::vector<double> norms(rows.count());
  for (size_t i = 0; i < rows.count(); ++i) norms[i] = SquaredNorm(rows[i], d);

  std::vector<std::vector<double>> nearest;
  std::vector<float> products(kBatch * rows.count());
  for (size_t first = 0; first < queries.count(); first += kBatch) {
    const size_t batch = std::min(kBatch, queries.count() - first);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(batch), static_cast<int>(rows.count()),
                static_cast<int>(d), 1.0f, queries[first], static_cast<int>(d), rows[0], static_cast<int>(d), 0.0f,
                products.data(), static_cast<int>(rows.count()));
    for (size_t q = 0; q < batch; ++q) {
      const float* product = &products[q * rows.count()];
      std::vector<size_t> order(rows.count());
      std::iota(order.begin(), order.end(), size_t{0});
      const size_t near = std::min(k + kSpare, rows.count());
      std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(near - 1), order.end(),
                       [&](size_t a, size_t b) { return norms[a] - 2 * product[a] < norms[b] - 2 * product[b]; });
      std::vector<double> distances(near);
      for (size_t i = 0; i < near; ++i) distances[i] = Distance(rows, order[i], queries[first + q]);
      std::sort(distances.begin(), distances.end());
      distances.resize(std::min(k, near));
      nearest.push_back(std::move(distances));
    }
  }
  return nearest;
}

std::vector<double> ExactDistances(const Vectors& rows, const Vectors& queries, size_t k) {
  std::vector<double> exact;
  for (const std::vector<double>& nearest : NearestDistances(rows, queries, k)) exact.push_back(nearest.back());
  return exact;
}

double Recall(const Vectors& rows, const Vectors& queries, const std::vector<double>& exact, size_t k,
              const std::vector<std::vector<int32_t>>& results) {
  size_t hits = 0;
  for (size_t q = 0; q < results.size(); ++q)
    for (const int32_t id : results[q]) hits += Distance(rows, static_cast<size_t>(id), queries[q]) <= exact[q];
  return static_cast<double>(hits) / static_cast<double>(k * results.size());
}

}  // namespace ivfremote::bench
