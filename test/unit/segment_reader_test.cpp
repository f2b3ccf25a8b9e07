#include "core/segment_reader.h"

#include "core/fault_store.h"
#include "core/memory_store.h"
#include "core/segment_writer.h"
#include "routing_fixture.h"

namespace ivfremote {
namespace {

constexpr uint32_t kLists = 7;

struct Row {
  uint32_t list;
  uint32_t centroid;
  Tid tid;
  std::vector<std::byte> bytes;

  friend bool operator==(const Row&, const Row&) = default;
};

class SegmentReaderTest : public testing::Test {
 protected:
  // `rows` rows with any bytes for codes, in `kLists` lists, some of them of another list's centroid.
  void Write(const CodeFormat& format, SegmentPlace place, uint32_t rows, uint64_t part_bytes = 0) {
    format_ = format;
    const Routing routing = RandomRouting(random_, Metric::kL2, format.dimensions, kLists, 1);
    entry_.id = 5;
    entry_.place = place;
    entry_.part_bytes = part_bytes;
    entry_.name.mint_xid = 9;
    SegmentHeader header;
    header.dimensions = format.dimensions;
    header.code_kind = format.kind;
    header.bits = static_cast<uint8_t>(format.bits);
    header.list_count = kLists;
    header.name = entry_.name;
    header.part_bytes = part_bytes;
    SegmentWriter writer(header, &routing);
    for (uint32_t i = 0; i < rows; ++i) {
      // List 3 is empty; in list 4 there are two centroids.
      uint32_t list = static_cast<uint32_t>(uint64_t{i} * kLists / rows);
      if (list == 3) list = 4;
      const uint32_t centroid = list == 4 && i > rows * 9 / 14 ? 6 : list == 4 ? 3 : list;
      const std::string bytes = RandomText(random_, format.RowBytes());
      const Tid tid{static_cast<uint32_t>(Below(random_, 100000)), static_cast<uint16_t>(1 + Below(random_, 200))};
      rows_.push_back({list, centroid, tid, {AsBytes(bytes).begin(), AsBytes(bytes).end()}});
      ASSERT_OK(writer.Add(list, centroid, tid, rows_.back().bytes.data()));
    }
    ASSERT_OK(writer.Finish(rows));
    entry_.bytes = writer.bytes();
    directory_ = writer.directory();
    std::vector<SegmentWriter::Chunk> chunks = writer.TakeOutput();
    pages_.resize(writer.bytes());
    for (const auto& chunk : chunks)
      std::copy(chunk.bytes.begin(), chunk.bytes.end(), pages_.begin() + static_cast<ptrdiff_t>(chunk.offset));
    if (place == SegmentPlace::kPages) return;
    SegmentUpload upload(&store_, entry_.name, part_bytes);
    upload.Add(std::move(chunks));
    for (bool idle = false; !idle;) ASSERT_OK(upload.Step(Later(), &idle));
    for (bool done = false; !done;) ASSERT_OK(upload.Finish(Later(), &done));
  }

  SegmentReader Reader() {
    std::vector<BlockEntry> blocks = directory_.blocks;
    std::shuffle(blocks.begin(), blocks.end(), random_);
    return SegmentReader(entry_, format_, std::move(blocks));
  }

  Status ReadOn(SegmentReader* reader, ObjectStore* store) {
    if (entry_.place == SegmentPlace::kPages) {
      uint64_t offset;
      uint32_t length;
      std::byte* to = reader->StartPiece(&offset, &length);
      std::copy_n(pages_.begin() + static_cast<ptrdiff_t>(offset), length, to);
      return Status::Ok();
    }
    ++waves_;
    return Run(reader->NextWave(), store);
  }

  static Status Run(RangeFetch* fetch, ObjectStore* store) {
    IVFREMOTE_RETURN_IF_ERROR(fetch->Start(store));
    for (bool done = false; !done;) IVFREMOTE_RETURN_IF_ERROR(fetch->Step(Later(), &done));
    return Status::Ok();
  }

  // Takes the blocks of what has been read.
  Status TakeBlocks(SegmentReader* reader, std::vector<Row>* rows) {
    for (;;) {
      bool found = false;
      IVFREMOTE_RETURN_IF_ERROR(reader->NextBlock(&found));
      if (!found) return Status::Ok();
      for (uint32_t i = 0; i < reader->block().rows(); ++i) {
        Row row{reader->entry().list, reader->entry().centroid, reader->block().tid(i), {}};
        row.bytes.resize(format_.RowBytes());
        reader->block().TakeRow(format_, i, row.bytes.data());
        rows->push_back(std::move(row));
      }
    }
  }

  Status ReadAll(SegmentReader* reader, ObjectStore* store, std::vector<Row>* rows) {
    for (;;) {
      IVFREMOTE_RETURN_IF_ERROR(TakeBlocks(reader, rows));
      if (reader->all_read()) return Status::Ok();
      IVFREMOTE_RETURN_IF_ERROR(ReadOn(reader, store));
    }
  }

