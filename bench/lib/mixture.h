// Synthetic embeddings, as many as one wants, made by their numbers: row i is the same in every run and on every machine up
// to float rounding, so a table of n rows is a prefix of a larger one.
//
// 768 dimensions. A row is W w + noise: w has 64 latent dimensions, W [768 x 64] is Gaussian with columns of norm about 1, the
// noise has standard deviation 0.02 in each of the 768. w = topic + cluster + own:
//   topic    one of 50, Gaussian with variance j^-1/2 in latent dimension j = 1 .. 64
//   cluster  one of 1000, half that deviation; cluster r belongs to topic r mod 50 and has a share of the rows that is
//            proportional to (r + 1)^-0.7: of 1M rows 42,000 in the largest, 335 in the smallest
//   own      Gaussian in 32 latent dimensions of the cluster's choice, variance j^-1/2 there, times 0.35 .. 0.7 of the cluster's
//            choice
// So clusters overlap within a topic, and differ in size by two orders of magnitude and in direction. Round a query the first 60,000
// rows have intrinsic dimension 12.5 by MeasureDimension; Fashion-MNIST and GloVe's words have 13.5.
#pragma once

#include "lib/dataset.h"

namespace ivfremote::bench {

inline constexpr size_t kMixtureDimensions = 768;
// Queries are rows from here on.
inline constexpr uint64_t kMixtureQueries = uint64_t{1} << 40;

// Rows first .. first + count - 1.
Vectors MixtureRows(uint64_t first, size_t count);

// The intrinsic dimension round the queries, from the distances of their 20 nearest rows (the maximum likelihood estimate of
// Levina and Bickel, NIPS 2004, averaged over queries in the inverse). Of the first `queries` queries.
double MeasureDimension(const Vectors& rows, const Vectors& queries, size_t count);

}  // namespace ivfremote::bench
