#include "driver/linux/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "driver/linux/status.h"

namespace cp::driver {

static_assert(sizeof(Slice) == sizeof(struct iovec) && alignof(Slice) == alignof(struct iovec) &&
                  offsetof(Slice, base) == offsetof(struct iovec, iov_base) &&
                  offsetof(Slice, length) == offsetof(struct iovec, iov_len),
              "slices are handed to the kernel as they are");
static_assert(sizeof(SocketAddress::bytes) >= sizeof(struct sockaddr_un));

Deadline now() {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<Deadline>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

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

Result bind_and_listen(int socket, const ListenOptions& options) {
  // As libuv does: a restarted server gets its port back from connections in TIME_WAIT.
  Result result = set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (result == 0 && options.reuse_port) result = set(socket, SOL_SOCKET, SO_REUSEPORT, 1);
  if (result == 0 && family_of(options.address) == AF_INET6) {
    // Said either way, because the default is a sysctl.
    result = set(socket, IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6_only ? 1 : 0);
  }
  if (result == 0 && options.no_delay) result = set_tcp(socket, TCP_NODELAY, 1);
  if (result < 0) return result;
  const auto* address = reinterpret_cast<const struct sockaddr*>(options.address.bytes);
  if (::bind(socket, address, options.address.length) != 0) {
    // As libuv has it, for a file in a directory that there is not.
    return errno == ENOENT ? -EACCES : -errno;
  }
  return ::listen(socket, options.backlog) == 0 ? 0 : -errno;
}

}  // namespace

int family_of(const SocketAddress& address) {
  sa_family_t family;
  std::memcpy(&family, address.bytes + offsetof(struct sockaddr, sa_family), sizeof family);
  return family;
}

Result open_listener(const ListenOptions& options) {
  const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const int socket = ::socket(family_of(options.address), type, 0);
  if (socket < 0) return -errno;
  const Result result = bind_and_listen(socket, options);
  if (result == 0) return socket;
  ::close(socket);
  return result;
}

namespace {

Result asked(int socket, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, name, &value, &length) == 0 ? value : -errno;
}

}  // namespace

Result listening(int fd) {
  const Result type = asked(fd, SO_TYPE);
  if (type != SOCK_STREAM) return type < 0 ? type : -EINVAL;
  const Result domain = asked(fd, SO_DOMAIN);
  if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX) return -EAFNOSUPPORT;
  const Result listens = asked(fd, SO_ACCEPTCONN);
  if (listens != 0) return listens < 0 ? listens : 1;
  SocketAddress peer;
  return socket_address(fd, true, peer);
}

Result duplicate_socket(int fd, bool& listens) {
  const Result kind = listening(fd);
  if (kind < 0) return kind;
  listens = kind == 1;
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return -errno;
  set_blocking(copy, false);
  return copy;
}

Result set_socket_option(int socket, SocketOption option, int value) {
  switch (option) {
    case SocketOption::kNoDelay:
      return set_tcp(socket, TCP_NODELAY, value);
    case SocketOption::kReceiveBuffer:
      return set(socket, SOL_SOCKET, SO_RCVBUF, value);
    case SocketOption::kSendBuffer:
      return set(socket, SOL_SOCKET, SO_SNDBUF, value);
    case SocketOption::kReset: {
      const struct linger at_once = {1, 0};
      const auto size = sizeof at_once;
      return ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, size) == 0 ? 0 : -errno;
    }
    case SocketOption::kKeepAlive:
      break;
  }
  return keep_alive(socket, value);
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

Result mode_of(int fd) {
  struct statx status;
  const Result result = status_of(fd, "", AT_EMPTY_PATH, STATX_TYPE, status);
  return result < 0 ? result : status.stx_mode;
}

FileKind file_kind_of(int fd, mode_t mode) {
  if (S_ISREG(mode)) return FileKind::kRegular;
  if (S_ISDIR(mode)) return FileKind::kDirectory;
  if (S_ISBLK(mode)) return FileKind::kDevice;
  // /dev/zero can be told to seek, a terminal can't.
  if (S_ISCHR(mode) && ::lseek(fd, 0, SEEK_CUR) >= 0) return FileKind::kDevice;
  return FileKind::kStream;
}

Result duplicate_descriptor(int fd, FileKind& kind) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return -errno;
  const Result mode = mode_of(copy);
  if (mode < 0) {
    ::close(copy);
    return mode;
  }
  kind = file_kind_of(copy, static_cast<mode_t>(mode));
  return copy;
}

int open_flags(std::uint32_t flags) {
  int out = O_CLOEXEC | O_NOCTTY;
  const bool writes = (flags & kOpenWrite) != 0;
  out |= !writes ? O_RDONLY : (flags & kOpenRead) != 0 ? O_RDWR : O_WRONLY;
  if (flags & kOpenAppend) out |= O_APPEND;
  if (flags & kOpenCreate) out |= O_CREAT;
  if (flags & kOpenTruncate) out |= O_TRUNC;
  if (flags & kOpenExclusive) out |= O_EXCL;
  if (flags & kOpenDirect) out |= O_DIRECT;
  if (flags & kOpenSync) out |= O_SYNC;
  return out;
}

}  // namespace cp::driver
