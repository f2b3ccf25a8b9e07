#include "core/sample_matcher.h"

#include <algorithm>
#include <cstring>

#include "core/even_part.h"

namespace ivfremote {
namespace {

uint64_t KeyOf(Tid tid) { return uint64_t{tid.block} << 16 | tid.offset; }

}  // namespace

SampleMatcher::SampleMatcher(Metric metric, const CodeFormat& format, uint64_t rotation_seed, const Routing* routing)
    : format_(format),
      routing_(routing),
      coder_(metric, format, rotation_seed, routing->mean.data()),
      code_(format.RowBytes()) {
  rows_.dimensions = format.dimensions;
}

void SampleMatcher::Add(Tid tid, const std::byte* row) {
  const size_t d = format_.dimensions;
  by_tid_.emplace(KeyOf(tid), rows_.tids.size());
  rows_.tids.push_back(tid);
  rows_.rows.resize(rows_.rows.size() + d);
  std::memcpy(&rows_.rows[rows_.rows.size() - d], row, d * sizeof(float));
  alive_.push_back(false);
}

void SampleMatcher::Offer(Tid tid, uint32_t centroid, const std::byte* code) {
  const size_t d = format_.dimensions;
  const auto [first, last] = by_tid_.equal_range(KeyOf(tid));
  for (auto at = first; at != last; ++at) {
    coder_.Encode(&rows_.rows[at->second * d], &routing_->centroids[centroid * d], code_.data());
    if (std::memcmp(code_.data(), code, code_.size()) != 0) continue;
    alive_[at->second] = true;
    return;
  }
}

SampleRows SampleMatcher::Take(uint64_t most) {
  const size_t d = format_.dimensions;
  const auto count = static_cast<uint64_t>(std::count(alive_.begin(), alive_.end(), true));
  SampleRows taken;
  taken.dimensions = format_.dimensions;
  uint64_t number = 0;
  for (size_t i = 0; i < rows_.tids.size(); ++i) {
    if (!alive_[i] || !IsOneOf(std::min(most, count), number++, count)) continue;
    taken.tids.push_back(rows_.tids[i]);
    taken.rows.insert(taken.rows.end(), &rows_.rows[i * d], &rows_.rows[i * d] + d);
  }
  return taken;
}

}  // namespace ivfremote
