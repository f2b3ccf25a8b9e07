// Search over codes; search_test.cpp has waves, ranges and rows stored as floats.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/checksum.h"
#include "core/half.h"
#include "core/memory_store.h"
#include "core/search.h"
#include "core/segment_writer.h"
#include "support.h"

namespace ivfremote {
namespace {

constexpr uint64_t kSeed = 99;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
const char* const kMetricNames[] = {"L2", "InnerProduct", "Cosine"};

using Neighbours = std::vector<std::pair<double, Tid>>;

struct Row {
  Tid tid;
  uint32_t list;
  std::vector<float> values;
};

class CodedSearch : public testing::Test {
 protected:
  // Rows about the centroids of `lists` lists.
  void Build(Metric metric, uint32_t bits, uint32_t dimensions, uint32_t lists, uint32_t rows_per_list,
             float offset = 0) {
    metric_ = metric;
    format_ = {CodeKind::kRabitq, bits, dimensions};
    rows_.clear();
    pending_.clear();
    mean_.assign(dimensions, 0.0f);
    std::vector<std::vector<float>> centres;
    for (uint32_t list = 0; list < lists; ++list) {
      centres.push_back(UniformVector(random_, dimensions));
      for (float& x : centres[list]) x += offset;
      for (uint32_t j = 0; j < dimensions; ++j) mean_[j] += centres[list][j] / static_cast<float>(lists);
    }
    if (metric == Metric::kCosine) ToRoutingSpace(metric, mean_.data(), dimensions, mean_.data());
    centroids_.resize(size_t{lists} * dimensions);
    for (uint32_t list = 0; list < lists; ++list)
      Centre(metric, centres[list].data(), mean_.data(), dimensions, &centroids_[size_t{list} * dimensions]);
    Routing routing;
    routing.centroids = std::move(centroids_);
    RoundCentroids(&routing);
    centroids_ = std::move(routing.centroids);
    exponent_ = routing.exponent;
    for (uint32_t list = 0; list < lists; ++list)
      for (uint32_t i = 0; i < rows_per_list; ++i) rows_.push_back({NextTid(), list, Near(centres[list])});
    query_ = Near(centres[lists / 2]);
    centres_ = centres;
  }

  std::vector<float> Near(const std::vector<float>& centre) {
    std::vector<float> row = centre;
    for (float& x : row) x += 0.7f * Uniform(random_);
    return row;
  }

  Tid NextTid() {
    ++tids_;
    return {static_cast<uint32_t>(tids_ * 7919 % 1000003), static_cast<uint16_t>(1 + tids_ % 200)};
  }

  std::vector<std::byte> Encode(const std::vector<float>& row, uint32_t centroid) const {
    RowCoder coder(metric_, format_, kSeed, mean_.data());
    std::vector<std::byte> bytes(format_.RowBytes());
    coder.Encode(row.data(), &centroids_[size_t{centroid} * format_.dimensions], bytes.data());
    return bytes;
  }

  // All rows in a segment in the store.
  void Write(uint64_t part_bytes = 0) {
    const auto lists = static_cast<uint32_t>(centroids_.size() / format_.dimensions);
    Routing routing;
    routing.dimensions = format_.dimensions;
    routing.metric = metric_;
    routing.mean = mean_;
    routing.radii.resize(lists);
    routing.group_first = {0, lists};
    routing.group_centroids.resize(format_.dimensions);
    routing.centroids = centroids_;
    routing.exponent = exponent_;
    SegmentHeader header;
    header.dimensions = format_.dimensions;
    header.metric = metric_;
    header.code_kind = format_.kind;
    header.bits = static_cast<uint8_t>(format_.bits);
    header.list_count = lists;
    header.part_bytes = part_bytes;
    header.rotation_seed = kSeed;
    header.name.mint_xid = ++segments_;
    SegmentWriter writer(header, &routing);
    for (const Row& row : rows_) ASSERT_OK(writer.Add(row.list, row.list, row.tid, Encode(row.values, row.list).data()));
    ASSERT_OK(writer.Finish(writer.copies()));
    directory_ = writer.directory();
    segment_ = SegmentEntry();
    segment_.place = SegmentPlace::kObject;
    segment_.part_bytes = part_bytes;
    segment_.name = header.name;
    SegmentUpload upload(&store_, header.name, part_bytes);
    upload.Add(writer.TakeOutput());
    bool done = false;
    while (!done) ASSERT_OK(upload.Step(Later(), &done));
    done = false;
    while (!done) ASSERT_OK(upload.Finish(Later(), &done));
  }

