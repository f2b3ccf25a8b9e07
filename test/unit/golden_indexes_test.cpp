// Files of indexes that a server wrote when version 1 was frozen: every later build must read them.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "core/coding.h"
#include "core/distance.h"
#include "golden/index_file.h"
#include "golden_files.h"
#include "support.h"

namespace ivfremote::golden {
namespace {

class GoldenIndexTest : public testing::Test {
 protected:
  // Reads an index's file and what the server said of it.
  void Open(const std::string& name, uint32_t dimensions) {
    dimensions_ = dimensions;
    std::istringstream lines(GoldenText("indexes/" + name + ".txt"));
    for (std::string line, key; std::getline(lines, line);) {
      std::istringstream words(line);
      words >> key;
      if (key == "row") {
        uint32_t id;
        Tid tid;
        words >> id >> tid.block >> tid.offset;
        ids_[tid] = id;
      } else {
        words >> said_[key];
      }
    }
    file_ = GoldenFile("indexes/" + name + ".index");
    index_ = std::make_unique<IndexFile>(file_);
    ASSERT_OK(index_->ReadMeta(&meta_));
    EXPECT_EQ(std::to_string(meta_.version), said_["format_version"]);
    EXPECT_EQ(FormatUuid(meta_.index_uuid), said_["index_uuid"]);
    EXPECT_EQ(std::to_string(meta_.dimensions), said_["dimensions"]);
    EXPECT_EQ(meta_.trained(), said_["trained"] == "true");
    EXPECT_EQ(std::to_string(meta_.segment_count), said_["segments"]);
    EXPECT_EQ(std::string(meta_.server), said_["server"]);
    EXPECT_EQ(meta_.dimensions, dimensions);
    EXPECT_EQ(meta_.sealed.id, 0u);
    if (!meta_.trained()) return;
    EXPECT_EQ(std::to_string(meta_.list_count), said_["lists"]);
    File routing;
    ASSERT_OK(index_->ReadStream(meta_.routing_id, meta_.routing, &routing));
    ASSERT_OK(DecodeRouting(routing, &routing_));
    EXPECT_EQ(routing_.list_count(), meta_.list_count);
    EXPECT_EQ(routing_.metric, meta_.metric);
    File curve;
    ASSERT_OK(index_->ReadStream(meta_.curve_owner(), meta_.recall_curve, &curve));
    RecallCurve decoded;
    ASSERT_OK(DecodeRecallCurve(curve, &decoded));
    EXPECT_EQ(decoded.Encode(), curve);
    const SegmentEntry& segment = meta_.segments[0];
    EXPECT_EQ(std::to_string(segment.rows), said_["segment_rows"]);
    EXPECT_EQ(std::to_string(segment.bytes), said_["segment_bytes"]);
    EXPECT_EQ(segment.list_count, meta_.list_count);
    ASSERT_OK(index_->ReadTidMap(segment.id, segment.tid_map, &live_));
  }

  // The segment itself, whose copies of routing and directory are those of the index.
  void OpenSegment(File bytes) {
    segment_ = std::move(bytes);
    ASSERT_EQ(segment_.size(), meta_.segments[0].bytes);
    SegmentHeader header;
    ASSERT_OK(DecodeSegmentHeader(segment_, &header));
    EXPECT_EQ(header.name, meta_.segments[0].name);
    EXPECT_EQ(header.format(), meta_.format());
    EXPECT_EQ(header.metric, meta_.metric);
    EXPECT_EQ(header.rotation_seed, meta_.rotation_seed);
    EXPECT_EQ(header.list_count, meta_.list_count);
    SegmentTrailer trailer;
    ASSERT_OK(DecodeSegmentTrailer(Bytes(segment_).last(SegmentTrailer::kBytes), segment_.size(), &trailer));
    EXPECT_EQ(trailer.rows, meta_.segments[0].rows);
    EXPECT_EQ(trailer.copies > trailer.rows, (meta_.segments[0].flags & SegmentEntry::kSpilled) != 0);
    File directory;
    ASSERT_OK(index_->ReadStream(meta_.segments[0].id, meta_.segments[0].directory, &directory));
    const auto in_segment = segment_.begin() + static_cast<ptrdiff_t>(trailer.directory.offset);
    EXPECT_TRUE(std::equal(directory.begin(), directory.end(), in_segment));
    ASSERT_OK(DecodeDirectory(directory, segment_.size(), &directory_));
    Routing routing;
    ASSERT_OK(DecodeRouting(Bytes(segment_).subspan(trailer.routing.offset, trailer.routing.bytes), &routing));
    EXPECT_EQ(routing.centroids, routing_.centroids);
  }

