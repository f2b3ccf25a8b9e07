#include "pg/segment_blocks.h"

#include <algorithm>

#include "pg/compact.h"
#include "pg/compat.h"
#include "pg/read_error.h"
#include "pg/server.h"

namespace ivfremote {
namespace {

// The longest the core waits before we look for interrupts.
constexpr std::chrono::milliseconds kStep{100};

// A warning in VACUUM; else an error.
void Fail(SegmentBlocks* blocks, const CoreError& error) {
  Maintenance* maintenance = blocks->maintenance;
  const SegmentReader& reader = **blocks->reader;
  if (maintenance->in_vacuum) return GiveUpCompaction(maintenance, error.sqlstate, error.message);
  const char* server = maintenance->server;
  ThrowReadError(maintenance->index,
                 {server, reader.requests_failed(), reader.requests_in_wave(),
                  psprintf("Check the server with SELECT * FROM ivfremote_check_server(%s), then run the statement again; "
                           "nothing has changed.",
                           quote_literal_cstr(server))},
                 error);
}

// Starts a wave with the session's store.
CoreError StartWave(SegmentBlocks* blocks) {
  ObjectStore* store = SessionStore(blocks->maintenance->server, blocks->maintenance->index->rd_rel->relowner);
  return RunCore([&] { return (*blocks->reader)->StartWave(store); });
}

// What comes next, until all of it is here. False if the store has failed.
bool ReadWave(SegmentBlocks* blocks) {
  Maintenance* maintenance = blocks->maintenance;
  SegmentReader& reader = **blocks->reader;
  CoreError error = StartWave(blocks);
  bool reread = false;
  for (bool done = false; error.sqlstate == 0 && !done;) {
    error = RunCore([&] { return reader.StepWave(Clock::now() + kStep, &done); });
    CHECK_FOR_INTERRUPTS();
    if (error.code == StatusCode::kDenied && error.sqlstate != 0 && !reread) {
      // The user mapping may have changed since it was read.
      reread = true;
      ForgetSessionStore(maintenance->server, maintenance->index->rd_rel->relowner);
      error = StartWave(blocks);
    }
    if (error.sqlstate == 0 && !done && Clock::now() > maintenance->deadline) {
      GiveUpCompaction(maintenance, ERRCODE_IO_ERROR, "there is no time left");
      return false;
    }
  }
  if (error.sqlstate == 0) return true;
  Fail(blocks, error);
  return false;
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
    bool found = false;
    const CoreError error = RunCore([&] { return reader.NextBlock(&found); });
    if (error.sqlstate != 0) {
      if (blocks->segment->place == SegmentPlace::kPages)
        ereport(ERROR, (errcode(error.sqlstate),
                        errmsg("could not read index \"%s\"", RelationGetRelationName(blocks->maintenance->index)),
                        errdetail_internal("%s", error.message), errhint("Please REINDEX it.")));
      Fail(blocks, error);
      return false;
    }
    if (found) return true;
    if (reader.all_read()) return false;
    if (blocks->segment->place == SegmentPlace::kPages)
      ReadPiece(blocks);
    else if (!ReadWave(blocks))
      return false;
  }
}

void CloseSegment(SegmentBlocks* blocks) {
  Drop(blocks->reader);
  if (blocks->pages.inner != nullptr) pfree(blocks->pages.inner);
  pfree(blocks);
}

}  // namespace ivfremote
