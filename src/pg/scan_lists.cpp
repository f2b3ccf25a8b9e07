#include "pg/scan_lists.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pg/index_cache.h"
#include "pg/probes.h"
#include "pg/routing_pages.h"
#include "pg/settings.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

// Each wave is for so many times the rows of the one before: decision 0012.
constexpr double kRowGrowth = 4;
// And takes at least this share of the lists taken before it, whatever the curve says.
constexpr double kLeastGrowth = 0.25;

struct Ranking {
  uint32_t count;
  RankedList* lists;  // best first, in the current context
};

Ranking RankLists(Relation index, const MetaPage& meta, const float* query, const RankWish& wish) {
  const ResidentIndex* resident = GetResidentIndex(index, meta);
  TreeReader reader;
  RoutingReaderInit(&reader, index, meta);
  const Routing* routing = &resident->routing;
  Held<Routing>* read = nullptr;
  if (routing->list_count() == 0) {
    read = Hold<Routing>(CurrentMemoryContext, [] { return new Routing(); });
    ReadRouting(&reader, meta, RoutingPart::kLists, read->object);
    routing = read->object;
  }
  Held<ListRanker>* ranker =
      Hold<ListRanker>(CurrentMemoryContext, [&] { return new ListRanker(routing, query, wish); });
  FeedRanker(&reader, ranker->object);
  Ranking ranking{0, nullptr};
  ranking.lists = static_cast<RankedList*>(palloc_extended(wish.count * sizeof(RankedList), MCXT_ALLOC_HUGE));
  CallCore([&] {
    std::vector<RankedList> best;
    (*ranker)->Rank(wish.rule, &best);
    std::copy(best.begin(), best.end(), ranking.lists);
    ranking.count = static_cast<uint32_t>(best.size());
    return Status::Ok();
  });
  Drop(ranker);
  if (read != nullptr) Drop(read);
  return ranking;
}

ProbedLists Ascending(const RankedList* lists, uint32_t count) {
  auto* numbers = static_cast<uint32_t*>(palloc_extended(std::max(count, 1u) * sizeof(uint32_t), MCXT_ALLOC_HUGE));
  for (uint32_t i = 0; i < count; ++i) numbers[i] = lists[i].list;
  std::sort(numbers, numbers + count);
  ProbedLists probed;
  probed.count = count;
  probed.numbers = numbers;
  return probed;
}

uint32_t MostLists(const MetaPage& meta, uint32_t first) {
  const uint64_t most = settings.max_probes < 0 ? kDefaultMaxWaves * first
                                                : std::max(static_cast<uint32_t>(settings.max_probes), first);
  return static_cast<uint32_t>(std::min<uint64_t>(most, meta.list_count));
}

// Ranks what the first wave has not taken, for all further waves.
void RankFurther(Relation index, const MetaPage& meta, ScanLists* lists) {
  const ProbeSetting setting =
      ProbeSettingOf(index, meta.list_count, &GetResidentIndex(index, meta)->curve, lists->rows);
  MemoryContext old = MemoryContextSwitchTo(lists->context);
  const Ranking ranking = RankLists(index, meta, lists->query, {setting.rule, lists->most, kAnyStop});
  MemoryContextSwitchTo(old);
  lists->further = ranking.lists;
  const RankedList* end = std::remove_if(ranking.lists, ranking.lists + ranking.count, [lists](const RankedList& list) {
    return std::binary_search(lists->first, lists->first + lists->first_count, list.list);
  });
  lists->further_count = static_cast<uint32_t>(
      std::min<ptrdiff_t>(end - ranking.lists, lists->most - lists->first_count));
}

}  // namespace

const char* ScanEndName(ScanEnd end) {
  static constexpr const char* kNames[] = {nullptr, "all_lists", "max_probes", "max_scan_requests", "iterative_scan"};
  return kNames[static_cast<int>(end)];
}

