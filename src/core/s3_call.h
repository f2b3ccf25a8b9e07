// One request to an S3 store, tried again as often as the policy says. Used by s3_store.cpp only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/http_client.h"
#include "core/s3_store.h"
#include "core/sigv4.h"

namespace ivfremote {

// What all requests of one store share.
class S3Store::Connection {
 public:
  Connection(S3Location location, const AwsCredentials& credentials, HttpOptions http, RetryPolicy retry,
             S3Environment environment);

  // The object's path within the bucket: prefix and key.
  std::string PathOf(std::string_view key) const;

  // Both answer awaits_credentials.
  void KeepCredentials() { awaits_credentials = false; }
  void SetCredentials(const AwsCredentials& credentials);

  // An attempt of a request that began at `started` failed; one succeeded, or has shown that the object is missing, or
  // taken: an answer for those whose keys it knows.
  void Failed(Clock::time_point started, bool denied, const std::string& why);
  void Succeeded();

  // How far this machine's clock is ahead of the store's, and in words; false if the answer has no date.
  bool CompareClocks(const HttpResponse& answer, double* ahead_s, std::string* text) const;

  HttpClient client;
  S3Location location;
  RetryPolicy retry;
  bool patient = true;  // as `retry` says
  S3Environment environment;
  std::unique_ptr<SigV4Signer> signer;  // null: unsigned
  std::string scheme;
  std::string host;       // with port, as in the Host header
  std::string base_path;  // "/" or "/bucket/"
  // Once the store has answered 501 to a conditional write.
  bool conditional_writes = true;
  // Once the store has compared a tag only without its quotation marks, as older radosgw does.
  bool bare_tags = false;
  std::string notice;
  StoreTrouble trouble;
  bool awaits_credentials = false;
  uint64_t credentials_version = 0;
  bool credentials_worked;  // these or earlier ones
};

struct S3Request {
  std::string method;
  std::string path;  // within the bucket, not encoded; empty: the bucket itself
  std::vector<std::pair<std::string, std::string>> query;
  std::vector<std::pair<std::string, std::string>> headers;
  Bytes body;                // must outlive the call
  MutableBytes buffer;       // for the body of the answer; it must be filled exactly
  bool conditional = false;  // adds If-None-Match: *, or If-Match if there is a tag
  std::string tag;
  size_t text_limit = 0;     // of the answer; 0: enough for what stores say
};

class S3Call {
 public:
  S3Call(std::shared_ptr<S3Store::Connection> connection, S3Request request)
      : connection_(std::move(connection)),
        request_(std::move(request)),
        patience_(connection_->patient ? connection_->retry.patience : std::chrono::milliseconds{0}) {}

  // Starts, looks at an answer that has come, starts again. True when done.
  bool Poll(Clock::time_point now);
  bool done() const { return done_; }
  int tries() const { return tries_; }
  // When done: ok for 2xx, else what came in the end.
  const Status& status() const { return status_; }
  // The last answer; empty if nothing could be sent.
  const HttpResponse& response() const;
  Clock::time_point started() const { return started_; }
  // When Poll has something to do by itself; max() while an answer or credentials are awaited.
  Clock::time_point wake() const { return exchange_ == nullptr ? not_before_ : Clock::time_point::max(); }

 private:
  void Send();
  void Judge();
  void TryAgainOrEnd(StatusCode code, std::string why);
  void AskForCredentials(std::string why, bool outdated);
  void TakeCredentials();
  void End(Status status);

  std::shared_ptr<S3Store::Connection> connection_;
  S3Request request_;
  std::chrono::milliseconds patience_;
  std::unique_ptr<HttpExchange> exchange_;
  int tries_ = 0;
  bool sent_conditional_ = false;
  Clock::time_point started_{};
  Clock::time_point failing_since_ = Clock::time_point::max();  // the start of the first attempt that failed
  Clock::time_point not_before_ = Clock::time_point::min();
  uint64_t credentials_version_ = 0;  // of the last attempt
  bool awaits_credentials_ = false;
  bool worth_waiting_ = false;  // for other credentials
  std::string refusal_;
  bool done_ = false;
  Status status_;
};

// Names the object, or what else it is about, in a failed call's status.
inline Status About(const std::string& what, const Status& status) {
  if (status.ok()) return status;
  return Status(status.code(), what + ": " + status.message());
}

inline std::string ObjectText(std::string_view key) { return "object \"" + std::string(key) + "\""; }

// Polls the calls and moves bytes until one of them is done that was not, or credentials are awaited, or `deadline`.
void DriveCalls(S3Store::Connection* connection, const std::vector<S3Call*>& calls, Clock::time_point deadline);

}  // namespace ivfremote
