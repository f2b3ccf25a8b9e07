// A table that no cache holds, below a server whose other files are as warm as they were.
#pragma once

#include "lib/postgres.h"

namespace ivfremote::bench {

// Restarts the server by BENCH_RESTART (lib/bench.sh): its shared buffers are empty then, and connections gone.
void RestartServer();

// Takes the pages of the table and of its TOAST table from the kernel's cache; Postgres must not have read them since
// RestartServer. Throws if the kernel keeps them. What the disk has of caches of its own stays.
void EvictTable(Connection* connection, const std::string& table);

}  // namespace ivfremote::bench
