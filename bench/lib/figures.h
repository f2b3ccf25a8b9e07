// Times, quantiles, and the last line of every command: key=value figures.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace ivfremote::bench {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  double milliseconds() const { return seconds() * 1000; }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The smallest value that at least `share` of the values do not exceed.
double Quantile(std::vector<double> values, double share);
inline double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }
double Mean(const std::vector<double>& values);

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string Format(const char* format, ...);

// Collects figures; Print writes them as one line.
class Figures {
 public:
  void Add(const std::string& key, double value, int decimals);
  void Print() const;

 private:
  std::string line_;
};

}  // namespace ivfremote::bench
