#include "lib/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>

#include "core/distance.h"
#include "lib/command.h"

namespace ivfremote::bench {
namespace {

constexpr char kDirectory[] = "/usr/share/datasets/fashion-mnist/";
constexpr char kGloveDirectory[] = "build/glove/";
constexpr uint32_t kImagesMagic = 0x00000803;  // unsigned bytes, three dimensions
constexpr uint32_t kLabelsMagic = 0x00000801;

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

std::vector<uint8_t> ReadFashionLabels() {
  const std::string path = std::string(kDirectory) + "train-labels-idx1-ubyte.gz";
  const std::unique_ptr<FILE, ClosePipe> file(popen(("zcat '" + path + "'").c_str(), "r"));
  if (file == nullptr) throw std::runtime_error("could not start zcat");
  if (ReadBigEndian(file.get(), path) != kLabelsMagic) throw std::runtime_error(path + " holds no labels");
  std::vector<uint8_t> labels(ReadBigEndian(file.get(), path));
  Read(file.get(), labels.data(), labels.size(), path);
  return labels;
}

Vectors ReadFvecs(const std::string& path) {
  std::vector<uint32_t> words(std::filesystem::file_size(path) / sizeof(uint32_t));
  std::ifstream file(path, std::ios::binary);
  if (words.empty() ||
      !file.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * sizeof(uint32_t))))
    throw std::runtime_error("could not read " + path);
  Vectors vectors;
  vectors.dimensions = words[0];
  const size_t stride = vectors.dimensions + 1;
  if (vectors.dimensions == 0 || words.size() % stride != 0) throw std::runtime_error(path + " is no .fvecs file");
  vectors.values.resize(words.size() / stride * vectors.dimensions);
  for (size_t i = 0; i < words.size() / stride; ++i) {
    if (words[i * stride] != vectors.dimensions) throw std::runtime_error(path + " has different dimensions");
    std::memcpy(&vectors.values[i * vectors.dimensions], &words[i * stride + 1], vectors.dimensions * sizeof(float));
  }
  return vectors;
}

Vectors Normalised(const Vectors& vectors) {
  Vectors normalised = vectors;
  for (size_t i = 0; i < vectors.count(); ++i) {
    const double norm = std::sqrt(SquaredNorm(vectors[i], vectors.dimensions));
    for (size_t j = 0; j < vectors.dimensions; ++j)
      normalised.values[i * vectors.dimensions + j] = static_cast<float>(vectors[i][j] / norm);
  }
  return normalised;
}

Dataset ReadDataset() {
  const std::string name = Environment("DATA", "fashion");
  if (name == "fashion") {
    FashionMnist images = ReadFashionMnist();
    return {"Fashion-MNIST", Metric::kL2, std::move(images.rows), std::move(images.queries)};
  }
  if (name == "glove") {
    const std::string directory = kGloveDirectory;
    return {"GloVe words", Metric::kCosine, ReadFvecs(directory + "rows.fvecs"),
            ReadFvecs(directory + "queries.fvecs")};
  }
  throw std::runtime_error("DATA is fashion or glove, not \"" + name + "\"");
}

}  // namespace ivfremote::bench
