// Pages of an index whose bytes are wrong: everything is refused, or harmless.
#include <cmath>
#include <set>

#include "core/distance.h"
#include "core/list_ranker.h"
#include "core/page_format.h"
#include "core/recall_curve.h"
#include "core/routing.h"
#include "fuzz_input.h"

namespace ivfremote {
namespace {

void RequireRefusal(const Status& status) {
  REQUIRE(status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kUnsupported);
  REQUIRE(!status.message().empty());
}

void FuzzSpecial(FuzzInput* input) {
  const auto kind = static_cast<PageKind>(input->TakeBetween(1, 6));
  PageSpecial valid{};
  valid.magic = PageSpecial::kMagic;
  valid.version = PageSpecial::kVersion;
  valid.kind = static_cast<uint16_t>(kind);
  valid.owner = 5;
  std::vector<std::byte> bytes(sizeof valid);
  Store(bytes.data(), valid);
  input->Spoil(&bytes);
  const auto special = Load<PageSpecial>(bytes.data());
  const Status status = CheckPage(special, kind, 5);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(special.kind == valid.kind && special.owner == 5);
  REQUIRE(special.used <= kPayloadBytes);
  if (kind == PageKind::kTree) REQUIRE(special.used * sizeof(TreeEntry) <= kPayloadBytes);
}

void RequireUsable(const StreamRef& ref) { REQUIRE((ref.root == kNoBlock) == (ref.bytes == 0) && ref.depth <= 4); }

void FuzzMeta(FuzzInput* input) {
  MetaPage valid;
  valid.dimensions = 4;
  valid.next_id = 10;
  valid.routing_id = 1;
  valid.routing = {3, 0, 100};
  valid.list_count = 2;
  valid.current = {2, 2, 0, 4, 2};
  const uint8_t kind = input->Take<uint8_t>();
  if (kind % 2 == 0) {
    valid.code_kind = valid.current.code_kind = CodeKind::kRabitq;
    valid.bits = 4;
  } else if (kind % 4 == 1) {
    valid.metric = Metric::kHamming;
    valid.code_kind = valid.current.code_kind = CodeKind::kBits;
    valid.bits = 1;
  }
  valid.segment_count = 2;
  for (uint32_t i = 0; i < 2; ++i) {
    valid.segments[i].id = 3 + i;
    valid.segments[i].list_count = 2;
    valid.segments[i].bytes = 1000;
    valid.segments[i].directory = {5, 0, 100};
    valid.segments[i].data = {6, 0, 1000};
  }
  std::vector<std::byte> payload(kPayloadBytes);
  Store(payload.data(), valid);
  input->Spoil(&payload);
  const ExactCopy copy(payload);
  MetaPage meta;
  const Status status = DecodeMetaPage(copy.bytes(), &meta);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(meta.dimensions <= MaxDimensions(meta.metric) && meta.list_count <= kMaxLists);
  REQUIRE(IsKindOf(meta.code_kind, meta.metric));
  REQUIRE(meta.segment_count <= MetaPage::kMaxSegments);
  REQUIRE(!meta.trained() || (meta.list_count > 0 && meta.dimensions > 0 && meta.routing.root != kNoBlock));
  REQUIRE(meta.trained() || (meta.list_count == 0 && meta.segment_count == 0));
  REQUIRE(strnlen(meta.server, sizeof meta.server) < sizeof meta.server);
  for (const PendingGeneration* generation : {&meta.current, &meta.sealed}) {
    if (generation->id == 0) continue;
    REQUIRE(generation->id < meta.next_id);
    const CodeFormat format = meta.FormatOf(*generation);
    REQUIRE(IsKnownCode(static_cast<uint8_t>(format.kind), static_cast<uint8_t>(format.bits)));
    REQUIRE(format.kind == CodeKind::kFloat32 || format == meta.format());
    REQUIRE(IsKindOf(format.kind, meta.metric));
    REQUIRE(PendingLayoutFor(format).rows_per_page >= 1);
    REQUIRE(generation->group_count >= 1 && generation->group_count <= kMaxPendingGroups);
    for (uint32_t list : {0u, generation->list_count, meta.list_count, 0xffffffffu})
      REQUIRE(PendingGroupOf(list, *generation) < generation->group_count);
  }
  RequireUsable(meta.routing);
  RequireUsable(meta.recall_curve);
  for (uint32_t i = 0; i < meta.segment_count; ++i) {
    const SegmentEntry& segment = meta.segments[i];
    REQUIRE(segment.id > 0 && segment.id < meta.next_id && segment.list_count > 0);
    for (const StreamRef* ref : {&segment.directory, &segment.tid_map, &segment.data}) RequireUsable(*ref);
    if (segment.place == SegmentPlace::kPages) REQUIRE(segment.data.bytes == segment.bytes);
    REQUIRE(segment.directory.bytes >= DirectoryHeader::kBytes);
    for (uint32_t k = 0; k < i; ++k) REQUIRE(meta.segments[k].id != segment.id);
  }
}

void FuzzTidMap(FuzzInput* input) {
  TidMapBuilder builder;
  uint32_t block = input->Take<uint32_t>() % kNoBlock;
  for (uint32_t i = input->TakeBetween(0, 30); i > 0 && block < kNoBlock; --i) {
    bool page_full = false;
    REQUIRE(builder.Add({block, static_cast<uint16_t>(input->TakeBetween(1, 300))}, &page_full).ok());
    if (page_full) break;
    block += std::min(input->TakeBetween(0, 9), kNoBlock - block);
  }
  builder.Finish();
  TidMapBuilder::Page page = builder.TakePage();
  page.payload.resize(kPayloadBytes);
  uint32_t entries = page.entries;
  if (input->Take<uint8_t>() >= 200) entries = input->Take<uint16_t>() % 2100;
  // Mostly what matters is near the start, and the last bitmaps.
  std::vector<std::byte> start(page.payload.begin(), page.payload.begin() + 200);
  input->Spoil(&start);
  std::copy(start.begin(), start.end(), page.payload.begin());

  ExactCopy payload(page.payload);
  const Status status = CheckTidMapPage(payload.bytes(), entries);
  if (!status.ok()) return RequireRefusal(status);
  std::set<Tid> tids;
  Tid previous{};
  const uint32_t none = VisitTidMap(payload.mutable_bytes(), entries, [&](Tid tid) {
    REQUIRE(tid.offset >= 1 && tid.offset <= 2048 && tid.block < kNoBlock);
    REQUIRE(tids.empty() || previous < tid);
    previous = tid;
    tids.insert(tid);
    return false;
  });
  REQUIRE(none == 0 && SameBytes(payload.bytes(), page.payload));
  for (const Tid& tid : tids) {
    REQUIRE(TidMapContains(payload.bytes(), entries, tid));
    for (const Tid& other : {Tid{tid.block, static_cast<uint16_t>(tid.offset + 1)}, Tid{tid.block + 1, tid.offset}})
      REQUIRE(TidMapContains(payload.bytes(), entries, other) == tids.contains(other));
  }
  uint32_t odd = 0;
  REQUIRE(VisitTidMap(payload.mutable_bytes(), entries, [&](Tid tid) {
            odd += tid.offset % 2;
            return tid.offset % 2 == 1;
          }) == odd);
  for (const Tid& tid : tids) REQUIRE(TidMapContains(payload.bytes(), entries, tid) == (tid.offset % 2 == 0));
  REQUIRE(CheckTidMapPage(payload.bytes(), entries).ok());
}

// The list numbers a ranker comes to, fed with exactly the bytes it asks for.
std::vector<uint32_t> Rank(Bytes encoded, ListRanker ranker, const ProbeRule& rule) {
  RoutingRange range;
  while (ranker.Next(&range)) {
    REQUIRE(range.length > 0 && range.offset <= encoded.size() && range.length <= encoded.size() - range.offset);
    const ExactCopy copy(encoded.subspan(range.offset, range.length));
    REQUIRE(ranker.Feed(copy.bytes()).ok());
  }
  std::vector<RankedList> ranked;
  ranker.Rank(rule, &ranked);
  std::vector<uint32_t> lists;
  float stop = 0;
  for (const RankedList& list : ranked) {
    REQUIRE(list.stop >= stop);
    stop = list.stop;
    lists.push_back(list.list);
  }
  return lists;
}

void FuzzRouting(FuzzInput* input) {
  Routing valid;
  valid.dimensions = input->TakeBetween(1, 20);
  valid.metric = static_cast<Metric>(input->Take<uint8_t>() % 4);
  const uint32_t lists = input->TakeBetween(1, 40);
  const uint32_t groups = input->TakeBetween(1, std::min(lists, 5u));
  valid.mean.assign(valid.dimensions, 0.25f);
  valid.radii.assign(lists, 1.0f);
  for (uint32_t g = 0; g <= groups; ++g) valid.group_first.push_back(lists * g / groups);
  valid.group_centroids.assign(groups * valid.dimensions, 0.0f);
  for (uint32_t i = 0; i < lists * valid.dimensions; ++i) valid.centroids.push_back(static_cast<float>(i % 7));
  std::vector<float> query(valid.dimensions);
  for (float& x : query) x = static_cast<float>(input->Take<int8_t>());
  RoundCentroids(&valid);
  if (input->Take<uint8_t>() % 2 == 1) {
    StartCodes(7, &valid);
    for (uint32_t g = 0; g < groups; ++g) CodeGroup(g, &valid);
  }
  const uint32_t wanted = input->TakeBetween(1, 50);
  std::vector<std::byte> bytes = valid.Encode();
  if (input->Take<uint8_t>() >= 240) bytes.resize(input->Take<uint16_t>() % (bytes.size() + 40));
  input->Spoil(&bytes);

  const ExactCopy copy(bytes);
  Routing routing;
  const Status status = DecodeRouting(copy.bytes(), &routing);
  RoutingHeader header;
  if (!status.ok()) {
    RequireRefusal(status);
    if (!DecodeRoutingHeader(copy.bytes(), &header).ok()) return;
    // What a part of it may be decoded to is decoded all the same.
    for (const RoutingPart part : {RoutingPart::kGroups, RoutingPart::kLists, RoutingPart::kCodes}) {
      if (header.EndOf(part) > bytes.size()) continue;
      Routing some;
      const Status decoded = DecodeRouting(copy.bytes().first(header.EndOf(part)), part, &some);
      if (!decoded.ok()) RequireRefusal(decoded);
    }
    return;
  }
  REQUIRE(routing.group_first.front() == 0 && routing.group_first.back() == routing.list_count());
  REQUIRE(std::is_sorted(routing.group_first.begin(), routing.group_first.end()));
  REQUIRE(AllFinite(routing.mean.data(), routing.mean.size()) && AllFinite(routing.radii.data(), routing.radii.size()));
  REQUIRE(*std::min_element(routing.radii.begin(), routing.radii.end()) >= 0);
  query.resize(routing.dimensions);
  header = routing.header();
  REQUIRE(header.EncodedBytes() == bytes.size());
  // The same lists, each once, wherever codes and centroids come from.
  for (const RankWish& wish : {RankWish{kAdaptiveRule, wanted, kAnyStop}, RankWish{kAdaptiveRule, ~0u, 3.0f}}) {
    const std::vector<uint32_t> whole = Rank(bytes, ListRanker(&routing, query.data(), wish), wish.rule);
    REQUIRE(!whole.empty() && whole.size() <= std::min<size_t>(wish.count, routing.list_count()));
    REQUIRE(std::set<uint32_t>(whole.begin(), whole.end()).size() == whole.size());
    for (const RoutingPart part : {RoutingPart::kLists, RoutingPart::kCodes}) {
      Routing some;
      REQUIRE(DecodeRouting(copy.bytes().first(header.EndOf(part)), part, &some).ok());
      REQUIRE(Rank(bytes, ListRanker(&some, query.data(), wish), wish.rule) == whole);
    }
  }
  Routing groups_only;
  REQUIRE(DecodeRouting(copy.bytes().first(header.EndOf(RoutingPart::kGroups)), RoutingPart::kGroups, &groups_only).ok());
  REQUIRE(Rank(bytes, ListRanker::ForInsert(&groups_only, query.data()), ProbeRule()).size() == 1);
}

void FuzzRecallCurve(FuzzInput* input) {
  RecallCurve valid;
  valid.queries = 400;
  valid.rule = kAdaptiveRule;
  for (uint32_t i = input->TakeBetween(1, 30); i > 0; --i)
    valid.points.push_back({1 + static_cast<uint32_t>(valid.points.size()) / 5,
                            0.5f + 0.05f * static_cast<float>(valid.points.size() % 5), 1, 2, 3, 4});
  std::vector<std::byte> bytes = valid.Encode();
  const auto k = input->Take<uint32_t>();
  const double recall = input->Take<uint16_t>() / 65535.0;
  if (input->Take<uint8_t>() >= 240) bytes.resize(input->Take<uint16_t>() % (bytes.size() + 50));
  input->Spoil(&bytes);
  const ExactCopy copy(bytes);
  RecallCurve curve;
  const Status status = DecodeRecallCurve(copy.bytes(), &curve);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(!curve.points.empty());
  REQUIRE(SameBytes(Bytes(curve.Encode()).subspan(64), Bytes(bytes).subspan(64)));
  REQUIRE(curve.bound_loss >= 0 && curve.bound_loss <= 1);
  REQUIRE(curve.rule.radius_weight >= 0 && curve.rule.ratio_weight >= 0);
  for (uint32_t neighbours : {k, k % 8, 0u, 1u})
    for (double share : {recall, 0.0, 1.0, 0.9}) {
      const CurvePoint point = curve.At(neighbours, share);
      REQUIRE(point.k == neighbours);
      REQUIRE(point.stop >= 0 && point.lists >= 0 && point.rows >= 0 && point.bytes >= 0);
    }
}

void FuzzPending(FuzzInput* input) {
  constexpr uint32_t kWidths[] = {1, 2, 4, 8};
  CodeFormat format;
  format.dimensions = input->TakeBetween(1, kMaxDimensions);
  const uint8_t width = input->Take<uint8_t>() % 6;
  if (width < 4) format = {CodeKind::kRabitq, kWidths[width], format.dimensions};
  if (width == 5) format = {CodeKind::kBits, 1, format.dimensions};
  const PendingLayout layout = PendingLayoutFor(format);
  REQUIRE(layout.rows_per_page >= 1 && layout.RowOffset(layout.rows_per_page) <= kPayloadBytes);
  REQUIRE(layout.row_bytes % alignof(PendingRow) == 0);
  REQUIRE(layout.wide || layout.row_bytes >= sizeof(PendingRow) + format.RowBytes());
  REQUIRE(!layout.wide || sizeof(PendingRow) + format.RowBytes() > kPayloadBytes);
  PageSpecial special{};
  special.used = input->Take<uint32_t>();
  special.position = input->Take<uint8_t>() % 2;
  const uint32_t least = input->Take<uint8_t>() % 2;
  uint32_t position = least;
  const Status status = CheckPendingPage(layout, special, &position);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(special.position >= least && position == special.position + 1);
  REQUIRE(uint64_t{special.used} * layout.row_bytes <= kPayloadBytes);
  const uint32_t lists = 1 + input->Take<uint32_t>() % kMaxLists;
  const uint32_t groups = input->TakeBetween(1, std::min(kMaxPendingGroups, lists));
  const PendingGeneration generation{1, groups, 0, 0, lists};
  const uint32_t list = input->Take<uint32_t>();
  REQUIRE(PendingGroupOf(list, generation) < groups);
  REQUIRE(list == 0 || PendingGroupOf(list - 1, generation) <= PendingGroupOf(list, generation));
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ivfremote;
  FuzzInput input(data, size);
  switch (input.Take<uint8_t>() % 6) {
    case 0:
      FuzzSpecial(&input);
      break;
    case 1:
      FuzzMeta(&input);
      break;
    case 2:
      FuzzTidMap(&input);
      break;
    case 3:
      FuzzRouting(&input);
      break;
    case 4:
      FuzzRecallCurve(&input);
      break;
    default:
      FuzzPending(&input);
  }
  return 0;
}
