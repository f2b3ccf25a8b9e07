// How close waves and uploads come to what the server and its distance allow. Called by s3.sh with the endpoints of a clean
// S3 server and of one in front of it that delays each answer.
#include <cstdio>
#include <fstream>
#include <random>

#include "core/s3_store.h"
#include "lib/command.h"
#include "lib/figures.h"

using namespace ivfremote;
using namespace ivfremote::bench;

namespace {

constexpr size_t kBlocks = 32;
constexpr uint32_t kBlockBytes = 100 << 10;
constexpr int kRounds = 15;
constexpr size_t kUploadBytes = size_t{1} << 30;

std::unique_ptr<S3Store> OpenStore(const std::string& endpoint) {
  S3Location location;
  location.bucket = "bench";
  location.region = "us-east-1";
  location.endpoint = endpoint;
  location.virtual_host = false;
  S3Environment environment;
  environment.random = [engine = std::minstd_rand(1)]() mutable {
    return std::uniform_real_distribution<double>()(engine);
  };
  return std::make_unique<S3Store>(
      location, AwsCredentials{Environment("AWS_ACCESS_KEY_ID", ""), Environment("AWS_SECRET_ACCESS_KEY", ""), ""},
      HttpOptions(), RetryPolicy(), environment);
}

void Check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

double Upload(S3Store* store, const std::string& key, size_t bytes) {
  const Stopwatch watch;
  std::vector<std::byte> piece(1 << 20);
  std::minstd_rand random(7);
  for (std::byte& byte : piece) byte = static_cast<std::byte>(random());
  std::unique_ptr<ivfremote::Upload> upload;
  Check(store->Create(key, &upload));
  for (size_t sent = 0; sent < bytes; sent += piece.size()) {
    for (bool ready = false; !ready;) Check(upload->Step(Clock::now() + std::chrono::milliseconds(100), &ready));
    Check(upload->Append(piece));
  }
  for (bool done = false; !done;) Check(upload->Finish(Clock::now() + std::chrono::milliseconds(100), &done));
  return watch.seconds();
}

// Blocks far from each other, as a query's are.
double WaveMs(S3Store* store, size_t blocks, size_t first) {
  std::vector<RangeRequest> requests;
  for (size_t i = 0; i < blocks; ++i) requests.push_back({"blocks", (first + i) * 4 * kBlockBytes, kBlockBytes});
  const Stopwatch watch;
  std::unique_ptr<RangeWave> wave;
  Check(store->GetRanges(std::move(requests), 64, &wave));
  for (size_t done = 0; done < blocks;) {
    std::vector<RangeCompletion> completions;
    Check(wave->Step(Clock::now() + std::chrono::milliseconds(100), &completions));
    for (const RangeCompletion& completion : completions) Check(completion.status);
    done += completions.size();
  }
  return watch.milliseconds();
}

double PeakMemoryMb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

void Run(const std::string& far_endpoint) {
  const std::string near_endpoint = Environment("S3_ENDPOINT", "");
  const std::unique_ptr<S3Store> near = OpenStore(near_endpoint);
  Upload(near.get(), "blocks", kBlocks * 4 * kBlockBytes / (1 << 20) * (1 << 20) + (1 << 20));

  const std::unique_ptr<S3Store> far = OpenStore(far_endpoint);
  WaveMs(far.get(), kBlocks, 0);  // opens the connections
  std::vector<double> waves, slowest, ratios, cold;
  for (int round = 0; round < kRounds; ++round) {
    double single = 0;
    for (size_t i = 0; i < kBlocks; ++i) single = std::max(single, WaveMs(far.get(), 1, i));
    slowest.push_back(single);
    waves.push_back(WaveMs(far.get(), kBlocks, 0));
    ratios.push_back(waves.back() / single);
    // A session's first query: every connection is new.
    cold.push_back(WaveMs(OpenStore(far_endpoint).get(), kBlocks, 0));
  }
  std::printf("%zu blocks of %u kB, %d rounds: one wave %.1f ms, the slowest of as many single GETs %.1f ms, a wave on new "
              "connections %.1f ms\n", kBlocks, kBlockBytes >> 10, kRounds, Median(waves), Median(slowest), Median(cold));

  const double seconds = Upload(near.get(), "large", kUploadBytes);
  const double peer_seconds = std::stod(Environment("PEER_UPLOAD_S", "0"));
  std::printf("%.0f MB written in %.2f s (%.0f MB/s); curl, 4 parts of 8 MiB at a time: %.2f s\n", kUploadBytes / 1e6, seconds,
              kUploadBytes / 1e6 / seconds, peer_seconds);
  Figures figures;
  figures.Add("wave_ms", Median(waves), 1);
  figures.Add("slowest_get_ms", Median(slowest), 1);
  figures.Add("wave_ratio", Median(ratios), 2);
  figures.Add("new_connections_ms", Median(cold), 1);
  figures.Add("upload_s", seconds, 2);
  figures.Add("upload_ratio", seconds / peer_seconds, 2);
  figures.Add("upload_hwm_mb", PeakMemoryMb(), 0);
  figures.Print();
}

}  // namespace

int main(int count, char** arguments) { return RunCommand(count, arguments, Run); }
