// Errors of the core: values, named by what the caller should do about them.
#pragma once

#include <string>
#include <utility>

namespace ivfremote {

enum class StatusCode {
  kOk = 0,
  kUnavailable,    // the store did not answer, or answered that it can't now: trying again may help
  kTimeout,        // a deadline passed
  kNotFound,       // the object does not exist
  kAlreadyExists,  // a create-only write found the name taken
  kPrecondition,   // a conditional write found the object to be another than the caller thinks
  kDenied,         // the store refused these credentials
  kNoSpace,        // the store or the disk is full
  kCorrupt,        // bytes from outside are not what they should be
  kUnsupported,    // written by a newer version, or a feature this build does not know
  kInvalid,        // the caller's (in the end the user's) input is wrong
  kOutOfMemory,
  kCancelled,      // the caller's interrupt callback said stop
  kInternal,       // a bug of ours
};

// A message names the object key, range and sizes; never a secret. It is written in Postgres's style: no capital, no
// full stop.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }
  static Status Unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
  static Status Timeout(std::string m) { return {StatusCode::kTimeout, std::move(m)}; }
  static Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status AlreadyExists(std::string m) { return {StatusCode::kAlreadyExists, std::move(m)}; }
  static Status Precondition(std::string m) { return {StatusCode::kPrecondition, std::move(m)}; }
  static Status Denied(std::string m) { return {StatusCode::kDenied, std::move(m)}; }
  static Status NoSpace(std::string m) { return {StatusCode::kNoSpace, std::move(m)}; }
  static Status Corrupt(std::string m) { return {StatusCode::kCorrupt, std::move(m)}; }
  static Status Unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
  static Status Invalid(std::string m) { return {StatusCode::kInvalid, std::move(m)}; }
  static Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }
  static Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

}  // namespace ivfremote

// Hands a failed Status to the caller.
#define IVFREMOTE_RETURN_IF_ERROR(expression)                  \
  do {                                                         \
    if (::ivfremote::Status ivfremote_status_ = (expression);  \
        !ivfremote_status_.ok())                               \
      return ivfremote_status_;                                \
  } while (0)
