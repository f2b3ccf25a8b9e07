#include "pg/segment_blocks.h"

#include <algorithm>

#include "pg/compat.h"
#include "pg/read_error.h"
#include "pg/server.h"

extern "C" {
#include "utils/snapmgr.h"
}

namespace ivfremote {
namespace {

// The longest the core waits before we look for interrupts.
constexpr std::chrono::milliseconds kStep{100};

// Recorded in VACUUM; else an error.
void Fail(Maintenance* maintenance, size_t failed, size_t requests, const CoreError& error) {
  if (maintenance->limit != nullptr) return RecordFailure(maintenance->limit, error.sqlstate, error.message);
  const char* server = maintenance->server;
  ThrowReadError(maintenance->index,
                 {server, failed, requests,
                  psprintf("Check the server with SELECT * FROM ivfremote_check_server(%s), then run the statement again; "
                           "nothing has changed.",
                           quote_literal_cstr(server))},
                 error);
}

// With the session's store.
CoreError StartWave(Maintenance* maintenance, RangeFetch* wave) {
  ObjectStore* store = SessionStore(maintenance->server, maintenance->index->rd_rel->relowner);
  return RunCore([&] { return wave->Start(store); });
}

// Waits until all of it is here. False if the store has failed.
bool RunWave(Maintenance* maintenance, RangeFetch* wave) {
  CoreError error = StartWave(maintenance, wave);
  // Of whatever has been looked up: hours of work must not hold back VACUUM.
  InvalidateCatalogSnapshot();
  StoreLimit* limit = maintenance->limit;
  AllowTimeFor(limit, wave->length());
  bool reread = false;
  for (bool done = false; error.sqlstate == 0 && !done;) {
    const Clock::time_point start = Clock::now();
    error = RunCore([&] { return wave->Step(start + kStep, &done); });
    CHECK_FOR_INTERRUPTS();
    if (error.sqlstate != 0 && error.code == StatusCode::kDenied && !reread) {
      // The user mapping may have changed since it was read.
      reread = true;
      ForgetSessionStore(maintenance->server, maintenance->index->rd_rel->relowner);
      error = StartWave(maintenance, wave);
    }
    if (limit == nullptr) continue;
    limit->time_left -= Clock::now() - start;
    if (error.sqlstate == 0 && !done && limit->time_left <= Clock::duration::zero()) {
      RecordFailure(limit, ERRCODE_IO_ERROR, "it takes too long");
      return false;
    }
  }
  if (error.sqlstate == 0) return true;
  Fail(maintenance, wave->requests_failed(), wave->requests_in_wave(), error);
  return false;
}

bool ReadWave(SegmentBlocks* blocks) {
  RangeFetch* wave = nullptr;
  CallCore([&] {
    wave = (*blocks->reader)->NextWave();
    return Status::Ok();
  });
  return RunWave(blocks->maintenance, wave);
}

[[noreturn]] void ThrowDamagedPages(Relation index, const CoreError& error) {
  ereport(ERROR, (errcode(error.sqlstate), errmsg("could not read index \"%s\"", RelationGetRelationName(index)),
                  errdetail_internal("%s", error.message), errhint("Please REINDEX it.")));
  pg_unreachable();
}

void ReadPiece(SegmentBlocks* blocks) {
  uint64_t offset = 0;
  uint32_t length = 0;
  std::byte* to = nullptr;
  CallCore([&] {
    to = (*blocks->reader)->StartPiece(&offset, &length);
    return Status::Ok();
  });
  constexpr uint32_t kPages = 32 * kPayloadBytes;
  for (uint32_t at = 0; at < length; at += kPages) {
    IVFREMOTE_VACUUM_DELAY();
    ReadStream(&blocks->pages, offset + at, std::min(kPages, length - at), to + at);
  }
}

Held<std::vector<BlockEntry>>* BlocksOf(Relation index, const SegmentEntry& segment, const bool* wanted) {
  const Bytes bytes = ReadWholeStream(index, segment.id, segment.directory);
  Held<std::vector<BlockEntry>>* blocks =
      Hold<std::vector<BlockEntry>>(CurrentMemoryContext, [] { return new std::vector<BlockEntry>(); });
  CallCore([&] {
    Directory directory;
    IVFREMOTE_RETURN_IF_ERROR(DecodeDirectory(bytes, segment.bytes, &directory));
    for (const BlockEntry& block : directory.blocks)
      if (wanted == nullptr || wanted[block.list]) (*blocks)->push_back(block);
    return Status::Ok();
  });
  pfree(const_cast<std::byte*>(bytes.data()));
  return blocks;
}

}  // namespace

SegmentBlocks* OpenSegment(Maintenance* maintenance, const SegmentEntry* segment, const bool* wanted) {
  auto* blocks = static_cast<SegmentBlocks*>(palloc0(sizeof(SegmentBlocks)));
  blocks->maintenance = maintenance;
  blocks->segment = segment;
  Held<std::vector<BlockEntry>>* entries = BlocksOf(maintenance->index, *segment, wanted);
  blocks->reader = Hold<SegmentReader>(CurrentMemoryContext, [&] {
    return new SegmentReader(*segment, maintenance->meta->format(), std::move(**entries));
  });
  Drop(entries);
  if (segment->place == SegmentPlace::kPages)
    TreeReaderInit(&blocks->pages, maintenance->index, segment->id, segment->data);
  return blocks;
}

bool NextBlock(SegmentBlocks* blocks) {
  SegmentReader& reader = **blocks->reader;
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    InvalidateCatalogSnapshot();
    bool found = false;
    const CoreError error = RunCore([&] { return reader.NextBlock(&found); });
    CheckSegmentBytes(blocks->maintenance, *blocks->segment, error);
    if (error.sqlstate != 0) return false;
    if (found) return true;
    if (reader.all_read()) return false;
    if (blocks->segment->place == SegmentPlace::kPages)
      ReadPiece(blocks);
    else if (!ReadWave(blocks))
      return false;
  }
}

bool ReadSegmentBytes(Maintenance* maintenance, const SegmentEntry& segment, uint64_t offset, size_t length,
                      std::byte* to) {
  if (segment.place == SegmentPlace::kPages) {
    TreeReader pages;
    TreeReaderInit(&pages, maintenance->index, segment.id, segment.data);
    ReadStream(&pages, offset, length, to);
    return true;
  }
  Held<RangeFetch>* wave = Hold<RangeFetch>(
      CurrentMemoryContext, [&] { return new RangeFetch(RequestsFor(segment, offset, length)); });
  const bool read = RunWave(maintenance, wave->object);
  if (read)
    CallCore([&] {
      for (size_t i = 0; i < (*wave)->count(); ++i) {
        const Bytes bytes = (*wave)->bytes(i);
        to = std::copy(bytes.begin(), bytes.end(), to);
      }
      return Status::Ok();
    });
  Drop(wave);
  return read;
}

void CheckSegmentBytes(Maintenance* maintenance, const SegmentEntry& segment, const CoreError& error) {
  if (error.sqlstate == 0) return;
  if (segment.place == SegmentPlace::kPages) ThrowDamagedPages(maintenance->index, error);
  Fail(maintenance, 0, 0, error);
}

void CloseSegment(SegmentBlocks* blocks) {
  Drop(blocks->reader);
  if (blocks->pages.inner != nullptr) pfree(blocks->pages.inner);
  pfree(blocks);
}

}  // namespace ivfremote