  SearchOptions Options(double epsilon) const {
    SearchOptions options;
    options.metric = metric_;
    options.format = format_;
    options.rotation_seed = kSeed;
    options.epsilon = epsilon;
    options.routing_mean = mean_.data();
    return options;
  }

  // `lists` ascend; the arrays behind are kept.
  void Probe(Search* search, const std::vector<uint32_t>& lists) {
    probed_ = lists;
    const size_t d = format_.dimensions;
    const float scale = std::ldexp(1.0f, exponent_);
    probed_halves_.resize(lists.size() * d);
    probed_floats_.resize(lists.size() * d);
    for (size_t i = 0; i < lists.size(); ++i) {
      std::copy_n(&centroids_[lists[i] * d], d, &probed_floats_[i * d]);
      ToHalves(&centroids_[lists[i] * d], d, scale, &probed_halves_[i * d]);
    }
    // One way and the other in turn: results are the same.
    probe_by_floats_ = !probe_by_floats_;
    ProbedLists probed{static_cast<uint32_t>(probed_.size()), probed_.data()};
    if (probe_by_floats_)
      probed.floats = probed_floats_.data();
    else
      probed = {probed.count, probed.numbers, nullptr, probed_halves_.data(), scale};
    search->SetLists(probed);
  }

  std::vector<BlockEntry> BlocksOf(const std::vector<uint32_t>& lists) const {
    std::vector<BlockEntry> blocks;
    for (uint32_t list : lists)
      for (uint32_t i = 0; i < directory_.lists[list].block_count; ++i)
        blocks.push_back(directory_.blocks[directory_.lists[list].first_block + i]);
    return blocks;
  }

  Status RunWave(Search* search) {
    IVFREMOTE_RETURN_IF_ERROR(search->StartWave(&store_, 4));
    while (search->wave_running()) IVFREMOTE_RETURN_IF_ERROR(search->StepWave(Later()));
    return Status::Ok();
  }

  static std::vector<Candidate> Drain(Search* search) {
    search->StartOrder();
    std::vector<Candidate> candidates;
    for (Candidate candidate; search->Next(&candidate);) candidates.push_back(candidate);
    return candidates;
  }

  // The segment's rows and the pending rows of the lists.
  std::vector<Candidate> Run(const std::vector<uint32_t>& lists, double epsilon) {
    Search search(Options(epsilon), query_.data());
    EXPECT_FALSE(search.exact());
    Probe(&search, lists);
    search.AddSegment(segment_, BlocksOf(lists));
    EXPECT_OK(RunWave(&search));
    for (const Row& row : pending_) {
      if (std::count(lists.begin(), lists.end(), row.list) == 0) continue;
      EXPECT_OK(search.AddPending(row.tid, row.list, Encode(row.values, row.list).data()));
    }
    search.ScorePending();
    return Drain(&search);
  }

  double Exact(const Row& row) const {
    const double distance = Scorer(metric_, query_.data(), format_.dimensions).Distance(row.values.data());
    return std::isnan(distance) ? kInfinity : distance;
  }

  // Rows of the lists, the nearest first.
  Neighbours BruteForce(const std::vector<uint32_t>& lists) const {
    Neighbours order;
    for (const auto* rows : {&rows_, &pending_})
      for (const Row& row : *rows)
        if (std::count(lists.begin(), lists.end(), row.list) > 0) order.push_back({Exact(row), row.tid});
    std::sort(order.begin(), order.end());
    return order;
  }

  // What a scan gives for LIMIT k: candidates are looked at until the k-th is nearer than all bounds to come.
  Neighbours Rerank(const std::vector<Candidate>& candidates, size_t k, size_t* looked_at) {
    std::map<Tid, double> exact;
    for (const auto* rows : {&rows_, &pending_})
      for (const Row& row : *rows) exact[row.tid] = Exact(row);
    Neighbours best;
    for (*looked_at = 0; *looked_at < candidates.size(); ++*looked_at) {
      const Candidate& candidate = candidates[*looked_at];
      if (best.size() >= k && best[k - 1].first <= candidate.distance) break;
      best.push_back({exact.at(candidate.tid()), candidate.tid()});
      std::sort(best.begin(), best.end());
    }
    best.resize(std::min(best.size(), k));
    return best;
  }

