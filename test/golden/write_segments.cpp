// Wrote the golden segments, routings and recall curve; README.md says when it may run again.
//
//   write_segments DIRECTORY               never overwrites a file
//   write_segments --manifest FILE ...     prints these files' lines of the manifest
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "core/checksum.h"
#include "core/coding.h"
#include "golden.h"

namespace ivfremote::golden {
namespace {

void Require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

void WriteFile(const std::string& path, Bytes bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) || close(file) != 0) {
    std::perror(path.c_str());
    std::exit(1);
  }
}

void WriteSegment(const std::string& directory, const Segment& segment) {
  const Routing routing = MakeRouting(segment.metric, kLists, 2);
  SegmentWriter writer(HeaderOf(segment), &routing);
  RowCoder coder(segment.metric, segment.format(), kSeed, routing.mean.data());
  std::vector<std::byte> row(segment.format().RowBytes());
  for (uint32_t list = 0; list < kLists; ++list)
    for (uint32_t i : RowsOf(segment, list)) {
      coder.Encode(Row(segment, i).data(), &routing.centroids[list * kDimensions], row.data());
      Require(writer.Add(list, list, TidOf(i), row.data()));
    }
  writer.SetSample(SampleOf(segment));
  Require(writer.Finish(kRows));
  const std::vector<File> parts = Parts(writer.TakeOutput(), segment.part_bytes);
  for (size_t part = 0; part < parts.size(); ++part)
    WriteFile(directory + "/" + PartName(segment.name, part), parts[part]);
}

void PrintManifest(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string content = text.str();
  std::printf("%08x %zu %s\n", Crc32c(std::as_bytes(std::span(content))), content.size(), path);
}

}  // namespace
}  // namespace ivfremote::golden

int main(int count, char** arguments) {
  using namespace ivfremote;
  using namespace ivfremote::golden;
  if (count >= 2 && std::string(arguments[1]) == "--manifest") {
    for (int i = 2; i < count; ++i) PrintManifest(arguments[i]);
    return 0;
  }
  if (count != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY, or %s --manifest FILE ...\n", arguments[0], arguments[0]);
    return 2;
  }
  const std::string directory = arguments[1];
  for (const Segment& segment : kSegments) WriteSegment(directory, segment);
  Routing routing = MakeRouting(Metric::kCosine, 40, 5);
  WriteFile(directory + "/plain.routing", routing.Encode());
  StartCodes(kSeed, &routing);
  for (uint32_t group = 0; group < routing.group_count(); ++group) CodeGroup(group, &routing);
  WriteFile(directory + "/coded.routing", routing.Encode());
  WriteFile(directory + "/example.curve", MakeCurve().Encode());
  return 0;
}
