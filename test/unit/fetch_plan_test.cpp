#include "core/fetch_plan.h"

#include "support.h"

namespace ivfremote {
namespace {

// Blocks as (offset, length); ranges as (offset, length, first block, block count).
using Blocks = std::vector<std::pair<uint64_t, uint32_t>>;

struct Range {
  uint64_t offset;
  uint32_t length;
  uint32_t first_block;
  uint32_t block_count;

  friend bool operator==(const Range&, const Range&) = default;
};

void PrintTo(const Range& range, std::ostream* out) {
  *out << range.offset << '+' << range.length << " (" << range.block_count << " from " << range.first_block << ')';
}

using Ranges = std::vector<Range>;

std::vector<BlockEntry> Entries(const Blocks& blocks) {
  std::vector<BlockEntry> entries;
  for (const auto& [offset, length] : blocks) entries.push_back({offset, length, 1, 0, 0, 0, 0});
  return entries;
}

Ranges Plan(const Blocks& blocks, const FetchPlanOptions& options) {
  Ranges ranges;
  for (const PlannedRange& r : PlanRanges(Entries(blocks), options))
    ranges.push_back({r.offset, r.length, r.first_block, r.block_count});
  return ranges;
}

FetchPlanOptions Options(uint64_t max_gap_bytes, uint64_t max_range_bytes, uint64_t part_bytes = 0) {
  FetchPlanOptions options;
  options.max_gap_bytes = max_gap_bytes;
  options.max_range_bytes = max_range_bytes;
  options.part_bytes = part_bytes;
  return options;
}

TEST(FetchPlan, NothingToRead) { EXPECT_EQ(Plan({}, {}), Ranges{}); }

TEST(FetchPlan, OneBlock) { EXPECT_EQ(Plan({{128, 64}}, {}), (Ranges{{128, 64, 0, 1}})); }

TEST(FetchPlan, NeighboursAreReadTogether) {
  EXPECT_EQ(Plan({{0, 64}, {64, 128}, {192, 64}}, Options(0, 1000)), (Ranges{{0, 256, 0, 3}}));
}

TEST(FetchPlan, GapUpToTheLimitIsReadAlong) {
  EXPECT_EQ(Plan({{0, 64}, {164, 64}}, Options(100, 1000)), (Ranges{{0, 228, 0, 2}}));
  EXPECT_EQ(Plan({{0, 64}, {165, 64}}, Options(100, 1000)), (Ranges{{0, 64, 0, 1}, {165, 64, 1, 1}}));
}

// Only a damaged directory has such blocks.
TEST(FetchPlan, OverlappingBlocksStayInsideTheirRange) {
  FetchPlanOptions whole = Options(100, 10000);
  whole.whole_bytes = 500;
  EXPECT_EQ(Plan({{0, 1000}, {64, 64}}, whole), (Ranges{{0, 1000, 0, 2}}));
  EXPECT_EQ(Plan({{0, 1000}, {0, 64}, {64, 1000}}, Options(0, 10000)), (Ranges{{0, 1064, 0, 3}}));
}

TEST(FetchPlan, BlocksOfASmallSegmentAreReadAtOnce) {
  FetchPlanOptions options = Options(0, 1000);
  options.whole_bytes = 228;
  EXPECT_EQ(Plan({{0, 64}, {164, 64}}, options), (Ranges{{0, 228, 0, 2}}));
  EXPECT_EQ(Plan({{0, 64}, {165, 64}}, options), (Ranges{{0, 64, 0, 1}, {165, 64, 1, 1}}));
  options.part_bytes = 100;
  EXPECT_EQ(Plan({{0, 64}, {164, 64}}, options), (Ranges{{0, 64, 0, 1}, {164, 64, 1, 1}}));
  options.part_bytes = 0;
  options.max_range_bytes = 227;
  EXPECT_EQ(Plan({{0, 64}, {164, 64}}, options), (Ranges{{0, 64, 0, 1}, {164, 64, 1, 1}}));
}

// A directory that is damaged may say so.
TEST(FetchPlan, RangeGrowsUpToTheLimit) {
  EXPECT_EQ(Plan({{0, 100}, {100, 100}, {200, 100}}, Options(0, 200)), (Ranges{{0, 200, 0, 2}, {200, 100, 2, 1}}));
  EXPECT_EQ(Plan({{0, 100}, {100, 101}}, Options(0, 200)), (Ranges{{0, 100, 0, 1}, {100, 101, 1, 1}}));
}

TEST(FetchPlan, BlockLargerThanTheLimitIsARange) {
  EXPECT_EQ(Plan({{0, 50}, {50, 5000}, {5050, 50}}, Options(0, 200)),
            (Ranges{{0, 50, 0, 1}, {50, 5000, 1, 1}, {5050, 50, 2, 1}}));
}

TEST(FetchPlan, NoRangeCrossesAPart) {
  EXPECT_EQ(Plan({{900, 100}, {1000, 100}, {1100, 100}}, Options(100, 10000, 1000)),
            (Ranges{{900, 100, 0, 1}, {1000, 200, 1, 2}}));
  EXPECT_EQ(Plan({{900, 50}, {1000, 100}, {1950, 50}, {2000, 10}}, Options(10000, 10000, 1000)),
            (Ranges{{900, 50, 0, 1}, {1000, 1000, 1, 2}, {2000, 10, 3, 1}}));
}

TEST(FetchPlan, FarIntoALargeSegment) {
  const uint64_t far = uint64_t{1} << 40;
  EXPECT_EQ(Plan({{far, 64}, {far + 64, 64}, {far * 2, 64}}, {}), (Ranges{{far, 128, 0, 2}, {far * 2, 64, 2, 1}}));
}

TEST(FetchPlan, Property) {
  Random random(25);
  for (int round = 0; round < 2000; ++round) {
    const uint64_t part_bytes = Below(random, 2) == 0 ? 0 : 64 * (64 + Below(random, 100));
    const FetchPlanOptions options = Options(64 * Below(random, 20), 64 * (1 + Below(random, 60)), part_bytes);
    Blocks blocks;
    uint64_t at = 0;
    for (uint64_t i = 0, n = Below(random, 60); i < n; ++i) {
      const uint64_t length = 64 * (1 + Below(random, Below(random, 10) == 0 ? 64 : 8));
      at = PlaceInPart(at + (Below(random, 2) == 0 ? 0 : 64 * Below(random, 30)), length, part_bytes);
      blocks.push_back({at, static_cast<uint32_t>(length)});
      at += length;
    }
    const Ranges ranges = Plan(blocks, options);

    uint32_t next_block = 0;
    uint64_t end = 0;
    for (size_t i = 0; i < ranges.size(); ++i) {
      const Range& range = ranges[i];
      ASSERT_EQ(range.first_block, next_block) << "a block is in no range or in two";
      ASSERT_GE(range.block_count, 1u);
      next_block += range.block_count;
      ASSERT_LE(next_block, blocks.size());
      ASSERT_GE(range.offset, end) << "ranges overlap";
      end = range.offset + range.length;
      ASSERT_EQ(range.offset, blocks[range.first_block].first) << "a range starts with a gap";
      ASSERT_EQ(end, blocks[next_block - 1].first + blocks[next_block - 1].second) << "a range ends with a gap";
      if (range.block_count > 1) {
        ASSERT_LE(range.length, options.max_range_bytes);
      }
      for (uint32_t b = range.first_block + 1; b < next_block; ++b)
        ASSERT_LE(blocks[b].first - (blocks[b - 1].first + blocks[b - 1].second), options.max_gap_bytes);
      if (part_bytes != 0) {
        ASSERT_EQ(range.offset / part_bytes, (end - 1) / part_bytes) << "a range crosses a part";
      }
      // No two ranges that could have been one.
      if (i == 0) continue;
      const Range& previous = ranges[i - 1];
      const bool mergeable = range.offset - (previous.offset + previous.length) <= options.max_gap_bytes &&
                             blocks[range.first_block].first + blocks[range.first_block].second - previous.offset <=
                                 options.max_range_bytes &&
                             (part_bytes == 0 || previous.offset / part_bytes == range.offset / part_bytes);
      ASSERT_FALSE(mergeable);
    }
    ASSERT_EQ(next_block, blocks.size());
  }
}

}  // namespace
}  // namespace ivfremote
