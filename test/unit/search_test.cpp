#include "core/search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/fault_store.h"
#include "core/memory_store.h"
#include "core/segment_writer.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr uint32_t kDimensions = 8;

struct Row {
  Tid tid;
  std::vector<float> values;
};

// A segment in a store, or in memory as it would be in pages, and what it holds.
struct Segment {
  SegmentEntry entry{};
  Directory directory;
  std::vector<Row> rows;
  std::vector<std::byte> bytes;

  std::vector<BlockEntry> BlocksOf(std::vector<uint32_t> lists) const {
    std::vector<BlockEntry> blocks;
    for (uint32_t list : lists)
      for (uint32_t i = 0; i < directory.lists[list].block_count; ++i)
        blocks.push_back(directory.blocks[directory.lists[list].first_block + i]);
    return blocks;
  }
};

Routing RoutingOf(uint32_t lists) {
  Routing routing;
  routing.dimensions = kDimensions;
  routing.mean.resize(kDimensions);
  routing.radii.resize(lists);
  routing.group_first = {0, lists};
  routing.group_centroids.resize(kDimensions);
  routing.centroids.resize(size_t{lists} * kDimensions);
  return routing;
}

class SearchTest : public testing::Test {
 protected:
  // A segment of random rows: sizes[i] of them in list i.
  Segment Write(SegmentPlace place, const std::vector<uint32_t>& sizes, uint64_t part_bytes = 0) {
    std::vector<std::vector<float>> rows;
    for (uint32_t size : sizes)
      for (uint32_t i = 0; i < size; ++i) rows.push_back(UniformVector(random_, kDimensions));
    return Write(place, sizes, rows, part_bytes);
  }

  Segment Write(SegmentPlace place, const std::vector<uint32_t>& sizes, const std::vector<std::vector<float>>& rows,
                uint64_t part_bytes = 0) {
    Segment segment;
    segment.entry.id = next_++;
    segment.entry.place = place;
    segment.entry.part_bytes = part_bytes;
    segment.entry.name.mint_xid = segment.entry.id;
    const auto lists = static_cast<uint32_t>(sizes.size());
    const Routing routing = RoutingOf(lists);
    SegmentHeader header;
    header.dimensions = kDimensions;
    header.list_count = lists;
    header.name = segment.entry.name;
    header.part_bytes = part_bytes;
    SegmentWriter writer(header, &routing);
    size_t next = 0;
    for (uint32_t list = 0; list < lists; ++list)
      for (uint32_t i = 0; i < sizes[list]; ++i, ++next) {
        // TIDs in no order.
        const Tid tid{static_cast<uint32_t>(Below(random_, 100000)), static_cast<uint16_t>(1 + Below(random_, 200))};
        EXPECT_OK(writer.Add(list, list, tid, RowBytes(rows[next].data())));
        segment.rows.push_back({tid, rows[next]});
      }
    EXPECT_OK(writer.Finish(writer.copies()));
    segment.directory = writer.directory();
    segment.entry.rows = writer.copies();
    segment.entry.bytes = writer.bytes();
    std::vector<SegmentWriter::Chunk> chunks = writer.TakeOutput();
    segment.bytes.resize(writer.bytes());
    for (const auto& chunk : chunks)
      std::copy(chunk.bytes.begin(), chunk.bytes.end(), segment.bytes.begin() + static_cast<ptrdiff_t>(chunk.offset));
    if (place == SegmentPlace::kObject) {
      SegmentUpload upload(&store_, segment.entry.name, part_bytes);
      upload.Add(std::move(chunks));
      bool done = false;
      EXPECT_OK(upload.Step(Later(), &done));
      done = false;
      EXPECT_OK(upload.Finish(Later(), &done));
    }
    return segment;
  }

  Search Start(Metric metric, uint64_t max_gap_bytes = 128 << 10) {
    SearchOptions options;
    options.metric = metric;
    options.format.dimensions = kDimensions;
    options.plan.max_gap_bytes = max_gap_bytes;
    return Search(options, query_.data());
  }

