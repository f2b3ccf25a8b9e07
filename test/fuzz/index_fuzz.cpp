// The file of an index with any bytes: reading it as a server does ends, with a refusal or with something that can be used.
// Starts from the golden indexes.
#include <limits>

#include "core/checksum.h"
#include "core/code_scorer.h"
#include "core/list_ranker.h"
#include "core/object_store.h"
#include "core/recall_curve.h"
#include "fuzz_input.h"
#include "golden/index_file.h"

namespace ivfremote {
namespace {

// Blocks looked at of a segment.
constexpr size_t kMaxBlocks = 20;

bool Usable(const Status& status) {
  if (status.ok()) return true;
  REQUIRE(status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kUnsupported);
  REQUIRE(!status.message().empty());
  return false;
}

void FuzzRouting(const IndexFile& index, const MetaPage& meta) {
  std::vector<std::byte> bytes;
  if (!Usable(index.ReadStream(meta.routing_id, meta.routing, &bytes))) return;
  Routing routing;
  if (!Usable(DecodeRouting(ExactCopy(bytes).bytes(), &routing))) return;
  const std::vector<float> query(routing.dimensions, 0.5f);
  ListRanker ranker(&routing, query.data(), {kAdaptiveRule, 10, kAnyStop});
  RoutingRange range;
  REQUIRE(!ranker.Next(&range));
  std::vector<RankedList> lists;
  ranker.Rank(kAdaptiveRule, &lists);
  REQUIRE(!lists.empty());
  for (const RankedList& list : lists) REQUIRE(list.list < routing.list_count());
}

void FuzzCurve(const IndexFile& index, const MetaPage& meta) {
  std::vector<std::byte> bytes;
  RecallCurve curve;
  if (!Usable(index.ReadStream(meta.curve_owner(), meta.recall_curve, &bytes)) ||
      !Usable(DecodeRecallCurve(ExactCopy(bytes).bytes(), &curve)))
    return;
  REQUIRE(curve.At(10, 0.95).lists >= 0);
}

void FuzzBlock(const MetaPage& meta, Bytes bytes, BlockEntry entry) {
  // A checksum would end this here.
  entry.crc = Crc32c(bytes);
  std::vector<std::byte> with_slack(bytes.begin(), bytes.end());
  with_slack.resize(bytes.size() + RangeBuffer::kSlack);
  const ExactCopy copy(with_slack);
  BlockView view;
  const CodeFormat format = meta.format();
  if (!Usable(DecodeBlock(copy.bytes().first(bytes.size()), format, entry, &view))) return;
  if (!format.coded()) return;
  const std::vector<float> y(format.padded(), 0.5f);
  CodeScorer scorer(meta.metric, format.padded(), format.bits, 1.9);
  scorer.SetQuery({y.data(), 0.25, 2});
  std::vector<float> bounds(view.rows());
  scorer.Score(view.coded(), bounds.data());
  for (float bound : bounds) REQUIRE(bound < std::numeric_limits<float>::infinity());
}

void FuzzSegment(const IndexFile& index, const MetaPage& meta, const SegmentEntry& segment) {
  std::vector<Tid> tids;
  Usable(index.ReadTidMap(segment.id, segment.tid_map, &tids));
  std::vector<std::byte> bytes;
  Directory directory;
  if (!Usable(index.ReadStream(segment.id, segment.directory, &bytes)) ||
      !Usable(DecodeDirectory(ExactCopy(bytes).bytes(), segment.bytes, &directory)))
    return;
  std::vector<std::byte> data;
  if (segment.place != SegmentPlace::kPages || !Usable(index.ReadStream(segment.id, segment.data, &data))) return;
  REQUIRE(data.size() == segment.bytes);
  size_t blocks = 0;
  for (uint32_t list = 0; list < directory.lists.size() && blocks < kMaxBlocks; ++list)
    for (uint32_t i = 0; i < directory.lists[list].block_count && blocks < kMaxBlocks; ++i, ++blocks) {
      const BlockEntry& entry = directory.blocks[directory.lists[list].first_block + i];
      FuzzBlock(meta, Bytes(data).subspan(entry.offset, entry.length), entry);
    }
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ivfremote;
  const ExactCopy copy(std::as_bytes(std::span(data, size / kPageBytes * kPageBytes)));
  const IndexFile index(copy.bytes());
  MetaPage meta;
  if (!Usable(index.ReadMeta(&meta))) return 0;
  if (meta.trained()) {
    FuzzRouting(index, meta);
    FuzzCurve(index, meta);
  }
  for (uint32_t i = 0; i < meta.segment_count; ++i) FuzzSegment(index, meta, meta.segments[i]);
  for (const PendingGeneration* generation : {&meta.current, &meta.sealed}) {
    std::vector<IndexFile::Pending> rows;
    if (!Usable(index.ReadPending(meta, *generation, &rows))) continue;
    for (const IndexFile::Pending& row : rows)
      REQUIRE((row.row.flags & PendingRow::kDead) != 0 || row.code.size() == meta.FormatOf(*generation).RowBytes());
  }
  return 0;
}
