// What the mains of the commands share.
#pragma once

#include <string>

namespace ivfremote::bench {

// An environment variable, or `otherwise` if it is unset or empty.
std::string Environment(const char* name, const char* otherwise);

// Runs a command's body with its argument, the directory for a file:// server; says what went wrong and returns 1 if it
// throws.
int RunCommand(int count, char** arguments, void (*body)(const std::string& store_directory));

}  // namespace ivfremote::bench
