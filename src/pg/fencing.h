// The right to write and delete under an incarnation, claimed from its OWNER object: docs/architecture.md "Identity and
// garbage".
#pragma once

#include "core/object_key.h"
#include "core/object_store.h"
#include "pg/server.h"

namespace ivfremote {

// Steps an operation to its end, interruptibly. An error unless it returns false: the store has failed, that has been
// said, and the caller is to give up.
using OperationRunner = bool (*)(void* argument, Operation* operation);

struct Claimant {
  const char* server;
  ObjectStore* store;
  OperationRunner run;
  void* run_argument;
};

// Waits for the exclusive lock of this cluster on a local file (incarnation.h), and says so if that takes long. CloseTransientFile(*file)
// ends it, as does the end of the transaction. False if the runner gave up.
bool LockLocally(const Claimant& claimant, const char* path, int* file);

// The following hold such a lock, for which others of the cluster wait: the claimant's store must not try for minutes. They leave nothing locked
// if they end with an error.

// Before objects are written or deleted: advances OWNER of this cluster's incarnation, and says which that is from now on. If
// another cluster has written under it, a new one is minted, with a WARNING. False if the runner gave up.
bool ClaimIncarnation(const Claimant& claimant, Uuid* incarnation);

// The incarnations of the server's place that this cluster has adopted, `own` being its own. In the current context.
Uuid* AdoptedIncarnations(const char* server, const Uuid& own, int* count);

// The same as ClaimIncarnation for one of them: false, with a WARNING, and it is none of them any more, if another cluster
// has adopted it or goes on writing.
bool ClaimAdopted(const Claimant& claimant, const Uuid& own, const Uuid& incarnation);

// Makes it one of them, whoever's it was. Returns what OWNER said before, in the current context, or null if there was
// none.
char* AdoptIncarnation(const Claimant& claimant, const Uuid& own, const Uuid& incarnation);

// Whether it is still this cluster's.
bool StillOwns(const Claimant& claimant, const Uuid& own, const Uuid& incarnation);

// Gives a segment, of which `name` has the index, its name; `incarnation` has been claimed. Garbage collection leaves its objects alone while
// the transaction has the transaction id or the active snapshot it has now: it must have one of them until the segment is published.
void NameSegment(const Uuid& incarnation, SegmentName* name);

// As text, in the current context.
char* IncarnationText(const Uuid& incarnation);

}  // namespace ivfremote
