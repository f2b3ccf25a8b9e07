#include "core/garbage.h"

#include <charconv>

#include "core/checksum.h"

namespace ivfremote {
namespace {

// A line for each object, then one with the checksum of all before it.
constexpr std::string_view kFirstLine = "ivfremote garbage 1";
constexpr std::string_view kLastLine = "end ";

// Takes the text up to `separator` off, and it too; false if there is none.
bool TakeUntil(std::string_view* text, char separator, std::string_view* field) {
  const size_t end = text->find(separator);
  if (end == std::string_view::npos) return false;
  *field = text->substr(0, end);
  text->remove_prefix(end + 1);
  return true;
}

template <typename Number>
bool ParseNumber(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

uint32_t ChecksumOf(std::string_view text) { return Crc32c(std::as_bytes(std::span(text))); }

}  // namespace

std::string EncodeGarbage(const GarbageList& list) {
  std::string text(kFirstLine);
  text += '\n';
  for (const auto& [key, since] : list)
    text.append(std::to_string(since.time_us)).append(" ").append(std::to_string(since.xid)).append(" ").append(key).append("\n");
  const std::string checksum = std::to_string(ChecksumOf(text));
  return text.append(kLastLine).append(checksum).append("\n");
}

Status DecodeGarbage(std::string_view text, GarbageList* list) {
  const Status corrupt = Status::Corrupt("not a list of garbage");
  list->clear();
  const size_t last = text.rfind(kLastLine);
  if (last == std::string_view::npos || !text.ends_with('\n')) return corrupt;
  uint32_t checksum = 0;
  if (!ParseNumber(text.substr(last + kLastLine.size(), text.size() - last - kLastLine.size() - 1), &checksum) ||
      checksum != ChecksumOf(text.substr(0, last)))
    return corrupt;
  std::string_view rest = text.substr(0, last);
  std::string_view line;
  if (!TakeUntil(&rest, '\n', &line) || line != kFirstLine) return corrupt;
  while (TakeUntil(&rest, '\n', &line)) {
    std::string_view time, xid;
    GarbageSince since;
    if (!TakeUntil(&line, ' ', &time) || !TakeUntil(&line, ' ', &xid) || !ParseNumber(time, &since.time_us) ||
        !ParseNumber(xid, &since.xid))
      return corrupt;
    list->emplace(line, since);
  }
  return rest.empty() ? Status::Ok() : corrupt;
}

bool GarbageSweep::IsSegment(const std::string& key, SegmentName* name) const {
  const std::optional<ObjectKey> parsed = ParseObjectKey(key);
  if (!parsed || parsed->segment.incarnation != collection_.incarnation) return false;
  *name = parsed->segment;
  return true;
}

GarbageSweep::Finding GarbageSweep::Judge(const ObjectInfo& object) {
  Finding finding{object.key, object.size, Verdict::kKept, 0};
  if (object.key == FormatOwnerKey(collection_.incarnation) || object.key == FormatGarbageKey(collection_.incarnation))
    return finding;
  SegmentName name;
  if (!IsSegment(object.key, &name)) {
    finding.verdict = Verdict::kUnknown;
    return finding;
  }
  if (!NamedBeforeHorizon(name) || collection_.marks->contains(name)) return finding;
  const auto found = before_.find(object.key);
  const GarbageSince since =
      found == before_.end() ? GarbageSince{collection_.now_us, collection_.next_xid} : found->second;
  if (after_.size() < kMaxGarbageListed) after_.emplace(object.key, since);
  finding.since_us = since.time_us;
  const bool due = found != before_.end() && since.xid < collection_.oldest_running &&
                   collection_.now_us - since.time_us >= collection_.retention_us;
  finding.verdict = due ? Verdict::kDue : Verdict::kWaits;
  return finding;
}

bool GarbageSweep::IsAbandoned(const UploadInfo& upload) const {
  SegmentName name;
  return IsSegment(upload.key, &name) && NamedBeforeHorizon(name);
}

}  // namespace ivfremote