  // The blocks of `lists` in no order.
  uint16_t Add(Search* search, const Segment& segment, const std::vector<uint32_t>& lists) {
    std::vector<BlockEntry> blocks = segment.BlocksOf(lists);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    return search->AddSegment(segment.entry, std::move(blocks));
  }

  static Status RunWave(Search* search, ObjectStore* store) {
    IVFREMOTE_RETURN_IF_ERROR(search->StartWave(store, 4));
    while (search->wave_running()) IVFREMOTE_RETURN_IF_ERROR(search->StepWave(Later()));
    return Status::Ok();
  }

  Status RunWave(Search* search, Fault fault) {
    return RunWave(search, MakeFaultStore(std::make_unique<MemoryStore>(store_), fault).get());
  }

  static Status DeliverAll(Search* search, uint16_t number, const Segment& segment) {
    const std::vector<PlannedRange>& ranges = search->RangesOf(number);
    for (size_t i = ranges.size(); i-- > 0;) {
      std::copy_n(segment.bytes.begin() + static_cast<ptrdiff_t>(ranges[i].offset), ranges[i].length,
                  search->BufferFor(number, i));
      IVFREMOTE_RETURN_IF_ERROR(search->Deliver(number, i));
    }
    return Status::Ok();
  }

  static std::vector<Candidate> Drain(Search* search) {
    search->StartOrder();
    std::vector<Candidate> candidates;
    for (Candidate candidate; search->Next(&candidate);) candidates.push_back(candidate);
    return candidates;
  }

  // The rows' TIDs by the operator's value, those that have none last, ties by TID.
  std::vector<Tid> Expected(Metric metric, const std::vector<Row>& rows) {
    std::vector<std::pair<double, Tid>> order;
    for (const Row& row : rows) {
      const double distance = Scorer(metric, query_.data(), kDimensions).Distance(row.values.data());
      order.push_back({std::isnan(distance) ? std::numeric_limits<double>::infinity() : distance, row.tid});
    }
    std::sort(order.begin(), order.end());
    std::vector<Tid> tids;
    for (const auto& [distance, tid] : order) tids.push_back(tid);
    return tids;
  }

  static std::vector<Tid> TidsOf(const std::vector<Candidate>& candidates) {
    std::vector<Tid> tids;
    for (const Candidate& candidate : candidates) tids.push_back(candidate.tid());
    return tids;
  }

  Random random_{48};
  MemoryStore store_;
  uint64_t next_ = 5;
  std::vector<float> query_ = UniformVector(random_, kDimensions);
};

TEST_F(SearchTest, NothingToSearch) {
  Search search = Start(Metric::kL2);
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_FALSE(search.wave_running());
  EXPECT_EQ(search.statistics().waves, 0u);
  EXPECT_TRUE(Drain(&search).empty());
}

TEST_F(SearchTest, RowsComeInTheOperatorsOrder) {
  const Segment segment = Write(SegmentPlace::kObject, {500, 0, 5000, 3, 1200});
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    for (uint64_t gap : {0, 1 << 20}) {
      Search search = Start(metric, gap);
      Add(&search, segment, {4, 0, 3, 1, 2});
      ASSERT_OK(RunWave(&search, &store_));
      const std::vector<Candidate> candidates = Drain(&search);
      EXPECT_EQ(TidsOf(candidates), Expected(metric, segment.rows));
      const Scorer scorer(metric, query_.data(), kDimensions);
      EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end(),
                                 [](const auto& a, const auto& b) { return a.distance < b.distance; }));
      EXPECT_EQ(search.statistics().rows_scored, segment.rows.size());
    }
  }
}