  // Each row of the lists once, in the order of bounds.
  void ExpectComplete(const std::vector<Candidate>& candidates, const std::vector<uint32_t>& lists) {
    EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end(),
                               [](const auto& a, const auto& b) { return a.distance < b.distance; }));
    std::multiset<Tid> expected;
    for (const auto& [distance, tid] : BruteForce(lists)) expected.insert(tid);
    std::multiset<Tid> seen;
    for (const Candidate& candidate : candidates) seen.insert(candidate.tid());
    EXPECT_TRUE(seen == expected) << "not each row once";
  }

  Random random_{61};
  Metric metric_ = Metric::kL2;
  CodeFormat format_;
  std::vector<float> mean_;
  std::vector<float> centroids_;
  int32_t exponent_ = 0;
  std::vector<std::vector<float>> centres_;
  std::vector<Row> rows_;     // of the segment, by list
  std::vector<Row> pending_;
  std::vector<float> query_;
  MemoryStore store_;
  SegmentEntry segment_;
  Directory directory_;
  uint64_t segments_ = 0;
  uint64_t tids_ = 0;
  std::vector<uint32_t> probed_;
  std::vector<uint16_t> probed_halves_;
  std::vector<float> probed_floats_;
  bool probe_by_floats_ = false;
};

using Lists = std::vector<uint32_t>;

class CodedSearchWidths : public CodedSearch,
                          public testing::WithParamInterface<std::tuple<Metric, uint32_t, uint32_t, float>> {};

TEST_P(CodedSearchWidths, BoundsLeadToTheNearest) {
  const auto [metric, bits, dimensions, offset] = GetParam();
  ASSERT_NO_FATAL_FAILURE(Build(metric, bits, dimensions, 9, 221, offset));
  for (uint32_t i = 0; i < 70; ++i)
    pending_.push_back({NextTid(), i % 9, Near(centres_[i % 9])});
  ASSERT_NO_FATAL_FAILURE(Write());
  const Lists lists = {0, 2, 3, 4, 5, 8};
  std::map<Tid, double> exact;
  for (const auto* rows : {&rows_, &pending_})
    for (const Row& row : *rows) exact[row.tid] = Exact(row);
  ASSERT_EQ(exact.size(), rows_.size() + pending_.size());

  for (double epsilon : {1.9, 5.0}) {
    const std::vector<Candidate> candidates = Run(lists, epsilon);
    ASSERT_NO_FATAL_FAILURE(ExpectComplete(candidates, lists));
    size_t above = 0;
    for (const Candidate& candidate : candidates) {
      const double distance = exact.at(candidate.tid());
      // Directions are float32: a bound of theirs may be sharper than they are.
      const double rounding = metric == Metric::kCosine ? 3e-7 * std::sqrt(2 * distance) + 1e-13 : 0;
      above += candidate.distance > distance + rounding;
    }
    // The fewer the dimensions, the less an error has of a normal distribution.
    EXPECT_LT(above, candidates.size() / (dimensions < 16 ? 5 : 20)) << epsilon;
    if (epsilon < 5) continue;
    EXPECT_EQ(above, 0u);
    const Neighbours expected = BruteForce(lists);
    for (size_t k : {1, 10, 100}) {
      size_t looked_at = 0;
      const Neighbours best = Rerank(candidates, k, &looked_at);
      EXPECT_TRUE(std::equal(best.begin(), best.end(), expected.begin(), expected.begin() + static_cast<ptrdiff_t>(k)))
          << k;
      const bool sharp = bits >= 4 && dimensions >= 64 && offset == 0;
      EXPECT_LT(looked_at, sharp ? k + candidates.size() / 2 : candidates.size() + 1) << k;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Widths, CodedSearchWidths,
    testing::Combine(testing::Values(Metric::kL2, Metric::kInnerProduct, Metric::kCosine), testing::Values(1, 2, 4, 8),
                     testing::Values(3, 64, 100), testing::Values(0.0f, 1000.0f)),
    [](const auto& info) {
      return std::string(kMetricNames[static_cast<size_t>(std::get<0>(info.param))]) + "Bits" +
             std::to_string(std::get<1>(info.param)) + "Dimensions" + std::to_string(std::get<2>(info.param)) +
             (std::get<3>(info.param) > 0 ? "Offset" : "");
    });

TEST_F(CodedSearch, CodesOfEightBitsNeedFewLooks) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 8, 100, 4, 500));
  ASSERT_NO_FATAL_FAILURE(Write());
  size_t looked_at = 0;
  EXPECT_EQ(Rerank(Run({0, 1, 2, 3}, 2.5), 10, &looked_at).size(), 10u);
  EXPECT_LE(looked_at, 14u);
}

