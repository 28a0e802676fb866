// A file of its own: <linux/tcp.h>, whose tcp_info is longer, excludes <netinet/tcp.h>.
#include "driver/linux/connection.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstddef>

namespace cp::driver {
namespace {

/// TCP_CLOSE of the kernel's states: the connection is gone, in whichever way.
constexpr std::uint8_t kGone = 7;

/// False where the kernel does not tell all of it (before 4.1), or it is no TCP socket.
bool ask(int socket, struct tcp_info& info) {
  socklen_t length = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
  return length >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(std::uint64_t);
}

}  // namespace

/// The end of a stream takes one number of the sequence, as a byte does, and the kernel counts it
/// among the bytes received; a reset takes none.
bool connection_ended_in_order(int socket, std::uint64_t received) {
  struct tcp_info info = {};
  if (!ask(socket, info) || info.tcpi_state != kGone) return true;
  int unread = 0;
  if (::ioctl(socket, SIOCINQ, &unread) != 0) return true;
  return info.tcpi_bytes_received > received + static_cast<std::uint64_t>(unread);
}

std::int64_t bytes_acknowledged(int socket) {
  struct tcp_info info = {};
  return ask(socket, info) ? static_cast<std::int64_t>(info.tcpi_bytes_acked) : -1;
}

std::int64_t bytes_moved(int socket) {
  struct tcp_info info = {};
  if (!ask(socket, info)) return -1;
  return static_cast<std::int64_t>(info.tcpi_bytes_acked + info.tcpi_bytes_received);
}

}  // namespace cp::driver
