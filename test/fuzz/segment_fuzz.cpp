// Bytes of a segment from outside: whatever they are, decoders refuse them or give something that can be used.
//
// Checksums are made to fit where a checksum would stop the fuzzer, so that everything behind them is reached.
#include <cstddef>
#include <limits>

#include "core/checksum.h"
#include "core/fetch_plan.h"
#include "core/search.h"
#include "core/routing.h"
#include "core/segment_format.h"
#include "fuzz_input.h"

namespace ivfremote {
namespace {

void RequireRefusal(const Status& status) {
  REQUIRE(status.code() == StatusCode::kCorrupt || status.code() == StatusCode::kUnsupported);
  REQUIRE(!status.message().empty());
}

// The valid structure, or nothing of it, with the input's changes.
std::vector<std::byte> Spoiled(std::vector<std::byte> valid, FuzzInput* input) {
  const uint8_t choice = input->Take<uint8_t>();
  if (choice == 255) return {input->rest().begin(), input->rest().end()};
  if (choice >= 240) valid.resize(input->Take<uint16_t>() % (valid.size() + 100));
  input->Spoil(&valid);
  return valid;
}

void FuzzHeader(FuzzInput* input) {
  SegmentHeader valid;
  valid.dimensions = 3;
  valid.list_count = 2;
  if (input->Take<uint8_t>() % 4 == 1) {
    valid.metric = Metric::kHamming;
    valid.code_kind = CodeKind::kBits;
    valid.bits = 1;
  }
  std::vector<std::byte> bytes = Spoiled(EncodeSegmentHeader(valid), input);
  if (bytes.size() >= SegmentHeader::kBytes) Store(&bytes[124], Crc32c(Bytes(bytes).first(124)));
  SegmentHeader header;
  const Status status = DecodeSegmentHeader(ExactCopy(bytes).bytes(), &header);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(header.dimensions >= 1 && header.dimensions <= MaxDimensions(header.metric));
  REQUIRE(IsKindOf(header.code_kind, header.metric));
  REQUIRE(header.list_count >= 1 && header.list_count <= kMaxLists);
  // Nothing but reserved bytes (27, and 96 on) was ignored.
  const std::vector<std::byte> again = EncodeSegmentHeader(header);
  REQUIRE(SameBytes(Bytes(again).first(27), Bytes(bytes).first(27)));
  REQUIRE(SameBytes(Bytes(again).subspan(28, 68), Bytes(bytes).subspan(28, 68)));
}

void FuzzTrailer(FuzzInput* input) {
  const uint64_t segment_bytes = input->Take<uint64_t>();
  SegmentTrailer valid;
  valid.routing = {segment_bytes / 2, 1, 0};
  valid.directory = {segment_bytes - 1, 1, 0};
  valid.sample = {segment_bytes / 3, input->Take<uint8_t>() % 2u, 0};
  valid.rows = 3;
  valid.copies = 4;
  std::vector<std::byte> bytes = Spoiled(EncodeSegmentTrailer(valid), input);
  if (bytes.size() >= SegmentTrailer::kBytes)
    Store(&bytes[116], Crc32c(Bytes(bytes).subspan(120, 8), Crc32c(Bytes(bytes).first(116))));
  SegmentTrailer trailer;
  const Status status = DecodeSegmentTrailer(ExactCopy(bytes).bytes(), segment_bytes, &trailer);
  if (!status.ok()) return RequireRefusal(status);
  for (const SegmentSection& section : {trailer.routing, trailer.directory})
    REQUIRE(section.bytes > 0 && section.bytes <= segment_bytes && section.offset <= segment_bytes - section.bytes);
  const SegmentSection& sample = trailer.sample;
  REQUIRE(sample.bytes <= segment_bytes && sample.offset <= segment_bytes - sample.bytes);
  REQUIRE(trailer.rows <= trailer.copies);
  // Nothing but reserved bytes and sections of later versions was ignored.
  const std::vector<std::byte> again = EncodeSegmentTrailer(trailer);
  REQUIRE(Load<uint16_t>(&bytes[0]) <= kSegmentVersion);
  for (const auto& [at, length] : {std::pair{2, 10}, {16, 32}, {64, 24}, {96, 8}, {120, 8}})
    REQUIRE(SameBytes(Bytes(again).subspan(at, length), Bytes(bytes).subspan(at, length)));
}

// Whatever blocks a directory gives, each is read in exactly one range, within the segment.
void RequirePlannable(const Directory& directory, uint64_t segment_bytes, FuzzInput* input) {
  std::vector<BlockEntry> blocks;
  for (uint32_t list = 0; list < directory.lists.size(); ++list)
    for (uint32_t i = 0; i < directory.lists[list].block_count; ++i) {
      const BlockEntry& block = directory.blocks[directory.lists[list].first_block + i];
      REQUIRE(CheckBlockEntry(block, list, segment_bytes).ok());
      blocks.push_back(block);
    }
  std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  FetchPlanOptions options;
  options.max_gap_bytes = input->Take<uint32_t>();
  options.max_range_bytes = input->Take<uint32_t>();
  options.part_bytes = input->Take<uint32_t>();
  uint32_t next = 0;
  for (const PlannedRange& range : PlanRanges(blocks, options)) {
    REQUIRE(range.first_block == next && range.block_count > 0);
    next += range.block_count;
    REQUIRE(range.offset <= segment_bytes && range.length <= segment_bytes - range.offset);
    for (uint32_t i = range.first_block; i < next; ++i) {
      REQUIRE(blocks[i].offset >= range.offset);
      REQUIRE(blocks[i].offset + blocks[i].length <= range.offset + range.length);
    }
  }
  REQUIRE(next == blocks.size());
}

void FuzzSample(FuzzInput* input) {
  const SampleRows valid{2, {{1, 2}, {3, 4}, {5, 6}}, {1, 2, 3, 4, 5, 6}};
  const std::vector<std::byte> bytes = Spoiled(EncodeSampleRows(valid), input);
  const ExactCopy copy(bytes);
  const SegmentSection section{0, bytes.size(), Crc32c(bytes)};
  SampleRows sample;
  const Status status = DecodeSampleRows(copy.bytes(), section, &sample);
  if (!status.ok()) return RequireRefusal(status);
  REQUIRE(sample.dimensions >= 1 && sample.dimensions <= kMaxDimensions);
  REQUIRE(sample.rows.size() == sample.tids.size() * sample.dimensions);
  // Nothing but reserved bytes and ignorable features was ignored.
  const std::vector<std::byte> again = EncodeSampleRows(sample);
  REQUIRE(again.size() == bytes.size());
  for (const auto& [at, length] : {std::pair<size_t, size_t>{0, 6}, {8, 4}, {16, 8}, {64, bytes.size() - 64}})
    REQUIRE(SameBytes(Bytes(again).subspan(at, length), Bytes(bytes).subspan(at, length)));
  // One wrong bit, and the checksum says so.
  REQUIRE(DecodeSampleRows(copy.bytes(), {0, bytes.size(), section.crc ^ 1}, &sample).code() == StatusCode::kCorrupt);
}

void FuzzDirectory(FuzzInput* input) {
  const uint64_t segment_bytes = 4096 + input->Take<uint64_t>() % (uint64_t{1} << input->TakeBetween(0, 63));
  FuzzInput choices = *input;
  Directory valid;
  valid.lists = {{0, 2}, {0, 0}, {2, 1}, {3, 1}};
  valid.blocks = {
      {128, 640, 10, 0, 0, 0, 0}, {768, 64, 1, 0, 0, 0, 0}, {832, 640, 9, 0, 2, 2, 0}, {1600, 64, 1, 0, 3, 0, 0}};
  const std::vector<std::byte> bytes = Spoiled(EncodeDirectory(valid), input);
  const ExactCopy copy(bytes);
  Directory directory;
  const Status status = DecodeDirectory(copy.bytes(), segment_bytes, &directory);
  DirectoryHeader header;
  const Status header_status = DecodeDirectoryHeader(copy.bytes(), &header);
  if (!status.ok()) RequireRefusal(status);
  if (!header_status.ok()) return RequireRefusal(header_status);
  if (!status.ok()) return;
  REQUIRE(header.list_count == directory.lists.size() && header.block_count == directory.blocks.size());
  REQUIRE(header.EncodedBytes() == bytes.size());
  const std::vector<std::byte> again = EncodeDirectory(directory);
  REQUIRE(again.size() + header.statistics_bytes == bytes.size());
  REQUIRE(SameBytes(Bytes(again).subspan(64), Bytes(bytes).subspan(64, again.size() - 64)));
  RequirePlannable(directory, segment_bytes, &choices);
}

CodeFormat TakeFormat(FuzzInput* input) {
  constexpr uint32_t kWidths[] = {1, 2, 4, 8};
  const uint8_t choice = input->Take<uint8_t>();
  const uint32_t dimensions = input->TakeBetween(1, 40);
  if (choice % 6 == 4) return {CodeKind::kFloat32, 32, dimensions};
  if (choice % 6 == 5) return {CodeKind::kBits, 1, dimensions};
  return {CodeKind::kRabitq, kWidths[choice % 6], dimensions};
}

// A query that has met rows of any bits: it gives a number, or -infinity, for each.
void ScoreCodedBlock(const BlockView& view, const CodeFormat& format, Metric metric) {
  const std::vector<float> y(format.padded(), 0.5f);
  CodeScorer scorer(metric, format.padded(), format.bits, 1.9);
  scorer.SetQuery({y.data(), 0.25, 2});
  std::vector<float> bounds(view.rows());
  std::vector<float> reference(view.rows());
  scorer.Score(view.coded(), bounds.data());
  scorer.ScoreReference(view.coded(), reference.data());
  for (uint32_t i = 0; i < view.rows(); ++i) {
    REQUIRE(bounds[i] < std::numeric_limits<float>::infinity());
    REQUIRE(reference[i] < std::numeric_limits<float>::infinity());
  }
}

// A block as it reaches a scan: through Search, as a range with its slack.
void SearchBlock(Bytes block, const CodeFormat& format, BlockEntry entry, Metric metric, bool decodes, bool probed) {
  const std::vector<float> query(format.dimensions, 0.5f);
  const std::vector<float> mean(format.dimensions, 0.25f);
  const std::vector<uint16_t> centroid(format.dimensions, 0x3000);  // 0.125
  const uint32_t list = probed ? entry.centroid : entry.centroid + 1;
  SegmentEntry segment{};
  segment.place = SegmentPlace::kPages;
  SearchOptions options;
  options.metric = metric;
  options.format = format;
  options.epsilon = 1.9;
  options.routing_mean = mean.data();
  Search search(options, query.data());
  search.SetLists({1, &list, nullptr, centroid.data()});
  const uint16_t number = search.AddSegment(segment, {entry});
  std::copy(block.begin(), block.end(), search.BufferFor(number, 0));
  const Status status = search.Deliver(number, 0);
  const bool scored = decodes && (probed || !format.coded());
  REQUIRE(status.ok() == scored);
  if (!scored) return RequireRefusal(status);
  search.ScorePending();
  search.StartOrder();
  uint32_t rows = 0;
  Candidate previous{};
  for (Candidate candidate; search.Next(&candidate); previous = candidate, ++rows) {
    REQUIRE(candidate.distance == candidate.distance);
    if (rows == 0) continue;
    REQUIRE(previous.distance <= candidate.distance);
    if (search.exact() && previous.distance == candidate.distance) REQUIRE(previous.tid() <= candidate.tid());
  }
  REQUIRE(rows == entry.rows);
}

void FuzzBlock(FuzzInput* input) {
  const CodeFormat format = TakeFormat(input);
  auto metric = static_cast<Metric>(input->Take<uint8_t>() % 3);
  if (format.kind == CodeKind::kBits) metric = Metric::kHamming;
  const uint32_t rows = input->TakeBetween(1, 40);
  const bool probed = input->Take<uint8_t>() < 240;
  BlockBuilder builder(format);
  for (uint32_t i = 0; i < rows; ++i) {
    std::vector<std::byte> row(format.RowBytes(), static_cast<std::byte>(i));
    for (size_t at = 0; at + 4 <= (format.coded() ? sizeof(CodeFactors) : row.size()); at += 4)
      Store(row.data() + at, static_cast<float>(i));
    builder.Add({i, static_cast<uint16_t>(i)}, row.data());
  }
  std::vector<std::byte> bytes = builder.Finish(3, 4);
  BlockEntry entry{0, 0, rows, 0, 3, 4, 0};
  if (input->Take<uint8_t>() >= 250) entry.rows = input->Take<uint32_t>();
  bytes = Spoiled(std::move(bytes), input);
  entry.length = static_cast<uint32_t>(bytes.size());
  entry.crc = Crc32c(bytes);
  // As in a RangeBuffer: what is read beyond the slack is seen.
  std::vector<std::byte> with_slack(bytes);
  with_slack.resize(bytes.size() + RangeBuffer::kSlack);
  const ExactCopy copy(with_slack);
  const Bytes block = copy.bytes().first(bytes.size());
  BlockView view;
  const Status status = DecodeBlock(block, format, entry, &view);
  if (status.ok()) {
    REQUIRE(view.rows() == entry.rows);
    REQUIRE(uint64_t{view.rows()} * format.RowBytes() <= bytes.size());
    const auto* first = format.coded() ? reinterpret_cast<const std::byte*>(view.coded().a) : view.bits();
    REQUIRE(first >= block.data() && first < block.data() + block.size());
    Tid tids{};
    for (uint32_t i = 0; i < view.rows(); ++i) tids = std::max(tids, view.tid(i));
    REQUIRE(view.rows() == 0 || tids >= view.tid(0));
    if (format.coded()) ScoreCodedBlock(view, format, metric);
  } else {
    RequireRefusal(status);
  }
  SearchBlock(bytes, format, entry, metric, status.ok(), probed);
  // One wrong bit, and the checksum says so.
  if (bytes.empty()) return;
  bytes[bytes.size() / 2] ^= std::byte{1};
  REQUIRE(DecodeBlock(ExactCopy(bytes).bytes(), format, entry, &view).code() == StatusCode::kCorrupt);
}

// The input is a segment, in one part, as inspection reads it; its checksums are made to fit.
void FuzzWhole(FuzzInput* input) {
  std::vector<std::byte> bytes(input->rest().begin(), input->rest().end());
  if (bytes.size() < SegmentHeader::kBytes + SegmentTrailer::kBytes) return;
  Store(&bytes[124], Crc32c(Bytes(bytes).first(124)));
  std::byte* end = bytes.data() + bytes.size();
  Store(end - 12, Crc32c({end - 8, 8}, Crc32c({end - 128, 116})));
  SegmentHeader header;
  if (const Status status = DecodeSegmentHeader(bytes, &header); !status.ok()) return RequireRefusal(status);
  SegmentTrailer trailer;
  if (const Status status = DecodeSegmentTrailer({end - 128, 128}, bytes.size(), &trailer); !status.ok())
    return RequireRefusal(status);
  const auto section = [&](const SegmentSection& of) { return Bytes(bytes).subspan(of.offset, of.bytes); };
  Routing routing;
  if (const Status status = DecodeRouting(ExactCopy(section(trailer.routing)).bytes(), &routing); !status.ok())
    RequireRefusal(status);
  Directory directory;
  if (const Status status = DecodeDirectory(ExactCopy(section(trailer.directory)).bytes(), bytes.size(), &directory);
      !status.ok())
    return RequireRefusal(status);
  if (trailer.sample.bytes > 0) {
    const ExactCopy sample_bytes(section(trailer.sample));
    SampleRows sample;
    const Status status = DecodeSampleRows(
        sample_bytes.bytes(), {0, trailer.sample.bytes, Crc32c(sample_bytes.bytes())}, &sample);
    if (!status.ok()) RequireRefusal(status);
  }
  size_t blocks = 0;
  for (const ListEntry& list : directory.lists)
    for (uint32_t i = 0; i < list.block_count && blocks < 20; ++i, ++blocks) {
      BlockEntry entry = directory.blocks[list.first_block + i];
      entry.crc = Crc32c(Bytes(bytes).subspan(entry.offset, entry.length));
      std::vector<std::byte> block(bytes.begin() + static_cast<ptrdiff_t>(entry.offset),
                                   bytes.begin() + static_cast<ptrdiff_t>(entry.offset + entry.length));
      block.resize(entry.length + RangeBuffer::kSlack);
      const ExactCopy copy(block);
      BlockView view;
      const Status status = DecodeBlock(copy.bytes().first(entry.length), header.format(), entry, &view);
      if (!status.ok())
        RequireRefusal(status);
      else if (header.format().coded())
        ScoreCodedBlock(view, header.format(), header.metric);
    }
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ivfremote;
  FuzzInput input(data, size);
  switch (input.Take<uint8_t>() % 6) {
    case 0:
      FuzzHeader(&input);
      break;
    case 1:
      FuzzTrailer(&input);
      break;
    case 2:
      FuzzDirectory(&input);
      break;
    case 3:
      FuzzWhole(&input);
      break;
    case 4:
      FuzzSample(&input);
      break;
    default:
      FuzzBlock(&input);
  }
  return 0;
}
