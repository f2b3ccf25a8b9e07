// The files in test/golden; tests run in the repository's root.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "golden/golden.h"

namespace ivfremote::golden {

inline const std::string kGoldenDirectory = "test/golden/";

inline bool HasGoldenFile(const std::string& name) { return std::filesystem::exists(kGoldenDirectory + name); }

inline std::string GoldenText(const std::string& name) {
  std::ifstream file(kGoldenDirectory + name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline File GoldenFile(const std::string& name) {
  const std::string text = GoldenText(name);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

// Of segments and indexes, without the directory.
inline std::set<std::string> GoldenFileNames() {
  std::set<std::string> names;
  for (const char* below : {"segments", "indexes"})
    for (const auto& entry : std::filesystem::recursive_directory_iterator(kGoldenDirectory + below))
      if (entry.is_regular_file()) names.insert(entry.path().string().substr(kGoldenDirectory.size()));
  return names;
}

// "crc32c length" by name.
inline std::map<std::string, std::string> GoldenManifest() {
  std::map<std::string, std::string> manifest;
  std::istringstream lines(GoldenText("manifest.txt"));
  std::string crc, length, name;
  while (lines >> crc >> length >> name) manifest[name] = crc + ' ' + length;
  return manifest;
}

}  // namespace ivfremote::golden
