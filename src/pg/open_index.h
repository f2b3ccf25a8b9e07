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

}  // namespace ivfremote
