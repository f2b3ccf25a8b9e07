// Makes a server on this machine distant: a relay of its bytes, each way half a round trip later. A new connection costs
// one round trip more, as its handshake would.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

namespace ivfremote::bench {

class Distant {
 public:
  // Relays from a port of its own to `port`, both at 127.0.0.1.
  Distant(uint16_t port, std::chrono::milliseconds round_trip);
  ~Distant();
  Distant(const Distant&) = delete;
  Distant& operator=(const Distant&) = delete;

  uint16_t port() const { return own_port_; }

 private:
  void Run();

  uint16_t server_port_;
  uint16_t own_port_ = 0;
  std::chrono::milliseconds round_trip_;
  int listener_ = -1;
  int stop_[2] = {-1, -1};  // a pipe: closing its second end ends Run
  std::thread thread_;
};

}  // namespace ivfremote::bench