  std::unique_ptr<ObjectStore> Faulty(Fault fault) {
    return MakeFaultStore(std::make_unique<MemoryStore>(store_), fault);
  }

  Random random_{7};
  CodeFormat format_;
  SegmentEntry entry_;
  Directory directory_;
  std::vector<Row> rows_;
  MemoryStore store_;
  std::vector<std::byte> pages_;
  int waves_ = 0;
};

TEST_F(SegmentReaderTest, EveryRowComesBackBitForBit) {
  const CodeFormat formats[] = {{CodeKind::kFloat32, 32, 9},  {CodeKind::kRabitq, 1, 40}, {CodeKind::kRabitq, 2, 17},
                                {CodeKind::kRabitq, 4, 100}, {CodeKind::kRabitq, 8, 9}};
  for (const CodeFormat& format : formats)
    for (const SegmentPlace place : {SegmentPlace::kObject, SegmentPlace::kPages}) {
      SCOPED_TRACE(std::to_string(format.bits) + " bits, place " + std::to_string(static_cast<int>(place)));
      rows_.clear();
      store_.objects().clear();
      Write(format, place, 501);
      SegmentReader reader = Reader();
      std::vector<Row> rows;
      ASSERT_OK(ReadAll(&reader, &store_, &rows));
      EXPECT_EQ(rows, rows_);
    }
}

// 50 MB: several waves, pieces of pages, and parts.
TEST_F(SegmentReaderTest, LargeSegmentsAreReadInWaves) {
  Write({CodeKind::kFloat32, 32, 2000}, SegmentPlace::kObject, 6300, 12 << 20);
  EXPECT_GE(store_.objects().size(), 5u);
  SegmentReader reader = Reader();
  EXPECT_GE(reader.bytes_to_read(), uint64_t{6300} * 8000);
  std::vector<Row> rows;
  ASSERT_OK(ReadAll(&reader, &store_, &rows));
  EXPECT_TRUE(rows == rows_);
  EXPECT_GE(waves_, 2);
  EXPECT_LE(waves_, 5);
  EXPECT_EQ(reader.bytes_to_read(), 0u);
}

TEST_F(SegmentReaderTest, SomeBlocksOnly) {
  Write({CodeKind::kFloat32, 32, 9}, SegmentPlace::kPages, 300);
  SegmentReader reader(entry_, format_, {directory_.blocks[4], directory_.blocks[1]});
  std::vector<Row> rows;
  ASSERT_OK(ReadAll(&reader, nullptr, &rows));
  std::vector<Row> expected;
  for (const Row& row : rows_)
    for (const int block : {1, 4})
      if (row.list == directory_.blocks[block].list && row.centroid == directory_.blocks[block].centroid)
        expected.push_back(row);
  EXPECT_FALSE(expected.empty());
  EXPECT_EQ(rows, expected);
}

TEST_F(SegmentReaderTest, AnEmptySegmentHasNoBlocks) {
  SegmentReader reader(entry_, {CodeKind::kFloat32, 32, 9}, {});
  bool found = true;
  EXPECT_OK(reader.NextBlock(&found));
  EXPECT_FALSE(found);
  EXPECT_TRUE(reader.all_read());
}

// A wave whose store has failed goes on with another one, with what is missing.
TEST_F(SegmentReaderTest, AFailedWaveIsStartedAgain) {
  Write({CodeKind::kFloat32, 32, 2000}, SegmentPlace::kObject, 2500);
  SegmentReader reader = Reader();
  RangeFetch* wave = reader.NextWave();
  EXPECT_TRUE(Fails(Run(wave, Faulty(Fault::kGetFailOne).get()), StatusCode::kUnavailable));
  EXPECT_EQ(wave->requests_failed(), 1u);
  EXPECT_EQ(wave->requests_in_wave(), 3u);
  ASSERT_OK(Run(wave, &store_));
  EXPECT_EQ(wave->requests_in_wave(), 1u);
  std::vector<Row> rows;
  ASSERT_OK(ReadAll(&reader, &store_, &rows));
  EXPECT_TRUE(rows == rows_);
}

TEST_F(SegmentReaderTest, ErrorsNameObjectAndRange) {
  Write({CodeKind::kRabitq, 4, 100}, SegmentPlace::kObject, 100);
  const std::string key = FormatObjectKey({entry_.name, 0});
  SegmentReader missing = Reader();
  MemoryStore empty;
  EXPECT_TRUE(Fails(ReadOn(&missing, &empty), StatusCode::kNotFound, {key}));
  SegmentReader wrong = Reader();
  std::vector<Row> rows;
  EXPECT_TRUE(Fails(ReadAll(&wrong, Faulty(Fault::kGetFlipByte).get(), &rows), StatusCode::kCorrupt,
                    {key, "bytes ", "checksum mismatch"}));
}

}  // namespace
}  // namespace ivfremote
