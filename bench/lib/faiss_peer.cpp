#include "lib/faiss_peer.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "lib/figures.h"

namespace ivfremote::bench {
namespace {

using Id = faiss::Index::idx_t;

#ifdef __x86_64__
#define FOR_EACH_TARGET gnu::target_clones("avx512f", "avx2", "default"),
#else
#define FOR_EACH_TARGET
#endif

// fast-math: the sum may be taken in any order, or it is not vectorised.
[[FOR_EACH_TARGET gnu::optimize("O3", "fast-math")]] float VectorisedSquaredL2(const float* a, const float* b,
                                                                               size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

struct VectorisedQuantizer : faiss::IndexFlatL2 {
  using IndexFlatL2::IndexFlatL2;

  void search(Id n, const float* queries, Id k, float* distances, Id* labels,
              const faiss::SearchParameters* = nullptr) const override {
    const auto dimensions = static_cast<size_t>(d);
    std::vector<std::pair<float, Id>> order(static_cast<size_t>(ntotal));
    for (Id q = 0; q < n; ++q) {
      for (Id i = 0; i < ntotal; ++i)
        order[static_cast<size_t>(i)] = {VectorisedSquaredL2(queries + q * d, get_xb() + i * d, dimensions), i};
      std::partial_sort(order.begin(), order.begin() + k, order.end());
      for (Id i = 0; i < k; ++i)
        std::tie(distances[q * k + i], labels[q * k + i]) = order[static_cast<size_t>(i)];
    }
  }
};

struct VectorisedScanner : faiss::InvertedListScanner {
  size_t dimensions;
  const float* query = nullptr;

  VectorisedScanner(size_t d, bool pairs) : InvertedListScanner(pairs), dimensions(d) { code_size = d * sizeof(float); }
  void set_query(const float* vector) override { query = vector; }
  void set_list(Id list, float) override { list_no = list; }
  float distance_to_code(const uint8_t* code) const override {
    return VectorisedSquaredL2(query, reinterpret_cast<const float*>(code), dimensions);
  }
};

struct VectorisedIvfFlat : faiss::IndexIVFFlat {
  using IndexIVFFlat::IndexIVFFlat;

  faiss::InvertedListScanner* get_InvertedListScanner(bool store_pairs, const faiss::IDSelector*) const override {
    return new VectorisedScanner(static_cast<size_t>(d), store_pairs);
  }
};

}  // namespace

FaissLists TrainFaissLists(const Vectors& rows, size_t lists) {
  const auto n = static_cast<Id>(rows.count());
  faiss::IndexFlatL2 quantizer(static_cast<Id>(rows.dimensions));
  faiss::IndexIVFFlat index(&quantizer, rows.dimensions, lists);
  index.train(n, rows.values.data());
  FaissLists trained{{quantizer.get_xb(), quantizer.get_xb() + lists * rows.dimensions}, {}};
  trained.of_row.resize(rows.count());
  quantizer.assign(n, rows.values.data(), trained.of_row.data());
  return trained;
}

void FaissPeer::Create(size_t dimensions, const std::vector<float>& centroids, Distance distance) {
  const size_t lists = centroids.size() / dimensions;
  const auto d = static_cast<Id>(dimensions);
  if (distance == Distance::kVectorised) {
    quantizer_ = std::make_unique<VectorisedQuantizer>(d);
    index_ = std::make_unique<VectorisedIvfFlat>(quantizer_.get(), dimensions, lists);
  } else {
    quantizer_ = std::make_unique<faiss::IndexFlatL2>(d);
    index_ = std::make_unique<faiss::IndexIVFFlat>(quantizer_.get(), dimensions, lists);
  }
  quantizer_->add(static_cast<Id>(lists), centroids.data());
  index_->is_trained = true;
}

FaissPeer::FaissPeer(const SegmentContents& segment, const std::map<Tid, int64_t>& id_of, size_t probes,
                     Distance distance) {
  const Routing& routing = segment.routing;
  std::vector<float> centroids = routing.centroids;  // relative to the mean
  for (size_t i = 0; i < centroids.size(); ++i) centroids[i] += routing.mean[i % routing.dimensions];
  Create(routing.dimensions, centroids, distance);
  set_probes(probes);
  std::vector<Id> ids;
  for (const Tid tid : segment.tids) ids.push_back(id_of.at(tid));
  index_->add_core(static_cast<Id>(ids.size()), segment.rows.values.data(), ids.data(), segment.lists.data());
}

FaissPeer::FaissPeer(const FaissLists& lists, const Vectors& rows, Distance distance) {
  Create(rows.dimensions, lists.centroids, distance);
  index_->add_core(static_cast<Id>(rows.count()), rows.values.data(), nullptr, lists.of_row.data());
}

SearchRun FaissPeer::Run(const Vectors& queries, size_t first, size_t count) const {
  SearchRun run;
  for (size_t i = first; i < first + count; ++i) {
    const Stopwatch watch;
    float distances[kNeighbours];
    Id ids[kNeighbours];
    index_->search(1, queries[i], kNeighbours, distances, ids);
    run.ms.push_back(watch.milliseconds());
    run.results.emplace_back(ids, ids + kNeighbours);
  }
  return run;
}

}  // namespace ivfremote::bench
