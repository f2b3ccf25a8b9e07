// What users are told when a segment can't be read from its server.
#pragma once

#include "pg/postgres_c.h"
#include "pg/wall.h"

namespace ivfremote {

struct FailedRead {
  const char* server;
  size_t failed;    // requests
  size_t requests;  // sent together
  const char* hint; // where the trouble may pass by itself
};

[[noreturn]] void ThrowReadError(Relation index, const FailedRead& read, const CoreError& error);

}  // namespace ivfremote
