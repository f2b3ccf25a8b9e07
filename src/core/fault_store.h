// A decorator that makes a store misbehave, for tests.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "core/object_store.h"

namespace ivfremote {

enum class Fault {
  kNone,
  kGetStall,      // "get_stall": requests never end
  kGetFail,       // "get_fail": every request ends unavailable
  kGetFailOne,    // "get_fail_one": the last request of each wave does
  kGetMissing,    // "get_missing": the object is not there
  kGetDenied,     // "get_denied"
  kGetFlipByte,   // "get_flip_byte": one byte of each range is wrong
  kGetReorder,    // "get_reorder": completions arrive in reverse order, all at the end
  kPutStall,      // "put_stall": appended bytes never move
  kPutFail,       // "put_fail": unavailable after the first bytes
  kPutNoSpace,    // "put_no_space"
  kTaggedFail,    // "tagged_fail": tagged reads and writes are unavailable
  kTaggedLost,    // "tagged_lost": a tagged write succeeds, and then says the object was another
  kDeleteFail,    // "delete_fail"
};

// Nothing for an unknown name; "" is kNone.
std::optional<Fault> ParseFault(std::string_view name);

std::unique_ptr<ObjectStore> MakeFaultStore(std::unique_ptr<ObjectStore> store, Fault fault);

}  // namespace ivfremote
