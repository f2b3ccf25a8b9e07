#include "lib/build_run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <thread>

#include "lib/figures.h"

namespace ivfremote::bench {
namespace {

constexpr std::chrono::milliseconds kSampleInterval{10};

// "building index: training lists" without what comes before the colon.
std::string PhaseName(const std::string& phase) {
  const size_t colon = phase.find(": ");
  return colon == std::string::npos ? phase : phase.substr(colon + 2);
}

void SampleBuild(Connection* watcher, const std::string& pid, const Stopwatch& watch, const std::atomic<bool>& done,
                 BuildRun* run, std::vector<double>* starts) {
  const std::string sql = "SELECT phase FROM pg_stat_progress_create_index WHERE pid = " + pid;
  while (!done) {
    run->own_mb = std::max(run->own_mb, MemoryMb(pid, "RssAnon") + MemoryMb(pid, "RssFile"));
    const auto rows = watcher->Query(sql);
    if (!rows.empty() && !rows[0][0].empty()) {
      const std::string phase = PhaseName(rows[0][0]);
      if (run->phases.empty() || run->phases.back().first != phase) {
        run->phases.emplace_back(phase, 0.0);
        starts->push_back(starts->empty() ? 0.0 : watch.seconds());
      }
    }
    std::this_thread::sleep_for(kSampleInterval);
  }
}

}  // namespace

double MemoryMb(const std::string& pid, const std::string& name) {
  std::ifstream status("/proc/" + pid + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1)) * 1024 / 1e6;
  return 0;
}

BuildRun RunBuild(Connection* connection, const std::string& create_index) {
  BuildRun run;
  std::vector<double> starts;
  Connection watcher;
  const std::string pid = connection->Value("SELECT pg_backend_pid()");
  std::atomic<bool> done = false;
  std::exception_ptr error;
  const Stopwatch watch;
  std::thread sampler([&] {
    try {
      SampleBuild(&watcher, pid, watch, done, &run, &starts);
    } catch (...) {
      error = std::current_exception();
    }
  });
  try {
    connection->Query(create_index);
  } catch (...) {
    error = std::current_exception();
  }
  run.seconds = watch.seconds();
  run.hwm_mb = MemoryMb(pid, "VmHWM");
  done = true;
  sampler.join();
  if (error) std::rethrow_exception(error);
  for (size_t i = 0; i < run.phases.size(); ++i)
    run.phases[i].second = (i + 1 < starts.size() ? starts[i + 1] : run.seconds) - starts[i];
  return run;
}

}  // namespace ivfremote::bench
