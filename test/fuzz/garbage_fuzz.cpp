// Lists of garbage and OWNERs from a store: what decodes is what encoding writes; with a checksum that is right, too.
#include <string>

#include "core/checksum.h"
#include "core/garbage.h"
#include "core/owner.h"
#include "fuzz_input.h"

namespace ivfremote {
namespace {

void DecodeThenEncode(const std::string& text) {
  GarbageList list, again;
  if (DecodeGarbage(text, &list).ok()) {
    REQUIRE(DecodeGarbage(EncodeGarbage(list), &again).ok());
    REQUIRE(list == again);
  }
  Owner owner, same;
  if (DecodeOwner(text, &owner).ok()) {
    REQUIRE(DecodeOwner(EncodeOwner(owner), &same).ok());
    REQUIRE(same.token == owner.token && same.nonce == owner.nonce);
  }
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ivfremote;
  std::string text(reinterpret_cast<const char*>(data), size);
  DecodeThenEncode(text);
  text = "ivfremote garbage 1\n" + text;
  DecodeThenEncode(text + "end " + std::to_string(Crc32c(std::as_bytes(std::span(text)))) + "\n");
  return 0;
}
