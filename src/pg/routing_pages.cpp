#include "pg/routing_pages.h"

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

}  // namespace ivfremote
