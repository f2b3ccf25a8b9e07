// Faiss's IndexIVFFlat in memory, with the centroids and the assignment of one of our segments or with its own.
//
// Debian compiles Faiss for the first x86-64 processors, where its L2 distance is a scalar loop. So there are two of
// it: as Debian ships it, and with a distance vectorised for this machine, as Faiss's own builds for AVX2 have.
// Everything else is Faiss's: its search over lists, its heaps.
#pragma once

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>

#include <map>
#include <memory>

#include "lib/search_run.h"
#include "lib/segment_reader.h"

namespace ivfremote::bench {

// Lists as Faiss trains them.
struct FaissLists {
  std::vector<float> centroids;
  std::vector<int64_t> of_row;
};
FaissLists TrainFaissLists(const Vectors& rows, size_t lists);

class FaissPeer {
 public:
  enum class Distance { kDebian, kVectorised };

  // `id_of`: the id of each row's TID.
  FaissPeer(const SegmentContents& segment, const std::map<Tid, int64_t>& id_of, size_t probes, Distance distance);
  // Ids are the rows' numbers.
  FaissPeer(const FaissLists& lists, const Vectors& rows, Distance distance);

  void set_probes(size_t probes) { index_->nprobe = probes; }

  // Queries first .. first + count - 1, one after the other.
  SearchRun Run(const Vectors& queries, size_t first, size_t count) const;

 private:
  void Create(size_t dimensions, const std::vector<float>& centroids, Distance distance);

  std::unique_ptr<faiss::IndexFlatL2> quantizer_;
  std::unique_ptr<faiss::IndexIVFFlat> index_;
};

}  // namespace ivfremote::bench
