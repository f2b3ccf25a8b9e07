// Which server an index is bound to, and the dependency that refuses DROP SERVER. The dependency is the binding's place in
// the catalogs: a rebuild finds it there when the old pages are gone.
#pragma once

#include "pg/postgres_c.h"

namespace ivfremote {

// The server a build stores its segments in, or "" for embedded: the index's server option; else, in a rebuild, the server
// it was bound to; else, in the first build, ivfremote.default_server. Temporary tables are always embedded. Allocated in
// the current context.
const char* ServerNameForBuild(Relation heap, Relation index, bool concurrent);

// Whether the index, or the one that REINDEX CONCURRENTLY is exchanging, depends on the server already.
bool IsBoundTo(Relation heap, Relation index, bool concurrent, Oid server);

// Makes the index, and the one that REINDEX CONCURRENTLY will exchange it for, depend on the server, and the index on no
// other. `server` may be InvalidOid.
void BindToServer(Relation heap, Relation index, bool concurrent, Oid server);

}  // namespace ivfremote
