#include "pg/routing_pages.h"

#include <algorithm>

#include "pg/wall.h"

namespace ivfremote {
namespace {

// In pieces, so that an interrupt is seen between pages.
void ReadPieces(TreeReader* reader, uint64_t offset, uint64_t length, std::byte* to) {
  constexpr uint64_t kPiece = 64 * kPayloadBytes;
  for (uint64_t at = 0; at < length; at += kPiece) {
    CHECK_FOR_INTERRUPTS();
    ReadStream(reader, offset + at, std::min(kPiece, length - at), to + at);
  }
}

}  // namespace

void RoutingReaderInit(TreeReader* reader, Relation index, const MetaPage& meta) {
  TreeReaderInit(reader, index, meta.routing_id, meta.routing);
}

RoutingHeader ReadRoutingHeader(TreeReader* reader, const MetaPage& meta) {
  alignas(8) std::byte bytes[RoutingHeader::kBytes];
  ReadStream(reader, 0, sizeof bytes, bytes);
  RoutingHeader header;
  const CoreError error = RunCore([&] {
    IVFREMOTE_RETURN_IF_ERROR(DecodeRoutingHeader(bytes, &header));
    if (header.dimensions != meta.dimensions || header.metric != meta.metric || header.list_count != meta.list_count)
      return Status::Corrupt("routing is for other vectors than the index");
    if (header.EncodedBytes() != meta.routing.bytes) return Status::Corrupt("routing has the wrong length");
    return Status::Ok();
  });
  CheckContent(reader->index, reader->ref.root, error);
  return header;
}

void ReadRouting(TreeReader* reader, const MetaPage& meta, RoutingPart part, Routing* routing) {
  const uint64_t length = ReadRoutingHeader(reader, meta).EndOf(part);
  CheckStreamFits(reader->index, reader->ref);
  auto* bytes = static_cast<std::byte*>(palloc_extended(length, MCXT_ALLOC_HUGE));
  ReadPieces(reader, 0, length, bytes);
  CheckContent(reader->index, reader->ref.root, RunCore([&] { return DecodeRouting({bytes, length}, part, routing); }));
  pfree(bytes);
}

void FeedRanker(TreeReader* reader, ListRanker* ranker) {
  std::byte* bytes = nullptr;
  uint64_t capacity = 0;
  for (;;) {
    RoutingRange range;
    bool more = false;
    CallCore([&] {
      more = ranker->Next(&range);
      return Status::Ok();
    });
    if (!more) break;
    if (range.length > capacity) {
      if (bytes != nullptr) pfree(bytes);
      capacity = range.length;
      bytes = static_cast<std::byte*>(palloc_extended(capacity, MCXT_ALLOC_HUGE));
    }
    ReadPieces(reader, range.offset, range.length, bytes);
    CheckContent(reader->index, reader->ref.root, RunCore([&] { return ranker->Feed({bytes, range.length}); }));
  }
  if (bytes != nullptr) pfree(bytes);
}

}  // namespace ivfremote
