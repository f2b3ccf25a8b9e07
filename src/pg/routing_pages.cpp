#include "pg/routing_pages.h"

#include <algorithm>
#include <vector>

#include "core/assignment.h"
#include "pg/stream.h"
#include "pg/wall.h"

namespace ivfremote {

void FeedRouting(Relation index, const MetaPage& meta, ListRanker* ranker) {
  TreeReader reader;
  TreeReaderInit(&reader, index, meta.routing_id, meta.routing);
  PageCopy page;
  const uint64_t pages = (meta.routing.bytes + kPayloadBytes - 1) / kPayloadBytes;
  for (uint32_t i = 0; i < pages; ++i) {
    CHECK_FOR_INTERRUPTS();
    ReadStreamPage(&reader, i, &page);
    CallCore([&] { return ranker->Feed(page.used_bytes()); });
  }
  if (reader.inner != nullptr) pfree(reader.inner);
}

void FeedNearestGroups(TreeReader* routing, ListRanker* ranker) {
  PageCopy page;
  for (uint32_t i = 0; i == 0 || ranker->position() < ranker->centroids_offset(); ++i) {
    CHECK_FOR_INTERRUPTS();
    ReadStreamPage(routing, i, &page);
    CallCore([&] {
      // The header first: it says where the centroids start.
      Bytes bytes = page.used_bytes();
      if (i == 0) {
        IVFREMOTE_RETURN_IF_ERROR(ranker->Feed(bytes.first(std::min(bytes.size(), RoutingHeader::kBytes))));
        bytes = bytes.subspan(RoutingHeader::kBytes);
      }
      const uint64_t left = ranker->centroids_offset() - ranker->position();
      return ranker->Feed(bytes.first(static_cast<size_t>(std::min<uint64_t>(bytes.size(), left))));
    });
  }
  RoutingRange ranges[Assigner::kGroups];
  size_t count = 0;
  CallCore([&] {
    std::vector<RoutingRange> nearest;
    IVFREMOTE_RETURN_IF_ERROR(ranker->NearestGroups(Assigner::kGroups, &nearest));
    count = nearest.size();
    std::copy(nearest.begin(), nearest.end(), ranges);
    return Status::Ok();
  });
  for (size_t i = 0; i < count; ++i) {
    CHECK_FOR_INTERRUPTS();
    auto* bytes = static_cast<std::byte*>(palloc_extended(ranges[i].length, MCXT_ALLOC_HUGE));
    ReadStream(routing, ranges[i].offset, ranges[i].length, bytes);
    CallCore([&] { return ranker->FeedCentroids(ranges[i], {bytes, ranges[i].length}); });
    pfree(bytes);
  }
}

}  // namespace ivfremote