TEST_F(SearchTest, DistancesAreTheOperatorsToTheLastBit) {
  const Segment segment = Write(SegmentPlace::kObject, {100});
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    Search search = Start(metric);
    Add(&search, segment, {0});
    ASSERT_OK(RunWave(&search, &store_));
    std::vector<double> expected;
    for (const Row& row : segment.rows)
      expected.push_back(Scorer(metric, query_.data(), kDimensions).Distance(row.values.data()));
    std::sort(expected.begin(), expected.end());
    std::vector<double> distances;
    for (const Candidate& candidate : Drain(&search)) distances.push_back(candidate.distance);
    EXPECT_EQ(distances, expected);
  }
}

TEST_F(SearchTest, TiesByTid) {
  const std::vector<float> one(kDimensions, 1.0f);
  const std::vector<float> two(kDimensions, 2.0f);
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 300; ++i) rows.push_back(i % 3 == 0 ? two : one);
  const Segment segment = Write(SegmentPlace::kObject, {100, 100, 100}, rows);
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0, 1, 2});
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kL2, segment.rows));
}

TEST_F(SearchTest, RowsWithoutADistanceComeLast) {
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 40; ++i)
    rows.push_back(i % 4 == 1 ? std::vector<float>(kDimensions, 0.0f) : UniformVector(random_, kDimensions));
  const Segment segment = Write(SegmentPlace::kObject, {40}, rows);
  Search search = Start(Metric::kCosine);
  Add(&search, segment, {0});
  ASSERT_OK(RunWave(&search, &store_));
  const std::vector<Candidate> candidates = Drain(&search);
  EXPECT_EQ(TidsOf(candidates), Expected(Metric::kCosine, segment.rows));
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isinf(candidates[i].distance), i >= 30) << i;
}

TEST_F(SearchTest, ZeroQueryUnderCosineGivesAllRows) {
  query_.assign(kDimensions, 0.0f);
  const Segment segment = Write(SegmentPlace::kObject, {40});
  Search search = Start(Metric::kCosine);
  Add(&search, segment, {0});
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kCosine, segment.rows));
}

TEST_F(SearchTest, OnlyTheBlocksAskedForAreScored) {
  const Segment segment = Write(SegmentPlace::kObject, {10, 20, 30, 40});
  Search search = Start(Metric::kL2);
  Add(&search, segment, {1, 3});
  ASSERT_OK(RunWave(&search, &store_));
  std::vector<Row> rows(segment.rows.begin() + 10, segment.rows.begin() + 30);
  rows.insert(rows.end(), segment.rows.begin() + 60, segment.rows.end());
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kL2, rows));
  EXPECT_EQ(search.statistics().blocks, 2u);
  EXPECT_EQ(search.statistics().rows_scored, 60u);
}

// -- waves

TEST_F(SearchTest, CompletionsInAnyOrder) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200, 300, 400});
  Search search = Start(Metric::kL2, 0);
  Add(&search, segment, {0, 2});
  Add(&search, segment, {3});
  ASSERT_OK(RunWave(&search, Fault::kGetReorder));
  ASSERT_EQ(search.trace().size(), 3u);
  EXPECT_GT(search.trace()[1].offset, search.trace()[2].offset) << "the wave was not reordered";
  std::vector<Row> rows(segment.rows.begin(), segment.rows.begin() + 100);
  rows.insert(rows.end(), segment.rows.begin() + 300, segment.rows.end());
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kL2, rows));
}

TEST_F(SearchTest, FailuresOfTheStoreArePassedOn) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200, 300});
  const std::pair<Fault, StatusCode> cases[] = {
      {Fault::kGetFail, StatusCode::kUnavailable},
      {Fault::kGetFailOne, StatusCode::kUnavailable},
      {Fault::kGetMissing, StatusCode::kNotFound},
      {Fault::kGetDenied, StatusCode::kDenied},
  };
  for (const auto& [fault, code] : cases) {
    Search search = Start(Metric::kL2, 0);
    Add(&search, segment, {0, 2});
    EXPECT_TRUE(Fails(RunWave(&search, fault), code, {"injected"}));
  }
}

