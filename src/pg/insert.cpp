// aminsert
#include "pg/access_method.h"
#include "pg/pending.h"
#include "pg/vectors.h"

namespace ivfremote {

bool AmInsert(Relation index, Datum* values, bool* isnull, ItemPointer heap_tid, Relation, IndexUniqueCheck, bool,
              IndexInfo*) {
  if (isnull[0]) return false;
  MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ivfremote insert", ALLOCSET_DEFAULT_SIZES);
  MemoryContext old = MemoryContextSwitchTo(context);
  InsertPendingRow(index, heap_tid, VectorFrom(GetOpclassInfo(index)->value_type, values[0]));
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
  return false;
}

}  // namespace ivfremote
