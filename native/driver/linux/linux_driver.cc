#include "driver/linux/linux_driver.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "driver/half_close.h"
#include "driver/linux/connection.h"
#include "driver/linux/file.h"
#include "driver/linux/socket.h"

namespace cp::driver {

/// tcpi_bytes_acked (Linux 4.1), which the C library's tcp_info is too short for.
std::int64_t acknowledged_bytes(Descriptor socket) {
  constexpr std::size_t kAcknowledged = 120;
  std::uint8_t info[kAcknowledged + sizeof(std::uint64_t)];
  socklen_t length = sizeof info;
  const int got = ::getsockopt(static_cast<int>(socket), IPPROTO_TCP, TCP_INFO, info, &length);
  if (got != 0 || length < sizeof info) return -1;
  std::uint64_t acknowledged = 0;
  std::memcpy(&acknowledged, info + kAcknowledged, sizeof acknowledged);
  return static_cast<std::int64_t>(acknowledged);
}

bool half_closes(Descriptor) { return true; }

std::int64_t traffic(Descriptor socket) { return bytes_moved(static_cast<int>(socket)); }

Result receive_now(Descriptor socket, const Slice& into) {
  for (;;) {
    const ssize_t got = ::recv(static_cast<int>(socket), into.base, into.length, MSG_DONTWAIT);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

void close_file(Descriptor file) { ::close(static_cast<int>(file)); }

Result LinuxDriver::associate(Descriptor) { return 0; }

Result LinuxDriver::listen(const ListenOptions& options) { return open_listener(options); }

Result LinuxDriver::set_option(Descriptor socket, SocketOption option, int value) {
  return set_socket_option(static_cast<int>(socket), option, value);
}

Result LinuxDriver::option(Descriptor socket, SocketOption option) {
  return socket_option(static_cast<int>(socket), option);
}

Result LinuxDriver::address(Descriptor socket, bool peer, SocketAddress& out) {
  return socket_address(static_cast<int>(socket), peer, out);
}

bool LinuxDriver::ended_in_order(Descriptor socket, std::uint64_t received) {
  return connection_ended_in_order(static_cast<int>(socket), received);
}

std::int64_t LinuxDriver::acknowledged(Descriptor socket) {
  return bytes_acknowledged(static_cast<int>(socket));
}

void LinuxDriver::shut_down(Descriptor socket) { ::shutdown(static_cast<int>(socket), SHUT_RDWR); }

void LinuxDriver::discard(Descriptor descriptor) { ::close(static_cast<int>(descriptor)); }

Result LinuxDriver::duplicate_socket(Descriptor socket, SocketKind& kind) {
  return driver::duplicate_socket(static_cast<int>(socket), kind);
}

Result LinuxDriver::own_connection(Descriptor) { return 0; }

void LinuxDriver::remove_socket_file(const std::string& path) { ::unlink(path.c_str()); }

/// O_TMPFILE needs the file system's help (NFS and FUSE before Linux 6.1 give none), which is told
/// in as many ways as there are file systems and sandboxes; what is really amiss, the second call
/// tells as well.
Result LinuxDriver::temporary_file(const char* directory) {
  const int nameless = ::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (nameless >= 0) return nameless;
  if (errno == EMFILE || errno == ENFILE || errno == ENOSPC || errno == EDQUOT) return -errno;
  std::string path = std::string(directory) + "/completion-port-XXXXXX";
  const int named = ::mkostemp(path.data(), O_CLOEXEC);
  if (named < 0) return -errno;
  ::unlink(path.c_str());
  return named;
}

Result LinuxDriver::duplicate(Descriptor descriptor, FileKind& kind) {
  return duplicate_descriptor(static_cast<int>(descriptor), kind);
}

Result LinuxDriver::duplicate_own(Descriptor file, FileKind& kind) { return duplicate(file, kind); }

}  // namespace cp::driver
