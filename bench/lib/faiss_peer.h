// Faiss's IndexIVFFlat in memory with the centroids and the assignment of one of our segments.
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

class FaissPeer {
 public:
  enum class Distance { kDebian, kVectorised };

  // `id_of`: the id of each row's TID.
  FaissPeer(const SegmentContents& segment, const std::map<Tid, int64_t>& id_of, size_t probes, Distance distance);

  // Queries first .. first + count - 1, one after the other.
  SearchRun Run(const Vectors& queries, size_t first, size_t count) const;

 private:
  std::unique_ptr<faiss::IndexFlatL2> quantizer_;
  std::unique_ptr<faiss::IndexIVFFlat> index_;
};

}  // namespace ivfremote::bench
