#include "core/http_client.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace ivfremote {
namespace {

constexpr size_t kMaxHeaders = 100;

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
};

std::string Trim(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return std::string(text);
}

}  // namespace

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  multi_ = initialised == CURLE_OK ? curl_multi_init() : nullptr;
  if (multi_ == nullptr) throw std::bad_alloc();
}

HttpClient::~HttpClient() {
  const SignalsBlocked blocked;
  for (CURL* easy : idle_) curl_easy_cleanup(easy);
  curl_multi_cleanup(multi_);
}

HttpExchange::~HttpExchange() {
  const SignalsBlocked blocked;
  if (easy_ != nullptr) {
    if (!done_) {
      curl_multi_remove_handle(client_->multi_, easy_);
      std::erase(client_->active_, this);
      --client_->running_;
    }
    curl_easy_cleanup(easy_);
  }
  curl_slist_free_all(header_list_);
}

size_t HttpExchange::OnHeader(char* data, size_t size, size_t count, void* self) {
  auto* exchange = static_cast<HttpExchange*>(self);
  exchange->last_progress_ = Clock::now();
  try {
    const std::string_view line(data, size * count);
    // A status line starts a new answer: what came before was a 100 Continue.
    if (line.starts_with("HTTP/")) exchange->response_.headers.clear();
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && exchange->response_.headers.size() < kMaxHeaders) {
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      exchange->response_.headers[name] = Trim(line.substr(colon + 1));
    }
  } catch (...) {
    return 0;
  }
  return size * count;
}

size_t HttpExchange::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* exchange = static_cast<HttpExchange*>(self);
  exchange->last_progress_ = Clock::now();
  const size_t n = size * count;
  long status = 0;
  curl_easy_getinfo(exchange->easy_, CURLINFO_RESPONSE_CODE, &status);
  if (!exchange->buffer_.empty() && status / 100 == 2) {
    if (n > exchange->buffer_.size() - exchange->filled_) {
      exchange->overflow_ = true;
      return 0;
    }
    std::memcpy(exchange->buffer_.data() + exchange->filled_, data, n);
    exchange->filled_ += n;
    return n;
  }
  try {
    std::string& text = exchange->response_.text;
    const size_t limit = exchange->request_.text_limit;
    text.append(data, std::min(n, limit - std::min(limit, text.size())));
  } catch (...) {
    return 0;
  }
  return n;
}

size_t HttpExchange::OnRead(char* data, size_t size, size_t count, void* self) {
  auto* exchange = static_cast<HttpExchange*>(self);
  exchange->last_progress_ = Clock::now();
  const Bytes rest = exchange->request_.body.subspan(exchange->body_sent_);
  const size_t n = std::min(size * count, rest.size());
  std::memcpy(data, rest.data(), n);
  exchange->body_sent_ += n;
  return n;
}

// For curl's own second try where a kept-alive connection turns out to be closed.
int HttpExchange::OnSeek(void* self, curl_off_t offset, int origin) {
  auto* exchange = static_cast<HttpExchange*>(self);
  if (origin != SEEK_SET || offset < 0 || static_cast<uint64_t>(offset) > exchange->request_.body.size())
    return CURL_SEEKFUNC_FAIL;
  exchange->response_.resent |= exchange->body_sent_ > 0;
  exchange->body_sent_ = static_cast<size_t>(offset);
  return CURL_SEEKFUNC_OK;
}

