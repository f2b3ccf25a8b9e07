// The BLAS that the process found: how fast it is, and on how many threads.
#pragma once

namespace ivfremote {

// OpenBLAS reaches 20 to 100 on one thread of a processor of the last ten years, the reference implementation 1 to 2.
inline constexpr double kSlowBlasGigaflops = 4;

struct BlasSpeed {
  double gigaflops;     // of float32 products on one thread
  char file[64];        // the name of its library, or ""
};

// Takes a millisecond, or 50 if the BLAS is slow.
BlasSpeed MeasureBlas();

// Matrix products called from this thread compute on it alone from now on. Without this OpenBLAS starts threads of its own,
// on which Postgres's signal handlers would run. KMeans::Run has its own threads.
void UseOneBlasThread();

}  // namespace ivfremote
