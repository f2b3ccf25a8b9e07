#include "core/compaction_policy.h"

#include <cmath>

#include "support.h"

namespace ivfremote {
namespace {

using Numbers = std::vector<uint32_t>;

CompactionCandidate Segment(uint64_t rows, double live = 1) {
  return {static_cast<uint64_t>(static_cast<double>(rows) * live), rows, rows * 100};
}

TEST(CompactionPolicyTest, NothingToDo) {
  EXPECT_EQ(ChooseCompaction({}, {}), Numbers());
  EXPECT_EQ(ChooseCompaction({Segment(1000)}, {}), Numbers());
  EXPECT_EQ(ChooseCompaction({Segment(100000), Segment(1000), Segment(1010), Segment(1020)}, {}), Numbers());
}

TEST(CompactionPolicyTest, FourOfATierAreMerged) {
  // 256..1023 and 1024..4095 are tiers.
  EXPECT_EQ(ChooseCompaction({Segment(300), Segment(100000), Segment(500), Segment(1023), Segment(256)}, {}),
            Numbers({0, 2, 3, 4}));
  EXPECT_EQ(ChooseCompaction({Segment(300), Segment(500), Segment(1024), Segment(256)}, {}), Numbers());
  // By rows alive.
  EXPECT_EQ(ChooseCompaction({Segment(300), Segment(500), Segment(1024, 0.9), Segment(256)}, {}), Numbers({0, 1, 2, 3}));
  // The lowest tier first.
  EXPECT_EQ(ChooseCompaction({Segment(2000), Segment(2000), Segment(2000), Segment(2000), Segment(9), Segment(9),
                              Segment(9), Segment(9)}, {}),
            Numbers({4, 5, 6, 7}));
}

TEST(CompactionPolicyTest, DeadSegments) {
  EXPECT_EQ(ChooseCompaction({Segment(1000), Segment(500, 0), Segment(9, 0), Segment(3)}, {}), Numbers({1, 2}));
  // Costs nothing.
  EXPECT_EQ(ChooseCompaction({Segment(500, 0)}, {.bytes = 0}), Numbers({0}));
  EXPECT_EQ(ChooseCompaction({Segment(1000, 0.5)}, {}), Numbers());
  EXPECT_EQ(ChooseCompaction({Segment(90), Segment(1000, 0.49)}, {}), Numbers({1}));
}

TEST(CompactionPolicyTest, TheLimitHolds) {
  const std::vector<CompactionCandidate> tier = {Segment(900), Segment(300), Segment(400), Segment(500)};
  // Each byte is read and written.
  EXPECT_EQ(ChooseCompaction(tier, {.bytes = 420000}), Numbers({0, 1, 2, 3}));
  EXPECT_EQ(ChooseCompaction(tier, {.bytes = 419999}), Numbers({1, 2, 3}));
  EXPECT_EQ(ChooseCompaction(tier, {.bytes = 140000}), Numbers({1, 2}));
  EXPECT_EQ(ChooseCompaction(tier, {.bytes = 139999}), Numbers());
  EXPECT_EQ(ChooseCompaction({Segment(1000, 0.25)}, {.bytes = 125000}), Numbers({0}));
  EXPECT_EQ(ChooseCompaction({Segment(1000, 0.25)}, {.bytes = 124999}), Numbers());
}

TEST(CompactionPolicyTest, ANearlyFullTableIsMadeRoomIn) {
  std::vector<CompactionCandidate> segments;
  for (int i = 0; i < 36; ++i) segments.push_back(Segment(uint64_t{1} << (1 + i % 31)));
  EXPECT_EQ(ChooseCompaction(segments, {.bytes = 0}), Numbers({0, 31}));
  segments.pop_back();
  EXPECT_EQ(ChooseCompaction(segments, {.bytes = 0}), Numbers());
}

TEST(CompactionPolicyTest, LargeListsAreSplitByMergingAll) {
  const std::vector<CompactionCandidate> segments = {Segment(1000), Segment(200)};
  EXPECT_EQ(ChooseCompaction(segments, {.rows_in_large_lists = 301}), Numbers({0, 1}));
  EXPECT_EQ(ChooseCompaction(segments, {.rows_in_large_lists = 300}), Numbers());
  EXPECT_EQ(ChooseCompaction(segments, {.bytes = 239999, .rows_in_large_lists = 301}), Numbers());
  // After a compaction of all, lists that are still large can't be split.
  EXPECT_EQ(ChooseCompaction({Segment(1200)}, {.rows_in_large_lists = 1200}), Numbers());
  EXPECT_EQ(ChooseCompaction({Segment(1100), Segment(100)}, {.rows_in_large_lists = 1200}), Numbers());
}

// What flushes of changing sizes lead to, with every choice carried out.
TEST(CompactionPolicyTest, ManyFlushesLeaveFewSegmentsAndLittleWriting) {
  for (const double dead_share : {0.0, 0.3}) {
    Random random(11);
    std::vector<CompactionCandidate> segments;
    uint64_t flushed = 0;
    uint64_t rewritten = 0;
    size_t most = 0;
    for (int flush = 0; flush < 500; ++flush) {
      const uint64_t rows = 500 + Below(random, 1000);
      segments.push_back(Segment(rows));
      flushed += rows;
      for (CompactionCandidate& segment : segments)
        if (Below(random, 8) == 0) segment.live_rows -= static_cast<uint64_t>(static_cast<double>(segment.live_rows) * dead_share);
      for (Numbers chosen; !(chosen = ChooseCompaction(segments, {})).empty();) {
        CompactionCandidate merged;
        for (size_t i = chosen.size(); i-- > 0;) {
          merged.live_rows += segments[chosen[i]].live_rows;
          segments.erase(segments.begin() + chosen[i]);
        }
        merged.rows = merged.live_rows;
        merged.bytes = merged.rows * 100;
        rewritten += merged.rows;
        if (merged.rows > 0) segments.push_back(merged);
      }
      most = std::max(most, segments.size());
    }
    // Three of each tier at most: 500 flushes are log4(500) = 4.5 tiers above the two that flushes are in.
    EXPECT_LE(most, 21u) << dead_share;
    EXPECT_GE(most, 8u) << dead_share;
    EXPECT_LE(static_cast<double>(rewritten) / static_cast<double>(flushed), 6.0) << dead_share;
  }
}

}  // namespace
}  // namespace ivfremote
