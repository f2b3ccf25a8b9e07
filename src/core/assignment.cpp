#include "core/assignment.h"

#include <cblas.h>

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "core/blas.h"
#include "core/distance.h"
#include "core/little_endian.h"

namespace ivfremote {
namespace {

constexpr double kBatchOperations = 2e9;  // about 50 ms of one core
constexpr size_t kMaxBatchRows = 1024;
constexpr double kMaxBatchBytes = 8 << 20;  // of rows in two copies, and of products

std::vector<float> SquaredNorms(const std::vector<float>& rows, size_t d) {
  std::vector<float> norms(rows.size() / d);
  for (size_t i = 0; i < norms.size(); ++i) norms[i] = static_cast<float>(SquaredNorm(&rows[i * d], d));
  return norms;
}

// How many lists a row may be compared with: those of the largest groups. Many equal rows make one of them large.
double MostLists(const Routing& routing) {
  std::vector<uint32_t> lists(routing.group_count());
  for (uint32_t g = 0; g < lists.size(); ++g) lists[g] = routing.ListsOf(g);
  const auto end = lists.begin() + std::min<ptrdiff_t>(Assigner::kGroups, std::ssize(lists));
  std::partial_sort(lists.begin(), end, lists.end(), std::greater());
  return std::accumulate(lists.begin(), end, 0.0);
}

// products [n x m] = rows [n x d] . centroids [m x d] transposed
void Multiply(const float* rows, size_t n, const float* centroids, size_t m, size_t d, float* products) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(n), static_cast<int>(m), static_cast<int>(d),
              1.0f, rows, static_cast<int>(d), centroids, static_cast<int>(d), 0.0f, products, static_cast<int>(m));
}

}  // namespace

Assigner::Assigner(const Routing* routing) : routing_(routing) {
  UseOneBlasThread();
  const size_t d = routing->dimensions;
  const double groups = routing->group_count();
  const double per_row = 2.0 * static_cast<double>(d) * (groups + MostLists(*routing));
  const double bytes_per_row = sizeof(float) * std::max(2.0 * static_cast<double>(d), groups);
  batch_rows_ = static_cast<size_t>(
      std::clamp(std::min(kBatchOperations / per_row, kMaxBatchBytes / bytes_per_row), 1.0, double{kMaxBatchRows}));
  centroid_norms_ = SquaredNorms(routing->centroids, d);
  group_norms_ = SquaredNorms(routing->group_centroids, d);
  sums_.resize(routing->list_count());
  rows_of_group_.resize(routing->group_count());
}

void Assigner::Assign(float* rows, size_t n, uint32_t* lists) {
  assert(n <= batch_rows_);
  const size_t d = routing_->dimensions;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < d; ++j) rows[i * d + j] -= routing_->mean[j];
  AssignCentred(rows, n, lists);
}

void Assigner::AssignCentred(const float* rows, size_t n, uint32_t* lists, const float* excess) {
  assert(n <= batch_rows_);
  const size_t d = routing_->dimensions;
  best_score_.assign(n, std::numeric_limits<float>::infinity());
  best_list_.assign(n, 0);
  AssignThroughTree(rows, n);
  for (size_t i = 0; i < n; ++i) {
    const float* row = rows + i * d;
    // Products of huge values overflow float32 to an infinity or a NaN: score such a row alone, in float64.
    lists[i] = std::isfinite(best_score_[i]) ? best_list_[i] : NearestDirectly(row);
  }
  Count(rows, n, lists, excess);
}

void Assigner::Count(const float* rows, size_t n, const uint32_t* lists, const float* excess) {
  const size_t d = routing_->dimensions;
  for (size_t i = 0; i < n; ++i) {
    const double distance =
        SquaredL2(rows + i * d, &routing_->centroids[lists[i] * d], d) - (excess == nullptr ? 0 : excess[i]);
    if (std::isfinite(distance)) sums_[lists[i]].squared += distance;
    ++sums_[lists[i]].rows;
  }
}

void Assigner::AssignThroughTree(const float* rows, size_t n) {
  const size_t d = routing_->dimensions;
  const uint32_t groups = routing_->group_count();
  if (groups <= kGroups) return Consider(rows, n, nullptr, 0, routing_->list_count());

  products_.resize(n * groups);
  Multiply(rows, n, routing_->group_centroids.data(), groups, d, products_.data());
  for (auto& members : rows_of_group_) members.clear();
  std::vector<uint32_t> order(groups);
  for (size_t i = 0; i < n; ++i) {
    float* score = &products_[i * groups];
    for (uint32_t g = 0; g < groups; ++g) {
      score[g] = group_norms_[g] - 2 * score[g];
      // Not a number would break the order; such a row is scored directly in the end. Groups without lists are none, as
      // for ListRanker.
      if (std::isnan(score[g]) || routing_->ListsOf(g) == 0) score[g] = std::numeric_limits<float>::infinity();
    }
    std::iota(order.begin(), order.end(), 0u);
    std::nth_element(order.begin(), order.begin() + (kGroups - 1), order.end(), [&](uint32_t a, uint32_t b) {
      return score[a] != score[b] ? score[a] < score[b] : a < b;
    });
    for (uint32_t k = 0; k < kGroups; ++k) rows_of_group_[order[k]].push_back(static_cast<uint32_t>(i));
  }
  for (uint32_t g = 0; g < groups; ++g) {
    const auto& members = rows_of_group_[g];
    if (members.empty()) continue;
    gathered_.resize(members.size() * d);
    for (size_t i = 0; i < members.size(); ++i)
      std::memcpy(&gathered_[i * d], rows + members[i] * d, d * sizeof(float));
    Consider(gathered_.data(), members.size(), members.data(), routing_->group_first[g],
             routing_->group_first[g + 1] - routing_->group_first[g]);
  }
}