  // The bound of a coded row about a list's centroid is not far from its distance.
  void ExpectCoded(uint32_t id, uint32_t list, const CodedRows& rows, uint32_t at) {
    const CodeFormat format = meta_.format();
    const std::vector<float> query = Row(5000, dimensions_);
    QueryCoder coder(meta_.metric, format, query.data(), meta_.rotation_seed, routing_.mean.data());
    std::vector<float> y(format.padded());
    CodeScorer scorer(meta_.metric, format.padded(), format.bits, 0);
    scorer.SetQuery(coder.Residual(&routing_.centroids[size_t{list} * dimensions_], y.data()));
    std::vector<float> estimates(rows.rows);
    scorer.Score(rows, estimates.data());
    double norm = 0;
    for (float x : y) norm += double{x} * x;
    // Metrics here are L2 and cosine, whose estimates are squared distances of rows, or of their directions.
    std::vector<float> x(dimensions_);
    std::vector<float> q(dimensions_);
    ToRoutingSpace(meta_.metric, RowOf(id).data(), dimensions_, x.data());
    ToRoutingSpace(meta_.metric, query.data(), dimensions_, q.data());
    double truth = 0;
    for (uint32_t j = 0; j < dimensions_; ++j) truth += (double{x[j]} - q[j]) * (double{x[j]} - q[j]);
    EXPECT_NEAR(estimates[at], truth, 10 * rows.e[at] * std::sqrt(norm) + 0.02 * norm) << id;
  }

  // Rows of the table by their ids, as write_indexes.sh made them.
  std::vector<float> RowOf(uint32_t id) const {
    if (dimensions_ == 16) return Row(id > 270 ? 1 : id, dimensions_);
    return Row(id > 250 ? id % 3 + 1 : id, dimensions_);
  }

  // Visits every live row of the segment once for each copy.
  template <typename Visit>
  void VisitSegment(Visit visit) {
    std::map<Tid, int> copies;
    for (uint32_t list = 0; list < directory_.lists.size(); ++list)
      for (uint32_t b = 0; b < directory_.lists[list].block_count; ++b) {
        const BlockEntry& entry = directory_.blocks[directory_.lists[list].first_block + b];
        File block(segment_.begin() + static_cast<ptrdiff_t>(entry.offset),
                   segment_.begin() + static_cast<ptrdiff_t>(entry.offset + entry.length));
        block.resize(block.size() + RangeBuffer::kSlack);
        BlockView view;
        ASSERT_OK(DecodeBlock(Bytes(block).first(entry.length), meta_.format(), entry, &view));
        for (uint32_t i = 0; i < view.rows(); ++i) {
          if (!std::binary_search(live_.begin(), live_.end(), view.tid(i))) continue;
          ++copies[view.tid(i)];
          ASSERT_TRUE(ids_.contains(view.tid(i))) << testing::PrintToString(view.tid(i));
          visit(ids_[view.tid(i)], list, view, i);
        }
      }
    EXPECT_EQ(copies.size(), live_.size());
    const int most = (meta_.segments[0].flags & SegmentEntry::kSpilled) != 0 ? 2 : 1;
    for (const auto& [tid, count] : copies) EXPECT_LE(count, most);
  }

