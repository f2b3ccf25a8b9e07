// The routing of an index, read from its pages: no more of it than is needed.
#pragma once

#include "core/list_ranker.h"
#include "core/routing.h"
#include "pg/page.h"
#include "pg/stream.h"

namespace ivfremote {

// Reads a trained index's routing.
void RoutingReaderInit(TreeReader* reader, Relation index, const MetaPage& meta);

// The header, which fits the index.
RoutingHeader ReadRoutingHeader(TreeReader* reader, const MetaPage& meta);

// All up to the end of `part`, into `routing`, which a memory context or the session owns.
void ReadRouting(TreeReader* reader, const MetaPage& meta, RoutingPart part, Routing* routing);

// Feeds the ranker what its routing doesn't hold.
void FeedRanker(TreeReader* reader, ListRanker* ranker);

}  // namespace ivfremote
