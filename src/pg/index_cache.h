// What a session keeps of the trained indexes it searches: routing, directories and the recall curve.
// All of it is immutable under its version, so a copy is good as long as the meta page names the same.
#pragma once

#include <vector>

#include "core/recall_curve.h"
#include "core/routing.h"
#include "pg/page.h"
#include "pg/postgres_c.h"

namespace ivfremote {

struct ResidentIndex {
  // Of what this is a copy.
  Oid relation;
  Oid file;
  Uuid index_uuid;
  uint64_t epoch;
  uint64_t routing_id;

  // As much as fits, from the first byte on: the lists, the codes too, or all. None: 0 lists.
  Routing routing;
  std::vector<std::vector<std::byte>> directories;   // in the order of the segments; empty: not kept
  RecallCurve curve;                                 // queries = 0: there is none

  uint64_t last_use;
  size_t bytes() const;
};

// The session's copy of a trained index, read anew if the index is no longer what it was. Valid until the next call.
const ResidentIndex* GetResidentIndex(Relation index, const MetaPage& meta);

}  // namespace ivfremote