// Improves the best list of each row with the lists first_list .. first_list + list_count - 1. Row i is number
// row_numbers[i] of the batch (i, if there are no numbers).
void Assigner::Consider(const float* rows, size_t n, const uint32_t* row_numbers, uint32_t first_list,
                        uint32_t list_count) {
  if (list_count == 0) return;
  const size_t d = routing_->dimensions;
  // One group may hold most of the lists.
  const size_t most = std::max<size_t>(static_cast<size_t>(kMaxBatchBytes) / sizeof(float) / list_count, 1);
  for (size_t first = 0; first < n; first += most) {
    const size_t some = std::min(most, n - first);
    products_.resize(std::max(products_.size(), some * list_count));
    Multiply(rows + first * d, some, &routing_->centroids[size_t{first_list} * d], list_count, d, products_.data());
    for (size_t i = 0; i < some; ++i)
      ConsiderProducts(row_numbers == nullptr ? first + i : row_numbers[first + i], &products_[i * list_count], first_list,
                       list_count);
  }
}

void Assigner::ConsiderProducts(size_t row, const float* products, uint32_t first_list, uint32_t list_count) {
  for (uint32_t k = 0; k < list_count; ++k) {
    const uint32_t list = first_list + k;
    const float score = centroid_norms_[list] - 2 * products[k];
    if (!near_.empty()) KeepNear(row, score, list);
    if (score < best_score_[row] || (score == best_score_[row] && list < best_list_[row])) {
      best_score_[row] = score;
      best_list_[row] = list;
    }
  }
}

void Assigner::KeepNear(size_t row, float score, uint32_t list) {
  std::vector<Near>& near = near_[row];
  if (near.size() == kSecondCandidates) {
    if (!(Near{score, list} < near.front())) return;
    std::pop_heap(near.begin(), near.end());
    near.pop_back();
  }
  near.push_back({score, list});
  std::push_heap(near.begin(), near.end());
}

uint32_t Assigner::SecondList(const float* row, size_t number, uint32_t first) const {
  const size_t d = routing_->dimensions;
  const float* c1 = &routing_->centroids[first * d];
  const double norm = SquaredL2(row, c1, d);
  uint32_t best = first;
  double best_loss = std::numeric_limits<double>::infinity();
  for (const Near& near : near_[number]) {
    if (near.list == first) continue;
    const float* c2 = &routing_->centroids[near.list * d];
    double along = 0;
    for (size_t i = 0; i < d; ++i) along += (double{row[i]} - c2[i]) * (double{row[i]} - c1[i]);
    const double loss = SquaredL2(row, c2, d) + (norm > 0 ? along * along / norm : 0);
    if (loss < best_loss || (loss == best_loss && near.list < best)) {
      best_loss = loss;
      best = near.list;
    }
  }
  return best;
}

void Assigner::AssignTwo(float* rows, size_t n, uint32_t* lists, uint32_t* second_lists) {
  near_.assign(n, {});
  Assign(rows, n, lists);
  for (size_t i = 0; i < n; ++i) second_lists[i] = SecondList(rows + i * routing_->dimensions, i, lists[i]);
  near_.clear();
}

uint32_t Assigner::NearestDirectly(const float* row) const {
  const size_t d = routing_->dimensions;
  uint32_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (uint32_t list = 0; list < routing_->list_count(); ++list) {
    const double distance = SquaredL2(row, &routing_->centroids[list * d], d);
    if (distance < best_distance) {
      best_distance = distance;
      best = list;
    }
  }
  return best;
}

std::vector<float> Assigner::Radii() const {
  std::vector<float> radii(sums_.size());
  for (size_t i = 0; i < radii.size(); ++i)
    // The distance of two float32 vectors may be too large for a float32.
    if (sums_[i].rows > 0)
      radii[i] = static_cast<float>(
          std::min<double>(std::sqrt(std::max(0.0, sums_[i].squared) / static_cast<double>(sums_[i].rows)), FLT_MAX));
  return radii;
}

std::vector<uint64_t> Assigner::Counts() const {
  std::vector<uint64_t> counts(sums_.size());
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = sums_[i].rows;
  return counts;
}

std::vector<std::byte> Assigner::EncodeSums() const {
  const Bytes bytes = std::as_bytes(std::span(sums_));
  return {bytes.begin(), bytes.end()};
}

Status Assigner::MergeSums(Bytes bytes) {
  if (bytes.size() != sums_.size() * sizeof(Sum)) return Status::Corrupt("sums of radii are of other lists");
  for (size_t i = 0; i < sums_.size(); ++i) {
    const auto other = Load<Sum>(&bytes[i * sizeof(Sum)]);
    sums_[i].squared += other.squared;
    sums_[i].rows += other.rows;
  }
  return Status::Ok();
}

}  // namespace ivfremote
