// The routing of an index, read from its pages.
#pragma once

#include "core/routing.h"
#include "pg/page.h"
#include "pg/stream.h"

namespace ivfremote {

// Feeds the whole routing of a trained index to `ranker`, page by page: no copy of it is kept.
void FeedRouting(Relation index, const MetaPage& meta, ListRanker* ranker);

// Feeds what is needed to find the list of a row that is inserted: the groups, then the lists of the nearest ones.
// `routing` reads the index's routing.
void FeedNearestGroups(TreeReader* routing, ListRanker* ranker);

}  // namespace ivfremote
