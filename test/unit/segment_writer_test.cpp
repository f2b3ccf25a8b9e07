#include "core/segment_writer.h"

#include <map>

#include "core/checksum.h"
#include "core/fault_store.h"
#include "core/memory_store.h"
#include "support.h"

namespace ivfremote {
namespace {

struct Row {
  Tid tid;
  std::vector<float> values;

  friend bool operator==(const Row&, const Row&) = default;
};

SegmentName ExampleName() {
  SegmentName name{};
  name.incarnation.fill(0xab);
  name.index_uuid.fill(0xcd);
  name.mint_xid = 700;
  name.random = 42;
  return name;
}

// One group of lists whose centroids don't matter here.
Routing RoutingOf(uint32_t dimensions, uint32_t lists) {
  Routing routing;
  routing.dimensions = dimensions;
  routing.mean.assign(dimensions, 0.5f);
  routing.radii.assign(lists, 1.0f);
  routing.group_first = {0, lists};
  routing.group_centroids.assign(dimensions, 0.0f);
  routing.centroids.assign(size_t{lists} * dimensions, 2.0f);
  return routing;
}

class SegmentWriterTest : public testing::Test {
 protected:
  void Start(uint32_t dimensions, uint32_t lists, uint64_t part_bytes) {
    routing_ = RoutingOf(dimensions, lists);
    header_.dimensions = dimensions;
    header_.list_count = lists;
    header_.part_bytes = part_bytes;
    header_.name = ExampleName();
    writer_ = std::make_unique<SegmentWriter>(header_, &routing_);
    upload_ = std::make_unique<SegmentUpload>(&store_, header_.name, part_bytes);
  }

  // Adds `count` random rows to a list, uploading as it goes.
  void Write(uint32_t list, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
      Row row{{static_cast<uint32_t>(random_()), static_cast<uint16_t>(1 + Below(random_, 0xffff))},
              UniformVector(random_, header_.dimensions)};
      ASSERT_OK(writer_->Add(list, list, row.tid, RowBytes(row.values.data())));
      written_[list].push_back(std::move(row));
      ASSERT_OK(Move());
    }
  }

  Status Finish() {
    IVFREMOTE_RETURN_IF_ERROR(writer_->Finish(writer_->copies()));
    IVFREMOTE_RETURN_IF_ERROR(Move());
    bool done = false;
    while (!done) IVFREMOTE_RETURN_IF_ERROR(upload_->Finish(Later(), &done));
    return Status::Ok();
  }

  // What the writer put out moves to the store.
  Status Move() {
    std::vector<SegmentWriter::Chunk> chunks = writer_->TakeOutput();
    for (const auto& chunk : chunks)
      if (header_.part_bytes != 0 && !chunk.bytes.empty()) {
        EXPECT_EQ(chunk.offset / header_.part_bytes, (chunk.offset + chunk.bytes.size() - 1) / header_.part_bytes)
            << "an item crosses a part";
      }
    upload_->Add(std::move(chunks));
    bool idle = false;
    while (!idle) IVFREMOTE_RETURN_IF_ERROR(upload_->Step(Later(), &idle));
    return Status::Ok();
  }

  uint64_t PartBytesOr(uint64_t otherwise) const { return header_.part_bytes == 0 ? otherwise : header_.part_bytes; }

  // Logical bytes of the segment, from its objects; they may go on in the next part.
  std::vector<std::byte> Read(uint64_t offset, uint64_t length) {
    std::vector<std::byte> all;
    while (length > 0) {
      const uint64_t part = offset / PartBytesOr(~uint64_t{0});
      const uint64_t in_part = offset - part * header_.part_bytes;
      const uint64_t piece = std::min(length, PartBytesOr(~uint64_t{0}) - in_part);
      std::string text;
      EXPECT_OK(Get(&store_, FormatObjectKey({ExampleName(), static_cast<uint32_t>(part)}), in_part,
                    static_cast<uint32_t>(piece), &text));
      const Bytes bytes = AsBytes(text);
      all.insert(all.end(), bytes.begin(), bytes.end());
      offset += piece;
      length -= piece;
    }
    return all;
  }

