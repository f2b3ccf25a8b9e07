#include "core/blas.h"

#include <cstring>

#include "support.h"

namespace ivfremote {
namespace {

// The build links OpenBLAS; test/t has what a slow one is told.
TEST(Blas, MeasuresAndNamesOpenBlas) {
  const BlasSpeed speed = MeasureBlas();
  EXPECT_GT(speed.gigaflops, kSlowBlasGigaflops);
  EXPECT_LT(speed.gigaflops, 10000);
  EXPECT_NE(std::strstr(speed.file, "openblas"), nullptr) << speed.file;
}

}  // namespace
}  // namespace ivfremote
