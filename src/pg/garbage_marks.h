// The mark phase of garbage collection: which segments any index of any database refers to.
#pragma once

#include <set>

#include "core/object_key.h"

namespace ivfremote {

// Adds them, as committed and published now: by a background worker in each database, one after the other. An error if any of
// the databases or indexes could not be looked at.
void CollectMarks(std::set<SegmentName>* marks);

}  // namespace ivfremote
