// One query as a picture in text: what its scan did when, from ivfremote_last_scan() and
// ivfremote_last_scan_requests().
#pragma once

#include "lib/postgres.h"

namespace ivfremote::bench {

// Of the last search on `connection`, which took `total_ms` as the client saw it.
void PrintWaterfall(Connection* connection, double total_ms);

}  // namespace ivfremote::bench
