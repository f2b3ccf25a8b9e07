// A segment as ivfremote_verify() sees it: its directory, its live bits, and all of its bytes.
#include <algorithm>
#include <cstring>

#include "core/checksum.h"
#include "core/object_key.h"
#include "core/object_store.h"
#include "core/routing.h"
#include "core/segment_format.h"
#include "pg/read_error.h"
#include "pg/server.h"
#include "pg/settings.h"
#include "pg/verify.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStep{100};
constexpr uint64_t kMaxReadBytes = kMaxBlockBytes;
constexpr size_t kListedObjects = 1000;
// In the segment's own sort: a live bit, or kInBlock + the list of a block that has the TID.
constexpr int64 kLiveBit = 0;
constexpr int64 kInBlock = 1;

struct BytesRead {
  std::unique_ptr<RangeWave> wave;
  std::vector<RangeCompletion> completions;
  RangeBuffer buffer;
};

struct SegmentCheck {
  Verify* verify;
  uint32_t number;
  const SegmentEntry* segment;
  const char* part;
  TidSort* tids;
  bool tid_map_whole;
  bool blocks_whole;            // all could be read: the TIDs of all are known
  uint64_t copies;              // rows in the blocks read
  Held<Directory>* directory;   // null: it can't be read
  uint32_t directory_crc;
  const char* server;           // null: embedded
  Held<ObjectStore>* store;
  bool* part_whole;             // objects: can be read
  TreeReader pages;             // embedded
  Held<BytesRead>* read;
};

uint64_t PartOf(const SegmentCheck& check, uint64_t offset) {
  return check.segment->part_bytes == 0 ? 0 : offset / check.segment->part_bytes;
}

uint64_t PartCount(const SegmentEntry& segment) {
  return segment.part_bytes == 0 ? 1 : (segment.bytes + segment.part_bytes - 1) / segment.part_bytes;
}

const char* ObjectName(const SegmentCheck& check, uint64_t part) {
  if (check.server == nullptr) return nullptr;
  auto* name = static_cast<char*>(palloc(256));
  CallCore([&] {
    strlcpy(name, FormatObjectKey({check.segment->name, static_cast<uint32_t>(part)}).c_str(), 256);
    return Status::Ok();
  });
  return name;
}

// --------------------------------------------------------------------------------------------------------------------
// Directory

// What DecodeDirectory, which looks at entries one by one, can't see. The message of the first problem.
Status CheckDirectory(const Directory& directory, const SegmentEntry& segment) {
  std::vector<bool> used(directory.blocks.size());
  for (size_t list = 0; list < directory.lists.size(); ++list) {
    const ListEntry& entry = directory.lists[list];
    for (uint32_t i = 0; i < entry.block_count; ++i) {
      if (used[entry.first_block + i])
        return Status::Corrupt("directory has a block of list " + std::to_string(list) + " twice");
      used[entry.first_block + i] = true;
    }
  }
  if (std::find(used.begin(), used.end(), false) != used.end())
    return Status::Corrupt("directory has a block that belongs to no list");
  std::vector<const BlockEntry*> sorted;
  for (const BlockEntry& block : directory.blocks) sorted.push_back(&block);
  std::sort(sorted.begin(), sorted.end(), [](const BlockEntry* a, const BlockEntry* b) { return a->offset < b->offset; });
  uint64_t end = SegmentHeader::kBytes;
  for (const BlockEntry* block : sorted) {
    if (block->offset < end)
      return Status::Corrupt("directory has two blocks at offset " + std::to_string(block->offset));
    if (PlaceInPart(block->offset, block->length, segment.part_bytes) != block->offset)
      return Status::Corrupt("directory has a block in two parts, at offset " + std::to_string(block->offset));
    if (block->centroid >= directory.lists.size())
      return Status::Corrupt("directory has a block of an impossible centroid");
    end = block->offset + block->length;
  }
  return Status::Ok();
}

