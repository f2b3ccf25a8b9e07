#include "core/s3_store.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/range_text.h"
#include "core/s3_call.h"
#include "core/s3_upload.h"
#include "core/xml.h"

namespace ivfremote {
namespace {

using Connection = S3Store::Connection;

constexpr size_t kDeleteBatch = 1000;
constexpr double kMaxClockSkewS = 600;

// ---------------------------------------------------------------------------------------------------------------------

class S3Wave : public RangeWave {
 public:
  S3Wave(std::shared_ptr<Connection> connection, std::vector<RangeRequest> requests, size_t max_concurrent)
      : connection_(std::move(connection)), requests_(std::move(requests)), max_concurrent_(max_concurrent) {
    StartMore();
    // Sends them, where connections are open: they are under way while the caller does something else.
    connection_->client.Step(Clock::now());
  }

  Status Step(Clock::time_point deadline, std::vector<RangeCompletion>* completions) override {
    StartMore();
    std::vector<S3Call*> calls;
    for (const auto& flight : flights_) calls.push_back(flight->call.get());
    DriveCalls(connection_.get(), calls, deadline);
    for (auto& flight : flights_) {
      if (!flight->call->done()) continue;
      completions->push_back(Complete(flight.get()));
      flight.reset();
    }
    std::erase(flights_, nullptr);
    return Status::Ok();
  }

 private:
  struct Flight {
    size_t request;
    RangeBuffer buffer;
    std::unique_ptr<S3Call> call;
  };

  void StartMore() {
    while (next_ < requests_.size() && flights_.size() < max_concurrent_) Start(next_++);
  }

  void Start(size_t number) {
    const RangeRequest& range = requests_[number];
    auto flight = std::make_unique<Flight>();
    flight->request = number;
    flight->buffer = RangeBuffer(range.length);
    S3Request request;
    request.method = "GET";
    request.path = connection_->PathOf(range.key);
    request.headers.emplace_back("range", "bytes=" + std::to_string(range.offset) + "-" +
                                              std::to_string(range.offset + range.length - 1));
    request.buffer = {flight->buffer.data(), range.length};
    flight->call = std::make_unique<S3Call>(connection_, std::move(request));
    flight->call->Poll(Clock::now());
    flights_.push_back(std::move(flight));
  }

  RangeCompletion Complete(Flight* flight) {
    const RangeRequest& range = requests_[flight->request];
    RangeCompletion completion;
    completion.request = flight->request;
    completion.status = Check(range, *flight->call);
    if (completion.status.ok()) completion.buffer = std::move(flight->buffer);
    completion.started = flight->call->started();
    completion.finished = flight->call->response().finished;
    return completion;
  }

  static Status Check(const RangeRequest& range, const S3Call& call) {
    if (call.status().ok() && call.response().status != 206) {
      // A store that ignores Range sends the whole object: right only if that is what was asked for.
      if (range.offset != 0)
        return Status::Invalid(RangeText(range.key, range.offset, range.length) +
                               ": the store does not support range reads");
    }
    return About(RangeText(range.key, range.offset, range.length), call.status());
  }

  std::shared_ptr<Connection> connection_;
  std::vector<RangeRequest> requests_;
  size_t max_concurrent_;
  size_t next_ = 0;
  std::vector<std::unique_ptr<Flight>> flights_;
};

// ---------------------------------------------------------------------------------------------------------------------

// Calls made one after another: `next` fills in the next request, or returns false when there is none; `take` has the
// answer.
class S3Sequence : public Operation {
 public:
  using Next = std::function<bool(S3Request*)>;
  using Take = std::function<Status(const S3Call&)>;

  S3Sequence(std::shared_ptr<Connection> connection, Next next, Take take)
      : connection_(std::move(connection)), next_(std::move(next)), take_(std::move(take)) {}

  Status Step(Clock::time_point deadline, bool* done) override {
    for (;;) {
      if (call_ == nullptr) {
        S3Request request;
        if (!next_(&request)) {
          *done = true;
          return Status::Ok();
        }
        call_ = std::make_unique<S3Call>(connection_, std::move(request));
      }
      DriveCalls(connection_.get(), {call_.get()}, deadline);
      if (!call_->done()) return Status::Ok();
      IVFREMOTE_RETURN_IF_ERROR(take_(*call_));
      call_.reset();
      if (Clock::now() >= deadline) return Status::Ok();
    }
  }

 private:
  std::shared_ptr<Connection> connection_;
  Next next_;
  Take take_;
  std::unique_ptr<S3Call> call_;
};

std::string Md5Base64(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &length, EVP_md5(), nullptr) != 1) return {};
  unsigned char encoded[EVP_MAX_MD_SIZE * 2];
  const int n = EVP_EncodeBlock(encoded, digest, static_cast<int>(length));
  return {reinterpret_cast<char*>(encoded), static_cast<size_t>(n)};
}

}  // namespace

