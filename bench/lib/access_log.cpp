#include "lib/access_log.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "lib/command.h"

namespace ivfremote::bench {

AccessLog::AccessLog()
    : path_(Environment("FRONT_ACCESS_LOG", "")),
      sync_("curl -fsS http://127.0.0.1:" + Environment("FRONT_FAULTY_HTTP_PORT", "") + "/_sync") {
  Read();
}

std::vector<LoggedRequest> AccessLog::Read() {
  // nginx has one process: once it answers, it has written of what it answered before.
  if (std::system(sync_.c_str()) != 0) throw std::runtime_error("the front of the store does not answer");
  std::ifstream log(path_);
  if (!log.seekg(offset_)) throw std::runtime_error("could not read " + path_);
  std::vector<LoggedRequest> requests;
  for (std::string line; std::getline(log, line);) {
    offset_ += static_cast<int64_t>(line.size()) + 1;
    std::vector<std::string> fields;
    std::istringstream stream(line);
    for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
    if (fields.size() < 10) throw std::runtime_error("unexpected line in " + path_ + ": " + line);
    requests.push_back({std::stod(fields[0]), std::stod(fields[1]), fields[5], fields[7].starts_with("bytes="),
                        std::stoi(fields[8]), std::stol(fields[9])});
  }
  std::stable_sort(requests.begin(), requests.end(),
                   [](const LoggedRequest& a, const LoggedRequest& b) { return a.start < b.start; });
  return requests;
}

size_t CountWaves(const std::vector<LoggedRequest>& requests) {
  size_t waves = 0;
  double end = 0;
  for (const LoggedRequest& request : requests) {
    waves += request.start >= end;
    end = std::max(end, request.end);
  }
  return waves;
}

}  // namespace ivfremote::bench
