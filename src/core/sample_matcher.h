// Which rows of a generation's sample are alive. A row is in the sample as floats and among the pending rows as a code; either
// may be missing, and a TID may have been used again. So the code tells: it is that of the floats.
#pragma once

#include <unordered_map>
#include <vector>

#include "core/coding.h"
#include "core/segment_format.h"

namespace ivfremote {

class SampleMatcher {
 public:
  // `routing` has centroids, and must outlive the matcher.
  SampleMatcher(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const Routing* routing);

  // `row` is [dimensions] floats, not aligned.
  void Add(Tid tid, const std::byte* row);
  // A live pending row; `code` refers to the centroid of list `centroid`. After all of Add.
  void Offer(Tid tid, uint32_t centroid, const std::byte* code);

  // An even part of the rows found alive, in the order they were added: no more than `most`.
  SampleRows Take(uint64_t most);

 private:
  CodeFormat format_;
  const Routing* routing_;
  RowCoder coder_;
  SampleRows rows_;
  std::vector<bool> alive_;
  std::unordered_multimap<uint64_t, size_t> by_tid_;  // numbers of rows
  std::vector<std::byte> code_;
};

}  // namespace ivfremote
