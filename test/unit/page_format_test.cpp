#include "core/page_format.h"

#include <functional>
#include <map>
#include <set>

#include "support.h"

namespace ivfremote {
namespace {

using ByteVector = std::vector<std::byte>;

template <typename T>
ByteVector BytesOf(const T& value) {
  ByteVector bytes(sizeof value);
  Store(bytes.data(), value);
  return bytes;
}

// -- every page

constexpr uint64_t kOwner = 17;

PageSpecial SpecialFor(PageKind kind) {
  PageSpecial special{};
  special.magic = PageSpecial::kMagic;
  special.version = PageSpecial::kVersion;
  special.kind = static_cast<uint16_t>(kind);
  special.owner = kOwner;
  return special;
}

const PageKind kKinds[] = {
    PageKind::kMeta,   PageKind::kTree, PageKind::kStream, PageKind::kTidMap, PageKind::kPendingDirectory,
    PageKind::kPending};

TEST(CheckPage, FieldsAreWhereTheFormatPutsThem) {
  EXPECT_EQ(kPayloadBytes, 8128u);
  EXPECT_EQ(offsetof(PageSpecial, magic), 0u);
  EXPECT_EQ(offsetof(PageSpecial, version), 4u);
  EXPECT_EQ(offsetof(PageSpecial, kind), 6u);
  EXPECT_EQ(offsetof(PageSpecial, required_features), 8u);
  EXPECT_EQ(offsetof(PageSpecial, flags), 10u);
  EXPECT_EQ(offsetof(PageSpecial, next), 12u);
  EXPECT_EQ(offsetof(PageSpecial, owner), 16u);
  EXPECT_EQ(offsetof(PageSpecial, retire_xid), 24u);
  EXPECT_EQ(offsetof(PageSpecial, position), 32u);
  EXPECT_EQ(offsetof(PageSpecial, used), 36u);
  EXPECT_EQ(Text(BytesOf(SpecialFor(PageKind::kMeta))).substr(0, 4), "IFRE");
  EXPECT_EQ(kTreeFanout, 1016u);
  EXPECT_EQ(kChainsPerPage, 508u);
}

TEST(CheckPage, ExpectedPagesPass) {
  for (PageKind kind : kKinds) EXPECT_OK(CheckPage(SpecialFor(kind), kind, kOwner));
}

TEST(CheckPage, UnexpectedPagesFail) {
  const struct {
    const char* what;
    void (*change)(PageSpecial*);
    StatusCode code;
    std::string_view word;
  } cases[] = {
      {"an empty page", [](PageSpecial* s) { *s = PageSpecial{}; }, StatusCode::kCorrupt, ""},
      {"magic", [](PageSpecial* s) { s->magic ^= 1; }, StatusCode::kCorrupt, ""},
      {"version", [](PageSpecial* s) { s->version = 5; }, StatusCode::kUnsupported, "version 5"},
      {"version of development", [](PageSpecial* s) { s->version = 0; }, StatusCode::kCorrupt, "version 0"},
      {"required feature", [](PageSpecial* s) { s->required_features = 1; }, StatusCode::kUnsupported, "features"},
      {"kind", [](PageSpecial* s) { s->kind = 2; }, StatusCode::kCorrupt, "kind 2, not 3"},
      {"no kind", [](PageSpecial* s) { s->kind = 0; }, StatusCode::kCorrupt, "kind 0, not 3"},
      {"owner", [](PageSpecial* s) { s->owner = 18; }, StatusCode::kCorrupt, "belongs to 18, not to 17"},
      {"deleted", [](PageSpecial* s) { s->flags = PageSpecial::kDeleted, s->retire_xid = 7; }, StatusCode::kOk, ""},
      {"used", [](PageSpecial* s) { s->used = kPayloadBytes + 1; }, StatusCode::kCorrupt, "more content than fits"},
      {"all used", [](PageSpecial* s) { s->used = kPayloadBytes; }, StatusCode::kOk, ""},
      {"unknown flags", [](PageSpecial* s) { s->flags = 0xfffe; }, StatusCode::kOk, ""},
  };
  for (const auto& c : cases) {
    PageSpecial special = SpecialFor(PageKind::kStream);
    c.change(&special);
    EXPECT_TRUE(Fails(CheckPage(special, PageKind::kStream, kOwner), c.code, {c.word})) << c.what;
  }
}

TEST(CheckPage, EntriesThatFit) {
  const std::pair<PageKind, uint32_t> most[] = {
      {PageKind::kTree, 8128 / 8},
      {PageKind::kStream, 8128},
      {PageKind::kTidMap, (8128 - 8) / 4},
      {PageKind::kPendingDirectory, 8128 / 16}};
  for (const auto& [kind, used] : most) {
    PageSpecial special = SpecialFor(kind);
    special.used = used;
    EXPECT_OK(CheckPage(special, kind, kOwner));
    ++special.used;
    EXPECT_TRUE(Fails(CheckPage(special, kind, kOwner), StatusCode::kCorrupt));
    special.used = 0xffffffff;
    EXPECT_TRUE(Fails(CheckPage(special, kind, kOwner), StatusCode::kCorrupt));
  }
}

// -- meta page

// A trained index with one segment in pages, one in an object, and pending rows.
MetaPage ExampleMeta() {
  MetaPage meta;
  meta.dimensions = 784;
  meta.metric = Metric::kInnerProduct;
  meta.index_uuid.fill(0x33);
  meta.epoch = 5;
  meta.next_id = 10;
  meta.current = {4, 100, 0, 50, 256};
  meta.sealed = {3, 1000, 1, 40, 1000};
  meta.routing_id = 2;
  meta.routing = {30, 1, 900000};
  meta.list_count = 256;
  meta.requested_lists = 256;
  std::strcpy(meta.server, "lake");
  meta.segment_count = 2;
  meta.segments[0].id = 5;
  meta.segments[0].place = SegmentPlace::kPages;
  meta.segments[0].list_count = 256;
  meta.segments[0].rows = 1000;
  meta.segments[0].bytes = 4000000;
  meta.segments[0].directory = {60, 0, 5000};
  meta.segments[0].tid_map = {61, 0, 1};
  meta.segments[0].data = {62, 1, 4000000};
  meta.segments[1] = meta.segments[0];
  meta.segments[1].id = 6;
  meta.segments[1].place = SegmentPlace::kObject;
  meta.segments[1].data = {};
  return meta;
}

TEST(MetaPage, RoundTrip) {
  MetaPage meta;
  ASSERT_OK(DecodeMetaPage(BytesOf(ExampleMeta()), &meta));
  EXPECT_EQ(BytesOf(meta), BytesOf(ExampleMeta()));
  EXPECT_TRUE(meta.trained());
}

TEST(MetaPage, OfAnUntrainedIndex) {
  MetaPage meta;
  ASSERT_OK(DecodeMetaPage(BytesOf(MetaPage{}), &meta));
  EXPECT_FALSE(meta.trained());
  EXPECT_EQ(meta.routing.root, kNoBlock);
}

// A whole payload is decoded, and every longer one.
TEST(MetaPage, EveryTruncationIsNoticed) {
  ByteVector payload = BytesOf(ExampleMeta());
  const size_t size = payload.size();
  payload.resize(kPayloadBytes);
  MetaPage meta;
  for (size_t length = 0; length < size; ++length)
    ASSERT_TRUE(Fails(DecodeMetaPage(Bytes(payload).first(length), &meta), StatusCode::kCorrupt)) << length;
  EXPECT_OK(DecodeMetaPage(payload, &meta));
}

TEST(MetaPage, FieldsAreWhereTheFormatPutsThem) {
  EXPECT_EQ(offsetof(MetaPage, magic), 0u);
  EXPECT_EQ(offsetof(MetaPage, version), 4u);
  EXPECT_EQ(offsetof(MetaPage, segment_count), 6u);
  EXPECT_EQ(offsetof(MetaPage, required_features), 8u);
  EXPECT_EQ(offsetof(MetaPage, ignorable_features), 12u);
  EXPECT_EQ(offsetof(MetaPage, dimensions), 16u);
  EXPECT_EQ(offsetof(MetaPage, metric), 20u);
  EXPECT_EQ(offsetof(MetaPage, code_kind), 21u);
  EXPECT_EQ(offsetof(MetaPage, bits), 22u);
  EXPECT_EQ(offsetof(MetaPage, rotation_seed), 24u);
  EXPECT_EQ(offsetof(MetaPage, index_uuid), 32u);
  EXPECT_EQ(offsetof(MetaPage, epoch), 48u);
  EXPECT_EQ(offsetof(MetaPage, next_id), 56u);
  EXPECT_EQ(offsetof(MetaPage, current), 64u);
  EXPECT_EQ(offsetof(MetaPage, sealed), 104u);
  EXPECT_EQ(offsetof(MetaPage, routing_id), 144u);
  EXPECT_EQ(offsetof(MetaPage, routing), 152u);
  EXPECT_EQ(offsetof(MetaPage, list_count), 168u);
  EXPECT_EQ(offsetof(MetaPage, requested_lists), 172u);
  EXPECT_EQ(offsetof(MetaPage, server), 176u);
  EXPECT_EQ(offsetof(MetaPage, recall_curve), 240u);
  EXPECT_EQ(offsetof(MetaPage, write_features), 256u);
  EXPECT_EQ(offsetof(MetaPage, recall_curve_id), 264u);
  EXPECT_EQ(offsetof(MetaPage, swept), 344u);
  EXPECT_EQ(offsetof(SweepState, next_id), 8u);
  EXPECT_EQ(offsetof(SweepState, oldest_xid), 16u);
  EXPECT_EQ(offsetof(SweepState, waiting_pages), 24u);
  EXPECT_EQ(offsetof(MetaPage, segments), 376u);
  EXPECT_EQ(sizeof(MetaPage), 376u + 40 * 192);
  EXPECT_EQ(Text(BytesOf(MetaPage{})).substr(0, 4), "IFRM");

  EXPECT_EQ(offsetof(SegmentEntry, id), 0u);
  EXPECT_EQ(offsetof(SegmentEntry, place), 8u);
  EXPECT_EQ(offsetof(SegmentEntry, flags), 10u);
  EXPECT_EQ(offsetof(SegmentEntry, list_count), 12u);
  EXPECT_EQ(offsetof(SegmentEntry, rows), 16u);
  EXPECT_EQ(offsetof(SegmentEntry, bytes), 24u);
  EXPECT_EQ(offsetof(SegmentEntry, part_bytes), 32u);
  EXPECT_EQ(offsetof(SegmentEntry, name), 40u);
  EXPECT_EQ(offsetof(SegmentEntry, directory), 88u);
  EXPECT_EQ(offsetof(SegmentEntry, tid_map), 104u);
  EXPECT_EQ(offsetof(SegmentEntry, data), 120u);

  EXPECT_EQ(offsetof(PendingGeneration, group_count), 8u);
  EXPECT_EQ(offsetof(PendingGeneration, directory_depth), 12u);
  EXPECT_EQ(offsetof(PendingGeneration, directory_root), 16u);
  EXPECT_EQ(offsetof(PendingGeneration, list_count), 20u);
  EXPECT_EQ(offsetof(PendingGeneration, code_kind), 24u);
  EXPECT_EQ(offsetof(PendingGeneration, row_bytes), 28u);
  EXPECT_EQ(offsetof(StreamRef, depth), 4u);
  EXPECT_EQ(offsetof(StreamRef, bytes), 8u);
}

// Before it is trained, an index that is to have codes holds floats, and may not know their width.
TEST(MetaPage, UntrainedIndexOfCodes) {
  MetaPage meta;
  meta.code_kind = CodeKind::kRabitq;
  meta.bits = 0;
  meta.next_id = 10;
  meta.current = {4, 1, 0, 50};
  MetaPage decoded;
  ASSERT_OK(DecodeMetaPage(BytesOf(meta), &decoded));
  meta.dimensions = 100;
  ASSERT_OK(DecodeMetaPage(BytesOf(meta), &decoded));
  EXPECT_EQ(decoded.FormatOf(decoded.current), (CodeFormat{CodeKind::kFloat32, 32, 100}));
  meta.bits = 4;
  ASSERT_OK(DecodeMetaPage(BytesOf(meta), &decoded));
  EXPECT_EQ(decoded.format(), (CodeFormat{CodeKind::kRabitq, 4, 100}));
  meta.current.code_kind = CodeKind::kRabitq;
  EXPECT_EQ(meta.FormatOf(meta.current), meta.format());
  EXPECT_TRUE(Fails(DecodeMetaPage(BytesOf(meta), &decoded), StatusCode::kCorrupt, {"pending generation"}));
}

TEST(MetaPage, LivePagesAreOfTheOwnersItNames) {
  MetaPage meta = ExampleMeta();
  meta.recall_curve_id = 0;
  std::set<uint64_t> owners = {meta.current.id, meta.sealed.id, meta.routing_id};
  for (uint32_t i = 0; i < meta.segment_count; ++i) owners.insert(meta.segments[i].id);
  EXPECT_EQ(owners.size(), 3u + meta.segment_count);
  for (uint64_t id = 0; id < meta.next_id + 10; ++id) EXPECT_EQ(IsLive(meta, id), owners.count(id) == 1) << id;
  // An entry beyond the last segment names nothing.
  meta.segments[meta.segment_count].id = meta.next_id - 1;
  EXPECT_FALSE(IsLive(meta, meta.next_id - 1));
  meta.recall_curve_id = meta.next_id - 1;
  EXPECT_TRUE(IsLive(meta, meta.next_id - 1));
}

// Who only reads need not know them.
TEST(MetaPage, WriteFeaturesAreForWriters) {
  MetaPage meta = ExampleMeta();
  EXPECT_OK(CheckWritable(meta));
  EXPECT_EQ(meta.curve_owner(), meta.routing_id);
  for (const uint32_t features : {1u, 0x80000000u}) {
    meta.write_features = features;
    MetaPage decoded;
    ASSERT_OK(DecodeMetaPage(BytesOf(meta), &decoded));
    EXPECT_TRUE(Fails(CheckWritable(decoded), StatusCode::kUnsupported, {"features"}));
  }
}

TEST(MetaPage, NewerVersionIsNamed) {
  MetaPage meta = ExampleMeta();
  meta.version = 8;
  MetaPage decoded;
  EXPECT_TRUE(Fails(DecodeMetaPage(BytesOf(meta), &decoded), StatusCode::kUnsupported, {"version 8", "up to " + std::to_string(MetaPage::kVersion)}));
}

TEST(MetaPage, ImpossibleFields) {
  const struct {
    const char* what;
    void (*change)(MetaPage*);
    StatusCode code = StatusCode::kCorrupt;
  } cases[] = {
      {"magic", [](MetaPage* m) { m->magic = 0; }},
      {"version", [](MetaPage* m) { m->version = MetaPage::kVersion + 1; }, StatusCode::kUnsupported},
      {"required feature", [](MetaPage* m) { m->required_features = 0x80000000; }, StatusCode::kUnsupported},
      {"pending chains with gaps", [](MetaPage* m) { m->required_features = MetaPage::kPendingGaps; }, StatusCode::kOk},
      {"that and another", [](MetaPage* m) { m->required_features = MetaPage::kPendingGaps | 0x40000000; },
       StatusCode::kUnsupported},
      {"ignorable feature", [](MetaPage* m) { m->ignorable_features = 4; }, StatusCode::kOk},
      {"too many dimensions", [](MetaPage* m) { m->dimensions = kMaxDimensions + 1; }},
      {"trained without dimensions", [](MetaPage* m) { m->dimensions = 0; }},
      {"metric", [](MetaPage* m) { m->metric = static_cast<Metric>(4); }, StatusCode::kUnsupported},
      {"code kind", [](MetaPage* m) { m->code_kind = static_cast<CodeKind>(1); }, StatusCode::kUnsupported},
      {"bits", [](MetaPage* m) { m->bits = 4; }, StatusCode::kUnsupported},
      {"automatic bits of floats", [](MetaPage* m) { m->bits = 0; }, StatusCode::kUnsupported},
      {"codes", [](MetaPage* m) { m->code_kind = CodeKind::kRabitq, m->bits = 4; }, StatusCode::kOk},
      {"codes of 3 bits", [](MetaPage* m) { m->code_kind = CodeKind::kRabitq, m->bits = 3; },
       StatusCode::kUnsupported},
      {"automatic bits after training", [](MetaPage* m) { m->code_kind = CodeKind::kRabitq, m->bits = 0; },
       StatusCode::kUnsupported},
      {"codes in a generation of an index of floats",
       [](MetaPage* m) { m->current.code_kind = CodeKind::kRabitq; }},
      {"unknown codes in a generation", [](MetaPage* m) { m->current.code_kind = static_cast<CodeKind>(2); }},
      {"bits", [](MetaPage* m) {
         m->metric = Metric::kHamming;
         m->code_kind = m->current.code_kind = m->sealed.code_kind = CodeKind::kBits;
         m->bits = 1;
         m->dimensions = kMaxBits;
       }, StatusCode::kOk},
      {"too many bits", [](MetaPage* m) {
         m->metric = Metric::kHamming;
         m->code_kind = m->current.code_kind = m->sealed.code_kind = CodeKind::kBits;
         m->bits = 1;
         m->dimensions = kMaxBits + 1;
       }},
      {"bits by L2", [](MetaPage* m) { m->code_kind = m->current.code_kind = m->sealed.code_kind = CodeKind::kBits, m->bits = 1; }},
      {"floats by Hamming", [](MetaPage* m) { m->metric = Metric::kHamming; }},
      {"bits of two bits", [](MetaPage* m) { m->metric = Metric::kHamming, m->code_kind = CodeKind::kBits, m->bits = 2; },
       StatusCode::kUnsupported},
      {"a generation of floats in an index of bits", [](MetaPage* m) {
         m->metric = Metric::kHamming;
         m->code_kind = CodeKind::kBits;
         m->bits = 1;
       }},
      {"codes in a generation",
       [](MetaPage* m) { m->code_kind = m->current.code_kind = CodeKind::kRabitq, m->bits = 1; }, StatusCode::kOk},
      {"too many segments", [](MetaPage* m) { m->segment_count = MetaPage::kMaxSegments + 1; }},
      {"very many segments", [](MetaPage* m) { m->segment_count = 0xffff; }},
      {"too many lists", [](MetaPage* m) { m->list_count = kMaxLists + 1; }},
      {"trained without lists", [](MetaPage* m) { m->list_count = 0; }},
      {"routing that was never given out", [](MetaPage* m) { m->routing_id = m->next_id; }},
      {"server without an end", [](MetaPage* m) { std::memset(m->server, 'x', sizeof m->server); }},
      {"longest server", [](MetaPage* m) { std::memset(m->server, 'x', sizeof m->server - 1); }, StatusCode::kOk},
      {"routing of no bytes", [](MetaPage* m) { m->routing.bytes = 0; }},
      {"routing without a root", [](MetaPage* m) { m->routing.root = kNoBlock; }},
      {"routing too deep", [](MetaPage* m) { m->routing.depth = 5; }},
      {"empty recall curve with bytes", [](MetaPage* m) { m->recall_curve.bytes = 1; }},
      {"empty recall curve with depth", [](MetaPage* m) { m->recall_curve.depth = 1; }},
      {"generation that was never given out", [](MetaPage* m) { m->current.id = m->next_id; }},
      {"sealed generation that was never given out", [](MetaPage* m) { m->sealed.id = 99; }},
      {"generation without groups", [](MetaPage* m) { m->current.group_count = 0; }},
      {"generation of too many groups",
       [](MetaPage* m) { m->sealed.group_count = kMaxPendingGroups + 1, m->sealed.list_count = 5000; }},
      {"generation of more groups than lists", [](MetaPage* m) { m->current.list_count = 99; }},
      {"generation of as many groups as lists", [](MetaPage* m) { m->current.list_count = 100; }, StatusCode::kOk},
      {"generation of too many lists", [](MetaPage* m) { m->current.list_count = kMaxLists + 1; }},
      {"untrained generation of two groups", [](MetaPage* m) { m->sealed = {3, 2, 0, 40}; }},
      {"untrained generation", [](MetaPage* m) { m->sealed = {3, 1, 0, 40}; }, StatusCode::kOk},
      {"generation without a directory", [](MetaPage* m) { m->current.directory_root = kNoBlock; }},
      {"generation of too deep a directory", [](MetaPage* m) { m->sealed.directory_depth = 2; }},
      {"generation of longer rows", [](MetaPage* m) { m->current.row_bytes = 8128; }, StatusCode::kOk},
      {"generation of rows longer than a page", [](MetaPage* m) { m->current.row_bytes = 8132; }},
      {"generation of rows between words", [](MetaPage* m) { m->current.row_bytes = 402; }},
      {"no generation", [](MetaPage* m) { m->current = m->sealed = {}; }, StatusCode::kOk},
      {"segment without id", [](MetaPage* m) { m->segments[0].id = 0; }},
      {"segment that was never given out", [](MetaPage* m) { m->segments[1].id = m->next_id; }},
      {"segment without lists", [](MetaPage* m) { m->segments[1].list_count = 0; }},
      {"segment of too many lists", [](MetaPage* m) { m->segments[0].list_count = kMaxLists + 1; }},
      {"segment in no known place", [](MetaPage* m) { m->segments[0].place = static_cast<SegmentPlace>(2); },
       StatusCode::kUnsupported},
      {"feature for writers", [](MetaPage* m) { m->write_features = 1; }, StatusCode::kOk},
      {"recall curve of its own", [](MetaPage* m) { m->recall_curve_id = 7; }, StatusCode::kOk},
      {"recall curve that was never given out", [](MetaPage* m) { m->recall_curve_id = m->next_id; }},
      {"recall curve with the id of a segment", [](MetaPage* m) { m->recall_curve_id = m->segments[0].id; }},
      {"pages that are not the segment", [](MetaPage* m) { m->segments[0].data.bytes -= 1; }},
      {"segment without pages", [](MetaPage* m) { m->segments[0].data = {}; }},
      {"directory of no bytes", [](MetaPage* m) { m->segments[0].directory.bytes = 0; }},
      {"no directory", [](MetaPage* m) { m->segments[0].directory = {}; }},
      {"directory without entries of lists", [](MetaPage* m) { m->segments[0].directory.bytes = 64 + 8 * 255; }},
      {"directory of no blocks", [](MetaPage* m) { m->segments[0].directory.bytes = 64 + 8 * 256; }, StatusCode::kOk},
      {"rows without a tid map", [](MetaPage* m) { m->segments[1].tid_map = {}; }},
      {"no rows and no tid map", [](MetaPage* m) { m->segments[1].tid_map = {}, m->segments[1].rows = 0; },
       StatusCode::kOk},
      {"segment of an unknown kind", [](MetaPage* m) { m->segments[1].flags = 0x80; }, StatusCode::kUnsupported},
      {"spilled segment with an ignorable flag", [](MetaPage* m) { m->segments[1].flags = 0xff01; }, StatusCode::kOk},
      {"two segments of one id", [](MetaPage* m) { m->segments[1].id = m->segments[0].id; }},
      {"segment with the id of the routing", [](MetaPage* m) { m->segments[1].id = m->routing_id; }},
      {"segment with the id of a generation", [](MetaPage* m) { m->segments[0].id = m->sealed.id; }},
      {"two generations of one id", [](MetaPage* m) { m->sealed.id = m->current.id; }},
      {"two segments in one object",
       [](MetaPage* m) { m->segments[0].place = SegmentPlace::kObject, m->segments[0].data = {}; }},
      {"trained without a routing", [](MetaPage* m) { m->routing = {}; }},
      {"untrained with a routing",
       [](MetaPage* m) { m->routing_id = m->list_count = m->segment_count = 0; }},
      {"untrained with lists",
       [](MetaPage* m) { m->routing = {}, m->routing_id = m->segment_count = 0; }},
      {"untrained with segments",
       [](MetaPage* m) { m->routing = {}, m->routing_id = m->list_count = 0; }},
      {"untrained with a recall curve",
       [](MetaPage* m) {
         m->routing = {}, m->routing_id = m->list_count = m->segment_count = 0, m->recall_curve = {30, 0, 88};
       }},
      {"untrained",
       [](MetaPage* m) { m->routing = {}, m->routing_id = m->list_count = m->segment_count = 0; }, StatusCode::kOk},
      {"more lists asked for than there can be", [](MetaPage* m) { m->requested_lists = kMaxLists + 1; }},
      {"directory too deep", [](MetaPage* m) { m->segments[1].directory.depth = 5; }},
      {"tid map of no leaves", [](MetaPage* m) { m->segments[1].tid_map.bytes = 0; }},
      {"tid map too deep", [](MetaPage* m) { m->segments[1].tid_map.depth = 100; }},
      {"data too deep", [](MetaPage* m) { m->segments[0].data.depth = 5; }},
      {"third segment, not there", [](MetaPage* m) { m->segments[2].id = 1000; }, StatusCode::kOk},
      {"third segment, empty", [](MetaPage* m) { m->segment_count = 3; }},
  };
  for (const auto& c : cases) {
    MetaPage meta = ExampleMeta();
    c.change(&meta);
    MetaPage decoded;
    EXPECT_EQ(DecodeMetaPage(BytesOf(meta), &decoded).code(), c.code) << c.what;
  }
}

TEST(MetaPage, AsManySegmentsAsThereCanBe) {
  MetaPage meta = ExampleMeta();
  meta.next_id = 1000;
  meta.segment_count = MetaPage::kMaxSegments;
  for (uint32_t i = 0; i < MetaPage::kMaxSegments; ++i) {
    meta.segments[i] = ExampleMeta().segments[1];
    meta.segments[i].id = 100 + i;
    meta.segments[i].name.random = i;
  }
  MetaPage decoded;
  EXPECT_OK(DecodeMetaPage(BytesOf(meta), &decoded));
  meta.segments[MetaPage::kMaxSegments - 1].list_count = 0;
  EXPECT_TRUE(Fails(DecodeMetaPage(BytesOf(meta), &decoded), StatusCode::kCorrupt));
}

// -- tid maps

// Adds a row that fits; true when a page has become full.
bool Add(TidMapBuilder* builder, Tid tid) {
  bool page_full = false;
  EXPECT_OK(builder->Add(tid, &page_full));
  return page_full;
}

// A tid map as an index holds it: pages by their first block.
class TidMap {
 public:
  explicit TidMap(const std::set<Tid>& tids) {
    TidMapBuilder builder;
    for (const Tid& tid : tids)
      if (Add(&builder, tid)) Take(&builder);
    while (builder.Finish()) Take(&builder);
  }