TEST_F(SearchTest, ObjectThatIsGone) {
  const Segment segment = Write(SegmentPlace::kObject, {100});
  const std::string key = FormatObjectKey({segment.entry.name, 0});
  store_.objects().clear();
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0});
  EXPECT_TRUE(Fails(RunWave(&search, &store_), StatusCode::kNotFound, {key}));
}

TEST_F(SearchTest, ObjectThatIsCutOff) {
  const Segment segment = Write(SegmentPlace::kObject, {100});
  const std::string key = FormatObjectKey({segment.entry.name, 0});
  store_.objects()[key].resize(1000);
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0});
  EXPECT_TRUE(Fails(RunWave(&search, &store_), StatusCode::kCorrupt, {key, "1000 bytes"}));
}

std::string RangeOf(const BlockEntry& block, uint64_t part_start = 0) {
  return "bytes " + std::to_string(block.offset - part_start) + "-" +
         std::to_string(block.offset - part_start + block.length - 1);
}

TEST_F(SearchTest, WrongByteNamesObjectAndRange) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200});
  Search search = Start(Metric::kL2);
  Add(&search, segment, {1});
  EXPECT_TRUE(Fails(RunWave(&search, Fault::kGetFlipByte), StatusCode::kCorrupt,
                    {"checksum", FormatObjectKey({segment.entry.name, 0}), RangeOf(segment.directory.blocks[1])}));
}

// Whichever byte of a block is wrong, and in whichever block of a range.
TEST_F(SearchTest, EveryWrongByteIsNoticed) {
  const Segment segment = Write(SegmentPlace::kObject, {3, 4, 5});
  const std::string key = FormatObjectKey({segment.entry.name, 0});
  for (const BlockEntry& block : segment.directory.blocks) {
    for (uint64_t at = block.offset; at < block.offset + block.length; ++at) {
      store_.objects()[key][at] ^= std::byte{0x10};
      Search search = Start(Metric::kL2);
      Add(&search, segment, {0, 1, 2});
      EXPECT_TRUE(Fails(RunWave(&search, &store_), StatusCode::kCorrupt, {key, RangeOf(block)})) << at;
      store_.objects()[key][at] ^= std::byte{0x10};
    }
  }
}

// A gap is not protected by a checksum, and not looked at.
TEST_F(SearchTest, WrongByteInAGapDoesNoHarm) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200, 300});
  const std::string key = FormatObjectKey({segment.entry.name, 0});
  store_.objects()[key][segment.directory.blocks[1].offset + 100] ^= std::byte{1};
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0, 2});
  EXPECT_OK(RunWave(&search, &store_));
}

TEST_F(SearchTest, BlocksInTheWrongPlace) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 100});
  std::vector<BlockEntry> blocks = segment.directory.blocks;
  std::swap(blocks[0].offset, blocks[1].offset);
  Search search = Start(Metric::kL2);
  search.AddSegment(segment.entry, blocks);
  EXPECT_TRUE(Fails(RunWave(&search, &store_), StatusCode::kCorrupt));
}

TEST_F(SearchTest, GapsAreFetchedButNotUsed) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200, 300});
  const std::vector<BlockEntry>& blocks = segment.directory.blocks;
  for (uint64_t gap : {uint64_t{0}, uint64_t{blocks[1].length}}) {
    Search search = Start(Metric::kL2, gap);
    Add(&search, segment, {0, 2});
    ASSERT_OK(RunWave(&search, &store_));
    const SearchStatistics& statistics = search.statistics();
    EXPECT_EQ(statistics.waves, 1u);
    EXPECT_EQ(statistics.requests, gap == 0 ? 2u : 1u);
    EXPECT_EQ(statistics.blocks, 2u);
    EXPECT_EQ(statistics.bytes_used, blocks[0].length + blocks[2].length);
    EXPECT_EQ(statistics.bytes_fetched, statistics.bytes_used + gap);
  }
}

