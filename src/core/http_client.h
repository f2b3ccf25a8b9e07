// HTTP requests over libcurl, many at a time, without blocking: connections are kept alive and shared by all requests of
// one client. Knows nothing of stores: no signing, no retries.
//
// Threads: libcurl's resolver may start one. Every call that can start threads runs with all signals blocked, so that
// Postgres's handlers stay on its own thread.
#pragma once

#include <curl/curl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/object_store.h"
#include "core/status.h"
#include "core/types.h"

namespace ivfremote {

struct HttpOptions {
  std::chrono::milliseconds connect_timeout{3000};
  std::chrono::milliseconds request_timeout{10000};  // a request that makes no progress for this long has failed
  std::string ca_file;                               // empty: the system's
};

struct HttpRequest {
  std::string method;
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  Bytes body;                        // must outlive the exchange
  bool fresh_connection = false;
  size_t text_limit = 4 << 20;  // of an answer's body; what is longer is cut
};

struct HttpResponse {
  long status = 0;                             // 0: there was no answer; `error` says why
  std::map<std::string, std::string> headers;  // names in lower case
  std::string text;                            // the body, unless it went into the buffer
  std::string error;
  bool certificate_error = false;
  bool resent = false;  // curl has sent the body twice: a kept-alive connection was closed without an answer
  Clock::time_point started;
  Clock::time_point finished;
};

class HttpClient;

// One request under way, or done. Destroying it cancels it.
class HttpExchange {
 public:
  ~HttpExchange();
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  bool done() const { return done_; }
  const HttpResponse& response() const { return response_; }
  // Of a 2xx answer to a request that was started with a buffer.
  size_t buffer_filled() const { return filled_; }

 private:
  friend class HttpClient;
  HttpExchange() = default;

  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  static size_t OnRead(char* data, size_t size, size_t count, void* self);
  static int OnSeek(void* self, curl_off_t offset, int origin);

  HttpClient* client_ = nullptr;
  CURL* easy_ = nullptr;
  curl_slist* header_list_ = nullptr;
  HttpRequest request_;
  size_t body_sent_ = 0;
  MutableBytes buffer_;
  size_t filled_ = 0;
  bool overflow_ = false;  // the answer is longer than the buffer
  bool done_ = false;
  HttpResponse response_;
  Clock::time_point last_progress_;
  char error_text_[CURL_ERROR_SIZE] = {};
};

class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();  // after all its exchanges
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Starts a request. The body of a 2xx answer goes into `buffer` if it is not empty.
  std::unique_ptr<HttpExchange> Start(HttpRequest request, MutableBytes buffer = {});

  // Moves bytes until some exchange is done, or `deadline`; waits even if none is running. A signal may end it early.
  void Step(Clock::time_point deadline);

  // How many exchanges have ended so far.
  uint64_t finished() const { return finished_; }


 private:
  friend class HttpExchange;
  void StepUntil(Clock::time_point deadline);
  void Perform();
  void Finish(HttpExchange* exchange, CURLcode result);
  // When the first running exchange will have stood still for too long.
  Clock::time_point FirstOverdue() const;
  // Ends those that have; whether there were any.
  bool EndOverdue();

  HttpOptions options_;
  CURLM* multi_;
  std::vector<CURL*> idle_;  // easy handles to use again
  std::vector<HttpExchange*> active_;
  Clock::time_point last_step_{};
  size_t running_ = 0;
  size_t most_running_ = 0;
  uint64_t finished_ = 0;
};

}  // namespace ivfremote
