// The client's side of many connections, as cheap as it can be had: bytes out, bytes in, no more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cp::bench {

class Receiver {
 public:
  virtual ~Receiver() = default;
  /// `size` 0: the connection is over. May send; `data` is gone on return.
  virtual void received(std::uint32_t connection, const std::uint8_t* data, std::size_t size) = 0;
};

class Wire {
 public:
  virtual ~Wire() = default;

  /// Takes over a connected, blocking socket: connection 0, 1, 2, …
  virtual void add(int socket) = 0;
  /// One message at a time for each connection; `data` stays as it is until the answer to it.
  virtual void send(std::uint32_t connection, const std::uint8_t* data, std::size_t size) = 0;
  /// Starts what was sent and tells of what has come, waiting for it until `deadline`.
  virtual void wait(std::int64_t deadline, Receiver& receiver) = 0;

  virtual const char* name() const = 0;
};

/// "io_uring", "epoll", or "": io_uring where there is one.
std::unique_ptr<Wire> make_wire(const std::string& name);

std::unique_ptr<Wire> make_uring_wire();
std::unique_ptr<Wire> make_epoll_wire();

}  // namespace cp::bench
