// Small objects that are replaced as a whole by whoever has read them: OWNER and GARBAGE of an incarnation.
#pragma once

#include "core/object_store.h"

namespace ivfremote {

// Reads an object; one that does not exist has neither text nor tag, and is no error. `object` must outlive the operation.
Status ReadText(ObjectStore* store, std::string key, size_t limit, TaggedObject* object,
                std::unique_ptr<Operation>* operation);

// Replaces what was read (empty tag: nothing) by `text`, which nobody else would write. `*replaced` says whether the object is `text`
// now; else somebody else was faster. Where a store says that it is another, it is read again: the answer to an
// attempt that succeeded may have been lost. `replaced` must outlive the operation.
Status ReplaceText(ObjectStore* store, std::string key, std::string text, std::string tag, bool* replaced,
                   std::unique_ptr<Operation>* operation);

}  // namespace ivfremote