  size_t pages() const { return pages_.size(); }
  std::map<uint32_t, TidMapBuilder::Page>& by_first_block() { return pages_; }

  bool Contains(Tid tid) const {
    auto page = pages_.upper_bound(tid.block);
    if (page == pages_.begin()) return false;
    --page;
    return TidMapContains(page->second.payload, page->second.entries, tid);
  }

  // Every live TID in the order of the visit; those that `dead` names are cleared.
  std::vector<Tid> Visit(const std::function<bool(Tid)>& dead) {
    std::vector<Tid> visited;
    for (auto& [first_block, page] : pages_) {
      uint32_t expected = 0;
      const uint32_t cleared = VisitTidMap(page.payload, page.entries, [&](Tid tid) {
        visited.push_back(tid);
        const bool is_dead = dead(tid);
        expected += is_dead;
        return is_dead;
      });
      EXPECT_EQ(cleared, expected);
    }
    return visited;
  }

  std::vector<Tid> All() {
    return Visit([](Tid) { return false; });
  }

 private:
  void Take(TidMapBuilder* builder) {
    TidMapBuilder::Page page = builder->TakePage();
    EXPECT_EQ(page.payload.size(), kPayloadBytes);
    EXPECT_GT(page.entries, 0u);
    EXPECT_OK(CheckTidMapPage(page.payload, page.entries));
    EXPECT_TRUE(pages_.empty() || pages_.rbegin()->first < page.first_block);
    const uint32_t first_block = page.first_block;
    EXPECT_EQ(Load<TidMapHeader>(page.payload.data()).first_block, first_block);
    pages_.emplace(first_block, std::move(page));
  }

