#include "lib/segment_reader.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "core/checksum.h"
#include "core/segment_format.h"

namespace ivfremote::bench {
namespace {

void Check(const Status& status, const std::string& path) {
  if (!status.ok()) throw std::runtime_error(path + ": " + status.message());
}

std::vector<std::byte> ReadFile(const std::string& path) {
  std::vector<std::byte> bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size())))
    throw std::runtime_error("could not read " + path);
  return bytes;
}

}  // namespace

SegmentContents ReadSegment(const std::string& path) {
  const std::vector<std::byte> bytes = ReadFile(path);
  const Bytes segment(bytes);
  SegmentHeader header;
  SegmentTrailer trailer;
  Check(DecodeSegmentHeader(segment, &header), path);
  if (bytes.size() < SegmentTrailer::kBytes) throw std::runtime_error(path + " is too short");
  Check(DecodeSegmentTrailer(segment.last(SegmentTrailer::kBytes), bytes.size(), &trailer), path);

  SegmentContents contents;
  const Bytes routing = segment.subspan(trailer.routing.offset, trailer.routing.bytes);
  const Bytes directory_bytes = segment.subspan(trailer.directory.offset, trailer.directory.bytes);
  if (Crc32c(routing) != trailer.routing.crc || Crc32c(directory_bytes) != trailer.directory.crc)
    throw std::runtime_error(path + ": checksum mismatch");
  Check(DecodeRouting(routing, &contents.routing), path);
  Directory directory;
  Check(DecodeDirectory(directory_bytes, bytes.size(), &directory), path);

  if (header.format().coded()) throw std::runtime_error(path + " holds codes, not rows");
  contents.rows.dimensions = header.dimensions;
  for (const BlockEntry& entry : directory.blocks) {
    BlockView block;
    Check(DecodeBlock(segment.subspan(entry.offset, entry.length), header.format(), entry, &block), path);
    for (uint32_t i = 0; i < block.rows(); ++i) {
      contents.rows.values.insert(contents.rows.values.end(), block.row(i), block.row(i) + header.dimensions);
      contents.tids.push_back(block.tid(i));
      contents.lists.push_back(entry.list);
    }
  }
  return contents;
}

}  // namespace ivfremote::bench