  // Live pending rows by their TIDs.
  std::map<Tid, IndexFile::Pending> Pending() {
    std::vector<IndexFile::Pending> rows;
    EXPECT_OK(index_->ReadPending(meta_, meta_.current, &rows));
    EXPECT_EQ(std::to_string(rows.size()), said_["pending_rows"]);
    std::map<Tid, IndexFile::Pending> live;
    for (IndexFile::Pending& pending : rows)
      if ((pending.row.flags & PendingRow::kDead) == 0) {
        EXPECT_TRUE(ids_.contains({pending.row.tid_block, pending.row.tid_offset}));
        live[{pending.row.tid_block, pending.row.tid_offset}] = std::move(pending);
      }
    return live;
  }

  uint32_t dimensions_ = 0;
  std::map<std::string, std::string> said_;
  std::map<Tid, uint32_t> ids_;
  File file_;
  std::unique_ptr<IndexFile> index_;
  MetaPage meta_;
  Routing routing_;
  std::vector<Tid> live_;
  File segment_;
  Directory directory_;
};

// Codes of 4 bits in the index's own pages, and pending ones; some rows are dead.
TEST_F(GoldenIndexTest, Coded) {
  ASSERT_NO_FATAL_FAILURE(Open("coded", 20));
  EXPECT_EQ(meta_.metric, Metric::kL2);
  EXPECT_EQ(meta_.format(), (CodeFormat{CodeKind::kRabitq, 4, 20}));
  EXPECT_EQ(meta_.requested_lists, 6u);
  EXPECT_EQ(meta_.segments[0].place, SegmentPlace::kPages);
  EXPECT_EQ(meta_.segments[0].data.depth, 1u);
  File segment;
  ASSERT_OK(index_->ReadStream(meta_.segments[0].id, meta_.segments[0].data, &segment));
  ASSERT_NO_FATAL_FAILURE(OpenSegment(segment));
  uint32_t rows = 0;
  VisitSegment([&](uint32_t id, uint32_t list, const BlockView& view, uint32_t i) {
    ++rows;
    ExpectCoded(id, list, view.coded(), i);
  });
  EXPECT_EQ(meta_.segments[0].rows, 250u);
  EXPECT_EQ(rows, 250u - 250 / 7);

  EXPECT_EQ(meta_.current.code_kind, CodeKind::kRabitq);
  EXPECT_EQ(meta_.current.list_count, 6u);
  EXPECT_EQ(meta_.current.group_count, 6u);
  const auto pending = Pending();
  EXPECT_EQ(pending.size(), 20u - 3);  // 252, 259 and 266 are dead
  for (const auto& [tid, row] : pending) {
    EXPECT_EQ(row.row.centroid, row.row.list);
    File block(CodedRowsBytes(meta_.format(), 1) + RangeBuffer::kSlack);
    PutCodedRows(meta_.format(), row.code.data(), 1, block.data());
    ExpectCoded(ids_[tid], row.row.centroid, ViewCodedRows(block.data(), 1), 0);
  }
}

// Codes of 1 bit in an object, rows in two lists each.
TEST_F(GoldenIndexTest, Stored) {
  ASSERT_NO_FATAL_FAILURE(Open("stored", 20));
  EXPECT_EQ(meta_.metric, Metric::kCosine);
  EXPECT_EQ(meta_.format(), (CodeFormat{CodeKind::kRabitq, 1, 20}));
  EXPECT_EQ(meta_.segments[0].place, SegmentPlace::kObject);
  EXPECT_EQ(meta_.segments[0].flags, SegmentEntry::kSpilled);
  EXPECT_EQ(meta_.segments[0].name.index_uuid, meta_.index_uuid);
  ASSERT_NO_FATAL_FAILURE(OpenSegment(GoldenFile("indexes/" + FormatObjectKey({meta_.segments[0].name, 0}))));
  std::set<uint32_t> ids;
  VisitSegment([&](uint32_t id, uint32_t list, const BlockView& view, uint32_t i) {
    ids.insert(id);
    ExpectCoded(id, list, view.coded(), i);
  });
  EXPECT_EQ(ids.size(), 120u);
  EXPECT_TRUE(Pending().empty());
}

// Rows as they are, in the index's own pages.
TEST_F(GoldenIndexTest, Plain) {
  ASSERT_NO_FATAL_FAILURE(Open("plain", 20));
  EXPECT_EQ(meta_.metric, Metric::kInnerProduct);
  EXPECT_EQ(meta_.format(), (CodeFormat{CodeKind::kFloat32, 32, 20}));
  File segment;
  ASSERT_OK(index_->ReadStream(meta_.segments[0].id, meta_.segments[0].data, &segment));
  ASSERT_NO_FATAL_FAILURE(OpenSegment(segment));
  std::set<uint32_t> ids;
  VisitSegment([&](uint32_t id, uint32_t, const BlockView& view, uint32_t i) {
    ids.insert(id);
    EXPECT_EQ(std::vector<float>(view.row(i), view.row(i) + 20), RowOf(id));
  });
  EXPECT_EQ(ids.size(), 60u);
}

// Too few rows to train: all of them pending. The width of codes isn't decided.
TEST_F(GoldenIndexTest, Untrained) {
  ASSERT_NO_FATAL_FAILURE(Open("untrained", 20));
  EXPECT_EQ(meta_.metric, Metric::kCosine);
  EXPECT_EQ(meta_.code_kind, CodeKind::kRabitq);
  EXPECT_EQ(meta_.bits, 0u);
  EXPECT_EQ(meta_.current.code_kind, CodeKind::kFloat32);
  EXPECT_EQ(meta_.current.group_count, 1u);
  EXPECT_EQ(meta_.current.list_count, 0u);
  const auto pending = Pending();
  EXPECT_EQ(pending.size(), 99u);
  for (const auto& [tid, row] : pending) {
    const std::vector<float> values = RowOf(ids_[tid]);
    EXPECT_EQ(row.row.list, 0u);
    ASSERT_EQ(row.code.size(), 80u);
    EXPECT_EQ(std::memcmp(row.code.data(), values.data(), 80), 0) << ids_[tid];
  }
}

// A chain of which two pages are gone.
TEST_F(GoldenIndexTest, Gaps) {
  ASSERT_NO_FATAL_FAILURE(Open("gaps", 20));
  EXPECT_EQ(meta_.required_features, MetaPage::kPendingGaps);
  EXPECT_EQ(Pending().size(), 132u);
  std::vector<uint32_t> positions;
  std::vector<uint32_t> deleted;
  for (uint32_t block = 1; block < index_->blocks(); ++block) {
    const PageSpecial special = index_->Special(block);
    if (special.kind != static_cast<uint16_t>(PageKind::kPending)) continue;
    EXPECT_EQ(special.owner, meta_.current.id);
    const bool is_deleted = (special.flags & PageSpecial::kDeleted) != 0;
    EXPECT_EQ(special.retire_xid != 0, is_deleted);
    (is_deleted ? deleted : positions).push_back(special.position);
  }
  EXPECT_EQ(positions, (std::vector<uint32_t>{2, 3}));
  EXPECT_EQ(deleted, (std::vector<uint32_t>{0, 1}));
  // The other one has been offered for use.
  EXPECT_EQ(meta_.swept.waiting_pages, 1u);
}

// A pending row wider than a page.
TEST_F(GoldenIndexTest, Wide) {
  ASSERT_NO_FATAL_FAILURE(Open("wide", 2100));
  EXPECT_TRUE(PendingLayoutFor(meta_.FormatOf(meta_.current)).wide);
  const auto pending = Pending();
  EXPECT_EQ(pending.size(), 1u);
  for (const auto& [tid, row] : pending) {
    const std::vector<float> values = RowOf(ids_[tid]);
    ASSERT_EQ(row.code.size(), 8400u);
    EXPECT_EQ(std::memcmp(row.code.data(), values.data(), 8400), 0) << ids_[tid];
  }
}

// Rows far apart, so that the tid map has several leaves; codes of 1 bit, whose pending rows end with zeros; a recall curve with an
// owner of its own, and pages of one that is gone.
TEST_F(GoldenIndexTest, Sparse) {
  ASSERT_NO_FATAL_FAILURE(Open("sparse", 16));
  EXPECT_EQ(meta_.format(), (CodeFormat{CodeKind::kRabitq, 1, 16}));
  EXPECT_EQ(meta_.segments[0].tid_map.depth, 1u);
  EXPECT_EQ(meta_.segments[0].tid_map.bytes, 2u);
  EXPECT_EQ(live_.size(), 270u - 270 / 7);
  EXPECT_NE(meta_.recall_curve_id, 0u);
  EXPECT_NE(meta_.recall_curve_id, meta_.routing_id);
  File curve;
  ASSERT_OK(index_->ReadStream(meta_.recall_curve_id, meta_.recall_curve, &curve));
  RecallCurve decoded;
  ASSERT_OK(DecodeRecallCurve(curve, &decoded));
  EXPECT_TRUE(decoded.from_queries);
  EXPECT_EQ(decoded.queries, 50u);
  File segment;
  ASSERT_OK(index_->ReadStream(meta_.segments[0].id, meta_.segments[0].data, &segment));
  ASSERT_NO_FATAL_FAILURE(OpenSegment(segment));
  VisitSegment([&](uint32_t id, uint32_t list, const BlockView& view, uint32_t i) {
    ExpectCoded(id, list, view.coded(), i);
  });

  EXPECT_EQ(PendingLayoutFor(meta_.FormatOf(meta_.current)).code_bytes, 14u);
  EXPECT_EQ(PendingLayoutFor(meta_.FormatOf(meta_.current)).row_bytes, 32u);
  const auto pending = Pending();
  EXPECT_EQ(pending.size(), 20u - 3);  // 273, 280 and 287 are dead
  for (const auto& [tid, row] : pending) {
    File block(CodedRowsBytes(meta_.format(), 1) + RangeBuffer::kSlack);
    PutCodedRows(meta_.format(), row.code.data(), 1, block.data());
    ExpectCoded(ids_[tid], row.row.centroid, ViewCodedRows(block.data(), 1), 0);
  }

  const std::set<uint64_t> named = {0, meta_.routing_id, meta_.recall_curve_id, meta_.current.id, meta_.segments[0].id};
  std::set<uint64_t> owners;
  for (uint32_t block = 0; block < index_->blocks(); ++block) owners.insert(index_->Special(block).owner);
  EXPECT_EQ(owners.size(), named.size() + 1);
  EXPECT_TRUE(std::includes(owners.begin(), owners.end(), named.begin(), named.end()));
}

// Every page is one of the kinds, all kinds occur, and today's builder makes the same tid maps.
TEST_F(GoldenIndexTest, EveryKindOfPage) {
  std::set<uint16_t> kinds;
  for (const char* name : {"coded", "stored", "plain", "untrained", "wide", "sparse"}) {
    const File file = GoldenFile(std::string("indexes/") + name + ".index");
    const IndexFile index(file);
    for (uint32_t block = 0; block < index.blocks(); ++block) {
      const PageSpecial special = index.Special(block);
      EXPECT_OK(index.Check(block, static_cast<PageKind>(special.kind), special.owner)) << name << ' ' << block;
      EXPECT_EQ(special.version, 1);
      kinds.insert(special.kind);
      if (special.kind != static_cast<uint16_t>(PageKind::kTidMap)) continue;
      // Bits that VACUUM cleared leave bitmaps longer than they need be.
      if (std::string(name) == "coded" || std::string(name) == "sparse") continue;
      File payload(index.Payload(block).begin(), index.Payload(block).end());
      TidMapBuilder builder;
      VisitTidMap(payload, special.used, [&](Tid tid) {
        bool full = false;
        EXPECT_OK(builder.Add(tid, &full));
        return false;
      });
      EXPECT_TRUE(builder.Finish());
      EXPECT_EQ(builder.TakePage().payload, payload) << name;
    }
  }
  EXPECT_EQ(kinds, (std::set<uint16_t>{1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace ivfremote::golden