void VerifyDirectory(SegmentCheck* check) {
  Verify* verify = check->verify;
  const SegmentEntry& segment = *check->segment;
  std::byte* bytes = CollectStream(verify, check->part, segment.id, segment.directory);
  if (bytes == nullptr) return;
  Held<Directory>* directory = Hold<Directory>(CurrentMemoryContext, [] { return new Directory(); });
  bool decoded = false;
  const CoreError error = RunCore([&] {
    const Bytes encoded(bytes, segment.directory.bytes);
    check->directory_crc = Crc32c(encoded);
    IVFREMOTE_RETURN_IF_ERROR(DecodeDirectory(encoded, segment.bytes, directory->object));
    decoded = true;
    if ((*directory)->lists.size() != segment.list_count || segment.list_count > verify->meta->list_count)
      return Status::Corrupt("directory has another number of lists than the metapage");
    return CheckDirectory(**directory, segment);
  });
  pfree(bytes);
  if (error.sqlstate != 0) Report(verify, {check->part, segment.directory.root}, "%s", error.message);
  if (decoded)
    check->directory = directory;
  else
    Drop(directory);
}

// --------------------------------------------------------------------------------------------------------------------
// Live bits

void TakeLiveBits(Verify* verify, void* argument, BlockNumber block, uint32_t, const PageCopy& page) {
  auto* check = static_cast<SegmentCheck*>(argument);
  const uint32_t entries = page.special.used;
  // Bits are visited where they lie.
  MutableBytes payload(const_cast<std::byte*>(page.payload), kPayloadBytes);
  const CoreError error = RunCore([&] { return CheckTidMapPage(payload, entries); });
  if (error.sqlstate != 0) {
    Report(verify, {check->part, block}, "%s", error.message);
    check->tid_map_whole = false;
    return;
  }
  VisitTidMap(payload, entries, [check](Tid tid) {
    PutTid(check->tids, tid, kLiveBit);
    PutSegmentRow(check->verify, check->number, tid);
    return false;
  });
}

// --------------------------------------------------------------------------------------------------------------------
// Bytes

// Ends the statement where the store can't be asked: that says nothing of the index.
void CheckStoreAnswers(const SegmentCheck* check, const CoreError& error) {
  if (error.sqlstate == 0 || error.code == StatusCode::kNotFound || error.code == StatusCode::kCorrupt ||
      error.code == StatusCode::kUnsupported)
    return;
  const char* hint = psprintf("Check the server with SELECT * FROM ivfremote_check_server(%s), then run the statement again.",
                              quote_literal_cstr(check->server));
  ThrowReadError(check->verify->index, {check->server, 1, 1, hint}, error);
}

// Calls step(deadline, &done), interruptibly, until it is done or fails; for as long as a scan would wait.
template <typename Step>
CoreError StepUntilDone(Step step) {
  const Clock::time_point deadline =
      settings.scan_timeout_ms > 0 ? Clock::now() + milliseconds(settings.scan_timeout_ms) : Clock::time_point::max();
  for (bool done = false;;) {
    const CoreError error = RunCore([&] {
      if (Clock::now() > deadline) return Status::Timeout("no answer within ivfremote.scan_timeout");
      return step(Clock::now() + kStep, &done);
    });
    CHECK_FOR_INTERRUPTS();
    if (error.sqlstate != 0 || done) return error;
  }
}

struct Listing {
  std::vector<ObjectInfo> objects;
  std::unique_ptr<Operation> operation;
};

// Asks the store for the sizes of the segment's objects: [PartCount], UINT64_MAX for one that is missing.
uint64_t* ListParts(SegmentCheck* check) {
  const uint64_t parts = PartCount(*check->segment);
  auto* sizes = static_cast<uint64_t*>(palloc_extended(parts * sizeof(uint64_t), MCXT_ALLOC_HUGE));
  std::fill(sizes, sizes + parts, UINT64_MAX);
  Held<Listing>* listing = Hold<Listing>(CurrentMemoryContext, [] { return new Listing(); });
  char after[256] = "";
  for (bool more = true; more;) {
    CoreError error = RunCore([&] {
      (*listing)->objects.clear();
      return (*check->store)->List(FormatObjectKey({check->segment->name, 0}), after, kListedObjects,
                                   &(*listing)->objects, &(*listing)->operation);
    });
    if (error.sqlstate == 0)
      error = StepUntilDone([&](Clock::time_point until, bool* done) { return (*listing)->operation->Step(until, done); });
    CheckStoreAnswers(check, error);
    CallCore([&] {
      for (const ObjectInfo& object : (*listing)->objects) {
        const auto key = ParseObjectKey(object.key);
        if (key && key->segment == check->segment->name && key->part < parts) sizes[key->part] = object.size;
        strlcpy(after, object.key.c_str(), sizeof after);
      }
      more = !(*listing)->objects.empty();
      return Status::Ok();
    });
  }
  Drop(listing);
  return sizes;
}

