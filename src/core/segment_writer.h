// Turns rows, sorted by list, into the bytes of a segment. The caller drains the output as it grows and takes it where
// it belongs: to an object, or to pages.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/object_store.h"
#include "core/routing.h"
#include "core/segment_format.h"

namespace ivfremote {

class SegmentWriter {
 public:
  struct Chunk {
    uint64_t offset;  // logical; a multiple of part_bytes starts a part
    std::vector<std::byte> bytes;
  };

  // `routing` must outlive the writer.
  SegmentWriter(const SegmentHeader& header, const Routing* routing);

  // Lists must not decrease, nor the code centroids of one list: each has blocks of its own. `row` is
  // CodeFormat::RowBytes() long.
  Status Add(uint32_t list, uint32_t centroid, Tid tid, const std::byte* row);
  // Rows for calibrations to come, any time before Finish; few enough to be held.
  void SetSample(SampleRows sample) { sample_ = std::move(sample); }
  // Writes what follows the last row. Nothing may be added after. `rows`: how many were added, each counted once.
  Status Finish(uint64_t rows);

  // What has been written since the last call.
  std::vector<Chunk> TakeOutput();

  uint64_t copies() const { return copies_; }  // rows as they were added
  uint64_t bytes() const { return end_; }  // the logical end
  const Directory& directory() const { return directory_; }

 private:
  Status FlushBlock();
  // Places an item where it crosses no part and appends it to the output; returns its offset.
  Status Emit(std::vector<std::byte> item, uint64_t alignment, uint64_t* offset);
  // Appends a run of bytes that may go on in the next part; returns its offset.
  uint64_t EmitRun(const std::vector<std::byte>& run);

  SegmentHeader header_;
  const Routing* routing_;
  BlockBuilder block_;
  uint32_t list_ = 0;
  uint32_t centroid_ = 0;
  Directory directory_;
  SampleRows sample_;
  std::vector<Chunk> output_;
  uint64_t end_ = 0;
  uint64_t copies_ = 0;
  bool finished_ = false;
};

// Sends a SegmentWriter's output to the object of its name, part after part.
class SegmentUpload {
 public:
  // `store` must outlive the upload.
  SegmentUpload(ObjectStore* store, const SegmentName& name, uint64_t part_bytes)
      : store_(store), name_(name), part_bytes_(part_bytes) {}

  void Add(std::vector<SegmentWriter::Chunk> chunks);
  // Moves what was added, until all of it is taken (`*idle`) or `deadline`.
  Status Step(Clock::time_point deadline, bool* idle);
  // Completes the last part, in steps.
  Status Finish(Clock::time_point deadline, bool* done);

  uint32_t objects() const { return objects_; }
  // How far, from the start of the segment, the store has it for good.
  uint64_t BytesStored() const {
    return part_ == nullptr ? completed_ : part_number_ * part_bytes_ + part_->BytesStored();
  }

 private:
  Status StartPart(uint32_t part);
  Status FinishPart(Clock::time_point deadline, bool* done);

  ObjectStore* store_;
  SegmentName name_;
  uint64_t part_bytes_;
  std::vector<SegmentWriter::Chunk> queue_;
  size_t next_ = 0;
  std::unique_ptr<Upload> part_;
  uint64_t part_number_ = 0;
  uint64_t position_ = 0;   // logical end of what has been appended
  uint64_t completed_ = 0;  // logical end of the objects that are complete
  uint32_t objects_ = 0;
};

}  // namespace ivfremote