Status ParseS3Url(std::string_view url, S3Location* location) {
  constexpr std::string_view kScheme = "s3://";
  // Somebody's keys, perhaps: not in a message.
  if (url.find('@') != std::string_view::npos) return Status::Invalid("invalid url: keys belong to a user mapping");
  if (!url.starts_with(kScheme)) return Status::Invalid("invalid url \"" + std::string(url) + "\"");
  std::string_view rest = url.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  location->bucket = rest.substr(0, slash);
  rest.remove_prefix(std::min(slash + 1, rest.size()));
  while (rest.ends_with('/')) rest.remove_suffix(1);
  location->prefix = rest;
  const bool valid = location->bucket.size() >= 3 && location->bucket.size() <= 63 &&
                     std::all_of(location->bucket.begin(), location->bucket.end(), [](unsigned char c) {
                       return std::islower(c) || std::isdigit(c) || c == '-' || c == '.' || c == '_';
                     });
  if (!valid) return Status::Invalid("invalid bucket in url \"" + std::string(url) + "\"");
  if (location->prefix.starts_with('/') || location->prefix.find("//") != std::string::npos)
    return Status::Invalid("invalid prefix in url \"" + std::string(url) + "\"");
  return Status::Ok();
}

S3Store::S3Store(S3Location location, const AwsCredentials& credentials, HttpOptions http, RetryPolicy retry,
                 S3Environment environment)
    : connection_(std::make_shared<Connection>(std::move(location), credentials, std::move(http), retry,
                                               std::move(environment))) {}

S3Store::~S3Store() = default;

Status S3Store::GetRanges(std::vector<RangeRequest> requests, size_t max_concurrent,
                          std::unique_ptr<RangeWave>* wave) {
  *wave = std::make_unique<S3Wave>(connection_, std::move(requests), max_concurrent);
  return Status::Ok();
}

Status S3Store::Create(std::string_view key, std::unique_ptr<Upload>* upload) {
  *upload = MakeS3Upload(connection_, std::string(key));
  return Status::Ok();
}

Status S3Store::ReadTagged(std::string key, size_t limit, TaggedObject* object,
                           std::unique_ptr<Operation>* operation) {
  auto sent = std::make_shared<bool>(false);
  auto next = [sent, key, limit, connection = connection_.get()](S3Request* request) {
    if (std::exchange(*sent, true)) return false;
    request->method = "GET";
    request->path = connection->PathOf(key);
    request->text_limit = limit + 1;
    return true;
  };
  auto take = [key, limit, object](const S3Call& call) {
    IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key), call.status()));
    if (call.response().text.size() > limit) return Status::Corrupt(LongObjectText(key, limit));
    const auto tag = call.response().headers.find("etag");
    if (tag == call.response().headers.end() || tag->second.empty())
      return Status::Unsupported(ObjectText(key) + ": the store gives it no ETag");
    *object = {call.response().text, tag->second};
    return Status::Ok();
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

