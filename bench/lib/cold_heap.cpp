#include "lib/cold_heap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "lib/command.h"

namespace ivfremote::bench {
namespace {

constexpr double kMostResident = 0.01;

struct Pages {
  size_t all = 0;
  size_t resident = 0;
};

// False if there is no such file.
bool Evict(const std::string& path, Pages* pages) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  struct stat status;
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    const auto bytes = static_cast<size_t>(status.st_size);
    fdatasync(file);  // pages to be written would stay
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    void* const map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) throw std::runtime_error("could not map " + path);
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> resident((bytes + page - 1) / page);
    const bool known = mincore(map, bytes, resident.data()) == 0;
    munmap(map, bytes);
    if (!known) throw std::runtime_error("could not ask which pages of " + path + " are cached");
    pages->all += resident.size();
    pages->resident += static_cast<size_t>(
        std::count_if(resident.begin(), resident.end(), [](unsigned char flags) { return (flags & 1) != 0; }));
  }
  close(file);
  return true;
}

}  // namespace

void RestartServer() {
  if (std::system(Environment("BENCH_RESTART", "false").c_str()) != 0)
    throw std::runtime_error("could not restart the server");
}

void EvictTable(Connection* connection, const std::string& table) {
  const std::string directory = connection->Value("SHOW data_directory");
  Pages pages;
  for (const auto& row : connection->Query(
           "SELECT pg_relation_filepath(f) FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.reltoastrelid,"
           " unnest(ARRAY[c.oid, c.reltoastrelid, i.indexrelid]) f WHERE c.oid = '" + table + "'::regclass AND f <> 0")) {
    const std::string path = directory + "/" + row[0];
    for (int segment = 0; Evict(segment == 0 ? path : path + "." + std::to_string(segment), &pages);) ++segment;
  }
  if (pages.all == 0) throw std::runtime_error("the table's files were not found below " + directory);
  if (static_cast<double>(pages.resident) > kMostResident * static_cast<double>(pages.all))
    throw std::runtime_error("the kernel keeps the table in memory: choose a directory on a disk by TMPDIR");
}

}  // namespace ivfremote::bench