ProbedLists TakeFirstLists(Relation index, const MetaPage& meta, ScanLists* lists) {
  lists->rows = settings.recall_k;
  const ProbeSetting setting =
      ProbeSettingOf(index, meta.list_count, &GetResidentIndex(index, meta)->curve, lists->rows);
  const Ranking ranking = RankLists(index, meta, lists->query, {setting.rule, setting.max_lists, setting.stop});
  const ProbedLists probed = Ascending(ranking.lists, ranking.count);
  lists->taken = lists->first_count = probed.count;
  lists->most = MostLists(meta, probed.count);
  lists->first = static_cast<uint32_t*>(
      MemoryContextAllocHuge(lists->context, std::max(probed.count, 1u) * sizeof(uint32_t)));
  std::memcpy(lists->first, probed.numbers, probed.count * sizeof(uint32_t));
  if (probed.count >= meta.list_count)
    lists->end = ScanEnd::kAllLists;
  else if (!lists->goes_on)
    lists->end = ScanEnd::kOff;
  return probed;
}

uint32_t CountFurtherLists(Relation index, const MetaPage& meta, ScanLists* lists) {
  if (lists->end != ScanEnd::kNone) return 0;
  if (lists->further == nullptr) RankFurther(index, meta, lists);
  const uint32_t left = lists->further_count - lists->next;
  if (left == 0) {
    lists->end = lists->taken >= meta.list_count ? ScanEnd::kAllLists : ScanEnd::kMaxProbes;
    return 0;
  }
  const ProbeSetting setting =
      ProbeSettingOf(index, meta.list_count, &GetResidentIndex(index, meta)->curve, lists->rows * kRowGrowth);
  const auto least = static_cast<uint32_t>(std::ceil(kLeastGrowth * lists->taken));
  const uint32_t most = setting.max_lists > lists->taken ? setting.max_lists - lists->taken : 0;
  uint32_t count = 0;
  while (count < left && (count < least || (count < most && lists->further[lists->next + count].stop <= setting.stop)))
    ++count;
  // The last waves are large, and what a list brings too late is lost to strict order.
  return count > left - count ? left : count;
}

ProbedLists FurtherLists(const ScanLists& lists, uint32_t count) {
  return Ascending(lists.further + lists.next, count);
}

void TookFurtherLists(ScanLists* lists, uint32_t count) {
  lists->next += count;
  lists->taken += count;
  lists->rows *= kRowGrowth;
}

void CopyCentroids(Relation index, const MetaPage& meta, TreeReader* reader, ProbedLists* lists) {
  const Routing& routing = GetResidentIndex(index, meta)->routing;
  const size_t d = meta.dimensions;
  if (!routing.centroids.empty()) {
    auto* floats = static_cast<float*>(palloc_extended(lists->count * d * sizeof(float), MCXT_ALLOC_HUGE));
    for (uint32_t i = 0; i < lists->count; ++i)
      std::memcpy(floats + i * d, &routing.centroids[lists->numbers[i] * d], d * sizeof(float));
    lists->floats = floats;
    return;
  }
  const RoutingHeader header = ReadRoutingHeader(reader, meta);
  auto* halves = static_cast<uint16_t*>(palloc_extended(lists->count * header.CentroidBytes(), MCXT_ALLOC_HUGE));
  for (uint32_t i = 0; i < lists->count; ++i) {
    CHECK_FOR_INTERRUPTS();
    ReadStream(reader, header.CentroidOffset(lists->numbers[i]), header.CentroidBytes(),
               reinterpret_cast<std::byte*>(halves + i * d));
  }
  lists->halves = halves;
  lists->scale = header.scale();
}

float* CopyMean(Relation index, const MetaPage& meta, TreeReader* reader) {
  const Routing& routing = GetResidentIndex(index, meta)->routing;
  auto* mean = static_cast<float*>(palloc(meta.dimensions * sizeof(float)));
  if (routing.list_count() > 0)
    std::memcpy(mean, routing.mean.data(), meta.dimensions * sizeof(float));
  else
    ReadStream(reader, ReadRoutingHeader(reader, meta).MeanOffset(), meta.dimensions * sizeof(float),
               reinterpret_cast<std::byte*>(mean));
  return mean;
}

}  // namespace ivfremote