// The least a part may hold: what lies in it. The last part ends with the segment.
uint64_t LeastBytes(const SegmentCheck& check, uint64_t part, uint64_t parts) {
  const SegmentEntry& segment = *check.segment;
  if (part + 1 == parts) return segment.bytes - part * segment.part_bytes;
  uint64_t least = 1;
  if (check.directory != nullptr)
    for (const BlockEntry& block : (*check.directory)->blocks)
      if (PartOf(check, block.offset) == part)
        least = std::max(least, block.offset + block.length - part * segment.part_bytes);
  return least;
}

void VerifyObjects(SegmentCheck* check) {
  const SegmentEntry& segment = *check->segment;
  const uint64_t parts = PartCount(segment);
  const uint64_t* sizes = ListParts(check);
  check->part_whole = static_cast<bool*>(palloc_extended(parts * sizeof(bool), MCXT_ALLOC_HUGE));
  for (uint64_t part = 0; part < parts; ++part) {
    CHECK_FOR_INTERRUPTS();
    const Spot spot{check->part, kNoBlock, ObjectName(*check, part)};
    const uint64_t least = LeastBytes(*check, part, parts);
    const uint64_t most = part + 1 == parts ? least : segment.part_bytes;
    check->part_whole[part] = sizes[part] >= least && sizes[part] <= most;
    if (sizes[part] == UINT64_MAX)
      Report(check->verify, spot, "object is missing");
    else if (!check->part_whole[part] && least == most)
      Report(check->verify, spot, "object has " UINT64_FORMAT " bytes instead of " UINT64_FORMAT, sizes[part], least);
    else if (!check->part_whole[part])
      Report(check->verify, spot, "object has " UINT64_FORMAT " bytes instead of " UINT64_FORMAT " to " UINT64_FORMAT,
             sizes[part], least, most);
  }
}

// Reads bytes of one part into check->read->buffer; false if they are not there, which has been reported.
bool ReadBytes(SegmentCheck* check, uint64_t offset, uint32_t length) {
  BytesRead& read = **check->read;
  if (check->server == nullptr) {
    CallCore([&] {
      read.buffer = RangeBuffer(length);
      return Status::Ok();
    });
    constexpr uint32_t kPiece = 32 * kPayloadBytes;
    for (uint32_t at = 0; at < length; at += kPiece) {
      CHECK_FOR_INTERRUPTS();
      ReadStream(&check->pages, offset + at, std::min(kPiece, length - at), read.buffer.data() + at);
    }
    return true;
  }
  const uint64_t part = PartOf(*check, offset);
  if (!check->part_whole[part]) return false;
  CoreError error = RunCore([&] {
    read.completions.clear();
    const ObjectKey key{check->segment->name, static_cast<uint32_t>(part)};
    return (*check->store)->GetRanges({{FormatObjectKey(key), offset - part * check->segment->part_bytes, length}}, 1, &read.wave);
  });
  if (error.sqlstate == 0)
    error = StepUntilDone([&](Clock::time_point until, bool* done) {
      Status status = read.wave->Step(until, &read.completions);
      *done = !read.completions.empty();
      return status;
    });
  if (error.sqlstate == 0)
    error = RunCore([&] {
      read.wave.reset();
      read.buffer = std::move(read.completions[0].buffer);
      return read.completions[0].status;
    });
  CheckStoreAnswers(check, error);
  if (error.sqlstate == 0) return true;
  Report(check->verify, {check->part, kNoBlock, ObjectName(*check, part)}, "%s", error.message);
  check->part_whole[part] = false;
  return false;
}

void ReportBytes(SegmentCheck* check, uint64_t offset, uint64_t length, const char* problem) {
  Report(check->verify, {check->part, kNoBlock, ObjectName(*check, PartOf(*check, offset))},
         "%s (offset " UINT64_FORMAT ", " UINT64_FORMAT " bytes)", problem, offset, length);
}

// The blocks, in the order of their offsets.
struct BlockReading {
  std::vector<BlockEntry> blocks;
  BlockView view;
};