Status S3Store::WriteTagged(std::string key, std::string text, std::string tag,
                            std::unique_ptr<Operation>* operation) {
  // Sent as the store gave it. If that doesn't match an object that still has it, once more without quotation marks.
  enum class Phase { kQuoted, kLook, kBare, kDone };
  struct State {
    std::string text;
    Phase phase;
    bool looked = false;
  };
  auto state = std::make_shared<State>();
  state->text = std::move(text);
  const bool quoted = tag.size() > 2 && tag.front() == '"' && tag.back() == '"';
  const std::string bare = quoted ? tag.substr(1, tag.size() - 2) : tag;
  state->phase = quoted && !connection_->bare_tags ? Phase::kQuoted : Phase::kBare;
  auto next = [state, key, tag, bare, connection = connection_.get()](S3Request* request) {
    if (state->phase == Phase::kDone) return false;
    request->path = connection->PathOf(key);
    if (state->phase == Phase::kLook) {
      request->method = "HEAD";
      return true;
    }
    request->method = "PUT";
    request->body = std::as_bytes(std::span(state->text));
    request->conditional = true;
    request->tag = state->phase == Phase::kQuoted ? tag : bare;
    return true;
  };
  auto take = [state, key, tag, quoted, connection = connection_.get()](const S3Call& call) {
    const Phase phase = std::exchange(state->phase, Phase::kDone);
    const HttpResponse& response = call.response();
    const bool mismatch = response.status == 412;
    const bool missing = call.status().code() == StatusCode::kNotFound;
    if (phase == Phase::kLook) {
      const auto now = response.headers.find("etag");
      const bool same = call.status().ok() && now != response.headers.end() && now->second == tag;
      if (!same && (call.status().ok() || missing)) return Status::Precondition(ChangedObjectText(key));
      IVFREMOTE_RETURN_IF_ERROR(About(ObjectText(key), call.status()));
      state->phase = Phase::kBare;
      state->looked = true;
      return Status::Ok();
    }
    if (call.status().ok()) {
      connection->bare_tags |= phase == Phase::kBare && quoted;
      return Status::Ok();
    }
    if (mismatch && phase == Phase::kQuoted) {
      state->phase = Phase::kLook;
      return Status::Ok();
    }
    // 404 is said of an object that is gone; a strict store may say anything of a bare tag.
    if (mismatch || missing || (state->looked && response.status / 100 == 4))
      return Status::Precondition(ChangedObjectText(key));
    return About(ObjectText(key), call.status());
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

Status S3Store::Delete(std::vector<std::string> keys, std::unique_ptr<Operation>* operation) {
  struct State {
    std::vector<std::string> keys;
    size_t next = 0;
    std::string body;
  };
  auto state = std::make_shared<State>();
  state->keys = std::move(keys);
  auto next = [state, connection = connection_.get()](S3Request* request) {
    if (state->next == state->keys.size()) return false;
    state->body = "<Delete><Quiet>true</Quiet>";
    for (size_t i = 0; i < kDeleteBatch && state->next < state->keys.size(); ++i)
      state->body +=
          "<Object><Key>" + EscapeXml(connection->PathOf(state->keys[state->next++])) + "</Key></Object>";
    state->body += "</Delete>";
    request->method = "POST";
    request->query = {{"delete", ""}};
    request->headers = {{"content-md5", Md5Base64(state->body)}};
    request->body = std::as_bytes(std::span(state->body));
    return true;
  };
  auto take = [](const S3Call& call) {
    IVFREMOTE_RETURN_IF_ERROR(call.status());
    Status failed;
    std::string key;
    ParseXml(call.response().text, [&](std::string_view path, std::string_view text) {
      if (path == "DeleteResult/Error/Key") key = text;
      if (path == "DeleteResult/Error/Code" && text != "NoSuchKey" && failed.ok())
        failed = Status::Unavailable("could not delete objects: " + std::string(text));
    });
    return failed;
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

Status S3Store::List(std::string prefix, std::string start_after, size_t limit, std::vector<ObjectInfo>* objects,
                     std::unique_ptr<Operation>* operation) {
  struct State {
    std::string token;
    bool first = true;
    bool truncated = true;
  };
  auto state = std::make_shared<State>();
  const size_t most = objects->size() + limit;
  auto next = [=, connection = connection_.get()](S3Request* request) {
    if (!state->truncated || objects->size() >= most) return false;
    request->method = "GET";
    request->query = {{"list-type", "2"},
                      {"prefix", connection->PathOf(prefix)},
                      {"max-keys", std::to_string(std::min<size_t>(1000, most - objects->size()))}};
    if (state->first && !start_after.empty())
      request->query.emplace_back("start-after", connection->PathOf(start_after));
    if (!state->first) request->query.emplace_back("continuation-token", state->token);
    return true;
  };
  auto take = [=, connection = connection_.get()](const S3Call& call) {
    IVFREMOTE_RETURN_IF_ERROR(About("list of bucket \"" + connection->location.bucket + "\"", call.status()));
    const size_t skip = connection->PathOf("").size();
    ObjectInfo info;
    state->token.clear();
    state->truncated = false;
    const bool parsed = ParseXml(call.response().text, [&](std::string_view path, std::string_view text) {
      if (path == "ListBucketResult/Contents/Key") info.key = text.substr(std::min(skip, text.size()));
      if (path == "ListBucketResult/Contents/Size") info.size = std::strtoull(std::string(text).c_str(), nullptr, 10);
      if (path == "ListBucketResult/Contents" && objects->size() < most) objects->push_back(std::exchange(info, {}));
      if (path == "ListBucketResult/NextContinuationToken") state->token = text;
      if (path == "ListBucketResult/IsTruncated") state->truncated = text == "true";
    });
    state->first = false;
    if (!parsed) return Status::Unavailable("the store's list is not well-formed XML");
    if (state->truncated && state->token.empty())
      return Status::Unavailable("the store's list is cut without a continuation token");
    return Status::Ok();
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

Status S3Store::ListUploads(std::string prefix, std::vector<UploadInfo>* uploads,
                            std::unique_ptr<Operation>* operation) {
  struct State {
    std::string key_marker, id_marker;
    bool truncated = true;
  };
  auto state = std::make_shared<State>();
  auto next = [=, connection = connection_.get()](S3Request* request) {
    if (!state->truncated) return false;
    request->method = "GET";
    request->query = {{"uploads", ""}, {"prefix", connection->PathOf(prefix)}};
    if (!state->key_marker.empty()) {
      request->query.emplace_back("key-marker", state->key_marker);
      request->query.emplace_back("upload-id-marker", state->id_marker);
    }
    return true;
  };
  auto take = [=, connection = connection_.get()](const S3Call& call) {
    IVFREMOTE_RETURN_IF_ERROR(About("uploads of bucket \"" + connection->location.bucket + "\"", call.status()));
    const size_t skip = connection->PathOf("").size();
    UploadInfo info;
    const auto before = std::pair(state->key_marker, state->id_marker);
    state->truncated = false;
    const bool parsed = ParseXml(call.response().text, [&](std::string_view path, std::string_view text) {
      if (path == "ListMultipartUploadsResult/Upload/Key") info.key = text.substr(std::min(skip, text.size()));
      if (path == "ListMultipartUploadsResult/Upload/UploadId") info.id = text;
      if (path == "ListMultipartUploadsResult/Upload") uploads->push_back(std::exchange(info, {}));
      if (path == "ListMultipartUploadsResult/NextKeyMarker") state->key_marker = text;
      if (path == "ListMultipartUploadsResult/NextUploadIdMarker") state->id_marker = text;
      if (path == "ListMultipartUploadsResult/IsTruncated") state->truncated = text == "true";
    });
    if (state->truncated && before == std::pair(state->key_marker, state->id_marker))
      return Status::Unavailable("the store's list of uploads is cut without a marker");
    return parsed ? Status::Ok() : Status::Unavailable("the store's list is not well-formed XML");
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

Status S3Store::AbortUpload(const UploadInfo& upload, std::unique_ptr<Operation>* operation) {
  auto sent = std::make_shared<bool>(false);
  auto next = [sent, upload, connection = connection_.get()](S3Request* request) {
    if (std::exchange(*sent, true)) return false;
    request->method = "DELETE";
    request->path = connection->PathOf(upload.key);
    request->query = {{"uploadId", upload.id}};
    return true;
  };
  auto take = [upload](const S3Call& call) {
    if (call.status().code() == StatusCode::kNotFound) return Status::Ok();
    return About(ObjectText(upload.key), call.status());
  };
  *operation = std::make_unique<S3Sequence>(connection_, std::move(next), std::move(take));
  return Status::Ok();
}

// An unsigned request: any answer shows that the endpoint is there, and tells its clock.
Status S3Store::CheckTransport(InterruptCheck interrupted, std::vector<CheckResult>* results) {
  Connection& connection = *connection_;
  HttpRequest request;
  request.method = "GET";
  request.url = connection.scheme + "://" + connection.host + "/";
  request.fresh_connection = true;
  const std::unique_ptr<HttpExchange> exchange = connection.client.Start(std::move(request));
  while (!exchange->done()) {
    connection.client.Step(Clock::now() + std::chrono::milliseconds(100));
    if (interrupted != nullptr && interrupted()) return Status::Cancelled("cancelled");
  }
  const HttpResponse& response = exchange->response();
  const bool https = connection.scheme == "https";
  const bool connected = response.status != 0;
  results->push_back({"connect", connected || response.certificate_error,
                      connected ? connection.scheme + "://" + connection.host : response.error,
                      connected ? "" : "Check the server's endpoint, region and addressing, name resolution and firewalls."});
  if (!results->back().ok) return Status::Ok();
  results->push_back({"tls", !response.certificate_error,
                      !https ? "not used: http sends rows in the clear" : connected ? "certificate verified" : response.error,
                      connected ? "" : "Set ca_file of the server to the certificate of the authority that signed the store's."});
  if (!connected) return Status::Ok();
  double ahead_s;
  std::string clocks;
  if (!connection.CompareClocks(response, &ahead_s, &clocks)) return Status::Ok();
  const bool close = std::abs(ahead_s) < kMaxClockSkewS;
  results->push_back({"clock", close, clocks,
                      close ? "" : "Set this machine's clock: stores refuse signatures that are 15 minutes off."});
  return Status::Ok();
}

StoreTrouble S3Store::Trouble() const { return connection_->trouble; }
bool S3Store::AwaitsCredentials() const { return connection_->awaits_credentials; }
void S3Store::SetCredentials(const AwsCredentials& credentials) { connection_->SetCredentials(credentials); }
void S3Store::KeepCredentials() { connection_->KeepCredentials(); }
void S3Store::SetPatient(bool patient) { connection_->patient = patient; }

std::string S3Store::TakeNotice() { return std::exchange(connection_->notice, {}); }

}  // namespace ivfremote