  // Reads the segment back knowing nothing but its name, as inspection and disaster recovery do.
  void ExpectSelfDescribing() {
    std::vector<ObjectInfo> objects;
    ASSERT_OK(List(&store_, FormatObjectKey({ExampleName(), 0}), "", 100000, &objects));
    ASSERT_FALSE(objects.empty());
    const uint64_t parts = objects.size();
    ASSERT_EQ(parts, upload_->objects());

    SegmentHeader header;
    ASSERT_OK(DecodeSegmentHeader(Read(0, SegmentHeader::kBytes), &header));
    EXPECT_EQ(header.dimensions, header_.dimensions);
    EXPECT_EQ(header.list_count, header_.list_count);
    EXPECT_EQ(header.part_bytes, header_.part_bytes);
    EXPECT_EQ(header.format(), header_.format());
    EXPECT_EQ(header.name, ExampleName());

    const std::string last = FormatObjectKey({ExampleName(), static_cast<uint32_t>(parts - 1)});
    ASSERT_TRUE(store_.objects().contains(last)) << "parts are not numbered 0, 1, ...";
    const uint64_t end = (parts - 1) * header_.part_bytes + store_.objects()[last].size();
    EXPECT_EQ(end, writer_->bytes());
    SegmentTrailer trailer;
    ASSERT_OK(DecodeSegmentTrailer(Read(end - SegmentTrailer::kBytes, SegmentTrailer::kBytes), end, &trailer));
    EXPECT_EQ(trailer.rows, writer_->copies());
    EXPECT_EQ(trailer.copies, writer_->copies());

    const auto routing = Read(trailer.routing.offset, trailer.routing.bytes);
    EXPECT_EQ(Crc32c(routing), trailer.routing.crc);
    EXPECT_EQ(routing, routing_.Encode());

    const auto encoded_directory = Read(trailer.directory.offset, trailer.directory.bytes);
    EXPECT_EQ(Crc32c(encoded_directory), trailer.directory.crc);
    EXPECT_EQ(encoded_directory, EncodeDirectory(writer_->directory()));
    ASSERT_OK(DecodeDirectory(encoded_directory, end, &directory_));

    EXPECT_EQ(trailer.sample.bytes > 0, !sample_.tids.empty());
    if (trailer.sample.bytes > 0) {
      SampleRows sample;
      ASSERT_OK(DecodeSampleRows(Read(trailer.sample.offset, trailer.sample.bytes), trailer.sample, &sample));
      EXPECT_EQ(sample.dimensions, header_.dimensions);
      EXPECT_EQ(sample.tids, sample_.tids);
      EXPECT_EQ(sample.rows, sample_.rows);
    }

    std::map<uint32_t, std::vector<Row>> rows;
    uint64_t previous_end = SegmentHeader::kBytes;
    for (uint32_t list = 0; list < header.list_count; ++list) {
      for (uint32_t i = 0; i < directory_.lists[list].block_count; ++i) {
        const BlockEntry& entry = directory_.blocks[directory_.lists[list].first_block + i];
        EXPECT_GE(entry.offset, previous_end) << "blocks are not in list order";
        previous_end = entry.offset + entry.length;
        const auto bytes = Read(entry.offset, entry.length);
        BlockView block;
        ASSERT_OK(DecodeBlock(bytes, header.format(), entry, &block));
        for (uint32_t k = 0; k < block.rows(); ++k)
          rows[list].push_back({block.tid(k), {block.row(k), block.row(k) + header.dimensions}});
      }
    }
    EXPECT_TRUE(rows == written_) << "the rows read are not the rows written";
  }

