// What only a server that is silent at the right time, or a resolver that hangs, can show. The rest of HttpClient is tested
// against real servers.
#include "core/http_client.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "support.h"

namespace ivfremote {
namespace {

using std::chrono::milliseconds;

constexpr const char* kHangingName = "hangs.invalid";

// Where lookups of kHangingName stay until they are let go.
class Resolver {
 public:
  void Hang() {
    std::unique_lock lock(mutex_);
    ++hanging_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return let_go_; });
    --hanging_;
    changed_.notify_all();
  }

  bool AnyHangs() {
    const std::lock_guard lock(mutex_);
    return hanging_ > 0;
  }

  void LetGo(milliseconds after = milliseconds(0)) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, after, [this] { return let_go_; });
    let_go_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return hanging_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int hanging_ = 0;
  bool let_go_ = false;
};

Resolver resolver;

}  // namespace
}  // namespace ivfremote

// Libraries find this one first, libcurl among them.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** result) {
  if (node != nullptr && std::strcmp(node, ivfremote::kHangingName) == 0) {
    ivfremote::resolver.Hang();
    return EAI_NONAME;
  }
  static const auto next = reinterpret_cast<decltype(&getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  return next(node, service, hints, result);
}

namespace ivfremote {
namespace {

// Takes connections, and says nothing before it is told to.
class SilentServer {
 public:
  SilentServer() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_, generic, length), 0);
    EXPECT_EQ(::listen(listener_, 1), 0);
    EXPECT_EQ(::getsockname(listener_, generic, &length), 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  }
  ~SilentServer() {
    ::close(connection_);
    ::close(listener_);
  }

  const std::string& url() const { return url_; }

  // Waits for the request.
  void Accept() {
    connection_ = ::accept(listener_, nullptr, nullptr);
    char request[4096];
    EXPECT_GT(::read(connection_, request, sizeof request), 0);
  }

  void Say(const std::string& text) {
    EXPECT_EQ(::send(connection_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

 private:
  int listener_;
  int connection_ = -1;
  std::string url_;
};

HttpOptions Patience(milliseconds request_timeout) {
  HttpOptions options;
  options.request_timeout = request_timeout;
  return options;
}

HttpRequest Get(const std::string& url) {
  HttpRequest request;
  request.method = "GET";
  request.url = url;
  return request;
}

constexpr const char* kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";

// Sends the request.
void SendTo(SilentServer* server, HttpClient* client) {
  for (int i = 0; i < 3; ++i) client->Step(Clock::now() + milliseconds(20));
  server->Accept();
}

TEST(HttpClient, TimeNobodyWatchesIsNoStall) {
  SilentServer server;
  HttpClient client(Patience(milliseconds(500)));
  const auto exchange = client.Start(Get(server.url()));
  SendTo(&server, &client);
  // The caller scores what other requests have brought; the answer comes only later, in two pieces.
  std::this_thread::sleep_for(milliseconds(700));
  client.Step(Clock::now());
  ASSERT_FALSE(exchange->done()) << exchange->response().error;
  server.Say(std::string(kAnswer) + "ab");
  client.Step(Clock::now() + milliseconds(100));
  std::this_thread::sleep_for(milliseconds(700));
  client.Step(Clock::now());
  ASSERT_FALSE(exchange->done()) << exchange->response().error;
  server.Say("cd");
  for (int i = 0; i < 100 && !exchange->done(); ++i) client.Step(Clock::now() + milliseconds(100));
  ASSERT_TRUE(exchange->done());
  EXPECT_EQ(exchange->response().status, 200) << exchange->response().error;
  EXPECT_EQ(exchange->response().text, "abcd");
}

TEST(HttpClient, SilenceThatIsWatchedIsAStall) {
  SilentServer server;
  HttpClient client(Patience(milliseconds(500)));
  const auto exchange = client.Start(Get(server.url()));
  SendTo(&server, &client);
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 100 && !exchange->done(); ++i) client.Step(Clock::now() + milliseconds(100));
  ASSERT_TRUE(exchange->done());
  EXPECT_EQ(exchange->response().status, 0);
  EXPECT_EQ(exchange->response().error, "no progress for 500 ms");
  EXPECT_GE(Clock::now() - start, milliseconds(400));
}

// The resolver's thread goes on by itself.
TEST(HttpClient, CancelDoesNotWaitForTheResolver) {
  HttpClient client(Patience(milliseconds(60000)));
  auto exchange = client.Start(Get(std::string("http://") + kHangingName + "/"));
  for (int i = 0; i < 500 && !resolver.AnyHangs(); ++i) client.Step(Clock::now() + milliseconds(10));
  ASSERT_TRUE(resolver.AnyHangs());
  ASSERT_FALSE(exchange->done());
  std::thread rescue([] { resolver.LetGo(milliseconds(5000)); });
  exchange.reset();
  EXPECT_TRUE(resolver.AnyHangs()) << "it waited to the end";
  resolver.LetGo();
  rescue.join();
}

}  // namespace
}  // namespace ivfremote
