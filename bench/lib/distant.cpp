#include "lib/distant.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <list>
#include <stdexcept>
#include <vector>

namespace ivfremote::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Under way in one direction at most: more than what the distance holds at 1 GB/s.
constexpr size_t kMaxUnderWay = 64 << 20;

sockaddr_in Address(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void Prepare(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(socket, F_SETFL, O_NONBLOCK);
}

// Bytes on their way from one socket to another.
struct Direction {
  struct Piece {
    Clock::time_point due;
    std::vector<char> bytes;  // empty: the end
    size_t sent = 0;
  };

  int from, to;
  std::deque<Piece> pieces;
  size_t under_way = 0;
  bool ended = false;   // nothing more to read
  bool closed = false;  // nothing more to write

  bool reads() const { return !ended && under_way < kMaxUnderWay; }
  bool writes(Clock::time_point now) const { return !closed && !pieces.empty() && pieces.front().due <= now; }

  void Read(Clock::time_point due) {
    std::vector<char> bytes(256 << 10);
    const ssize_t got = ::recv(from, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EAGAIN) return;
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    ended = bytes.empty();
    under_way += bytes.size();
    pieces.push_back({due, std::move(bytes)});
  }

  void Write() {
    Piece& piece = pieces.front();
    if (!piece.bytes.empty()) {
      const ssize_t sent = ::send(to, piece.bytes.data() + piece.sent, piece.bytes.size() - piece.sent, MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) return;
      if (sent > 0) {
        piece.sent += static_cast<size_t>(sent);
        under_way -= static_cast<size_t>(sent);
        if (piece.sent == piece.bytes.size()) pieces.pop_front();
        return;
      }
    }
    ::shutdown(to, SHUT_WR);
    ended = closed = true;
  }
};

struct Relay {
  Clock::time_point open;  // when the handshake would have ended
  Direction up, down;
};

}  // namespace

Distant::Distant(uint16_t port, std::chrono::milliseconds round_trip) : server_port_(port), round_trip_(round_trip) {
  listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = Address(0);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_, generic, length) != 0 || ::listen(listener_, 128) != 0 ||
      ::getsockname(listener_, generic, &length) != 0 || ::pipe(stop_) != 0)
    throw std::runtime_error("no port for a distant server");
  own_port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Run(); });
}

Distant::~Distant() {
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
  ::close(listener_);
}

void Distant::Run() {
  std::list<Relay> relays;
  for (;;) {
    const Clock::time_point now = Clock::now();
    std::vector<pollfd> waits = {{stop_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    Clock::time_point wake = now + std::chrono::seconds(1);
    for (Relay& relay : relays)
      for (Direction* way : {&relay.up, &relay.down}) {
        waits.push_back({way->reads() ? way->from : -1, POLLIN, 0});
        waits.push_back({way->writes(now) ? way->to : -1, POLLOUT, 0});
        if (!way->closed && !way->pieces.empty() && !way->writes(now)) wake = std::min(wake, way->pieces.front().due);
      }
    const auto left = std::chrono::ceil<std::chrono::nanoseconds>(wake - now);
    const timespec timeout{left.count() / 1000000000, left.count() % 1000000000};
    ::ppoll(waits.data(), waits.size(), &timeout, nullptr);
    if (waits[0].revents != 0) break;
    const Clock::time_point then = Clock::now();
    size_t i = 2;
    for (Relay& relay : relays)
      for (Direction* way : {&relay.up, &relay.down}) {
        if (waits[i++].revents != 0) way->Read(std::max(then, relay.open) + round_trip_ / 2);
        if (waits[i++].revents != 0) way->Write();
      }
    relays.remove_if([](const Relay& relay) {
      if (!relay.up.closed || !relay.down.closed) return false;
      ::close(relay.up.from);
      ::close(relay.up.to);
      return true;
    });
    if (waits[1].revents == 0) continue;
    const int client = ::accept(listener_, nullptr, nullptr);
    const int server = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Address(server_port_);
    if (client < 0 || ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      ::close(client);
      ::close(server);
      continue;
    }
    Prepare(client);
    Prepare(server);
    relays.push_back({then + round_trip_, {client, server, {}, 0, false, false}, {server, client, {}, 0, false, false}});
  }
  for (Relay& relay : relays) {
    ::close(relay.up.from);
    ::close(relay.up.to);
  }
}

}  // namespace ivfremote::bench