  Random random_{4};
  MemoryStore store_;
  Routing routing_;
  SegmentHeader header_;
  std::unique_ptr<SegmentWriter> writer_;
  std::unique_ptr<SegmentUpload> upload_;
  std::map<uint32_t, std::vector<Row>> written_;
  SampleRows sample_;
  Directory directory_;
};

TEST_F(SegmentWriterTest, NoRows) {
  Start(3, 10, 0);
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  EXPECT_TRUE(directory_.blocks.empty());
}

TEST_F(SegmentWriterTest, OneRow) {
  Start(3, 1, 0);
  Write(0, 1);
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
}

TEST_F(SegmentWriterTest, ListsWithAndWithoutRows) {
  Start(17, 8, 0);
  Write(1, 5);
  Write(2, 1);
  Write(6, 300);
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  for (uint32_t list : {0, 3, 4, 5, 7}) EXPECT_EQ(directory_.lists[list].block_count, 0u) << list;
  for (uint32_t list : {1, 2, 6}) EXPECT_EQ(directory_.lists[list].block_count, 1u) << list;
}

TEST_F(SegmentWriterTest, LongListIsCutByRows) {
  Start(1, 3, 0);
  Write(0, 1);
  Write(1, 2 * kMaxBlockRows + 1);
  Write(2, kMaxBlockRows);
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  ASSERT_EQ(directory_.lists[1].block_count, 3u);
  EXPECT_EQ(directory_.lists[2].block_count, 1u);
  EXPECT_EQ(directory_.blocks[1].rows, kMaxBlockRows);
  EXPECT_EQ(directory_.blocks[3].rows, 1u);
}

TEST_F(SegmentWriterTest, WideListIsCutByBytes) {
  Start(kMaxDimensions, 2, 0);
  Write(1, 70);
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  ASSERT_EQ(directory_.lists[1].block_count, 2u);
  EXPECT_EQ(directory_.blocks[0].rows, 66u);  // the first to reach 4 MiB
}

TEST_F(SegmentWriterTest, SeveralParts) {
  Start(8, 40, 4096);
  for (uint32_t list = 0; list < 40; ++list)
    if (list % 7 != 3) Write(list, 1 + static_cast<uint32_t>(Below(random_, 90)));
  ASSERT_OK(Finish());
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  EXPECT_GT(upload_->objects(), 10u);
  for (const auto& [key, bytes] : store_.objects()) {
    EXPECT_LE(bytes.size(), 4096u) << key;
    EXPECT_TRUE(ParseObjectKey(key).has_value()) << key;
  }
}

// A routing of many lists is longer than a part.
TEST_F(SegmentWriterTest, RoutingLongerThanAPart) {
  Start(8, 800, 1024);
  for (uint32_t list = 0; list < 800; list += 50) Write(list, 3);
  ASSERT_OK(Finish());
  ASSERT_GT(routing_.Encode().size(), 10u * 1024);
  ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
  for (const auto& [key, bytes] : store_.objects()) EXPECT_LE(bytes.size(), 1024u) << key;
}

TEST_F(SegmentWriterTest, SampleRows) {
  for (const uint64_t part_bytes : {0, 1024, 65536})
    for (const uint32_t rows : {1u, 50u, 700u}) {
      store_.objects().clear();
      written_.clear();
      Start(8, 10, part_bytes);
      sample_ = {8, {}, UniformVector(random_, rows * 8)};
      for (uint32_t i = 0; i < rows; ++i) sample_.tids.push_back({i, static_cast<uint16_t>(i + 1)});
      writer_->SetSample(sample_);
      for (uint32_t list = 0; list < 10; list += 3) Write(list, 5);
      ASSERT_OK(Finish());
      ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing());
      EXPECT_EQ(upload_->objects() > 1, part_bytes == 1024);
    }
}

// Every size of the last block before a boundary, down to items that end exactly there.
TEST_F(SegmentWriterTest, ItemsThatJustFitAPart) {
  for (uint32_t rows = 1; rows <= 60; ++rows) {
    store_.objects().clear();
    written_.clear();
    Start(4, 3, 1024);
    Write(0, rows % 42 + 1);
    Write(1, rows / 2 + 1);
    Write(2, 1);
    ASSERT_OK(Finish());
    ASSERT_NO_FATAL_FAILURE(ExpectSelfDescribing()) << rows;
  }
}

TEST_F(SegmentWriterTest, ItemThatFitsNoPartIsAnError) {
  Start(100, 1, 1024);
  std::vector<float> row(100);
  ASSERT_OK(writer_->Add(0, 0, {1, 1}, RowBytes(row.data())));
  ASSERT_OK(writer_->Add(0, 0, {1, 2}, RowBytes(row.data())));
  ASSERT_OK(writer_->Add(0, 0, {1, 3}, RowBytes(row.data())));
  EXPECT_TRUE(Fails(writer_->Finish(writer_->copies()), StatusCode::kInternal, {"does not fit a part"}));
}