std::unique_ptr<HttpExchange> HttpClient::Start(HttpRequest request, MutableBytes buffer) {
  std::unique_ptr<HttpExchange> exchange(new HttpExchange());
  exchange->client_ = this;
  exchange->request_ = std::move(request);
  exchange->buffer_ = buffer;
  exchange->response_.started = Clock::now();
  // Not yet in the multi handle: the destructor must not take it out.
  exchange->done_ = true;
  CURL* easy = nullptr;
  if (!idle_.empty()) {
    easy = idle_.back();
    idle_.pop_back();
    curl_easy_reset(easy);
  } else {
    easy = curl_easy_init();
    if (easy == nullptr) throw std::bad_alloc();
  }
  exchange->easy_ = easy;
  const HttpRequest& r = exchange->request_;
  for (const std::string& header : r.headers) {
    curl_slist* longer = curl_slist_append(exchange->header_list_, header.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    exchange->header_list_ = longer;
  }
  const auto set = [easy](auto option, auto value) { curl_easy_setopt(easy, option, value); };
  set(CURLOPT_URL, r.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_NOSIGNAL, 1L);
  // Else taking a request away waits for the resolver's thread, with signals blocked.
  set(CURLOPT_QUICK_EXIT, 1L);
  // A wave is parallel connections: HTTP/2 would put it on one.
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_NOPROGRESS, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTPHEADER, exchange->header_list_);
  set(CURLOPT_ERRORBUFFER, exchange->error_text_);
  set(CURLOPT_PRIVATE, exchange.get());
  set(CURLOPT_HEADERFUNCTION, HttpExchange::OnHeader);
  set(CURLOPT_HEADERDATA, exchange.get());
  set(CURLOPT_WRITEFUNCTION, HttpExchange::OnBody);
  set(CURLOPT_WRITEDATA, exchange.get());
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  set(CURLOPT_READFUNCTION, HttpExchange::OnRead);
  set(CURLOPT_READDATA, exchange.get());
  set(CURLOPT_SEEKFUNCTION, HttpExchange::OnSeek);
  set(CURLOPT_SEEKDATA, exchange.get());
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
  set(CURLOPT_TCP_NODELAY, 1L);
  if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
  if (r.fresh_connection) set(CURLOPT_FRESH_CONNECT, 1L);
  if (r.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (r.method == "PUT") {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(r.body.size()));
  } else if (r.method == "POST") {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(r.body.size()));
  } else if (r.method != "GET") {
    set(CURLOPT_CUSTOMREQUEST, r.method.c_str());
  }
  const SignalsBlocked blocked;
  if (curl_multi_add_handle(multi_, easy) != CURLM_OK) throw std::bad_alloc();
  exchange->last_progress_ = Clock::now();
  active_.push_back(exchange.get());
  exchange->done_ = false;
  ++running_;
  // Curl keeps 4 times as many as there are exchanges right now: too few once a wave is over.
  if (running_ > most_running_) {
    most_running_ = running_;
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(most_running_));
  }
  return exchange;
}

void HttpClient::Perform() {
  const SignalsBlocked blocked;
  int running = 0;
  curl_multi_perform(multi_, &running);
}

void HttpClient::Step(Clock::time_point deadline) {
  // Time in which nobody looked is not the server's.
  const Clock::time_point now = Clock::now();
  for (HttpExchange* exchange : active_)
    exchange->last_progress_ += now - std::clamp(last_step_, exchange->last_progress_, now);
  StepUntil(deadline);
  last_step_ = Clock::now();
}

void HttpClient::StepUntil(Clock::time_point deadline) {
  for (bool any = false; !any;) {
    Perform();
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      HttpExchange* exchange = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
      Finish(exchange, message->data.result);
      any = true;
    }
    any |= EndOverdue();
    // Not a limit on a whole request, which may be large: on standing still.
    const Clock::time_point wake = std::min(deadline, FirstOverdue());
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(wake - Clock::now());
    if (any || Clock::now() >= deadline) return;
    if (rest.count() <= 0) continue;
    int descriptors = 0;
    // A signal ends this early; the caller then looks for interrupts.
    curl_multi_poll(multi_, nullptr, 0, static_cast<int>(rest.count()), &descriptors);
    if (descriptors == 0 && Clock::now() < wake) {
      Perform();
      return;
    }
  }
}

Clock::time_point HttpClient::FirstOverdue() const {
  Clock::time_point first = Clock::time_point::max();
  for (const HttpExchange* exchange : active_)
    first = std::min(first, exchange->last_progress_ + options_.request_timeout);
  return first;
}

bool HttpClient::EndOverdue() {
  const Clock::time_point now = Clock::now();
  const std::vector<HttpExchange*> active = active_;
  for (HttpExchange* exchange : active)
    if (now >= exchange->last_progress_ + options_.request_timeout) Finish(exchange, CURLE_OPERATION_TIMEDOUT);
  return active_.size() != active.size();
}

void HttpClient::Finish(HttpExchange* exchange, CURLcode result) {
  const SignalsBlocked blocked;
  HttpResponse& response = exchange->response_;
  response.finished = Clock::now();
  if (result == CURLE_OK) {
    curl_easy_getinfo(exchange->easy_, CURLINFO_RESPONSE_CODE, &response.status);
  } else {
    if (result == CURLE_OPERATION_TIMEDOUT && exchange->error_text_[0] == '\0')
      response.error = "no progress for " + std::to_string(options_.request_timeout.count()) + " ms";
    else
      response.error = exchange->overflow_ ? "the answer is longer than what was asked for"
                     : exchange->error_text_[0] != '\0' ? exchange->error_text_
                                                       : curl_easy_strerror(result);
    response.certificate_error = result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE ||
                                 result == CURLE_SSL_CERTPROBLEM;
  }
  curl_multi_remove_handle(multi_, exchange->easy_);
  idle_.push_back(exchange->easy_);
  exchange->easy_ = nullptr;
  exchange->done_ = true;
  std::erase(active_, exchange);
  --running_;
  ++finished_;
}

}  // namespace ivfremote