TEST_F(CodedSearch, NothingToSearch) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 4, 20, 2, 10));
  Search search(Options(1.9), query_.data());
  search.ScorePending();
  EXPECT_TRUE(Drain(&search).empty());
  Search with_lists(Options(1.9), query_.data());
  Probe(&with_lists, {0, 1});
  ASSERT_OK(RunWave(&with_lists));
  with_lists.ScorePending();
  EXPECT_TRUE(Drain(&with_lists).empty());
}

// -- pending rows

// The same rows, once in blocks and once pending: the same bounds to the last bit.
TEST_F(CodedSearch, PendingRowsHaveTheBoundsOfBlocks) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t bits : {1u, 2u, 4u, 8u}) {
      ASSERT_NO_FATAL_FAILURE(Build(metric, bits, 50, 4, 75));
      ASSERT_NO_FATAL_FAILURE(Write());
      const Lists lists = {0, 1, 3};
      std::map<Tid, double> of_blocks;
      for (const Candidate& candidate : Run(lists, 1.9)) {
        EXPECT_EQ(candidate.segment, 0);
        of_blocks[candidate.tid()] = candidate.distance;
      }

      Search search(Options(1.9), query_.data());
      Probe(&search, lists);
      std::vector<Row> rows = rows_;
      std::shuffle(rows.begin(), rows.end(), random_);
      size_t added = 0;
      std::vector<std::byte> unaligned(format_.RowBytes() + 1);
      for (const Row& row : rows) {
        if (row.list == 2) continue;
        const std::vector<std::byte> bytes = Encode(row.values, row.list);
        std::copy(bytes.begin(), bytes.end(), unaligned.begin() + 1);
        ASSERT_OK(search.AddPending(row.tid, row.list, unaligned.data() + 1));
        ++added;
      }
      search.ScorePending();
      EXPECT_EQ(search.statistics().rows_scored, added);
      EXPECT_EQ(search.statistics().pending_rows_scored, added);
      const std::vector<Candidate> candidates = Drain(&search);
      ASSERT_EQ(candidates.size(), added);
      for (const Candidate& candidate : candidates) {
        EXPECT_EQ(candidate.segment, Candidate::kPending);
        EXPECT_EQ(candidate.distance, of_blocks.at(candidate.tid())) << bits;
      }
    }
}

TEST_F(CodedSearch, PendingRowWithoutACentroid) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 4, 20, 4, 5));
  Search search(Options(1.9), query_.data());
  const std::vector<std::byte> row = Encode(rows_[0].values, 0);
  EXPECT_FALSE(search.AddPending({1, 1}, 0, row.data()).ok()) << "before there are lists";
  Probe(&search, {1, 3});
  for (uint32_t list : {0u, 2u, 4u, ~0u}) EXPECT_FALSE(search.AddPending({1, 1}, list, row.data()).ok()) << list;
  for (uint32_t list : {1u, 3u}) EXPECT_OK(search.AddPending({1, 1}, list, row.data()));
  search.ScorePending();
  EXPECT_EQ(Drain(&search).size(), 2u);
}

