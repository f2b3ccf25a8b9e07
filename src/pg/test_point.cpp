#include "pg/test_point.h"

#ifdef IVFREMOTE_TEST_FAULTS

#include <csignal>
#include <cstring>

#include "pg/postgres_c.h"
#include "pg/settings.h"

extern "C" {
#include "utils/fmgrprotos.h"
}

namespace ivfremote {

void TestPoint(const char* name) {
  const char* wanted = settings.test_point;
  const size_t length = std::strlen(name);
  if (wanted == nullptr || std::strncmp(wanted, name, length) != 0 || wanted[length] != '=') return;
  const char* action = wanted + length + 1;
  if (std::strcmp(action, "crash") == 0) {
    kill(MyProcPid, SIGKILL);
  } else if (std::strcmp(action, "pause") == 0) {
    DirectFunctionCall1(pg_advisory_lock_int8, Int64GetDatum(1));
    DirectFunctionCall1(pg_advisory_unlock_int8, Int64GetDatum(1));
  } else {
    elog(ERROR, "test point %s", name);
  }
}

}  // namespace ivfremote

#endif
