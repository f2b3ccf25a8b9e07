// Blocks of coded rows with arbitrary codes and factors, and arbitrary queries: the kernels read nothing beyond the
// slack, and their bounds are those of plain loops.
#include <cfloat>
#include <cmath>

#include "core/code_scorer.h"
#include "core/object_store.h"
#include "fuzz_input.h"

namespace ivfremote {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Any float32 at all, or mostly one of a likely size.
float TakeFloat(FuzzInput* input, bool any) {
  return any ? input->Take<float>() : static_cast<float>(input->Take<int16_t>()) * 0x1p-12f;
}

std::vector<float> TakeFloats(FuzzInput* input, size_t n, bool any) {
  std::vector<float> values(n);
  for (float& value : values) value = TakeFloat(input, any);
  return values;
}

// What a bound's rounding is relative to; infinite where a term comes near the largest float32.
double Magnitude(const std::vector<float>& y, uint32_t bits, const QueryResidual& query, float a, float s, float e) {
  double squared_norm = 0;
  double sum = 0;
  for (float x : y) squared_norm += double{x} * x, sum += std::abs(x);
  // Twice the largest <v,y>, as kernels get it.
  const double product = std::abs(double{s}) * sum * (2 << bits);
  const double error = 4 * std::sqrt(squared_norm) * std::hypot(e, product);
  const double magnitude =
      (1 + std::abs(query.alpha)) * std::abs(a) + std::abs(query.centroid_product) + squared_norm + product + error;
  return std::abs(e) > 1e18 || product > 1e18 || !(magnitude < 1e37) ? kInfinity : magnitude;
}

void Fuzz(FuzzInput* input) {
  const uint32_t bits = 1u << input->Take<uint8_t>() % 4;
  // Mostly short codes; some are long enough for sums that need more than 16 bits.
  const uint8_t length = input->Take<uint8_t>();
  const uint32_t padded = PaddedDimensions(8 * (length < 240 ? 1 + length % 18u : 120 + length % 16u), bits);
  const uint32_t rows = input->TakeBetween(0, 70);
  const auto metric = static_cast<Metric>(input->Take<uint8_t>() % 3);
  const uint8_t any = input->Take<uint8_t>();
  const double epsilon = input->TakeBetween(0, 30) / 10.0;

  const std::vector<float> y = TakeFloats(input, padded, (any & 1) != 0);
  const QueryResidual query{y.data(), double{TakeFloat(input, (any & 2) != 0)},
                            double{TakeFloat(input, (any & 2) != 0)}};
  const std::vector<float> a = TakeFloats(input, rows, (any & 4) != 0);
  const std::vector<float> s = TakeFloats(input, rows, (any & 4) != 0);
  const std::vector<float> e = TakeFloats(input, rows, (any & 4) != 0);
  // Codes start anywhere, and repeat the rest of the input.
  const size_t offset = any >> 4;
  const Bytes rest = input->rest();
  std::vector<std::byte> bytes(offset + GroupedBytes(padded, bits, rows) + RangeBuffer::kSlack);
  for (size_t i = 0; i < bytes.size() && !rest.empty(); ++i) bytes[i] = rest[i % rest.size()];
  const ExactCopy copy(bytes);
  const CodedRows block{rows, a.data(), s.data(), e.data(), copy.bytes().data() + offset};

  CodeScorer scorer(metric, padded, bits, epsilon);
  scorer.SetQuery(query);
  std::vector<float> bounds(rows);
  std::vector<float> expected(rows);
  scorer.Score(block, bounds.data());
  scorer.ScoreReference(block, expected.data());
  for (uint32_t i = 0; i < rows; ++i) {
    REQUIRE(bounds[i] <= FLT_MAX && expected[i] <= FLT_MAX);
    if (!std::isfinite(a[i]) || !std::isfinite(s[i]) || !std::isfinite(e[i])) REQUIRE(bounds[i] == -kInfinity);
    if (bounds[i] == expected[i]) continue;
    const double magnitude = Magnitude(y, bits, query, a[i], s[i], e[i]);
    REQUIRE(std::abs(double{bounds[i]} - expected[i]) <= 0x1p-20 * magnitude + 2 * double{FLT_MIN});
  }
}

}  // namespace
}  // namespace ivfremote

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ivfremote::FuzzInput input(data, size);
  ivfremote::Fuzz(&input);
  return 0;
}