TEST_F(SearchTest, TraceTellsEveryRequest) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 200, 300});
  const std::vector<BlockEntry>& blocks = segment.directory.blocks;
  Search search = Start(Metric::kL2, 0);
  Add(&search, segment, {2, 0});
  ASSERT_OK(RunWave(&search, &store_));
  ASSERT_EQ(search.trace().size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const RequestTrace& trace = search.trace()[i];
    EXPECT_EQ(trace.key, FormatObjectKey({segment.entry.name, 0}));
    EXPECT_EQ(trace.offset, blocks[2 * i].offset);
    EXPECT_EQ(trace.bytes, blocks[2 * i].length);
    EXPECT_EQ(trace.wave, 1u);
    EXPECT_LE(trace.started, trace.finished);
  }
}

TEST_F(SearchTest, PartsAreObjectsOfTheirOwn) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 100, 100, 100, 100, 100}, 8192);
  const std::vector<BlockEntry>& blocks = segment.directory.blocks;
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0, 1, 2, 3, 4, 5});
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kL2, segment.rows));
  for (const RequestTrace& trace : search.trace()) EXPECT_LE(trace.offset + trace.bytes, 8192u);
  EXPECT_GT(search.trace().size(), 2u);
  EXPECT_NE(search.trace().back().key, search.trace().front().key);

  const BlockEntry& last = blocks.back();
  const uint64_t part = last.offset / 8192;
  ASSERT_GT(part, 0u);
  const std::string key = FormatObjectKey({segment.entry.name, static_cast<uint32_t>(part)});
  store_.objects()[key][last.offset % 8192 + 70] ^= std::byte{1};
  Search again = Start(Metric::kL2);
  Add(&again, segment, {5});
  EXPECT_TRUE(Fails(RunWave(&again, &store_), StatusCode::kCorrupt, {key, RangeOf(last, part * 8192)}));
}

TEST_F(SearchTest, StalledStoreGivesTheCallerItsTurn) {
  const Segment segment = Write(SegmentPlace::kObject, {100});
  const auto store = MakeFaultStore(std::make_unique<MemoryStore>(store_), Fault::kGetStall);
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0});
  ASSERT_OK(search.StartWave(store.get(), 4));
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(search.StepWave(Clock::now() + std::chrono::milliseconds(5)));
    EXPECT_TRUE(search.wave_running());
    EXPECT_EQ(search.requests_outstanding(), 1u);
  }
}  // destroyed with its wave running

// -- pages, pending rows

TEST_F(SearchTest, RowsFromPages) {
  const Segment segment = Write(SegmentPlace::kPages, {500, 0, 5000, 3});
  Search search = Start(Metric::kInnerProduct, 0);
  const uint16_t number = Add(&search, segment, {0, 2, 3});
  ASSERT_OK(search.StartWave(&store_, 4));
  EXPECT_FALSE(search.wave_running()) << "pages are the caller's to read";
  ASSERT_OK(DeliverAll(&search, number, segment));
  EXPECT_EQ(TidsOf(Drain(&search)), Expected(Metric::kInnerProduct, segment.rows));
  EXPECT_EQ(search.statistics().waves, 0u);
  EXPECT_EQ(search.statistics().requests, 0u);
  EXPECT_EQ(search.statistics().bytes_fetched, search.statistics().bytes_used);
}

TEST_F(SearchTest, WrongByteFromPagesNamesSegmentAndRange) {
  Segment segment = Write(SegmentPlace::kPages, {100});
  const BlockEntry& block = segment.directory.blocks[0];
  segment.bytes[block.offset + 99] ^= std::byte{1};
  Search search = Start(Metric::kL2);
  const uint16_t number = Add(&search, segment, {0});
  EXPECT_TRUE(Fails(DeliverAll(&search, number, segment), StatusCode::kCorrupt,
                    {"checksum", "segment " + std::to_string(segment.entry.id), RangeOf(block)}));
}

