#include "driver/linux/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace cp::driver {

static_assert(sizeof(Slice) == sizeof(struct iovec) && alignof(Slice) == alignof(struct iovec) &&
                  offsetof(Slice, base) == offsetof(struct iovec, iov_base) &&
                  offsetof(Slice, length) == offsetof(struct iovec, iov_len),
              "slices are handed to the kernel as they are");
static_assert(sizeof(SocketAddress::bytes) >= sizeof(struct sockaddr_un));

#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30  // Linux 4.11
#endif
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

namespace {

Result set(int socket, int level, int name, int value) {
  return ::setsockopt(socket, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

/// Without effect on a socket of another kind, as in Node.js.
Result set_tcp(int socket, int name, int value) {
  const Result result = set(socket, IPPROTO_TCP, name, value);
  return result == -EOPNOTSUPP ? 0 : result;
}

/// With the interval and the number of probes that libuv has; Linux's own take eleven minutes. The
/// times come first: when one is refused, nothing is switched on.
Result keep_alive(int socket, int seconds) {
  if (seconds == 0) return set(socket, SOL_SOCKET, SO_KEEPALIVE, 0);
  Result result = set_tcp(socket, TCP_KEEPIDLE, seconds);
  if (result == 0) result = set_tcp(socket, TCP_KEEPINTVL, 1);
  if (result == 0) result = set_tcp(socket, TCP_KEEPCNT, 10);
  if (result == 0) result = set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  return result;
}

Result ask(int socket, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(socket, level, name, &value, &length) == 0 ? value : -errno;
}

/// A socket of IPv6 has both: a connection of it may be one of IPv4.
Result set_type_of_service(int socket, int value) {
  const Result domain = ask(socket, SOL_SOCKET, SO_DOMAIN);
  if (domain == AF_INET) return set(socket, IPPROTO_IP, IP_TOS, value);
  if (domain != AF_INET6) return domain < 0 ? domain : -EOPNOTSUPP;
  const Result result = set(socket, IPPROTO_IPV6, IPV6_TCLASS, value);
  return result < 0 ? result : set(socket, IPPROTO_IP, IP_TOS, value);
}

Result type_of_service(int socket) {
  const Result domain = ask(socket, SOL_SOCKET, SO_DOMAIN);
  if (domain == AF_INET) return ask(socket, IPPROTO_IP, IP_TOS);
  if (domain == AF_INET6) return ask(socket, IPPROTO_IPV6, IPV6_TCLASS);
  return domain < 0 ? domain : -EOPNOTSUPP;
}

/// Never a time to linger: close(2) would wait for it, on a non-blocking socket, too.
Result set_linger(int socket, bool resets) {
  const struct linger linger = {resets ? 1 : 0, 0};
  return ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0 ? 0 : -errno;
}

Result lingers(int socket) {
  struct linger linger = {};
  socklen_t length = sizeof linger;
  if (::getsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, &length) != 0) return -errno;
  return linger.l_onoff != 0 ? 1 : 0;
}

Result set_all(int socket, const std::vector<SocketSetting>& settings) {
  for (const SocketSetting& setting : settings) {
    const Result result = set_socket_option(socket, setting.option, setting.value);
    if (result < 0) return result;
  }
  return 0;
}

Result bind_to(int socket, const SocketAddress& address) {
  const auto* raw = reinterpret_cast<const struct sockaddr*>(address.bytes);
  return ::bind(socket, raw, address.length) == 0 ? 0 : -errno;
}

/// A port that the system is to choose it chooses by the peer then (IP_BIND_ADDRESS_NO_PORT, Linux
/// 4.2): else there would be as many connections from an address as there are ports. A system that
/// knows nothing of it binds all the same.
Result bind_locally(int socket, const SocketAddress& local) {
  // As libuv does: a port that a connection in TIME_WAIT has can be used again.
  const Result result = set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  set(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  return result < 0 ? result : bind_to(socket, local);
}

Result bind_and_listen(int socket, const ListenOptions& options) {
  // As libuv does: a restarted server gets its port back from connections in TIME_WAIT.
  Result result = set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (result == 0 && options.reuse_port) result = set(socket, SOL_SOCKET, SO_REUSEPORT, 1);
  if (result == 0 && family_of(options.address) == AF_INET6) {
    // Said either way, because the default is a sysctl.
    result = set(socket, IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6_only ? 1 : 0);
  }
  if (result == 0 && options.no_delay) result = set_tcp(socket, TCP_NODELAY, 1);
  if (result == 0) result = set_all(socket, options.settings);
  if (result == 0) result = bind_to(socket, options.address);
  // As libuv has it, for a file in a directory that there is not.
  if (result < 0) return result == -ENOENT ? -EACCES : result;
  return ::listen(socket, options.backlog) == 0 ? 0 : -errno;
}

}  // namespace

int family_of(const SocketAddress& address) {
  sa_family_t family;
  std::memcpy(&family, address.bytes + offsetof(struct sockaddr, sa_family), sizeof family);
  return family;
}

Result open_listener(const ListenOptions& options) {
  const int type = options.messages ? SOCK_SEQPACKET : SOCK_STREAM;
  const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const int socket = ::socket(family_of(options.address), type | flags, 0);
  if (socket < 0) return -errno;
  const Result result = bind_and_listen(socket, options);
  if (result == 0) return socket;
  ::close(socket);
  return result;
}

Result open_for_connect(const ConnectTarget& target, bool blocking) {
  const int type = target.messages ? SOCK_SEQPACKET : SOCK_STREAM;
  const int flags = SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK);
  const int socket = ::socket(family_of(target.peer), type | flags, 0);
  if (socket < 0) return -errno;
  Result result = set_all(socket, target.settings);
  if (result == 0 && target.local.length > 0) result = bind_locally(socket, target.local);
  if (result == 0) return socket;
  ::close(socket);
  return result;
}

Result kind_of_socket(int fd, SocketKind& kind) {
  const Result type = ask(fd, SOL_SOCKET, SO_TYPE);
  if (type < 0) return type;
  const Result domain = ask(fd, SOL_SOCKET, SO_DOMAIN);
  if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX) return -EAFNOSUPPORT;
  // Datagrams come from many peers, and have no connection to wait for.
  if (type == SOCK_DGRAM) return -ENOTSUP;
  kind.messages = type == SOCK_SEQPACKET && domain == AF_UNIX;
  if (type != SOCK_STREAM && !kind.messages) return -EINVAL;
  const Result listens = ask(fd, SOL_SOCKET, SO_ACCEPTCONN);
  if (listens < 0) return listens;
  kind.listens = listens != 0;
  SocketAddress peer;
  return kind.listens ? 0 : socket_address(fd, true, peer);
}