// Of an index trained since: they have exact distances, and no list.
TEST_F(CodedSearch, PendingFloatsComeInTheirPlace) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    ASSERT_NO_FATAL_FAILURE(Build(metric, 4, 50, 4, 75));
    ASSERT_NO_FATAL_FAILURE(Write());
    const Lists lists = {0, 1, 3};
    Search search(Options(5), query_.data());
    Probe(&search, lists);
    search.AddSegment(segment_, BlocksOf(lists));
    ASSERT_OK(RunWave(&search));
    std::vector<std::byte> unaligned(format_.dimensions * sizeof(float) + 1);
    for (uint32_t i = 0; i < 100; ++i) {
      pending_.push_back({NextTid(), 3, Near(centres_[i % 4])});
      std::memcpy(unaligned.data() + 1, pending_.back().values.data(), unaligned.size() - 1);
      search.AddPendingFloats(pending_.back().tid, unaligned.data() + 1);
    }
    search.ScorePending();
    EXPECT_EQ(search.statistics().pending_rows_scored, 100u);
    EXPECT_EQ(search.statistics().rows_scored, 325u);
    const std::vector<Candidate> candidates = Drain(&search);
    ASSERT_NO_FATAL_FAILURE(ExpectComplete(candidates, lists));
    std::map<Tid, double> exact;
    for (const Row& row : pending_) exact[row.tid] = Exact(row);
    for (const Candidate& candidate : candidates) {
      if (candidate.segment == 0) continue;
      EXPECT_EQ(candidate.distance, exact.at(candidate.tid()));
    }
    for (size_t k : {1, 10, 200}) {
      size_t looked_at = 0;
      const Neighbours best = Rerank(candidates, k, &looked_at);
      const Neighbours expected = BruteForce(lists);
      EXPECT_TRUE(std::equal(best.begin(), best.end(), expected.begin(), expected.begin() + static_cast<ptrdiff_t>(k)));
    }
  }
}

// Lists, their centroids and pending rows are another wave's; what is left of the first stays.
TEST_F(CodedSearch, FurtherWaves) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    ASSERT_NO_FATAL_FAILURE(Build(metric, 2, 50, 6, 300));
    ASSERT_NO_FATAL_FAILURE(Write());
    pending_.clear();
    for (uint32_t i = 0; i < 120; ++i) pending_.push_back({NextTid(), i % 6, Near(centres_[i % 6])});
    Search search(Options(5), query_.data());
    std::vector<Candidate> given;
    uint16_t number = 0;
    for (const Lists& lists : {Lists{1, 4}, Lists{0}, Lists{2, 3, 5}}) {
      Probe(&search, lists);
      if (given.empty()) number = search.AddSegment(segment_, BlocksOf(lists));
      else search.SetBlocks(number, BlocksOf(lists));
      ASSERT_OK(RunWave(&search));
      for (const Row& row : pending_) {
        if (std::count(lists.begin(), lists.end(), row.list) == 0) continue;
        ASSERT_OK(search.AddPending(row.tid, row.list, Encode(row.values, row.list).data()));
      }
      search.ScorePending();
      search.StartOrder();
      const size_t before = given.size();
      for (Candidate candidate; given.size() < before + 70 && search.Next(&candidate);) given.push_back(candidate);
      EXPECT_TRUE(std::is_sorted(given.begin() + static_cast<ptrdiff_t>(before), given.end(),
                                 [](const auto& a, const auto& b) { return a.distance < b.distance; }));
    }
    for (Candidate candidate; search.Next(&candidate);) given.push_back(candidate);
    std::sort(given.begin(), given.end(), [](const auto& a, const auto& b) { return a.distance < b.distance; });
    ASSERT_NO_FATAL_FAILURE(ExpectComplete(given, {0, 1, 2, 3, 4, 5}));
    std::map<Tid, double> exact;
    for (const auto& [distance, tid] : BruteForce({0, 1, 2, 3, 4, 5})) exact[tid] = distance;
    size_t above = 0;
    for (const Candidate& candidate : given) above += candidate.distance > exact.at(candidate.tid()) + 1e-6;
    EXPECT_EQ(above, 0u) << "a bound of another list's centroid";
  }
}

TEST_F(CodedSearch, UnorderedRowsOfANullQuery) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 4, 20, 2, 5));
  Search search(Options(1.9), query_.data());
  for (uint32_t block : {5, 3, 9}) search.AddUnordered({block, 1});
  const std::vector<Candidate> candidates = Drain(&search);
  ASSERT_EQ(candidates.size(), 3u);
  EXPECT_EQ(candidates[0].tid(), (Tid{3, 1}));
}

// -- segments and blocks

