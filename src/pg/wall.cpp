#include "pg/wall.h"

#include <cstring>
#include <exception>
#include <new>

namespace ivfremote {
namespace {

int SqlState(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return 0;
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
      return ERRCODE_IO_ERROR;
    case StatusCode::kNotFound:
      return ERRCODE_UNDEFINED_FILE;
    case StatusCode::kAlreadyExists:
      return ERRCODE_DUPLICATE_FILE;
    case StatusCode::kPrecondition:
      return ERRCODE_OBJECT_IN_USE;
    case StatusCode::kDenied:
      return ERRCODE_INSUFFICIENT_PRIVILEGE;
    case StatusCode::kNoSpace:
      return ERRCODE_DISK_FULL;
    case StatusCode::kCorrupt:
      return ERRCODE_DATA_CORRUPTED;
    case StatusCode::kUnsupported:
      return ERRCODE_FEATURE_NOT_SUPPORTED;
    case StatusCode::kInvalid:
      return ERRCODE_INVALID_PARAMETER_VALUE;
    case StatusCode::kOutOfMemory:
      return ERRCODE_OUT_OF_MEMORY;
    case StatusCode::kCancelled:
      return ERRCODE_QUERY_CANCELED;
    case StatusCode::kInternal:
      return ERRCODE_INTERNAL_ERROR;
  }
  return ERRCODE_INTERNAL_ERROR;
}

void Fill(StatusCode code, const char* message, CoreError* error) {
  error->code = code;
  error->sqlstate = SqlState(code);
  strlcpy(error->message, message, sizeof error->message);
}

}  // namespace

void FillCoreError(const Status& status, CoreError* error) noexcept {
  Fill(status.code(), status.message().c_str(), error);
}

void FillCoreErrorFromException(CoreError* error) noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    Fill(StatusCode::kOutOfMemory, "out of memory", error);
  } catch (const std::exception& e) {
    Fill(StatusCode::kInternal, e.what(), error);
  } catch (...) {
    Fill(StatusCode::kInternal, "unknown exception", error);
  }
}

void ThrowCoreError(const CoreError& error) {
  // A cancelled call was told so by a pending interrupt, which has the right message.
  CHECK_FOR_INTERRUPTS();
  ereport(ERROR, (errcode(error.sqlstate), errmsg("%s", error.message)));
  pg_unreachable();
}

bool StatementCancelled() { return QueryCancelPending || ProcDiePending; }

}  // namespace ivfremote
