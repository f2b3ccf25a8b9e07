// The options of servers and user mappings: which there are, what they mean, who may set them.
#pragma once

#include "pg/postgres_c.h"

extern "C" {
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
}

namespace ivfremote {

enum class StoreKind { kFile, kS3 };

// A server's options, checked. Strings are in the current context or in the list the options came from.
struct ServerOptions {
  StoreKind kind;
  const char* url;
  const char* directory;  // kFile
  const char* region;     // kS3; "" until an endpoint's default applies
  const char* endpoint;   // kS3; "": AWS in the region
  bool virtual_host;      // kS3
  const char* ca_file;    // "": the system's
};

// Errors if an option is unknown, wrong, missing, or not allowed to a server of `owner`.
ServerOptions ParseServerOptions(List* options, Oid owner);

// False for a server of files whose directory its owner may not use (any more).
bool MayUseDirectory(List* options, Oid owner);

// The latency alone, without checks: planning a query must not fail because of a server it may not use.
double RequestLatencyMs(List* options);

// The most bytes between two blocks that are read in one request, from the latency and the bandwidth.
uint64_t GapBytes(List* options);

// How long garbage is kept, in microseconds: option retention, else 7 days.
int64 RetentionUs(List* options);
// The length of an interval, months as 30 days; negative if it is.
int64 IntervalUs(const Interval* interval);

struct UserMappingOptions {
  const char* access_key_id;  // "" if there is none
  const char* secret_access_key;
  const char* session_token;
};

UserMappingOptions ParseUserMappingOptions(List* options);

}  // namespace ivfremote
