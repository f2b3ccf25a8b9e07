#include "lib/dataset.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>

namespace ivfremote::bench {
namespace {

constexpr char kDirectory[] = "/usr/share/datasets/fashion-mnist/";
constexpr uint32_t kImagesMagic = 0x00000803;  // unsigned bytes, three dimensions

struct ClosePipe {
  void operator()(FILE* pipe) const { pclose(pipe); }
};

void Read(FILE* file, void* to, size_t bytes, const std::string& path) {
  if (std::fread(to, 1, bytes, file) != bytes)
    throw std::runtime_error("could not read " + path + ": is dataset-fashion-mnist installed?");
}

uint32_t ReadBigEndian(FILE* file, const std::string& path) {
  uint8_t bytes[4];
  Read(file, bytes, sizeof bytes, path);
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

}  // namespace

Vectors ReadImages(const std::string& path, size_t limit) {
  const std::unique_ptr<FILE, ClosePipe> file(popen(("zcat '" + path + "'").c_str(), "r"));
  if (file == nullptr) throw std::runtime_error("could not start zcat");
  if (ReadBigEndian(file.get(), path) != kImagesMagic) throw std::runtime_error(path + " holds no images");
  const size_t count = std::min<size_t>(ReadBigEndian(file.get(), path), limit);
  const size_t height = ReadBigEndian(file.get(), path);
  const size_t width = ReadBigEndian(file.get(), path);
  std::vector<uint8_t> pixels(count * height * width);
  Read(file.get(), pixels.data(), pixels.size(), path);
  // To its end: zcat would complain about a closed pipe.
  for (char rest[65536]; std::fread(rest, 1, sizeof rest, file.get()) > 0;) {
  }
  return {height * width, std::vector<float>(pixels.begin(), pixels.end())};
}

FashionMnist ReadFashionMnist() {
  const std::string directory = kDirectory;
  return {ReadImages(directory + "train-images-idx3-ubyte.gz", 60000),
          ReadImages(directory + "t10k-images-idx3-ubyte.gz", 1000)};
}

}  // namespace ivfremote::bench
