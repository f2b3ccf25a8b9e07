// The access method's table of contents, and the module's start.
#include "pg/access_method.h"
#include "pg/settings.h"

using namespace ivfremote;

extern "C" {

PG_MODULE_MAGIC;

void _PG_init(void) {
  DefineIndexOptions();
  DefineSettings();
}

PG_FUNCTION_INFO_V1(ivfremote_handler);
Datum ivfremote_handler(PG_FUNCTION_ARGS) {
  (void)fcinfo;
  IndexAmRoutine* am = makeNode(IndexAmRoutine);
  am->amstrategies = 0;
  am->amsupport = 1;
  am->amcanorderbyop = true;
  am->amoptionalkey = true;
  am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
  am->amkeytype = InvalidOid;
  am->ambuild = AmBuild;
  am->ambuildempty = AmBuildEmpty;
  am->aminsert = AmInsert;
  am->ambulkdelete = AmBulkDelete;
  am->amvacuumcleanup = AmVacuumCleanup;
  am->amcostestimate = AmCostEstimate;
  am->amoptions = ParseIndexOptions;
  am->ambuildphasename = AmBuildPhaseName;
  am->amvalidate = AmValidate;
  am->ambeginscan = AmBeginScan;
  am->amrescan = AmRescan;
  am->amgettuple = AmGetTuple;
  am->amendscan = AmEndScan;
  PG_RETURN_POINTER(am);
}

}  // extern "C"
