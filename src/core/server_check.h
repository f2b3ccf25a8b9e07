// Checks, one after another, everything an index needs of a store: the first hour of every user.
#pragma once

#include <string>
#include <vector>

#include "core/object_store.h"

namespace ivfremote {

// Writes, reads and deletes objects below `key_base`, which nobody else uses. Ends early, with kCancelled, when
// `interrupted` says so; checks that fail are results, not errors. `store` must outlive the call.
Status CheckStore(ObjectStore* store, const std::string& key_base, InterruptCheck interrupted,
                  std::vector<CheckResult>* results);

}  // namespace ivfremote
