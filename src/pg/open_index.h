// Opening an index by the oid a user gave to a function.
#pragma once

#include "pg/postgres_c.h"

namespace ivfremote {

// For the table's owner or pg_monitor, or an error. To be closed with AccessShareLock.
Relation OpenIndexForInfo(Oid oid);

struct IndexAndTable {
  Relation index;
  Relation heap;
};

// For who may maintain the table (its owner; from 17 on MAINTAIN), or an error; both locked in `lock`, the table first.
IndexAndTable OpenIndexForMaintenance(Oid oid, LOCKMODE lock);
void CloseIndexAndTable(const IndexAndTable& opened, LOCKMODE lock);

// Expressions and predicates run as the table's owner, as REINDEX runs them: they may call anybody's functions. An error ends it, as it
// does for REINDEX.
struct CallersRights {
  Oid user;
  int security;
  int guc_level;
};
CallersRights ActAsOwner(Relation heap);
void ActAsCaller(const CallersRights& callers);

}  // namespace ivfremote
