// Which objects of an incarnation are garbage, and since when: docs/architecture.md "Garbage collection".
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/object_key.h"
#include "core/object_store.h"
#include "core/status.h"

namespace ivfremote {

// The GARBAGE object: what was found to be garbage, by key.
struct GarbageSince {
  int64_t time_us = 0;  // of the first collection that found it; since 1970
  uint64_t xid = 0;     // the next full transaction id at that time

  friend bool operator==(const GarbageSince&, const GarbageSince&) = default;
};
using GarbageList = std::map<std::string, GarbageSince>;

inline constexpr size_t kMaxGarbageListed = 400000;
inline constexpr size_t kMaxGarbageBytes = 64 << 20;

std::string EncodeGarbage(const GarbageList& list);
Status DecodeGarbage(std::string_view text, GarbageList* list);

// One collection. `marks`: every segment that an index of any database refers to, found after `oldest_running` and `next_xid`.
struct Collection {
  Uuid incarnation{};
  uint64_t oldest_running = 0;  // whoever may still come to refer to an object was running when this was found
  uint64_t next_xid = 0;
  int64_t now_us = 0;
  int64_t retention_us = 0;
  const std::set<SegmentName>* marks = nullptr;
  // From a cluster that is gone: it names no more objects, and its transaction ids say nothing here.
  bool adopted = false;
};

enum class Verdict {
  kKept,     // in use, too young to tell, or an object with a meaning of its own
  kUnknown,  // not an object of ivfremote's
  kWaits,    // garbage, for its retention to pass or transactions to end
  kDue,      // to be deleted
};

class GarbageSweep {
 public:
  // `before`: the list of the last collection.
  GarbageSweep(const Collection& collection, GarbageList before)
      : collection_(collection), before_(std::move(before)) {}

  struct Finding {
    std::string key;
    uint64_t bytes = 0;
    Verdict verdict = Verdict::kKept;
    int64_t since_us = 0;  // kWaits, kDue
  };

  // Judges one object that the store lists; each at most once.
  Finding Judge(const ObjectInfo& object);

  // Whether an upload that nobody has finished can be aborted.
  bool IsAbandoned(const UploadInfo& upload) const;

  // What the list has to be from now on: all that was judged to be garbage.
  const GarbageList& after() const { return after_; }
  bool changed() const { return after_ != before_; }
  void Forget(const std::string& key) { after_.erase(key); }

 private:
  // Whether a key is of a segment of this incarnation.
  bool IsSegment(const std::string& key, SegmentName* name) const;
  bool NamedBeforeHorizon(const SegmentName& name) const {
    return collection_.adopted || name.mint_xid < collection_.oldest_running;
  }

  Collection collection_;
  GarbageList before_;
  GarbageList after_;
};

}  // namespace ivfremote
