// IEEE 754 half precision (binary16), as centroids are stored: float16 times a power of two that is the index's.
#pragma once

#include "core/types.h"

namespace ivfremote {

// Rounded to nearest, ties to even; what is too large becomes infinity.
uint16_t RoundToHalf(float value);

// out[i] = halves[i] * scale. `scale` is a power of two; results are exact where float32 has them.
void FromHalves(const uint16_t* halves, size_t n, float scale, float* out);

// The inverse of FromHalves, with the same scale: for values that are halves times the scale, except NaN.
void ToHalves(const float* values, size_t n, float scale, uint16_t* out);

}  // namespace ivfremote
