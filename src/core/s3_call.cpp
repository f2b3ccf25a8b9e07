#include "core/s3_call.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <ctime>

#include "core/xml.h"

namespace ivfremote {
namespace {

// What a store says goes into messages: no more than it should be.
std::string Plain(std::string text) {
  std::erase_if(text, [](unsigned char c) { return c >= 128 || (!std::isalnum(c) && c != '-' && c != '.' && c != '_'); });
  text.resize(std::min<size_t>(text.size(), 100));
  return text;
}

// The Code of an XML error, or nothing.
std::string ErrorCode(const HttpResponse& response) {
  std::string code;
  ParseXml(response.text, [&](std::string_view path, std::string_view text) {
    if (path == "Error/Code") code = text;
  });
  return Plain(code);
}

}  // namespace

S3Store::Connection::Connection(S3Location where, const AwsCredentials& credentials, HttpOptions http, RetryPolicy policy,
                                S3Environment around)
    : client(std::move(http)),
      location(std::move(where)),
      retry(policy),
      environment(std::move(around)),
      credentials_worked(policy.credentials_worked) {
  std::string endpoint = location.endpoint;
  if (endpoint.empty()) endpoint = "https://s3." + location.region + ".amazonaws.com";
  const size_t colon = endpoint.find("://");
  scheme = endpoint.substr(0, colon);
  host = endpoint.substr(colon + 3);
  while (host.ends_with('/')) host.pop_back();
  // curl leaves a scheme's own port out of the Host header, which is signed.
  const std::string_view port = scheme == "https" ? ":443" : ":80";
  if (host.ends_with(port)) host.resize(host.size() - port.size());
  if (location.virtual_host) {
    host = location.bucket + "." + host;
    base_path = "/";
  } else {
    base_path = "/" + location.bucket + "/";
  }
  if (!credentials.access_key_id.empty())
    signer = std::make_unique<SigV4Signer>(credentials, location.region, "s3");
}

std::string S3Store::Connection::PathOf(std::string_view key) const {
  std::string path = location.prefix;
  if (!path.empty()) path += '/';
  return path.append(key);
}

void S3Store::Connection::SetCredentials(const AwsCredentials& credentials) {
  awaits_credentials = false;
  const bool unsigned_requests = credentials.access_key_id.empty();
  if (unsigned_requests ? signer == nullptr : signer != nullptr && signer->SignsWith(credentials)) return;
  signer = unsigned_requests ? nullptr : std::make_unique<SigV4Signer>(credentials, location.region, "s3");
  ++credentials_version;
}

void S3Store::Connection::Failed(Clock::time_point started, bool denied, const std::string& why) {
  if (trouble.failures++ == 0) trouble.since = started;
  trouble.denied = denied;
  trouble.last = why;
}

void S3Store::Connection::Succeeded() {
  trouble = {};
  credentials_worked = true;
}

bool S3Store::Connection::CompareClocks(const HttpResponse& answer, double* ahead_s, std::string* text) const {
  const auto date = answer.headers.find("date");
  const time_t theirs = date == answer.headers.end() ? -1 : curl_getdate(date->second.c_str(), nullptr);
  if (theirs == -1) return false;
  *ahead_s = std::difftime(std::chrono::system_clock::to_time_t(environment.wall_clock()), theirs);
  *text = "this clock is " + std::to_string(std::lround(std::abs(*ahead_s))) + " s " +
          (*ahead_s < 0 ? "behind" : "ahead of") + " the store's";
  return true;
}

const HttpResponse& S3Call::response() const {
  static const HttpResponse none;
  return exchange_ == nullptr ? none : exchange_->response();
}

bool S3Call::Poll(Clock::time_point now) {
  if (done_) return true;
  if (awaits_credentials_) {
    if (!connection_->awaits_credentials) TakeCredentials();
  } else if (exchange_ != nullptr && exchange_->done()) {
    Judge();
  }
  if (!done_ && exchange_ == nullptr && now >= not_before_) Send();
  return done_;
}

void S3Call::Send() {
  S3Store::Connection& connection = *connection_;
  SignableRequest signable;
  signable.method = request_.method;
  signable.host = connection.host;
  signable.path = connection.base_path + request_.path;
  // The bucket itself, path style, is "/bucket".
  if (request_.path.empty() && signable.path.size() > 1) signable.path.pop_back();
  signable.query = request_.query;
  signable.headers = request_.headers;
  const bool conditional = request_.conditional && connection.conditional_writes;
  sent_conditional_ = conditional;
  if (conditional && request_.tag.empty()) signable.headers.emplace_back("if-none-match", "*");
  if (conditional && !request_.tag.empty()) signable.headers.emplace_back("if-match", request_.tag);
  // The hash lets the store check the body; TLS does that too.
  signable.payload_sha256 = request_.body.empty()             ? kEmptySha256
                            : connection.scheme == "https" ? kUnsignedPayload
                                                           : Sha256Hex(request_.body);

  HttpRequest http;
  http.method = request_.method;
  http.url = connection.scheme + "://" + connection.host + RequestTarget(signable);
  for (const auto& [name, value] : signable.headers) http.headers.push_back(name + ": " + value);
  if (connection.signer != nullptr) {
    NameValues signature;
    if (Status status = connection.signer->Sign(signable, connection.environment.wall_clock(), &signature);
        !status.ok())
      return End(std::move(status));
    for (const auto& [name, value] : signature) http.headers.push_back(name + ": " + value);
  }
  // What curl would add by itself.
  http.headers.push_back("Expect:");
  if (http.method == "POST") http.headers.push_back("Content-Type:");
  http.body = request_.body;
  http.fresh_connection = tries_ > 0;
  if (request_.text_limit > 0) http.text_limit = request_.text_limit;
  ++tries_;
  exchange_ = connection.client.Start(std::move(http), request_.buffer);
  if (tries_ == 1) started_ = exchange_->response().started;
  credentials_version_ = connection.credentials_version;
}

void S3Call::Judge() {
  const HttpResponse& response = exchange_->response();
  if (response.status == 0) {
    if (response.certificate_error) return End(Status::Unavailable("TLS: " + response.error));
    return TryAgainOrEnd(StatusCode::kUnavailable, response.error);
  }
  const long status = response.status;
  if (status / 100 == 2) {
    if (!request_.buffer.empty() && exchange_->buffer_filled() != request_.buffer.size()) {
      // Not cut short on the way, if the store never promised more.
      const auto length = response.headers.find("content-length");
      if (length != response.headers.end() && length->second == std::to_string(exchange_->buffer_filled()))
        return End(Status::Corrupt("the object ends after " + length->second + " bytes of the " +
                                   std::to_string(request_.buffer.size()) + " asked for"));
      return TryAgainOrEnd(StatusCode::kUnavailable,
                           "HTTP " + std::to_string(status) + " with " + std::to_string(exchange_->buffer_filled()) +
                               " of " + std::to_string(request_.buffer.size()) + " bytes");
    }
    // A 200 may carry an error: completing an upload answers before it has finished.
    const bool may_be_error = request_.buffer.empty() && request_.text_limit == 0;
    const std::string code = may_be_error ? ErrorCode(response) : std::string();
    if (!code.empty()) return TryAgainOrEnd(StatusCode::kUnavailable, "HTTP 200 with error " + code);
    connection_->Succeeded();
    return End(Status::Ok());
  }
  std::string what = "HTTP " + std::to_string(status);
  const std::string code = ErrorCode(response);
  if (!code.empty()) what += " " + code;
  switch (status) {
    case 301:
    case 307:
    case 308: {
      const auto region = response.headers.find("x-amz-bucket-region");
      if (region != response.headers.end()) what += " (the bucket is in region " + Plain(region->second) + ")";
      return End(Status::Unavailable(what));
    }
    case 400:
      if (code == "RequestTimeout") return TryAgainOrEnd(StatusCode::kUnavailable, what);
      if (code == "ExpiredToken" || code == "InvalidToken" || code == "TokenRefreshRequired")
        return AskForCredentials(what, true);
      return End(Status::Unavailable(what));
    case 401:
    case 403: {
      double ahead_s;
      std::string clocks;
      if (code == "RequestTimeTooSkewed" && connection_->CompareClocks(response, &ahead_s, &clocks))
        what += " (" + clocks + ")";
      // A clock that was right is set again: each try is signed anew.
      return AskForCredentials(what, code == "ExpiredToken" || code == "InvalidToken" || code == "InvalidAccessKeyId" ||
                                         code == "SignatureDoesNotMatch" || code == "RequestTimeTooSkewed");
    }
    case 404:
      // Not the object: the whole place is missing.
      if (code == "NoSuchBucket") return End(Status::Unavailable(what));
      connection_->Succeeded();
      return End(Status::NotFound(what));
    case 408:
    case 429:
      return TryAgainOrEnd(StatusCode::kUnavailable, what);
    case 409:
      if (request_.conditional) return TryAgainOrEnd(StatusCode::kUnavailable, what);
      return End(Status::Unavailable(what));
    case 412:
      connection_->Succeeded();
      return End(Status::AlreadyExists(what));
    case 416:
      return End(Status::Corrupt(what + ": the object is shorter than it should be"));
    case 501:
      if (sent_conditional_) {
        if (connection_->conditional_writes)
          connection_->notice = "the store does not support conditional writes; objects rely on their unique names";
        connection_->conditional_writes = false;
        sent_conditional_ = false;
        exchange_.reset();
        return;
      }
      return End(Status::Unsupported(what));
    case 507:
      return End(Status::NoSpace(what));
    default:
      if (status >= 500) return TryAgainOrEnd(StatusCode::kUnavailable, what);
      return End(Status::Unavailable(what));
  }
}

void S3Call::TryAgainOrEnd(StatusCode code, std::string why) {
  const RetryPolicy& retry = connection_->retry;
  const Clock::time_point started = exchange_->response().started;
  const Clock::time_point now = Clock::now();
  connection_->Failed(started, code == StatusCode::kDenied, why);
  failing_since_ = std::min(failing_since_, started);
  const Clock::duration left = patience_ - (now - failing_since_);
  if (tries_ > retry.retries && left <= Clock::duration::zero()) {
    const auto seconds = std::chrono::round<std::chrono::seconds>(now - failing_since_).count();
    why += " (" + std::to_string(tries_) + " attempts";
    if (seconds > 0) why += " in " + std::to_string(seconds) + " s";
    return End(Status(code, why + ")"));
  }
  const auto longest = std::min(retry.base_delay * (1 << std::min(tries_, 16)), retry.longest_delay);
  auto delay = std::chrono::duration_cast<Clock::duration>(connection_->environment.random() * longest);
  if (tries_ > retry.retries) delay = std::min(delay, left);
  not_before_ = now + delay;
  exchange_.reset();
}

// `outdated`: they may have been right once.
void S3Call::AskForCredentials(std::string why, bool outdated) {
  if (patience_.count() == 0) return End(Status::Denied(std::move(why)));
  worth_waiting_ = outdated && connection_->credentials_worked;
  refusal_ = std::move(why);
  awaits_credentials_ = true;
  connection_->awaits_credentials = true;
}

void S3Call::TakeCredentials() {
  awaits_credentials_ = false;
  if (credentials_version_ != connection_->credentials_version || worth_waiting_)
    return TryAgainOrEnd(StatusCode::kDenied, std::move(refusal_));
  End(Status::Denied(std::move(refusal_)));
}

void S3Call::End(Status status) {
  status_ = std::move(status);
  done_ = true;
}

void DriveCalls(S3Store::Connection* connection, const std::vector<S3Call*>& calls, Clock::time_point deadline) {
  // Bytes are moved at least once, even where the deadline has passed.
  for (bool moved = false;; moved = true) {
    const Clock::time_point now = Clock::now();
    bool any_done = false;
    bool any_left = false;
    Clock::time_point wake = deadline;
    for (S3Call* call : calls) {
      if (call->done()) continue;
      any_done |= call->Poll(now);
      any_left = true;
      wake = std::min(wake, call->wake());
    }
    if (any_done || !any_left || connection->awaits_credentials || (moved && now >= deadline)) return;
    const size_t before = connection->client.finished();
    connection->client.Step(wake);
    // Nothing finished and it is not time yet: a signal came. The caller looks.
    if (connection->client.finished() == before && Clock::now() < wake) return;
  }
}

}  // namespace ivfremote
