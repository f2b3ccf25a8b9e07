// ivfremote_servers(): the view ivfremote_stat_servers. Asks no store.
#include <cstring>

#include "pg/fencing.h"
#include "pg/incarnation.h"
#include "pg/page.h"
#include "pg/server.h"
#include "pg/wall.h"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
}

namespace ivfremote {
namespace {

// What this database's indexes refer to, by server: lists of strings, without duplicates.
struct ServerUse {
  const char* name;
  int indexes;
  int64 segments;
  List* incarnations;
};

bool Contains(List* strings, const char* text) {
  ListCell* cell;
  foreach (cell, strings)
    if (std::strcmp(static_cast<const char*>(lfirst(cell)), text) == 0) return true;
  return false;
}

List* OurServers() {
  List* servers = NIL;
  const ForeignDataWrapper* wrapper = GetForeignDataWrapperByName("ivfremote", /*missing_ok=*/false);
  Relation catalog = table_open(ForeignServerRelationId, AccessShareLock);
  SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* row = reinterpret_cast<Form_pg_foreign_server>(GETSTRUCT(tuple));
    if (row->srvfdw != wrapper->fdwid) continue;
    auto* use = static_cast<ServerUse*>(palloc0(sizeof(ServerUse)));
    use->name = pstrdup(NameStr(row->srvname));
    servers = lappend(servers, use);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return servers;
}

List* OurIndexes() {
  List* indexes = NIL;
  const Oid access_method = get_index_am_oid("ivfremote", false);
  Relation catalog = table_open(RelationRelationId, AccessShareLock);
  SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    const bool readable = row->relpersistence == RELPERSISTENCE_PERMANENT ||
                          (row->relpersistence == RELPERSISTENCE_UNLOGGED && !RecoveryInProgress());
    if (row->relkind == RELKIND_INDEX && row->relam == access_method && readable) indexes = lappend_oid(indexes, row->oid);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return indexes;
}

void AddUse(Oid oid, List* servers) {
  // An index that is being rebuilt or dropped is left out: nobody waits for a view.
  if (!ConditionalLockRelationOid(oid, AccessShareLock)) return;
  Relation index = try_relation_open(oid, NoLock);
  if (index == nullptr) return UnlockRelationOid(oid, AccessShareLock);
  auto* meta = static_cast<MetaPage*>(palloc(sizeof(MetaPage)));
  if (!IsUnbuilt(index) && ReadMetaIfSound(index, meta)) {
    const char* server = ServerNameOf(index, *meta);
    ListCell* cell;
    foreach (cell, servers) {
      auto* use = static_cast<ServerUse*>(lfirst(cell));
      if (std::strcmp(use->name, server) != 0) continue;
      ++use->indexes;
      for (uint32_t i = 0; i < meta->segment_count; ++i) {
        if (meta->segments[i].place != SegmentPlace::kObject) continue;
        ++use->segments;
        char* incarnation = IncarnationText(meta->segments[i].name.incarnation);
        if (!Contains(use->incarnations, incarnation)) use->incarnations = lappend(use->incarnations, incarnation);
      }
    }
  }
  pfree(meta);
  relation_close(index, AccessShareLock);
}

Datum TextArray(List* strings) {
  auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * (static_cast<size_t>(list_length(strings)) + 1)));
  int count = 0;
  ListCell* cell;
  foreach (cell, strings) values[count++] = CStringGetTextDatum(static_cast<const char*>(lfirst(cell)));
  return PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

void EmitUse(const ServerUse& use, const Uuid* own, ReturnSetInfo* result) {
  List* adopted = NIL;
  if (own != nullptr) {
    int count;
    const Uuid* incarnations = AdoptedIncarnations(use.name, *own, &count);
    for (int i = 0; i < count; ++i) adopted = lappend(adopted, IncarnationText(incarnations[i]));
  }
  List* unadopted = NIL;
  ListCell* cell;
  foreach (cell, use.incarnations) {
    auto* incarnation = static_cast<char*>(lfirst(cell));
    const bool is_own = own != nullptr && std::strcmp(incarnation, IncarnationText(*own)) == 0;
    if (!is_own && !Contains(adopted, incarnation)) unadopted = lappend(unadopted, incarnation);
  }
  Datum values[] = {CStringGetTextDatum(use.name),
                    own == nullptr ? Datum{0} : CStringGetTextDatum(IncarnationText(*own)),
                    Int32GetDatum(use.indexes),
                    Int64GetDatum(use.segments),
                    TextArray(adopted),
                    TextArray(unadopted)};
  // A standby deletes nothing, whosever it is.
  const bool standby = RecoveryInProgress();
  bool nulls[] = {false, own == nullptr, false, false, standby, standby};
  tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_servers);
Datum ivfremote_servers(PG_FUNCTION_ARGS) {
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  List* servers = OurServers();
  ListCell* cell;
  foreach (cell, OurIndexes()) AddUse(lfirst_oid(cell), servers);
  Uuid own;
  const bool has_own = FindIncarnation(&own);
  foreach (cell, servers) EmitUse(*static_cast<const ServerUse*>(lfirst(cell)), has_own ? &own : nullptr, result);
  return Datum{0};
}

}  // extern "C"
