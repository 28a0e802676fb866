// Sockets on Linux, for all drivers there, with calls that do not block.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// socket, bind, listen: a non-blocking descriptor, or a negative errno.
Result open_listener(const ListenOptions& options);

/// socket, its settings, bind: a descriptor that may connect, or a negative errno.
Result open_for_connect(const ConnectTarget& target, bool blocking);

/// Of a socket that listens, or is connected, and is none of datagrams; or a negative errno.
Result kind_of_socket(int fd, SocketKind& kind);

/// Another descriptor of such a socket. It is non-blocking then, whoever uses it: that belongs to
/// the socket, not to the descriptor.
Result duplicate_socket(int fd, SocketKind& kind);

Result set_socket_option(int socket, SocketOption option, int value);
Result socket_option(int socket, SocketOption option);

/// Whether a receive with MSG_TRUNC of a message of `length` bytes had no room for all of them.
inline bool is_cut(const Operation& operation, Result length, std::size_t room) {
  const bool receives =
      operation.code == Opcode::kReceive || operation.code == Opcode::kReceiveHandles;
  return receives && operation.messages && length > 0 && static_cast<std::size_t>(length) > room;
}

/// Whether nothing is to be sent where each send is a message.
bool is_empty_message(const Operation& operation);

/// The local address, or the peer's.
Result socket_address(int socket, bool peer, SocketAddress& out);

/// Takes O_NONBLOCK off, or sets it: io_uring waits by itself, but answers EAGAIN for a
/// non-blocking descriptor; epoll's lane must never wait in a call.
void set_blocking(int fd, bool blocking);

/// The address family of a socket that is to connect or to bind to `address`.
int family_of(const SocketAddress& address);

}  // namespace cp::driver
