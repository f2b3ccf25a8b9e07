#include "lib/command.h"

#include <cstdio>
#include <cstdlib>
#include <exception>

namespace ivfremote::bench {

std::string Environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

int RunCommand(int count, char** arguments, void (*body)(const std::string&)) {
  // Lines appear as they are written, also through a pipe.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  if (count != 2) {
    std::fprintf(stderr, "usage: %s DIRECTORY   (use the script of the same name)\n", arguments[0]);
    return 2;
  }
  try {
    body(arguments[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace ivfremote::bench