Result duplicate_socket(int fd, SocketKind& kind) {
  const Result known = kind_of_socket(fd, kind);
  if (known < 0) return known;
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return -errno;
  set_blocking(copy, false);
  return copy;
}

Result set_socket_option(int socket, SocketOption option, int value) {
  switch (option) {
    case SocketOption::kNoDelay:
      return set_tcp(socket, TCP_NODELAY, value);
    case SocketOption::kKeepAlive:
      return keep_alive(socket, value);
    case SocketOption::kReceiveBuffer:
      return set(socket, SOL_SOCKET, SO_RCVBUF, value);
    case SocketOption::kSendBuffer:
      return set(socket, SOL_SOCKET, SO_SNDBUF, value);
    case SocketOption::kLinger:
      return set_linger(socket, value != 0);
    case SocketOption::kKeepAliveInterval:
      return set_tcp(socket, TCP_KEEPINTVL, value);
    case SocketOption::kKeepAliveCount:
      return set_tcp(socket, TCP_KEEPCNT, value);
    case SocketOption::kUserTimeout:
      return set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, value);
    case SocketOption::kTypeOfService:
      return set_type_of_service(socket, value);
    case SocketOption::kDeferAccept:
      return set(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT, value);
    case SocketOption::kFastOpen:
      return set(socket, IPPROTO_TCP, TCP_FASTOPEN, value);
    case SocketOption::kFastOpenConnect:
      return set(socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, value);
    case SocketOption::kPipeAccess:
      return -ENOTSUP;
  }
  return -EINVAL;
}

Result socket_option(int socket, SocketOption option) {
  switch (option) {
    case SocketOption::kNoDelay:
      return ask(socket, IPPROTO_TCP, TCP_NODELAY);
    case SocketOption::kKeepAlive: {
      const Result on = ask(socket, SOL_SOCKET, SO_KEEPALIVE);
      return on <= 0 ? on : ask(socket, IPPROTO_TCP, TCP_KEEPIDLE);
    }
    case SocketOption::kReceiveBuffer:
      return ask(socket, SOL_SOCKET, SO_RCVBUF);
    case SocketOption::kSendBuffer:
      return ask(socket, SOL_SOCKET, SO_SNDBUF);
    case SocketOption::kLinger:
      return lingers(socket);
    case SocketOption::kKeepAliveInterval:
      return ask(socket, IPPROTO_TCP, TCP_KEEPINTVL);
    case SocketOption::kKeepAliveCount:
      return ask(socket, IPPROTO_TCP, TCP_KEEPCNT);
    case SocketOption::kUserTimeout:
      return ask(socket, IPPROTO_TCP, TCP_USER_TIMEOUT);
    case SocketOption::kTypeOfService:
      return type_of_service(socket);
    case SocketOption::kDeferAccept:
      return ask(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT);
    case SocketOption::kFastOpen:
      return ask(socket, IPPROTO_TCP, TCP_FASTOPEN);
    case SocketOption::kFastOpenConnect:
      return ask(socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT);
    case SocketOption::kPipeAccess:
      return -ENOTSUP;
  }
  return -EINVAL;
}

bool is_empty_message(const Operation& operation) {
  if (!operation.messages) return false;
  const Slice* first = operation.slices;
  return std::all_of(first, first + operation.slice_count,
                     [](const Slice& slice) { return slice.length == 0; });
}

Result socket_address(int socket, bool peer, SocketAddress& out) {
  auto* address = reinterpret_cast<struct sockaddr*>(out.bytes);
  socklen_t length = sizeof out.bytes;
  const int result =
      peer ? ::getpeername(socket, address, &length) : ::getsockname(socket, address, &length);
  if (result != 0) return -errno;
  // More than fits means that it was neither IPv4 nor IPv6.
  if (length > sizeof out.bytes) return -EAFNOSUPPORT;
  out.length = length;
  return 0;
}

void set_blocking(int fd, bool blocking) {
  int non_blocking = blocking ? 0 : 1;
  ::ioctl(fd, FIONBIO, &non_blocking);
}

}  // namespace cp::driver
