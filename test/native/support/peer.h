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

  bool write(const std::string& bytes) {
    for (std::size_t sent = 0; sent < bytes.size();) {
      const std::ptrdiff_t n = write_some(bytes.data() + sent, bytes.size() - sent);
      if (n <= 0) return false;
      sent += static_cast<std::size_t>(n);
    }
    return true;
  }
  /// Up to `length` bytes, fewer at the end.
  std::string read(std::size_t length) {
    std::string bytes(length, '\0');
    std::size_t got = 0;
    while (got < length) {
      const std::ptrdiff_t n = read_some(bytes.data() + got, length - got);
      if (n <= 0) {
        ended = n == 0;
        break;
      }
      got += static_cast<std::size_t>(n);
    }
    bytes.resize(got);
    return bytes;
  }
  void end_writing();
  void reset();
  void shut();

  bool connected = false;
  bool ended = false;  ///< the last read met an orderly end

 private:
  /// How many bytes, at least one; 0 at the end, -1 where that failed.
  std::ptrdiff_t write_some(const char* bytes, std::size_t length);
  std::ptrdiff_t read_some(char* bytes, std::size_t length);

  std::intptr_t socket_ = -1;
};

}  // namespace cp::test
