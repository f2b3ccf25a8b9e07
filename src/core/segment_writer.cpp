#include "core/segment_writer.h"

#include <algorithm>

#include "core/checksum.h"
#include "core/little_endian.h"

namespace ivfremote {

SegmentWriter::SegmentWriter(const SegmentHeader& header, const Routing* routing)
    : header_(header), routing_(routing), block_(header.format()) {
  directory_.lists.resize(header.list_count);
}

Status SegmentWriter::Emit(std::vector<std::byte> item, uint64_t alignment, uint64_t* offset) {
  if (header_.part_bytes != 0 && item.size() > header_.part_bytes)
    return Status::Internal("an item of " + std::to_string(item.size()) + " bytes does not fit a part");
  *offset = PlaceInPart(AlignUp(end_, alignment), item.size(), header_.part_bytes);
  end_ = *offset + item.size();
  output_.push_back({*offset, std::move(item)});
  return Status::Ok();
}

uint64_t SegmentWriter::EmitRun(const std::vector<std::byte>& run) {
  const uint64_t offset = AlignUp(end_, kBlockAlignment);
  end_ = offset;
  for (size_t done = 0; done < run.size();) {
    size_t piece = std::min<size_t>(run.size() - done, kFullBlockBytes);
    if (header_.part_bytes != 0)
      piece = static_cast<size_t>(std::min<uint64_t>(piece, header_.part_bytes - end_ % header_.part_bytes));
    const auto from = run.begin() + static_cast<ptrdiff_t>(done);
    output_.push_back({end_, {from, from + static_cast<ptrdiff_t>(piece)}});
    done += piece;
    end_ += piece;
  }
  return offset;
}

Status SegmentWriter::Add(uint32_t list, uint32_t centroid, Tid tid, const std::byte* row) {
  const bool ordered = list > list_ || (list == list_ && centroid >= centroid_) || copies_ == 0;
  if (finished_ || !ordered || list >= header_.list_count || centroid >= header_.list_count)
    return Status::Internal("rows of list " + std::to_string(list) + " come out of order");
  if (end_ == 0) {
    uint64_t offset;
    IVFREMOTE_RETURN_IF_ERROR(Emit(EncodeSegmentHeader(header_), 1, &offset));
  }
  if (list != list_ || centroid != centroid_ || block_.full()) IVFREMOTE_RETURN_IF_ERROR(FlushBlock());
  list_ = list;
  centroid_ = centroid;
  block_.Add(tid, row);
  ++copies_;
  return Status::Ok();
}

Status SegmentWriter::FlushBlock() {
  if (block_.empty()) return Status::Ok();
  BlockEntry entry{};
  entry.rows = block_.rows();
  entry.list = list_;
  entry.centroid = centroid_;
  std::vector<std::byte> bytes = block_.Finish(list_, centroid_);
  entry.length = static_cast<uint32_t>(bytes.size());
  entry.crc = Crc32c(bytes);
  IVFREMOTE_RETURN_IF_ERROR(Emit(std::move(bytes), kBlockAlignment, &entry.offset));
  ListEntry& list = directory_.lists[list_];
  if (list.block_count == 0) list.first_block = static_cast<uint32_t>(directory_.blocks.size());
  ++list.block_count;
  directory_.blocks.push_back(entry);
  return Status::Ok();
}

Status SegmentWriter::Finish(uint64_t rows) {
  if (rows > copies_) return Status::Internal("more rows than were added");
  finished_ = true;
  uint64_t offset;
  if (end_ == 0) IVFREMOTE_RETURN_IF_ERROR(Emit(EncodeSegmentHeader(header_), 1, &offset));
  IVFREMOTE_RETURN_IF_ERROR(FlushBlock());
  SegmentTrailer trailer;
  trailer.rows = rows;
  trailer.copies = copies_;
  {
    const std::vector<std::byte> routing = routing_->Encode(/*with_codes=*/false);
    trailer.routing = {0, routing.size(), Crc32c(routing)};
    trailer.routing.offset = EmitRun(routing);
  }
  const std::vector<std::byte> directory = EncodeDirectory(directory_);
  trailer.directory = {0, directory.size(), Crc32c(directory)};
  trailer.directory.offset = EmitRun(directory);
  if (!sample_.tids.empty()) {
    const std::vector<std::byte> sample = EncodeSampleRows(sample_);
    trailer.sample = {0, sample.size(), Crc32c(sample)};
    trailer.sample.offset = EmitRun(sample);
  }
  return Emit(EncodeSegmentTrailer(trailer), kBlockAlignment, &offset);
}

std::vector<SegmentWriter::Chunk> SegmentWriter::TakeOutput() { return std::exchange(output_, {}); }

void SegmentUpload::Add(std::vector<SegmentWriter::Chunk> chunks) {
  if (next_ == queue_.size()) {
    queue_.clear();
    next_ = 0;
  }
  for (auto& chunk : chunks) queue_.push_back(std::move(chunk));
}

Status SegmentUpload::StartPart(uint32_t part) {
  IVFREMOTE_RETURN_IF_ERROR(store_->Create(FormatObjectKey({name_, part}), &part_));
  part_number_ = part;
  position_ = part_number_ * part_bytes_;
  return Status::Ok();
}

Status SegmentUpload::FinishPart(Clock::time_point deadline, bool* done) {
  IVFREMOTE_RETURN_IF_ERROR(part_->Finish(deadline, done));
  if (*done) {
    part_.reset();
    completed_ = position_;
    ++objects_;
  }
  return Status::Ok();
}

Status SegmentUpload::Step(Clock::time_point deadline, bool* idle) {
  static constexpr std::byte kZeros[kBlockAlignment] = {};
  *idle = false;
  while (next_ < queue_.size()) {
    SegmentWriter::Chunk& chunk = queue_[next_];
    const uint64_t part = part_bytes_ == 0 ? 0 : chunk.offset / part_bytes_;
    if (part_ != nullptr && part != part_number_) {
      bool done = false;
      IVFREMOTE_RETURN_IF_ERROR(FinishPart(deadline, &done));
      if (!done) return Status::Ok();
    }
    if (part_ == nullptr) IVFREMOTE_RETURN_IF_ERROR(StartPart(static_cast<uint32_t>(part)));
    bool ready = false;
    IVFREMOTE_RETURN_IF_ERROR(part_->Step(deadline, &ready));
    if (!ready) return Status::Ok();
    if (chunk.offset > position_)
      IVFREMOTE_RETURN_IF_ERROR(part_->Append(Bytes(kZeros, static_cast<size_t>(chunk.offset - position_))));
    IVFREMOTE_RETURN_IF_ERROR(part_->Append(chunk.bytes));
    position_ = chunk.offset + chunk.bytes.size();
    chunk.bytes = {};
    ++next_;
    if (next_ < queue_.size() && Clock::now() >= deadline) return Status::Ok();
  }
  *idle = true;
  return Status::Ok();
}

Status SegmentUpload::Finish(Clock::time_point deadline, bool* done) {
  if (part_ == nullptr) {
    *done = true;
    return Status::Ok();
  }
  return FinishPart(deadline, done);
}

}  // namespace ivfremote
