// Vectors in memory, and the data set of the demo and the benchmarks.
#pragma once

#include <string>
#include <vector>

namespace ivfremote::bench {

struct Vectors {
  size_t dimensions = 0;
  std::vector<float> values;  // [count x dimensions]

  size_t count() const { return dimensions == 0 ? 0 : values.size() / dimensions; }
  const float* operator[](size_t i) const { return &values[i * dimensions]; }
};

// Reads the first `limit` images of a gzipped IDX file, the format of the MNIST family: pixels from 0 to 255.
Vectors ReadImages(const std::string& path, size_t limit);

// Debian's dataset-fashion-mnist: 60000 rows, and 1000 queries that are not among them.
struct FashionMnist {
  Vectors rows;
  Vectors queries;
};
FashionMnist ReadFashionMnist();

}  // namespace ivfremote::bench
