// The log of test/stores/nginx.sh: what a store was really asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ivfremote::bench {

struct LoggedRequest {
  double start;  // seconds since 1970
  double end;
  std::string method;
  bool range;  // of an object
  int status;
  int64_t sent;  // bytes of the answer's body
};

// FRONT_ACCESS_LOG and FRONT_FAULTY_HTTP_PORT of the environment say where it is.
class AccessLog {
 public:
  AccessLog();

  // What was asked on any port since the last call, or the constructor, in the order of the start.
  std::vector<LoggedRequest> Read();

 private:
  std::string path_;
  std::string sync_;
  int64_t offset_ = 0;
};

// How many of them began when none of those before was under way. Sorted by start.
size_t CountWaves(const std::vector<LoggedRequest>& requests);

}  // namespace ivfremote::bench
