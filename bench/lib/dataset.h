// Vectors in memory, and the data sets of the demo and the benchmarks.
#pragma once

#include <string>
#include <vector>

#include "core/types.h"

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
// Of the rows: 0 to 9.
std::vector<uint8_t> ReadFashionLabels();

// Reads an .fvecs file: for each vector its number of dimensions, then its values, in 32 bits each.
Vectors ReadFvecs(const std::string& path);

// Every vector divided by its norm: Euclidean distances between such are in the order of cosine distances.
Vectors Normalised(const Vectors& vectors);

struct Dataset {
  std::string name;
  Metric metric = Metric::kL2;
  Vectors rows;
  Vectors queries;
};

// DATA of the environment: "fashion" (the default), or "glove", 340k words of 100 dimensions and 1001 that are not among
// them, under cosine; bench_glove of lib/bench.sh has to have fetched it.
Dataset ReadDataset();

}  // namespace ivfremote::bench