TEST_F(CodedSearch, SeveralSegmentsAndParts) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kCosine, 2, 40, 5, 300));
  const Lists lists = {1, 2, 4};
  Search search(Options(5), query_.data());
  Probe(&search, lists);
  std::vector<Row> all;
  for (int i = 0; i < 3; ++i) {
    for (Row& row : rows_) {
      row.tid = NextTid();
      row.values = Near(centres_[row.list]);
    }
    ASSERT_NO_FATAL_FAILURE(Write(i == 1 ? 16384 : 0));
    EXPECT_EQ(search.AddSegment(segment_, BlocksOf(lists)), i);
    all.insert(all.end(), rows_.begin(), rows_.end());
  }
  ASSERT_OK(RunWave(&search));
  rows_ = all;
  const std::vector<Candidate> candidates = Drain(&search);
  ASSERT_NO_FATAL_FAILURE(ExpectComplete(candidates, lists));
  std::map<Tid, uint16_t> segment_of;
  for (size_t i = 0; i < all.size(); ++i) segment_of[all[i].tid] = static_cast<uint16_t>(i / (all.size() / 3));
  for (const Candidate& candidate : candidates) ASSERT_EQ(candidate.segment, segment_of.at(candidate.tid()));
  size_t looked_at = 0;
  Neighbours expected = BruteForce(lists);
  expected.resize(20);
  EXPECT_TRUE(Rerank(candidates, 20, &looked_at) == expected);
}

TEST_F(CodedSearch, ListsOfSeveralBlocks) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 1, 16, 2, kMaxBlockRows + 100));
  ASSERT_NO_FATAL_FAILURE(Write());
  ASSERT_EQ(BlocksOf({0, 1}).size(), 4u);
  const std::vector<Candidate> candidates = Run({0, 1}, 1.9);
  ExpectComplete(candidates, {0, 1});
}

TEST_F(CodedSearch, RowsInTwoListsComeOnce) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    Build(metric, 4, 40, 6, 50);
    const std::vector<Row> once = rows_;
    std::vector<Row> twice = once;
    for (const Row& row : once) twice.push_back({row.tid, (row.list + 1) % 6, row.values});
    std::stable_sort(twice.begin(), twice.end(), [](const Row& a, const Row& b) { return a.list < b.list; });
    rows_ = twice;
    ASSERT_NO_FATAL_FAILURE(Write());
    // A pending row is in one list, whatever its TID.
    pending_.push_back({NextTid(), 3, Near(centres_[3])});
    const Lists lists = {2, 3, 4};
    EXPECT_EQ(Run(lists, 2.5).size(), 301u) << "not spilled: each block counts";
    segment_.flags = SegmentEntry::kSpilled;
    const std::vector<Candidate> candidates = Run(lists, 2.5);
    std::set<Tid> expected;
    for (const Row& row : twice)
      if (std::count(lists.begin(), lists.end(), row.list) > 0) expected.insert(row.tid);
    std::set<Tid> seen;
    for (const Candidate& candidate : candidates) seen.insert(candidate.tid());
    EXPECT_EQ(candidates.size(), seen.size()) << "a row came twice";
    EXPECT_EQ(candidates.size(), expected.size() + 1);
    rows_ = once;
    size_t looked_at;
    const Neighbours best = Rerank(candidates, 5, &looked_at);
    EXPECT_TRUE(std::is_sorted(best.begin(), best.end()));
  }
}

TEST_F(CodedSearch, BlockNamesItsCentroid) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 8, 100, 4, 50));
  BlockBuilder builder(format_);
  for (const Row& row : rows_)
    if (row.list == 3) builder.Add(row.tid, Encode(row.values, 1).data());
  BlockEntry entry{0, 0, builder.rows(), 0, 3, 1, 0};
  const std::vector<std::byte> bytes = builder.Finish(3, 1);
  entry.length = static_cast<uint32_t>(bytes.size());
  entry.crc = Crc32c(bytes);
  const auto deliver = [&](Search* search) {
    const uint16_t number = search->AddSegment(SegmentEntry(), {entry});
    std::copy(bytes.begin(), bytes.end(), search->BufferFor(number, 0));
    return search->Deliver(number, 0);
  };
  Search search(Options(2.5), query_.data());
  Probe(&search, {1, 3});
  ASSERT_OK(deliver(&search));
  const std::vector<Candidate> candidates = Drain(&search);
  EXPECT_EQ(candidates.size(), 50u);
  for (const Candidate& candidate : candidates) {
    const Row& row = *std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.tid == candidate.tid(); });
    EXPECT_NEAR(candidate.distance, Exact(row), 0.02 * Exact(row));
  }
  EXPECT_TRUE(search.MissingCentroids().empty());
  Search without(Options(2.5), query_.data());
  Probe(&without, {0, 3});
  EXPECT_TRUE(Fails(deliver(&without), StatusCode::kCorrupt, {"without a centroid"}));
}