void VerifyBlock(SegmentCheck* check, BlockReading* reading, const BlockEntry& block, uint64_t read_from) {
  const CoreError error = RunCore([&] {
    const Bytes bytes((**check->read).buffer.data() + (block.offset - read_from), block.length);
    return DecodeBlock(bytes, check->verify->meta->format(), block, &reading->view);
  });
  if (error.sqlstate != 0) {
    char* problem = psprintf("block of list %u: %s", block.list, error.message);
    ReportBytes(check, block.offset, block.length, problem);
    pfree(problem);
    check->blocks_whole = false;
    return;
  }
  for (uint32_t i = 0; i < reading->view.rows(); ++i)
    PutTid(check->tids, reading->view.tid(i), kInBlock + block.list);
  check->copies += block.rows;
}

void VerifyBlocks(SegmentCheck* check) {
  Held<BlockReading>* reading = Hold<BlockReading>(CurrentMemoryContext, [&] {
    auto* made = new BlockReading{(*check->directory)->blocks, {}};
    std::sort(made->blocks.begin(), made->blocks.end(),
              [](const BlockEntry& a, const BlockEntry& b) { return a.offset < b.offset; });
    return made;
  });
  const BlockEntry* blocks = (*reading)->blocks.data();
  const size_t count = (*reading)->blocks.size();
  for (size_t first = 0, next = 0; first < count; first = next) {
    const uint64_t start = blocks[first].offset;
    uint64_t end = start;
    for (next = first; next < count && PartOf(*check, blocks[next].offset) == PartOf(*check, start); ++next) {
      const uint64_t with = std::max(end, blocks[next].offset + blocks[next].length);
      if (next > first && with - start > kMaxReadBytes) break;
      end = with;
    }
    if (ReadBytes(check, start, static_cast<uint32_t>(end - start)))
      for (size_t i = first; i < next; ++i) VerifyBlock(check, reading->object, blocks[i], start);
    else
      check->blocks_whole = false;
  }
  Drop(reading);
}

// Header and trailer; false if there is no trailer to go on with.
bool VerifyEnds(SegmentCheck* check, SegmentTrailer* trailer) {
  const SegmentEntry& segment = *check->segment;
  const MetaPage& meta = *check->verify->meta;
  if (ReadBytes(check, 0, SegmentHeader::kBytes)) {
    const CoreError error = RunCore([&] {
      SegmentHeader header;
      IVFREMOTE_RETURN_IF_ERROR(DecodeSegmentHeader((**check->read).buffer.bytes(), &header));
      if (header.metric != meta.metric || header.format() != meta.format() || header.list_count != segment.list_count ||
          header.part_bytes != segment.part_bytes ||
          (header.format().coded() && header.rotation_seed != meta.rotation_seed))
        return Status::Corrupt("segment is not the one the metapage describes");
      return Status::Ok();
    });
    if (error.sqlstate != 0) ReportBytes(check, 0, SegmentHeader::kBytes, error.message);
  }
  const uint64_t at = segment.bytes - SegmentTrailer::kBytes;
  if (!ReadBytes(check, at, SegmentTrailer::kBytes)) return false;
  const CoreError error = RunCore([&] {
    IVFREMOTE_RETURN_IF_ERROR(DecodeSegmentTrailer((**check->read).buffer.bytes(), segment.bytes, trailer));
    if (trailer->rows != segment.rows) return Status::Corrupt("segment has another number of rows than the metapage");
    if (check->directory != nullptr &&
        (trailer->directory.bytes != segment.directory.bytes || trailer->directory.crc != check->directory_crc))
      return Status::Corrupt("directory is not the segment's");
    return Status::Ok();
  });
  if (error.sqlstate != 0) ReportBytes(check, at, SegmentTrailer::kBytes, error.message);
  return error.sqlstate == 0;
}

void VerifySection(SegmentCheck* check, const char* what, const SegmentSection& section) {
  uint32_t crc = 0;
  const uint64_t end = section.offset + section.bytes;
  for (uint64_t at = section.offset; at < end;) {
    uint64_t piece = std::min(end - at, kMaxReadBytes);
    if (check->segment->part_bytes != 0)
      piece = std::min(piece, (PartOf(*check, at) + 1) * check->segment->part_bytes - at);
    if (!ReadBytes(check, at, static_cast<uint32_t>(piece))) return;
    crc = Crc32c((**check->read).buffer.bytes(), crc);
    at += piece;
  }
  if (crc == section.crc) return;
  char* problem = psprintf("%s: checksum mismatch", what);
  ReportBytes(check, section.offset, section.bytes, problem);
  pfree(problem);
}

