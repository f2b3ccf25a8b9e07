#include "pg/binding.h"

#include <cctype>
#include <cstring>

#include "pg/settings.h"

extern "C" {
#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"
}

namespace ivfremote {
namespace {

// The server an index depends on, or InvalidOid.
Oid ServerDependedOn(Oid index) {
  Relation depend = table_open(DependRelationId, AccessShareLock);
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
  ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(index));
  SysScanDesc scan = systable_beginscan(depend, DependDependerIndexId, true, nullptr, 2, keys);
  Oid server = InvalidOid;
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* row = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
    if (row->refclassid == ForeignServerRelationId) server = row->refobjid;
  }
  systable_endscan(scan);
  table_close(depend, AccessShareLock);
  return server;
}

// The length of "name" in "name_ccnew", "name_ccnew1", ..., which REINDEX CONCURRENTLY calls its copies; 0 for other
// names. A long name is cut to make room.
size_t StemOfCopy(const char* name) {
  constexpr char kSuffix[] = "_ccnew";
  size_t end = std::strlen(name);
  while (end > 0 && std::isdigit(static_cast<unsigned char>(name[end - 1]))) --end;
  const size_t suffix = std::strlen(kSuffix);
  if (end <= suffix || std::strncmp(name + end - suffix, kSuffix, suffix) != 0) return 0;
  return end - suffix;
}

// Whether a copy of that name and stem was named after `name`: the whole of it, or as much as fits.
bool IsCopyOf(const char* copy, size_t stem, const char* name) {
  if (std::strncmp(name, copy, stem) != 0) return false;
  const bool cut = std::strlen(copy) >= NAMEDATALEN - 4;  // multibyte characters are not cut in half
  return std::strlen(name) == stem || (cut && std::strlen(name) > stem);
}

bool IsOurs(Oid index) {
  HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
  if (!HeapTupleIsValid(tuple)) return false;
  const Oid am = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relam;
  ReleaseSysCache(tuple);
  return am == get_index_am_oid("ivfremote", true);
}

// The index that REINDEX CONCURRENTLY is building `index` for, or InvalidOid. The two exchange their dependencies in the
// end, so what `index` should depend on afterwards, this one must depend on now.
Oid OriginalOf(Relation heap, Relation index, bool concurrent) {
  const size_t stem = concurrent ? StemOfCopy(RelationGetRelationName(index)) : 0;
  if (stem == 0) return InvalidOid;
  Oid original = InvalidOid;
  List* indexes = RelationGetIndexList(heap);
  ListCell* cell;
  foreach (cell, indexes) {
    const Oid oid = lfirst_oid(cell);
    if (oid == RelationGetRelid(index)) continue;
    const char* name = get_rel_name(oid);
    if (name != nullptr && IsCopyOf(RelationGetRelationName(index), stem, name) && IsOurs(oid)) original = oid;
  }
  list_free(indexes);
  return original;
}

void RecordDependency(Oid index, Oid server) {
  const ObjectAddress index_address{RelationRelationId, index, 0};
  const ObjectAddress server_address{ForeignServerRelationId, server, 0};
  recordDependencyOn(&index_address, &server_address, DEPENDENCY_NORMAL);
}

}  // namespace

const char* ServerNameForBuild(Relation heap, Relation index, bool concurrent) {
  if (index->rd_rel->relpersistence == RELPERSISTENCE_TEMP) return "";
  const char* option = GetIndexOptions(index)->server();
  if (option[0] != '\0') return pstrdup(option);
  const Oid original = OriginalOf(heap, index, concurrent);
  const Oid bound = ServerDependedOn(OidIsValid(original) ? original : RelationGetRelid(index));
  if (OidIsValid(bound)) return GetForeignServer(bound)->servername;
  // A rebuild of an embedded index stays embedded, whatever the setting of the session that happens to run it.
  const bool first_build =
      concurrent ? !OidIsValid(original) : index->rd_createSubid != InvalidSubTransactionId;
  if (!first_build || settings.default_server == nullptr) return "";
  return pstrdup(settings.default_server);
}

bool IsBoundTo(Relation heap, Relation index, bool concurrent, Oid server) {
  const Oid original = OriginalOf(heap, index, concurrent);
  return ServerDependedOn(OidIsValid(original) ? original : RelationGetRelid(index)) == server;
}

void BindToServer(Relation heap, Relation index, bool concurrent, Oid server) {
  deleteDependencyRecordsForClass(RelationRelationId, RelationGetRelid(index), ForeignServerRelationId,
                                  DEPENDENCY_NORMAL);
  if (!OidIsValid(server)) return;
  RecordDependency(RelationGetRelid(index), server);
  const Oid original = OriginalOf(heap, index, concurrent);
  if (OidIsValid(original) && ServerDependedOn(original) != server) RecordDependency(original, server);
}

}  // namespace ivfremote