  std::map<uint32_t, TidMapBuilder::Page> pages_;
};

std::vector<Tid> Sorted(const std::set<Tid>& tids) { return {tids.begin(), tids.end()}; }

struct Heap {
  const char* name;
  std::set<Tid> (*tids)(Random&);
};

void PrintTo(const Heap& heap, std::ostream* out) { *out << heap.name; }

const Heap kHeaps[] = {
    {"Empty", [](Random&) { return std::set<Tid>(); }},
    {"OneTid",
     [](Random&) {
       return std::set<Tid>{{0, 1}};
     }},
    {"LastTid",
     [](Random&) {
       return std::set<Tid>{{0xfffffffe, 2048}};
     }},
    {"FirstAndLast",
     [](Random&) {
       return std::set<Tid>{{0, 1}, {0xfffffffe, 1}};
     }},
    {"Dense",
     [](Random&) {
       std::set<Tid> tids;
       for (uint32_t block = 0; block < 3000; ++block)
         for (uint16_t offset = 1; offset <= 60; ++offset) tids.insert({block, offset});
       return tids;
     }},
    {"Sparse",
     [](Random& random) {
       std::set<Tid> tids;
       for (int i = 0; i < 20000; ++i)
         tids.insert({static_cast<uint32_t>(Below(random, 5000000)), static_cast<uint16_t>(1 + Below(random, 291))});
       return tids;
     }},
    {"JumpsBeyond65536Blocks",
     [](Random& random) {
       std::set<Tid> tids;
       uint64_t block = 7;
       for (int i = 0; i < 2000 && block < 0xfffffffe; ++i) {
         for (uint64_t k = 1 + Below(random, 4); k > 0; --k)
           tids.insert({static_cast<uint32_t>(block), static_cast<uint16_t>(1 + Below(random, 100))});
         const uint64_t jumps[] = {1, 2, 65534, 65535, 65536, 65537, 4000000};
         block += jumps[Below(random, std::size(jumps))];
       }
       return tids;
     }},
    {"WidestBitmaps",
     [](Random& random) {
       std::set<Tid> tids;
       for (uint32_t block = 100; block < 400; ++block) {
         tids.insert({block, 2048});
         tids.insert({block, static_cast<uint16_t>(1 + Below(random, 2048))});
       }
       return tids;
     }},
    {"OneTidABlock",
     [](Random&) {
       std::set<Tid> tids;
       for (uint32_t block = 0; block < 10000; ++block) tids.insert({block, 1});
       return tids;
     }},
    {"Mixed",
     [](Random& random) {
       std::set<Tid> tids;
       for (uint32_t block = 0; block < 4000; block += 1 + static_cast<uint32_t>(Below(random, 3)))
         for (uint64_t k = Below(random, 100); k > 0; --k)
           tids.insert({block, static_cast<uint16_t>(1 + Below(random, 1 + Below(random, 2048)))});
       return tids;
     }},
};

class TidMapTest : public testing::TestWithParam<Heap> {
 protected:
  Random random_{26};
  std::set<Tid> tids_ = GetParam().tids(random_);
};

TEST_P(TidMapTest, HoldsExactlyWhatWasAdded) {
  TidMap map(tids_);
  EXPECT_EQ(map.All(), Sorted(tids_));
  for (const Tid& tid : tids_) ASSERT_TRUE(map.Contains(tid)) << testing::PrintToString(tid);
  // Near misses, and anything.
  for (const Tid& tid : tids_) {
    const Tid near[] = {{tid.block, static_cast<uint16_t>(tid.offset + 1)},
                        {tid.block, static_cast<uint16_t>(tid.offset - 1)},
                        {tid.block + 1, tid.offset},
                        {tid.block - 1, tid.offset},
                        {tid.block + 65536, tid.offset},
                        {tid.block, 0},
                        {tid.block, 0xffff}};
    for (const Tid& other : near)
      ASSERT_EQ(map.Contains(other), tids_.contains(other)) << testing::PrintToString(other);
  }
  for (int i = 0; i < 10000; ++i) {
    const Tid tid{static_cast<uint32_t>(Below(random_, 20000)), static_cast<uint16_t>(Below(random_, 65536))};
    ASSERT_EQ(map.Contains(tid), tids_.contains(tid)) << testing::PrintToString(tid);
  }
}

TEST_P(TidMapTest, ClearedTidsAreGone) {
  TidMap map(tids_);
  std::set<Tid> dead;
  for (const Tid& tid : tids_)
    if (Below(random_, 3) == 0) dead.insert(tid);
  EXPECT_EQ(map.Visit([&](Tid tid) { return dead.contains(tid); }), Sorted(tids_)) << "live TIDs are visited once";
  for (const Tid& tid : tids_) ASSERT_EQ(map.Contains(tid), !dead.contains(tid)) << testing::PrintToString(tid);
  std::set<Tid> live;
  for (const Tid& tid : tids_)
    if (!dead.contains(tid)) live.insert(tid);
  EXPECT_EQ(map.All(), Sorted(live));
  for (auto& [first_block, page] : map.by_first_block()) EXPECT_OK(CheckTidMapPage(page.payload, page.entries));
  map.Visit([](Tid) { return true; });
  EXPECT_EQ(map.All(), std::vector<Tid>());
}

TEST_P(TidMapTest, VisitThatClearsNothingChangesNothing) {
  TidMap map(tids_);
  TidMap same(tids_);
  map.All();
  auto other = same.by_first_block().begin();
  for (const auto& [first_block, page] : map.by_first_block()) EXPECT_TRUE(page.payload == other++->second.payload);
}

std::string NameOf(const testing::TestParamInfo<Heap>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Heaps, TidMapTest, testing::ValuesIn(kHeaps), NameOf);

TEST(TidMapPages, AreFew) {
  Random random(27);
  const struct {
    const char* name;
    uint32_t blocks;
    uint16_t rows_a_block;
    double bytes_a_row;
  } cases[] = {
      {"rows of 8 bytes", 20000, 226, 0.2},
      {"toasted rows", 20000, 100, 0.2},
      {"rows of 768 bytes", 20000, 10, 0.7},
      {"rows of 1 kB", 20000, 7, 1.0},
  };
  for (const auto& c : cases) {
    std::set<Tid> tids;
    for (uint32_t block = 0; block < c.blocks; ++block)
      for (uint16_t offset = 1; offset <= c.rows_a_block; ++offset) tids.insert(tids.end(), Tid{block, offset});
    const TidMap map(tids);
    EXPECT_LT(static_cast<double>(map.pages() * kPageBytes) / static_cast<double>(tids.size()), c.bytes_a_row)
        << c.name;
  }
}

TEST(TidMapPages, TidsOfABlockInAnyOrderAndTwice) {
  TidMapBuilder builder;
  for (uint16_t offset : {5, 3, 300, 3, 1}) EXPECT_FALSE(Add(&builder, {9, offset}));
  ASSERT_TRUE(builder.Finish());
  const TidMapBuilder::Page page = builder.TakePage();
  EXPECT_FALSE(builder.Finish());
  EXPECT_EQ(page.first_block, 9u);
  EXPECT_EQ(page.entries, 1u);
  for (uint16_t offset : {1, 3, 5, 300}) EXPECT_TRUE(TidMapContains(page.payload, 1, {9, offset})) << offset;
  for (uint16_t offset : {0, 2, 4, 299, 301, 304, 305, 60000})
    EXPECT_FALSE(TidMapContains(page.payload, 1, {9, offset})) << offset;
}

TEST(TidMapPages, FullPageComesWithTheBlockAfterIt) {
  TidMapBuilder builder;
  uint32_t block = 0;
  while (!Add(&builder, {block, 1})) ++block;
  const TidMapBuilder::Page page = builder.TakePage();
  EXPECT_EQ(page.entries, (kPayloadBytes - sizeof(TidMapHeader)) / (sizeof(TidMapEntry) + 1));
  EXPECT_TRUE(TidMapContains(page.payload, page.entries, {page.entries - 1, 1}));
  ASSERT_TRUE(builder.Finish());
  EXPECT_EQ(builder.TakePage().first_block, page.entries);
  EXPECT_FALSE(builder.Finish());
}

// The last block may fill a page: then two pages are left to take.
TEST(TidMapPages, TwoPagesAtTheEnd) {
  const uint32_t most = (kPayloadBytes - sizeof(TidMapHeader)) / (sizeof(TidMapEntry) + 1);
  TidMapBuilder builder;
  for (uint32_t block = 0; block <= most; ++block) ASSERT_FALSE(Add(&builder, {block, 1}));
  ASSERT_TRUE(builder.Finish());
  EXPECT_EQ(builder.TakePage().entries, most);
  ASSERT_TRUE(builder.Finish());
  const TidMapBuilder::Page last = builder.TakePage();
  EXPECT_EQ(last.entries, 1u);
  EXPECT_EQ(last.first_block, most);
  EXPECT_FALSE(builder.Finish());
}

TEST(TidMapPages, RowsThatDoNotFitAreErrors) {
  TidMapBuilder builder;
  Add(&builder, {7, 1});
  bool full;
  EXPECT_TRUE(Fails(builder.Add({6, 1}, &full), StatusCode::kInternal));
  EXPECT_TRUE(Fails(builder.Add({7, 0}, &full), StatusCode::kInternal));
  EXPECT_TRUE(Fails(builder.Add({7, 2049}, &full), StatusCode::kInternal));
  EXPECT_OK(builder.Add({7, 2048}, &full));
}

TEST(TidMapPages, ImpossibleEntries) {
  TidMapBuilder builder;
  for (uint32_t block : {1000, 1001, 1005}) Add(&builder, {block, 20});  // three bytes each
  ASSERT_TRUE(builder.Finish());
  const ByteVector good = builder.TakePage().payload;
  constexpr size_t kEntry = sizeof(TidMapHeader);
  const auto delta = [](size_t i) { return kEntry + i * sizeof(TidMapEntry); };
  const auto position = [](size_t i) { return kEntry + i * sizeof(TidMapEntry) + 2; };
  const struct {
    const char* what;
    std::function<void(ByteVector*)> change;
    StatusCode code = StatusCode::kCorrupt;
  } cases[] = {
      {"nothing", [](ByteVector*) {}, StatusCode::kOk},
      {"bitmap at the end", [&](ByteVector* p) { Poke<uint16_t>(p, position(0), kPayloadBytes); }},
      {"bitmap beyond the end", [&](ByteVector* p) { Poke<uint16_t>(p, position(0), 0xffff); }},
      {"bitmap of no bytes", [&](ByteVector* p) { Poke<uint16_t>(p, position(1), kPayloadBytes - 3); }},
      {"bitmap after the one before", [&](ByteVector* p) { Poke<uint16_t>(p, position(1), kPayloadBytes - 1); }},
      {"bitmap too long",
       [&](ByteVector* p) {
         for (uint16_t i = 0; i < 3; ++i)
           Poke<uint16_t>(p, position(i), static_cast<uint16_t>(kPayloadBytes - 257 - i));
       }},
      {"bitmap as long as can be",
       [&](ByteVector* p) {
         for (uint16_t i = 0; i < 3; ++i)
           Poke<uint16_t>(p, position(i), static_cast<uint16_t>(kPayloadBytes - 256 * (i + 1)));
       },
       StatusCode::kOk},
      {"bitmap in the entries", [&](ByteVector* p) { Poke<uint16_t>(p, position(2), 19); }},
      {"bitmap in the header", [&](ByteVector* p) { Poke<uint16_t>(p, position(2), 0); }},
      {"block twice", [&](ByteVector* p) { Poke<uint16_t>(p, delta(1), 0); }},
      {"blocks out of order", [&](ByteVector* p) { Poke<uint16_t>(p, delta(1), 7); }},
      {"last possible block", [&](ByteVector* p) { Poke<uint32_t>(p, 0, kNoBlock - 6); }, StatusCode::kOk},
      {"block that cannot be", [&](ByteVector* p) { Poke<uint32_t>(p, 0, kNoBlock - 5); }},
      {"blocks that wrap", [&](ByteVector* p) { Poke<uint32_t>(p, 0, kNoBlock - 3); }},
  };
  for (const auto& c : cases) {
    ByteVector payload = good;
    c.change(&payload);
    EXPECT_EQ(CheckTidMapPage(payload, 3).code(), c.code) << c.what;
  }
  EXPECT_OK(CheckTidMapPage(good, 2)) << "fewer entries than there are";
  EXPECT_TRUE(Fails(CheckTidMapPage(good, 4), StatusCode::kCorrupt)) << "more entries than there are";
  EXPECT_TRUE(Fails(CheckTidMapPage(good, (kPayloadBytes - 8) / 4), StatusCode::kCorrupt));
  EXPECT_TRUE(Fails(CheckTidMapPage(good, 0xffffffff), StatusCode::kCorrupt));
  for (size_t length : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, kPayloadBytes - 1})
    EXPECT_TRUE(Fails(CheckTidMapPage(Bytes(good).first(length), 3), StatusCode::kCorrupt)) << length;
}

// As many of the longest bitmaps as fit, down to the entries.
TEST(TidMapPages, BitmapsReachTheEntriesAndNoFurther) {
  constexpr uint16_t kEntries = 32;
  constexpr uint16_t kEntriesEnd = sizeof(TidMapHeader) + kEntries * sizeof(TidMapEntry);
  ByteVector payload(kPayloadBytes);
  for (uint16_t i = 0; i < kEntries; ++i) {
    const auto position = static_cast<uint16_t>(std::max<int>(kPayloadBytes - 256 * (i + 1), kEntriesEnd));
    Store(&payload[sizeof(TidMapHeader) + i * sizeof(TidMapEntry)], TidMapEntry{i, position});
  }
  EXPECT_OK(CheckTidMapPage(payload, kEntries));
  Poke<uint16_t>(&payload, kEntriesEnd - 2, kEntriesEnd - 1);
  EXPECT_TRUE(Fails(CheckTidMapPage(payload, kEntries), StatusCode::kCorrupt));
}

// The first bitmap's length decides how many bytes are left at the end of the page: none to four.
TEST(TidMapPages, PagesThatAreNearlyFull) {
  for (uint16_t bytes = 1; bytes <= 5; ++bytes) {
    std::set<Tid> tids{{0, static_cast<uint16_t>(8 * bytes)}};
    for (uint32_t block = 1; block < 2000; ++block) tids.insert({block, static_cast<uint16_t>(1 + block % 8)});
    TidMap map(tids);
    EXPECT_EQ(map.pages(), 2u);
    EXPECT_EQ(map.All(), Sorted(tids)) << bytes;
  }
}

// -- pending rows

TEST(PendingLayout, RowsThatFitAPage) {
  const struct {
    uint32_t dimensions, code_bytes;
    bool wide;
    uint32_t row_bytes, rows_per_page;
  } cases[] = {
      {1, 4, false, 20, 406},        {3, 12, false, 28, 290},      {100, 400, false, 416, 19},
      {784, 3136, false, 3152, 2},   {2028, 8112, false, 8128, 1}, {2029, 8116, true, 32, 254},
      {16000, 64000, true, 32, 254},
  };
  for (const auto& c : cases) {
    const PendingLayout layout = PendingLayoutFor({CodeKind::kFloat32, 32, c.dimensions});
    EXPECT_EQ(layout.code_bytes, c.code_bytes) << c.dimensions;
    EXPECT_EQ(layout.wide, c.wide) << c.dimensions;
    EXPECT_EQ(layout.row_bytes, c.row_bytes) << c.dimensions;
    EXPECT_EQ(layout.rows_per_page, c.rows_per_page) << c.dimensions;
  }
}

TEST(PendingLayout, OfEveryWidth) {
  for (uint32_t dimensions = 1; dimensions <= kMaxDimensions; ++dimensions) {
    const PendingLayout layout = PendingLayoutFor({CodeKind::kFloat32, 32, dimensions});
    ASSERT_GE(layout.rows_per_page, 1u) << dimensions;
    ASSERT_LE(layout.RowOffset(layout.rows_per_page), kPayloadBytes) << dimensions;
    ASSERT_GT(layout.RowOffset(layout.rows_per_page + 1), kPayloadBytes) << dimensions;
    ASSERT_EQ(layout.row_bytes % alignof(float), 0u) << dimensions;
    ASSERT_EQ(layout.wide, dimensions > 2028) << dimensions;
    PageSpecial special = SpecialFor(PageKind::kPending);
    special.used = layout.rows_per_page;
    uint32_t position = 0;
    ASSERT_OK(CheckPendingPage(layout, special, &position));
    ++special.used;
    position = 0;
    ASSERT_TRUE(Fails(CheckPendingPage(layout, special, &position), StatusCode::kCorrupt));
  }
}

// Else a chain that bites its tail would be read for ever.
TEST(PendingLayout, PositionsGrowAlongAChain) {
  const PendingLayout layout = PendingLayoutFor({CodeKind::kFloat32, 32, 3});
  PageSpecial special = SpecialFor(PageKind::kPending);
  special.position = 7;
  for (uint32_t least : {0u, 6u, 7u}) {
    uint32_t position = least;
    EXPECT_OK(CheckPendingPage(layout, special, &position)) << least;
    EXPECT_EQ(position, 8u);
    EXPECT_TRUE(Fails(CheckPendingPage(layout, special, &position), StatusCode::kCorrupt, {"out of place"}))
        << "the same page again";
  }
  for (uint32_t least : {8u, UINT32_MAX}) {
    uint32_t position = least;
    EXPECT_TRUE(Fails(CheckPendingPage(layout, special, &position), StatusCode::kCorrupt, {"out of place"})) << least;
  }
  // Nothing could follow.
  special.position = UINT32_MAX;
  uint32_t position = 0;
  EXPECT_TRUE(Fails(CheckPendingPage(layout, special, &position), StatusCode::kCorrupt, {"out of place"}));
}

TEST(PendingLayout, OfCodes) {
  const struct {
    uint32_t bits, dimensions, code_bytes;
    bool wide;
    uint32_t row_bytes, rows_per_page;
  } cases[] = {
      {1, 1, 14, false, 32, 254},      {8, 3, 20, false, 36, 225},       {4, 100, 64, false, 80, 101},
      {1, 784, 110, false, 128, 63},   {1, 16000, 2012, false, 2028, 4}, {4, 16000, 8012, false, 8028, 1},
      {8, 16000, 16012, true, 32, 254},
  };
  for (const auto& c : cases) {
    const PendingLayout layout = PendingLayoutFor({CodeKind::kRabitq, c.bits, c.dimensions});
    EXPECT_EQ(layout.code_bytes, c.code_bytes) << c.dimensions;
    EXPECT_EQ(layout.wide, c.wide) << c.dimensions;
    EXPECT_EQ(layout.row_bytes, c.row_bytes) << c.dimensions;
    EXPECT_EQ(layout.rows_per_page, c.rows_per_page) << c.dimensions;
  }
  for (uint32_t bits : {1u, 2u, 4u, 8u})
    for (uint32_t dimensions = 1; dimensions <= kMaxDimensions; ++dimensions) {
      const CodeFormat format{CodeKind::kRabitq, bits, dimensions};
      const PendingLayout layout = PendingLayoutFor(format);
      ASSERT_EQ(layout.code_bytes, format.RowBytes());
      ASSERT_GE(layout.rows_per_page, 1u);
      ASSERT_LE(layout.RowOffset(layout.rows_per_page), kPayloadBytes);
      ASSERT_GE(layout.row_bytes, sizeof(PendingRow) + (layout.wide ? sizeof(StreamRef) : layout.code_bytes));
      ASSERT_EQ(layout.row_bytes % alignof(PendingRow), 0u) << bits << ' ' << dimensions;
      ASSERT_EQ(layout.wide, sizeof(PendingRow) + layout.code_bytes > kPayloadBytes);
    }
}

// What a newer library appends to rows is passed over.
TEST(PendingLayout, OfLongerRows) {
  const CodeFormat format{CodeKind::kRabitq, 4, 100};
  const PendingLayout layout = PendingLayoutFor(format, 120);
  EXPECT_EQ(layout.code_bytes, 64u);
  EXPECT_EQ(layout.row_bytes, 120u);
  EXPECT_EQ(layout.rows_per_page, 8128u / 120);
  EXPECT_EQ(PendingLayoutFor(format, 8).row_bytes, 80u) << "never less than a row";
}

TEST(PendingGroups, NeighbouringListsShareAGroup) {
  EXPECT_EQ(PendingGroupOf(0, {1, 1, 0, 0, 0}), 0u);  // untrained
  for (uint32_t lists : {1u, 7u, 1000u, 1001u, kMaxLists}) {
    const uint32_t groups = std::min(lists, kMaxPendingGroups);
    uint32_t previous = 0;
    std::vector<uint32_t> sizes(groups);
    for (uint32_t list = 0; list < lists; ++list) {
      const uint32_t group = PendingGroupOf(list, {1, groups, 0, 0, lists});
      ASSERT_LT(group, groups);
      ASSERT_GE(group, previous);
      ASSERT_LE(group, previous + 1);
      previous = group;
      ++sizes[group];
    }
    for (uint32_t size : sizes) {
      ASSERT_GE(size, lists / groups);
      ASSERT_LE(size, lists / groups + 1);
    }
    // Lists that came later.
    for (uint32_t list : {lists, lists + 1, kMaxLists, 0xffffffffu})
      ASSERT_EQ(PendingGroupOf(list, {1, groups, 0, 0, lists}), groups - 1);
  }
}

}  // namespace
}  // namespace ivfremote
