// The other end of a connection: a plain socket. posix.cc and windows.cc have the calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "driver/driver.h"

namespace cp::test {

/// Blocking, and no part of the port. Calls end after a while, which the tests take for a failure.
class Peer {
 public:
  explicit Peer(const driver::SocketAddress& address);
  Peer(Peer&& other) noexcept
      : connected(other.connected), ended(other.ended), socket_(std::exchange(other.socket_, -1)) {}
  ~Peer() { shut(); }

  bool write(const std::string& bytes);
  /// Up to `length` bytes, fewer at the end.
  std::string read(std::size_t length);
  void end_writing();
  void reset();
  void shut();

  bool connected = false;
  bool ended = false;  ///< the last read met an orderly end

 private:
  std::intptr_t socket_ = -1;
};

}  // namespace cp::test
