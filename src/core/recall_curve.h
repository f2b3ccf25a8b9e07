// The recall curve of an index: which stop threshold (ProbeRule) reaches which recall, found on sample rows when the
// index is built, or on the user's own queries. Stored as a stream of pages, version 1:
//   header (64) | CurvePoint x point_count
#pragma once

#include <vector>

#include "core/list_ranker.h"
#include "core/status.h"

namespace ivfremote {

// One setting. Plain data, stored as it stands.
struct CurvePoint {
  uint32_t k;       // neighbours asked for
  float recall;     // of which this share is wanted
  float stop;       // the threshold that reaches it; infinity: all lists
  float lists;      // means for one query
  float rows;
  float bytes;      // of blocks, gaps apart
};
static_assert(sizeof(CurvePoint) == 24);

inline constexpr uint32_t kCurveNeighbours[] = {1, 10, 100, 1000, 10000};
inline constexpr float kCurveRecalls[] = {0.80f, 0.85f, 0.90f, 0.93f, 0.95f, 0.97f, 0.98f, 0.99f, 0.995f, 0.999f};

struct RecallCurve {
  ProbeRule rule;
  uint32_t queries = 0;        // it rests on; 0: there is no curve, and nothing to store
  bool from_queries = false;   // the user's, not rows of the table
  float bound_loss = 0;        // share of true neighbours that the codes' bound hides from the rerank
  std::vector<CurvePoint> points;  // by k, then by recall

  // What reaches `recall` at `k`: between points interpolated, beyond the last all lists. `points` must not be empty.
  CurvePoint At(uint32_t k, double recall) const;

  std::vector<std::byte> Encode() const;
};

Status DecodeRecallCurve(Bytes bytes, RecallCurve* curve);

}  // namespace ivfremote
