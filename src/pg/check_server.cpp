// ivfremote_check_server(server)
#include <vector>

#include "core/server_check.h"
#include "pg/compat.h"
#include "pg/incarnation.h"
#include "pg/server.h"
#include "pg/wall.h"

namespace ivfremote {
namespace {

// Below the cluster's own incarnation, where nothing else is.
char* CheckKeyBase() {
  const Uuid incarnation = GetIncarnation();
  auto* key = static_cast<char*>(palloc(256));
  uint64 random;
  if (!pg_strong_random(&random, sizeof random))
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
  CallCore([&] {
    snprintf(key, 256, "%s/check/%016llx", FormatIncarnation(incarnation).c_str(),
             static_cast<unsigned long long>(random));
    return Status::Ok();
  });
  return key;
}

}  // namespace
}  // namespace ivfremote

using namespace ivfremote;

extern "C" {

PG_FUNCTION_INFO_V1(ivfremote_check_server);
Datum ivfremote_check_server(PG_FUNCTION_ARGS) {
  constexpr int kColumns = 4;
  const char* name = NameStr(*PG_GETARG_NAME(0));
  CheckServerOwner(name);
  InitMaterializedSRF(fcinfo, 0);
  auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
  Held<ObjectStore>* store = OpenStore(name, GetUserId());
  const char* key_base = CheckKeyBase();
  auto* checks = Hold<std::vector<CheckResult>>(CurrentMemoryContext, [] { return new std::vector<CheckResult>(); });
  CallCore([&] { return CheckStore(store->object, key_base, StatementCancelled, checks->object); });
  for (size_t i = 0; i < (**checks).size(); ++i) {
    const CheckResult& check = (**checks)[i];
    Datum values[kColumns] = {CStringGetTextDatum(check.check.c_str()), BoolGetDatum(check.ok),
                              CStringGetTextDatum(check.detail.c_str()), CStringGetTextDatum(check.hint.c_str())};
    bool nulls[kColumns] = {false, false, check.detail.empty(), check.hint.empty()};
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
  }
  Drop(checks);
  Drop(store);
  return Datum{0};
}

}  // extern "C"