// --------------------------------------------------------------------------------------------------------------------
// Rows: the bits against the blocks

void CompareRows(SegmentCheck* check) {
  Verify* verify = check->verify;
  const bool spilled = (check->segment->flags & SegmentEntry::kSpilled) != 0;
  const int most = spilled ? 2 : 1;
  StartReadingTids(check->tids);
  uint64_t rows = 0;
  Tid current{};
  bool live = false;
  bool any = false;
  int64 last = -1;
  int blocks = 0;
  for (bool more = true; more;) {
    Tid tid;
    int64 number;
    more = NextTid(check->tids, &tid, &number);
    if (any && (!more || tid != current)) {
      if (live && blocks == 0 && check->blocks_whole)
        Report(verify, {check->part, kNoBlock, nullptr, current}, "row is alive but in no block");
      if (blocks > most)
        Report(verify, {check->part, kNoBlock, nullptr, current}, "row is in %d blocks", blocks);
      rows += blocks > 0 ? 1 : 0;
      live = false;
      blocks = 0;
      last = -1;
    }
    if (!more) break;
    any = true;
    current = tid;
    if (number == kLiveBit) {
      live = true;
    } else {
      if (number == last) Report(verify, {check->part, kNoBlock, nullptr, tid}, "row is twice in list %lld", static_cast<long long>(number - kInBlock));
      last = number;
      ++blocks;
    }
  }
  if (check->blocks_whole && rows != check->segment->rows)
    Report(verify, {check->part}, "segment has " UINT64_FORMAT " rows instead of " UINT64_FORMAT, rows, check->segment->rows);
  EndTidSort(check->tids);
}

// Everything that lies in the segment itself.
void VerifyBytes(SegmentCheck* check) {
  const SegmentEntry& segment = *check->segment;
  if (segment.bytes < SegmentHeader::kBytes + SegmentTrailer::kBytes) {
    Report(check->verify, {check->part}, "segment is too short");
    check->blocks_whole = false;
    return;
  }
  check->read = Hold<BytesRead>(CurrentMemoryContext, [] { return new BytesRead(); });
  SegmentTrailer trailer;
  const bool ends = VerifyEnds(check, &trailer);
  if (check->directory != nullptr) VerifyBlocks(check);
  if (ends) {
    VerifySection(check, "routing", trailer.routing);
    VerifySection(check, "directory", trailer.directory);
    if (trailer.sample.bytes > 0) VerifySection(check, "sample rows", trailer.sample);
    if (check->directory != nullptr && check->blocks_whole && check->copies != trailer.copies)
      Report(check->verify, {check->part}, "segment has " UINT64_FORMAT " rows in blocks instead of " UINT64_FORMAT,
             check->copies, trailer.copies);
  }
  Drop(check->read);
}

}  // namespace

void VerifySegment(Verify* verify, uint32_t number) {
  const SegmentEntry& segment = verify->meta->segments[number];
  MemoryContext context = AllocSetContextCreate(verify->context, "ivfremote verify segment", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  SegmentCheck check{};
  check.verify = verify;
  check.number = number;
  check.segment = &segment;
  check.part = psprintf("segment " UINT64_FORMAT, segment.id);
  check.tids = NewTidSort();
  check.tid_map_whole = true;
  VerifyDirectory(&check);
  const bool walked =
      WalkStream(verify, {check.part, segment.id, segment.tid_map, PageKind::kTidMap, TakeLiveBits, &check});
  verify->tid_map_whole[number] = walked && check.tid_map_whole;
  check.blocks_whole = check.directory != nullptr;
  bool readable = true;
  if (segment.place == SegmentPlace::kObject) {
    check.server = ServerNameOf(verify->index, *verify->meta);
    check.store = OpenStore(check.server, verify->index->rd_rel->relowner);
    VerifyObjects(&check);
  } else {
    readable = WalkStream(verify, {check.part, segment.id, segment.data, PageKind::kStream, nullptr, nullptr});
    TreeReaderInit(&check.pages, verify->index, segment.id, segment.data);
  }
  if (readable)
    VerifyBytes(&check);
  else
    check.blocks_whole = false;
  CompareRows(&check);
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
}

}  // namespace ivfremote
