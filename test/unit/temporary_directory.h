// A directory of a test's own, gone with everything in it when the test ends.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace ivfremote {

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(testing::TempDir() + "ivfremote_XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "could not create " << path_;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ivfremote
