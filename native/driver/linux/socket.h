// What both Linux drivers do in the same way, with calls that do not block.
#pragma once

#include <sys/stat.h>

#include "driver/driver.h"

namespace cp::driver {

/// socket, bind, listen: a non-blocking descriptor, or a negative errno.
Result open_listener(const ListenOptions& options);

/// 1 for a stream socket that listens, 0 for one that is connected, else a negative errno.
Result listening(int fd);

/// Another descriptor of such a socket. It is non-blocking then, whoever uses it: that belongs to
/// the socket, not to the descriptor.
Result duplicate_socket(int fd, bool& listens);

Result set_socket_option(int socket, SocketOption option, int value);

/// The local address, or the peer's.
Result socket_address(int socket, bool peer, SocketAddress& out);

Result duplicate_descriptor(int fd, FileKind& kind);

/// Takes O_NONBLOCK off, or sets it: io_uring waits by itself, but answers EAGAIN for a
/// non-blocking descriptor; epoll's lane must never wait in a call.
void set_blocking(int fd, bool blocking);

/// `st_mode` of an open descriptor, or a negative errno.
Result mode_of(int fd);

/// What an open descriptor with this `st_mode` is.
FileKind file_kind_of(int fd, mode_t mode);

/// OpenFlag as open(2) wants it; always O_CLOEXEC and O_NOCTTY.
int open_flags(std::uint32_t flags);

/// The address family of a socket that is to connect or to bind to `address`.
int family_of(const SocketAddress& address);

}  // namespace cp::driver
