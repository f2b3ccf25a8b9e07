// Servers: where segments are stored. CREATE SERVER ... FOREIGN DATA WRAPPER ivfremote.
#pragma once

#include "core/object_store.h"
#include "pg/page.h"
#include "pg/postgres_c.h"
#include "pg/wall.h"

namespace ivfremote {

// The name of the server an index is or will be bound to, or "" for embedded: its server option, else `recorded` (by
// the build), else ivfremote.default_server. Temporary tables are always embedded.
const char* ServerNameForBuild(Relation index);
const char* ServerNameOf(Relation index, const MetaPage& meta);

// The OID of one of our servers; an error if there is none of that name, or it belongs to another wrapper.
Oid LookUpServer(const char* name);

// Errors unless the current user has USAGE on the server.
void CheckServerUsage(Oid server);

// Opens the server's store, held by the current memory context.
Held<ObjectStore>* OpenStore(const char* server_name);

// Expected milliseconds to the first byte of a request, for the planner.
double ServerRequestLatencyMs(const char* server_name);

}  // namespace ivfremote
