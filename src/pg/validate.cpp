// amvalidate
#include "pg/access_method.h"

extern "C" {
#include "access/amvalidate.h"
#include "access/htup_details.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_opclass.h"
#include "utils/syscache.h"
}

namespace ivfremote {
namespace {

bool IsSupportProcedure(const FormData_pg_amproc& procedure) {
  return procedure.amprocnum == 1 && check_amproc_signature(procedure.amproc, INTERNALOID, true, 1, 1, INTERNALOID);
}

bool IsOrderingOperator(const FormData_pg_amop& op) {
  return op.amopstrategy == 1 && op.amoppurpose == AMOP_ORDER &&
         check_amop_signature(op.amopopr, FLOAT8OID, op.amoplefttype, op.amoprighttype);
}

}  // namespace

bool AmValidate(Oid opclass) {
  HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for operator class %u", opclass);
  const auto* form = reinterpret_cast<Form_pg_opclass>(GETSTRUCT(tuple));
  const char* name = NameStr(form->opcname);
  bool valid = true;
  bool has_support = false;

  CatCList* procedures = SearchSysCacheList1(AMPROCNUM, ObjectIdGetDatum(form->opcfamily));
  for (int i = 0; i < procedures->n_members; ++i) {
    const auto* procedure = reinterpret_cast<Form_pg_amproc>(GETSTRUCT(&procedures->members[i]->tuple));
    if (!IsSupportProcedure(*procedure)) {
      ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                     errmsg("operator family of \"%s\" contains function %u with wrong signature or number %d", name,
                            procedure->amproc, procedure->amprocnum)));
      valid = false;
    }
    has_support |= procedure->amproclefttype == form->opcintype && procedure->amprocnum == 1;
  }
  ReleaseCatCacheList(procedures);

  CatCList* operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(form->opcfamily));
  for (int i = 0; i < operators->n_members; ++i) {
    const auto* op = reinterpret_cast<Form_pg_amop>(GETSTRUCT(&operators->members[i]->tuple));
    if (!IsOrderingOperator(*op)) {
      ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                     errmsg("operator family of \"%s\" contains operator %u that does not order by float8", name,
                            op->amopopr)));
      valid = false;
    }
  }
  ReleaseCatCacheList(operators);

  if (!has_support) {
    ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                   errmsg("operator class \"%s\" lacks support function 1", name)));
    valid = false;
  }
  ReleaseSysCache(tuple);
  return valid;
}

}  // namespace ivfremote