// Rows that moved to other lists keep their codes, and so their bounds, whichever lists are probed.
TEST_F(CodedSearch, CodesOfCentroidsThatAreNotProbed) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t bits : {1u, 4u}) {
      ASSERT_NO_FATAL_FAILURE(Build(metric, bits, 50, 7, 40));
      ASSERT_NO_FATAL_FAILURE(Write());
      std::map<Tid, double> bounds;
      for (const Candidate& candidate : Run({0, 1, 2, 3, 4, 5, 6}, 1.9)) bounds[candidate.tid()] = candidate.distance;

      // In list l + 1, coded with the centroid of l; one of list 5 is pending.
      SegmentHeader header;
      header.dimensions = format_.dimensions;
      header.metric = metric;
      header.code_kind = format_.kind;
      header.bits = static_cast<uint8_t>(bits);
      header.list_count = 8;
      header.rotation_seed = kSeed;
      Routing routing;
      routing.dimensions = format_.dimensions;
      routing.mean = mean_;
      routing.radii.resize(8);
      routing.group_first = {0, 8};
      routing.group_centroids.resize(format_.dimensions);
      routing.centroids.resize(size_t{8} * format_.dimensions);
      SegmentWriter writer(header, &routing);
      for (const Row& row : rows_)
        ASSERT_OK(writer.Add(row.list + 1, row.list, row.tid, Encode(row.values, row.list).data()));
      ASSERT_OK(writer.Finish(rows_.size()));
      std::vector<std::byte> bytes(writer.bytes());
      for (const SegmentWriter::Chunk& chunk : writer.TakeOutput())
        std::copy(chunk.bytes.begin(), chunk.bytes.end(), bytes.begin() + static_cast<ptrdiff_t>(chunk.offset));
      directory_ = writer.directory();

      Search search(Options(1.9), query_.data());
      Probe(&search, {1, 3, 4});
      const uint16_t number = search.AddSegment(SegmentEntry(), BlocksOf({1, 3, 4}));
      EXPECT_EQ(search.MissingCentroids(), (Lists{0, 2})) << "3 is probed";
      const auto add = [&](uint32_t list) {
        search.AddCentroid(list, &centroids_[size_t{list} * format_.dimensions]);
      };
      for (uint32_t list : {0u, 2u, 3u}) add(list);
      EXPECT_TRUE(search.MissingCentroids().empty());
      const std::vector<std::byte> pending = Encode(rows_[5 * 40].values, 5);
      EXPECT_FALSE(search.AddPending({9, 9}, 5, pending.data()).ok());
      add(5);
      ASSERT_OK(search.AddPending({9, 9}, 5, pending.data()));
      search.ScorePending();
      for (size_t i = 0; i < search.RangesOf(number).size(); ++i) {
        const PlannedRange& range = search.RangesOf(number)[i];
        std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(range.offset), range.length, search.BufferFor(number, i));
        ASSERT_OK(search.Deliver(number, i));
      }
      const std::vector<Candidate> candidates = Drain(&search);
      EXPECT_EQ(candidates.size(), 3u * 40 + 1);
      for (const Candidate& candidate : candidates) {
        const Tid tid = candidate.segment == Candidate::kPending ? rows_[5 * 40].tid : candidate.tid();
        EXPECT_EQ(candidate.distance, bounds.at(tid)) << bits;
      }
    }
}

TEST_F(CodedSearch, RowsFromPages) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kInnerProduct, 4, 20, 3, 60));
  ASSERT_NO_FATAL_FAILURE(Write());
  const std::vector<Candidate> of_store = Run({0, 2}, 1.9);
  const std::vector<std::byte> bytes = store_.objects().begin()->second;
  segment_.place = SegmentPlace::kPages;
  Search search(Options(1.9), query_.data());
  Probe(&search, {0, 2});
  const uint16_t number = search.AddSegment(segment_, BlocksOf({0, 2}));
  ASSERT_EQ(search.RangesOf(number).size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const PlannedRange& range = search.RangesOf(number)[i];
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(range.offset), range.length, search.BufferFor(number, i));
    ASSERT_OK(search.Deliver(number, i));
  }
  const std::vector<Candidate> of_pages = Drain(&search);
  ASSERT_EQ(of_pages.size(), of_store.size());
  for (size_t i = 0; i < of_pages.size(); ++i) EXPECT_EQ(of_pages[i].distance, of_store[i].distance);
}

