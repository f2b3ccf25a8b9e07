// What parses as a key is what formatting writes; every key formats to what parses.
#include <string>

#include "core/object_key.h"
#include "fuzz_input.h"

namespace ivfremote {
namespace {

void ParseThenFormat(const std::string& text) {
  const std::optional<ObjectKey> key = ParseObjectKey(text);
  if (key.has_value()) REQUIRE(FormatObjectKey(*key) == text);
  const std::optional<Uuid> incarnation = ParseIncarnation(text);
  if (incarnation.has_value()) REQUIRE(FormatIncarnation(*incarnation) == text);
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ivfremote;
  ParseThenFormat(std::string(reinterpret_cast<const char*>(data), size));

  FuzzInput input(data, size);
  ObjectKey key{};
  key.segment = input.Take<SegmentName>();
  key.part = input.Take<uint32_t>() % 100000;
  std::string text = FormatObjectKey(key);
  const std::optional<ObjectKey> parsed = ParseObjectKey(text);
  REQUIRE(parsed.has_value() && *parsed == key);

  // A key changed a little: one that parses is still one that formatting writes.
  while (!input.empty()) {
    const size_t at = input.Take<uint8_t>() % (text.size() + 1);
    switch (input.Take<uint8_t>() % 3) {
      case 0:
        text.insert(at, 1, input.Take<char>());
        break;
      case 1:
        text.erase(at, 1);
        break;
      default:
        if (at < text.size()) text[at] = input.Take<char>();
    }
    ParseThenFormat(text);
  }
  return 0;
}