TEST_F(SearchTest, PendingRowsInterleave) {
  const Segment segment = Write(SegmentPlace::kObject, {300});
  std::vector<Row> rows = segment.rows;
  Search search = Start(Metric::kL2);
  Add(&search, segment, {0});
  ASSERT_OK(search.StartWave(&store_, 4));
  // Bytes as they lie on a page: aligned for nothing.
  std::vector<std::byte> bytes(kDimensions * sizeof(float) + 1);
  for (uint32_t i = 0; i < 200; ++i) {
    if (i == 100) {
      while (search.wave_running()) ASSERT_OK(search.StepWave(Later()));
    }
    const Row row{{200000 + i, 1}, UniformVector(random_, kDimensions)};
    std::memcpy(bytes.data() + 1, row.values.data(), kDimensions * sizeof(float));
    ASSERT_OK(search.AddPending(row.tid, 0, bytes.data() + 1));
    rows.push_back(row);
  }
  const std::vector<Candidate> candidates = Drain(&search);
  EXPECT_EQ(TidsOf(candidates), Expected(Metric::kL2, rows));
  for (const Candidate& candidate : candidates)
    EXPECT_EQ(candidate.segment, candidate.tid_block >= 200000 ? Candidate::kPending : 0);
  EXPECT_EQ(search.statistics().rows_scored, 500u);
  EXPECT_EQ(search.statistics().pending_rows_scored, 200u);
}

TEST_F(SearchTest, SeveralSegmentsInOneWave) {
  const Segment first = Write(SegmentPlace::kObject, {100, 200});
  const Segment pages = Write(SegmentPlace::kPages, {50});
  const Segment second = Write(SegmentPlace::kObject, {10, 20, 30});
  Search search = Start(Metric::kL2);
  EXPECT_EQ(Add(&search, first, {0, 1}), 0);
  EXPECT_EQ(Add(&search, pages, {0}), 1);
  EXPECT_EQ(Add(&search, second, {2, 1, 0}), 2);
  ASSERT_OK(RunWave(&search, &store_));
  ASSERT_OK(DeliverAll(&search, 1, pages));
  EXPECT_EQ(search.statistics().waves, 1u);
  std::vector<Row> rows = first.rows;
  for (const Segment* segment : {&pages, &second}) rows.insert(rows.end(), segment->rows.begin(), segment->rows.end());
  const std::vector<Candidate> candidates = Drain(&search);
  EXPECT_EQ(TidsOf(candidates), Expected(Metric::kL2, rows));
  size_t of_segment[3] = {};
  for (const Candidate& candidate : candidates) ++of_segment[candidate.segment];
  EXPECT_EQ(of_segment[0], 300u);
  EXPECT_EQ(of_segment[1], 50u);
  EXPECT_EQ(of_segment[2], 60u);
}

TEST_F(SearchTest, SegmentWithoutBlocksToRead) {
  const Segment segment = Write(SegmentPlace::kObject, {100, 0});
  Search search = Start(Metric::kL2);
  Add(&search, segment, {1});
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(search.statistics().waves, 0u);
  EXPECT_TRUE(Drain(&search).empty());
}

TEST_F(SearchTest, UnorderedRowsComeByTid) {
  Search search = Start(Metric::kL2);
  for (uint32_t block : {5, 3, 9, 1}) search.AddUnordered({block, 1});
  EXPECT_EQ(TidsOf(Drain(&search)), (std::vector<Tid>{{1, 1}, {3, 1}, {5, 1}, {9, 1}}));
}

TEST_F(SearchTest, QueryIsCopied) {
  const Segment segment = Write(SegmentPlace::kObject, {100});
  const std::vector<Tid> expected = Expected(Metric::kL2, segment.rows);
  Search search = Start(Metric::kL2);
  query_.assign(kDimensions, 1000.0f);
  Add(&search, segment, {0});
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(TidsOf(Drain(&search)), expected);
}

// -- Further waves