// A build holds one block, not the segment.
TEST_F(SegmentWriterTest, TakeOutputDrains) {
  Start(256, 1000, 0);
  EXPECT_TRUE(writer_->TakeOutput().empty());
  const std::vector<float> row(256);
  uint64_t taken = 0;
  for (uint32_t list = 0; list < 1000; ++list) {
    for (uint16_t i = 1; i <= 10; ++i) ASSERT_OK(writer_->Add(list, list, {list, i}, RowBytes(row.data())));
    uint64_t bytes = 0;
    for (const auto& chunk : writer_->TakeOutput()) bytes += chunk.bytes.size();
    ASSERT_LT(bytes, 2 * (10 * 256 * sizeof(float) + 256)) << list;
    taken += bytes;
    ASSERT_TRUE(writer_->TakeOutput().empty());
  }
  ASSERT_OK(writer_->Finish(writer_->copies()));
  for (const auto& chunk : writer_->TakeOutput()) taken += chunk.bytes.size();
  EXPECT_TRUE(writer_->TakeOutput().empty());
  EXPECT_LE(taken, writer_->bytes());
  EXPECT_GT(taken, writer_->bytes() - 1000 * kBlockAlignment);
}

// Of a spilled segment the trailer says how many rows there are, and how many copies.
TEST_F(SegmentWriterTest, RowsAreCountedOnce) {
  Start(4, 2, 0);
  const std::vector<float> row(4);
  for (uint32_t list : {0, 1})
    for (uint16_t i = 1; i <= 5; ++i) ASSERT_OK(writer_->Add(list, list, {0, i}, RowBytes(row.data())));
  EXPECT_TRUE(Fails(writer_->Finish(11), StatusCode::kInternal));
  ASSERT_OK(writer_->Finish(5));
  const std::vector<SegmentWriter::Chunk> chunks = writer_->TakeOutput();
  SegmentTrailer trailer;
  ASSERT_OK(DecodeSegmentTrailer(chunks.back().bytes, writer_->bytes(), &trailer));
  EXPECT_EQ(trailer.rows, 5u);
  EXPECT_EQ(trailer.copies, 10u);
}

TEST_F(SegmentWriterTest, NothingIsReadableBeforeFinish) {
  Start(4, 1, 0);
  Write(0, 100);
  EXPECT_TRUE(store_.objects().empty());
  ASSERT_OK(Finish());
  EXPECT_EQ(store_.objects().size(), 1u);
}

TEST_F(SegmentWriterTest, TakenNameIsAnError) {
  for (uint32_t taken_part : {0, 1}) {
    store_.objects().clear();
    written_.clear();
    const std::string taken = FormatObjectKey({ExampleName(), taken_part});
    ASSERT_OK(Put(&store_, taken, "of another"));
    Start(4, 2, 1024);
    std::vector<float> row(4);
    for (uint16_t i = 1; i <= 40; ++i) ASSERT_OK(writer_->Add(0, 0, {0, i}, RowBytes(row.data())));
    for (uint16_t i = 1; i <= 40; ++i) ASSERT_OK(writer_->Add(1, 1, {1, i}, RowBytes(row.data())));
    EXPECT_TRUE(Fails(Finish(), StatusCode::kAlreadyExists, {taken})) << taken_part;
    EXPECT_EQ(store_.objects()[taken].size(), 10u) << "an object was overwritten";
  }
}

TEST_F(SegmentWriterTest, UploadMakesProgressPastItsDeadline) {
  Start(4, 5, 1024);
  std::vector<float> row(4);
  for (uint32_t list = 0; list < 5; ++list)
    for (uint16_t i = 1; i <= 30; ++i) ASSERT_OK(writer_->Add(list, list, {list, i}, RowBytes(row.data())));
  ASSERT_OK(writer_->Finish(writer_->copies()));
  upload_->Add(writer_->TakeOutput());
  int steps = 1;
  for (bool idle = false; !idle; ++steps) {
    ASSERT_OK(upload_->Step(Past(), &idle));
    ASSERT_LT(steps, 100);
  }
  EXPECT_GT(steps, 5) << "a step went on after its deadline";
  bool done = false;
  while (!done) ASSERT_OK(upload_->Finish(Past(), &done));
  EXPECT_EQ(upload_->objects(), store_.objects().size());
}

TEST_F(SegmentWriterTest, StalledStoreHoldsTheUploadBack) {
  const auto store = MakeFaultStore(std::make_unique<MemoryStore>(), Fault::kPutStall);
  Start(4, 1, 0);
  SegmentUpload upload(store.get(), ExampleName(), 0);
  ASSERT_OK(writer_->Finish(writer_->copies()));
  upload.Add(writer_->TakeOutput());
  bool idle = true;
  ASSERT_OK(upload.Step(Past(), &idle));
  EXPECT_FALSE(idle);
}

}  // namespace
}  // namespace ivfremote
