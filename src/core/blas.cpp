#include "core/blas.h"

#include <cblas.h>
#include <dlfcn.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace ivfremote {
namespace {

constexpr int kSize = 192;
constexpr double kMaxSeconds = 0.05;

// Processor time, so that other work on this machine does not count.
double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

void UseOneBlasThread() { omp_set_num_threads(1); }

BlasSpeed MeasureBlas() {
  UseOneBlasThread();
  BlasSpeed speed = {};
  const std::vector<float> matrix(kSize * kSize, 0.5f);
  std::vector<float> product(kSize * kSize);
  // The first rounds find cold caches; the best counts.
  for (double spent = 0; spent < kMaxSeconds && speed.gigaflops < kSlowBlasGigaflops;) {
    const double begin = ThreadSeconds();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, kSize, kSize, kSize, 1.0f, matrix.data(), kSize, matrix.data(),
                kSize, 0.0f, product.data(), kSize);
    const double seconds = std::max(ThreadSeconds() - begin, 1e-6);
    speed.gigaflops = std::max(speed.gigaflops, 2e-9 * kSize * kSize * kSize / seconds);
    spent += seconds;
  }
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&cblas_sgemm), &info) != 0 && info.dli_fname != nullptr) {
    const char* slash = std::strrchr(info.dli_fname, '/');
    std::snprintf(speed.file, sizeof speed.file, "%s", slash == nullptr ? info.dli_fname : slash + 1);
  }
  return speed;
}

}  // namespace ivfremote
