#include "lib/mixture.h"

#include <cblas.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/distance.h"
#include "lib/exact.h"

namespace ivfremote::bench {
namespace {

constexpr size_t kLatent = 64;
constexpr size_t kTopics = 50;
constexpr size_t kClusters = 1000;
constexpr size_t kOwnDimensions = 32;
constexpr double kNoise = 0.02;
constexpr size_t kBatch = 1024;

// splitmix64: a stream of its own for every seed.
class Random {
 public:
  Random(uint64_t stream, uint64_t number) : state_(Mix(stream * 0x9e3779b97f4a7c15 + Mix(number))) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15); }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Box and Muller's.
  double Gaussian() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * M_PI * Uniform());
  }
  // The sum of four uniforms of 16 bits: Gaussian enough for noise, and cheap.
  float RoughGaussian() {
    const uint64_t bits = Next();
    const auto sum = static_cast<double>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    return static_cast<float>((sum / 65535 - 2) * std::sqrt(3.0));
  }

 private:
  static uint64_t Mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  }
  uint64_t state_;
};

enum Stream : uint64_t { kMatrix = 1, kTopic, kCluster, kRow };

struct Cluster {
  float centre[kLatent];
  float deviation[kLatent];  // of its rows; 0 in the dimensions it has not chosen
};

struct Mixture {
  std::vector<float> matrix;  // [768 x 64]
  std::vector<Cluster> clusters;
  std::vector<double> shares;  // summed up to here

  Mixture() : matrix(kMixtureDimensions * kLatent), clusters(kClusters), shares(kClusters) {
    Random random(kMatrix, 0);
    for (float& value : matrix)
      value = static_cast<float>(random.Gaussian() / std::sqrt(static_cast<double>(kMixtureDimensions)));
    double sum = 0;
    for (size_t r = 0; r < kClusters; ++r) {
      Random topic(kTopic, r % kTopics);
      Random own(kCluster, r);
      Cluster& cluster = clusters[r];
      for (size_t j = 0; j < kLatent; ++j) {
        const double deviation = std::pow(static_cast<double>(j + 1), -0.25);
        cluster.centre[j] = static_cast<float>(deviation * (topic.Gaussian() + 0.5 * own.Gaussian()));
        cluster.deviation[j] = 0;
      }
      const double scale = 0.35 + 0.35 * own.Uniform();
      for (size_t chosen = 0; chosen < kOwnDimensions;) {
        const size_t j = own.Next() % kLatent;
        if (cluster.deviation[j] != 0) continue;
        cluster.deviation[j] = static_cast<float>(scale * std::pow(static_cast<double>(j + 1), -0.25));
        ++chosen;
      }
      shares[r] = sum += std::pow(static_cast<double>(r + 1), -0.7);
    }
    for (double& share : shares) share /= sum;
  }
};

}  // namespace

Vectors MixtureRows(uint64_t first, size_t count) {
  static const Mixture* const mixture = new Mixture;
  Vectors rows{kMixtureDimensions, {}};
  rows.values.resize(count * kMixtureDimensions);
  std::vector<float> latent(kBatch * kLatent);
  for (size_t start = 0; start < count; start += kBatch) {
    const size_t batch = std::min(kBatch, count - start);
    float* const out = &rows.values[start * kMixtureDimensions];
    for (size_t i = 0; i < batch; ++i) {
      Random random(kRow, first + start + i);
      const double at = random.Uniform();
      const auto share = std::upper_bound(mixture->shares.begin(), mixture->shares.end() - 1, at);
      const Cluster& cluster = mixture->clusters[static_cast<size_t>(share - mixture->shares.begin())];
      for (size_t j = 0; j < kLatent; ++j)
        latent[i * kLatent + j] =
            cluster.deviation[j] == 0
                ? cluster.centre[j]
                : cluster.centre[j] + cluster.deviation[j] * static_cast<float>(random.Gaussian());
      for (size_t j = 0; j < kMixtureDimensions; ++j)
        out[i * kMixtureDimensions + j] = static_cast<float>(kNoise) * random.RoughGaussian();
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(batch), static_cast<int>(kMixtureDimensions),
                static_cast<int>(kLatent), 1.0f, latent.data(), static_cast<int>(kLatent), mixture->matrix.data(),
                static_cast<int>(kLatent), 1.0f, out, static_cast<int>(kMixtureDimensions));
  }
  return rows;
}

double MeasureDimension(const Vectors& rows, const Vectors& queries, size_t count) {
  constexpr size_t kNear = 20;
  Vectors some{queries.dimensions, {queries.values.begin(), queries.values.begin() +
                                    static_cast<ptrdiff_t>(std::min(count, queries.count()) * queries.dimensions)}};
  double inverse = 0;
  for (const std::vector<double>& nearest : NearestDistances(rows, some, kNear))
    for (const double distance : nearest) inverse += std::log(nearest.back() / distance) / (kNear - 2);
  return static_cast<double>(some.count()) / inverse;
}

}  // namespace ivfremote::bench