// The next `count` rows, or all.
std::vector<Candidate> Take(Search* search, size_t count) {
  std::vector<Candidate> taken;
  for (Candidate candidate; taken.size() < count && search->Next(&candidate);) taken.push_back(candidate);
  return taken;
}

TEST_F(SearchTest, AFurtherWaveJoinsWhatIsLeft) {
  const Segment object = Write(SegmentPlace::kObject, {300, 200, 400, 100});
  const Segment pages = Write(SegmentPlace::kPages, {30, 20, 40, 10});
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    Search search = Start(metric, 0);
    const uint16_t number = Add(&search, object, {0, 3});
    ASSERT_EQ(search.requests_planned(), 2u);
    ASSERT_OK(RunWave(&search, &store_));
    search.StartOrder();
    EXPECT_EQ(search.requests_planned(), 0u);
    const std::vector<Candidate> first = Take(&search, 150);
    ASSERT_EQ(first.size(), 150u);

    search.SetBlocks(number, object.BlocksOf({1, 2}));
    const uint16_t other = Add(&search, pages, {1, 2});
    EXPECT_EQ(search.requests_planned(), 1u);  // the two are neighbours
    ASSERT_OK(RunWave(&search, &store_));
    ASSERT_OK(DeliverAll(&search, other, pages));
    // What has arrived is not in order yet.
    const std::vector<Candidate> meanwhile = Take(&search, 10);
    ASSERT_EQ(meanwhile.size(), 10u);
    std::vector<Row> all, of_first;
    for (uint32_t i = 0; i < object.rows.size(); ++i)
      if (i < 300 || i >= 900) of_first.push_back(object.rows[i]);
    std::vector<Tid> given = TidsOf(first);
    for (const Candidate& candidate : meanwhile) given.push_back(candidate.tid());
    std::vector<Tid> expected = Expected(metric, of_first);
    EXPECT_TRUE(std::equal(given.begin(), given.end(), expected.begin()));

    const std::vector<Candidate> rest = Drain(&search);
    all = object.rows;
    all.insert(all.end(), pages.rows.begin() + 30, pages.rows.begin() + 90);
    expected = Expected(metric, all);
    for (const Tid tid : given) expected.erase(std::find(expected.begin(), expected.end(), tid));
    EXPECT_EQ(TidsOf(rest), expected);
    EXPECT_EQ(search.statistics().waves, 2u);
  }
}

TEST_F(SearchTest, ASpilledRowComesOnceWhicheverWaveHasIt) {
  Segment segment = Write(SegmentPlace::kPages, {100, 80, 60});
  segment.entry.flags |= SegmentEntry::kSpilled;
  Search search = Start(Metric::kL2);
  const uint16_t number = Add(&search, segment, {0});
  ASSERT_OK(DeliverAll(&search, number, segment));
  search.StartOrder();
  const std::vector<Candidate> first = Take(&search, 40);
  // The same rows once more, as if they had been in other lists too.
  search.SetBlocks(number, segment.BlocksOf({0, 1}));
  ASSERT_OK(DeliverAll(&search, number, segment));
  const std::vector<Candidate> rest = Drain(&search);
  EXPECT_EQ(first.size() + rest.size(), 180u);
}

TEST_F(SearchTest, AFailedRequestOfAFurtherWaveIsSentAgain) {
  const Segment segment = Write(SegmentPlace::kObject, {300, 200, 400, 100});
  Search search = Start(Metric::kL2, 0);
  const uint16_t number = Add(&search, segment, {1});
  ASSERT_OK(RunWave(&search, &store_));
  search.StartOrder();
  search.SetBlocks(number, segment.BlocksOf({0, 3}));
  EXPECT_EQ(RunWave(&search, Fault::kGetFailOne).code(), StatusCode::kUnavailable);
  ASSERT_OK(RunWave(&search, &store_));
  EXPECT_EQ(search.requests_in_wave(), 1u);
  EXPECT_EQ(Drain(&search).size(), 600u);
}

}  // namespace
}  // namespace ivfremote