TEST_F(CodedSearch, EveryWrongByteIsNoticed) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 2, 20, 2, 5));
  ASSERT_NO_FATAL_FAILURE(Write());
  std::vector<std::byte>& object = store_.objects().begin()->second;
  for (const BlockEntry& block : directory_.blocks)
    for (uint64_t at = block.offset; at < block.offset + block.length; ++at) {
      object[at] ^= std::byte{0x40};
      Search search(Options(1.9), query_.data());
      Probe(&search, {0, 1});
      search.AddSegment(segment_, BlocksOf({0, 1}));
      ASSERT_TRUE(Fails(RunWave(&search), StatusCode::kCorrupt, {"checksum", FormatObjectKey({segment_.name, 0})}))
          << at;
      object[at] ^= std::byte{0x40};
    }
}

// -- values that are hard to code

TEST_F(CodedSearch, ZeroQueryUnderCosineGivesAllRows) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kCosine, 4, 20, 3, 40));
  query_.assign(20, 0.0f);
  ASSERT_NO_FATAL_FAILURE(Write());
  const std::vector<Candidate> candidates = Run({0, 1, 2}, 1.9);
  ExpectComplete(candidates, {0, 1, 2});
  for (const Candidate& candidate : candidates) EXPECT_FALSE(std::isnan(candidate.distance));
}

// Zero rows under cosine have no distance: whatever their bound is, the rerank puts them last.
TEST_F(CodedSearch, HardRowsAreNeverLost) {
  for (Metric metric : {Metric::kL2, Metric::kInnerProduct, Metric::kCosine})
    for (uint32_t bits : {1u, 4u}) {
      ASSERT_NO_FATAL_FAILURE(Build(metric, bits, 20, 3, 40));
      for (size_t i = 0; i < rows_.size(); ++i) {
        if (i % 5 == 1) rows_[i].values.assign(20, i % 2 == 0 ? 0.0f : -0.0f);
        if (i % 5 == 2)
          for (float& x : rows_[i].values) x *= 1e20f;
        if (i % 5 == 3)
          for (float& x : rows_[i].values) x *= 1e-30f;
      }
      ASSERT_NO_FATAL_FAILURE(Write());
      const std::vector<Candidate> candidates = Run({0, 1, 2}, 5);
      ASSERT_NO_FATAL_FAILURE(ExpectComplete(candidates, {0, 1, 2}));
      for (const Candidate& candidate : candidates) ASSERT_FALSE(std::isnan(candidate.distance));
      size_t looked_at = 0;
      Neighbours expected = BruteForce({0, 1, 2});
      expected.resize(30);
      Neighbours best = Rerank(candidates, 30, &looked_at);
      for (size_t i = 0; i < 30; ++i) EXPECT_EQ(best[i].first, expected[i].first) << i;
    }
}

TEST_F(CodedSearch, MeanNeedNotOutliveTheSearchesConstructor) {
  ASSERT_NO_FATAL_FAILURE(Build(Metric::kL2, 4, 20, 2, 40));
  ASSERT_NO_FATAL_FAILURE(Write());
  const std::vector<Candidate> expected = Run({0, 1}, 1.9);
  SearchOptions options = Options(1.9);
  auto mean = std::make_unique<std::vector<float>>(mean_);
  std::vector<float> query = query_;
  options.routing_mean = mean->data();
  Search search(options, query.data());
  mean.reset();
  query.assign(20, 1e9f);
  Probe(&search, {0, 1});
  search.AddSegment(segment_, BlocksOf({0, 1}));
  ASSERT_OK(RunWave(&search));
  const std::vector<Candidate> candidates = Drain(&search);
  ASSERT_EQ(candidates.size(), expected.size());
  for (size_t i = 0; i < candidates.size(); ++i) EXPECT_EQ(candidates[i].distance, expected[i].distance);
}

TEST(ProbedLists, Find) {
  const uint32_t numbers[] = {2, 5, 9};
  const ProbedLists lists{3, numbers, nullptr};
  EXPECT_EQ(lists.Find(2), 0u);
  EXPECT_EQ(lists.Find(9), 2u);
  for (uint32_t list : {0u, 3u, 10u, ~0u}) EXPECT_EQ(lists.Find(list), 3u);
  EXPECT_EQ(ProbedLists().Find(0), 0u);
}

}  // namespace
}  // namespace ivfremote
