#include "core/object_key.h"

#include <charconv>

namespace ivfremote {
namespace {

constexpr char kDigits[] = "0123456789abcdef";
constexpr std::string_view kExtension = ".seg";
constexpr uint32_t kMaxPart = 99999;

void AppendHex(std::string* out, const uint8_t* bytes, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    out->push_back(kDigits[bytes[i] >> 4]);
    out->push_back(kDigits[bytes[i] & 15]);
  }
}

void AppendHex(std::string* out, uint64_t value) {
  for (int shift = 60; shift >= 0; shift -= 4) out->push_back(kDigits[(value >> shift) & 15]);
}

// Takes a prefix of known shape off a string; once something does not match, everything after fails too.
class KeyReader {
 public:
  explicit KeyReader(std::string_view text) : rest_(text) {}

  void Literal(std::string_view expected) {
    if (!rest_.starts_with(expected)) return Fail();
    rest_.remove_prefix(expected.size());
  }

  int HexDigit() {
    if (rest_.empty()) return Fail(), 0;
    const size_t digit = std::string_view(kDigits).find(rest_.front());
    if (digit == std::string_view::npos) return Fail(), 0;
    rest_.remove_prefix(1);
    return static_cast<int>(digit);
  }

  void HexBytes(uint8_t* out, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const int high = HexDigit();
      out[i] = static_cast<uint8_t>(high << 4 | HexDigit());
    }
  }

  uint64_t Hex64() {
    uint64_t value = 0;
    for (int i = 0; i < 16; ++i) value = value << 4 | static_cast<uint64_t>(HexDigit());
    return value;
  }

  // A decimal number from 1, without leading zeros.
  uint32_t PartNumber() {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc() || rest_.front() == '0' || value > kMaxPart) return Fail(), 0;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }

  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    rest_ = {};
  }

  std::string_view rest_;
  bool ok_ = true;
};

constexpr size_t kUuidGroups[] = {4, 2, 2, 2, 6};

}  // namespace

std::string FormatUuid(const Uuid& uuid) {
  std::string text;
  size_t at = 0;
  for (size_t bytes : kUuidGroups) {
    if (at > 0) text.push_back('-');
    AppendHex(&text, uuid.data() + at, bytes);
    at += bytes;
  }
  return text;
}

std::string FormatIncarnation(const Uuid& uuid) {
  std::string text;
  AppendHex(&text, uuid.data(), uuid.size());
  return text;
}

std::optional<Uuid> ParseIncarnation(std::string_view text) {
  KeyReader reader(text);
  Uuid uuid;
  reader.HexBytes(uuid.data(), uuid.size());
  if (!reader.AtEnd()) return std::nullopt;
  return uuid;
}

std::string FormatObjectKey(const ObjectKey& key) {
  std::string text = FormatIncarnation(key.segment.incarnation);
  text += '/';
  text += FormatUuid(key.segment.index_uuid);
  text += '/';
  AppendHex(&text, key.segment.mint_xid);
  text += '-';
  AppendHex(&text, key.segment.random);
  text += kExtension;
  if (key.part > 0) text += '.' + std::to_string(key.part);
  return text;
}

std::optional<ObjectKey> ParseObjectKey(std::string_view text) {
  ObjectKey key{};
  KeyReader reader(text);
  reader.HexBytes(key.segment.incarnation.data(), key.segment.incarnation.size());
  reader.Literal("/");
  size_t at = 0;
  for (size_t bytes : kUuidGroups) {
    if (at > 0) reader.Literal("-");
    reader.HexBytes(key.segment.index_uuid.data() + at, bytes);
    at += bytes;
  }
  reader.Literal("/");
  key.segment.mint_xid = reader.Hex64();
  reader.Literal("-");
  key.segment.random = reader.Hex64();
  reader.Literal(kExtension);
  if (reader.AtEnd()) return key;
  reader.Literal(".");
  key.part = reader.PartNumber();
  if (!reader.AtEnd()) return std::nullopt;
  return key;
}

std::string FormatOwnerKey(const Uuid& incarnation) { return FormatIncarnation(incarnation) + "/OWNER"; }

std::string FormatGarbageKey(const Uuid& incarnation) { return FormatIncarnation(incarnation) + "/GARBAGE"; }

}  // namespace ivfremote
