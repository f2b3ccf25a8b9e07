// Servers: where segments are stored. CREATE SERVER ... FOREIGN DATA WRAPPER ivfremote.
#pragma once

#include "core/object_store.h"
#include "pg/page.h"
#include "pg/postgres_c.h"
#include "pg/wall.h"

namespace ivfremote {

// The name of the server an index is bound to, or "" for embedded: its server option, else what its build recorded.
// Allocated in the current context.
const char* ServerNameOf(Relation index, const MetaPage& meta);

// The OID of one of our servers; an error if there is none of that name, or it belongs to another wrapper.
Oid LookUpServer(const char* name);

// The role that owns the server, with whose rights its place is administered; an error unless the current user is, or is a
// member of it.
Oid CheckServerOwner(const char* name);

// Names the place a server's url points to, for local files. Two spellings of one place have two names.
inline constexpr size_t kPlaceDigits = 16;
void NamePlace(const char* server_name, char place[kPlaceDigits + 1]);

// How long garbage is kept in the server's place, in microseconds.
int64 ServerRetention(const char* name);

// Errors unless the current user has USAGE on the server.
void CheckServerUsage(Oid server);

// Why no store of the server can be opened for `role`, and the SQLSTATE of that; null if one can.
const char* ServerProblem(const char* name, Oid role, int* sqlstate);

// Tells the user once what a store has found out about itself.
void ReportNotice(const char* server_name, ObjectStore* store);

// Opens the server's store with the rights of `role` (the index's owner: whoever may read the table may search it), held
// by the current memory context.
Held<ObjectStore>* OpenStore(const char* server_name, Oid role);

// The same for long work that an outage of minutes must not end (ivfremote.write_timeout). Whenever it awaits credentials,
// RefreshCredentials is due. `keys_worked`: the mapping's have for the same work, a while ago, so if they have expired
// others will come.
Held<ObjectStore>* OpenPatientStore(const char* server_name, Oid role, bool keys_worked);

// Gives the store the keys that the user mapping has now, another session's changes included. Without a mapping it keeps
// what it has.
void RefreshCredentials(const char* server_name, Oid role, ObjectStore* store);

// Whose user mapping `role` has on the server, as ALTER USER MAPPING FOR takes it: its own, or PUBLIC's.
const char* UserMappingOwner(const char* server_name, Oid role);

// The same store kept for the session, with its open connections. Changes of the server and of user mappings apply at the
// next call. Use it at once: later calls may replace it; waves and uploads that it started go on.
ObjectStore* SessionStore(const char* server_name, Oid role);

// Makes the next SessionStore start anew: the store has refused its credentials, which may have been changed meanwhile.
void ForgetSessionStore(const char* server_name, Oid role);

// Expected milliseconds to the first byte of a request, for the planner.
double ServerRequestLatencyMs(const char* server_name);

// GapBytes of server_options.h.
uint64_t ServerGapBytes(const char* server_name);

}  // namespace ivfremote
