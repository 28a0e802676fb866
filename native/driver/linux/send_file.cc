#include "driver/linux/send_file.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "driver/source_file.h"
#include "system/linux/calls.h"

namespace cp::driver {
namespace {

/// A part takes some 120 µs to send, so that a lane with a large file and a fast client still gets
/// to the others. With half of it a file of 1 MiB costs twice as much: its reader is woken for each
/// piece, and what is waiting for room in the socket is begun anew.
constexpr std::uint64_t kPart = 512 * 1024;

int fd_of_file(const Operation& operation) { return static_cast<int>(operation.file->descriptor); }

std::size_t next_part(const Operation& operation) {
  return static_cast<std::size_t>(std::min(operation.length, kPart));
}

/// Past the end nothing is read, so nothing is waited for.
bool has_byte(int file, std::int64_t offset) {
  std::uint8_t byte = 0;
  const struct iovec into = {&byte, 1};
  return call_preadv2(file, &into, 1, offset, RWF_NOWAIT) >= 0;
}

/// For files that the kernel can't splice: those of /proc and /sys, and of some file systems.
Result copy_part(const Operation& operation) {
  constexpr std::size_t kMost = 16 * 1024;
  std::uint8_t bytes[kMost];
  const ssize_t read = ::pread(fd_of_file(operation), bytes, std::min(next_part(operation), kMost),
                               operation.offset);
  if (read <= 0) return read == 0 ? 0 : -errno;
  const ssize_t sent = ::send(static_cast<int>(operation.descriptor), bytes,
                              static_cast<std::size_t>(read), MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? -errno : sent;
}

/// Sends what a header before the file has left to wait for it, and before Linux 6.5 the last bytes
/// of a file that was shorter than what was asked for. Sockets other than TCP's keep nothing back.
void push(int socket) {
  const int no = 0;
  ::setsockopt(socket, IPPROTO_TCP, TCP_CORK, &no, sizeof no);
}

Result send_from_cache(const Operation& operation) {
  for (;;) {
    off_t offset = operation.offset;
    const ssize_t sent = ::sendfile(static_cast<int>(operation.descriptor), fd_of_file(operation),
                                    &offset, next_part(operation));
    if (sent >= 0) return sent;
    if (errno == EINVAL) return copy_part(operation);
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

bool next_part_is_cached(const Operation& operation) {
  constexpr std::int64_t kPage = 4096;
  const int file = fd_of_file(operation);
  const std::int64_t first = operation.offset;
  const std::int64_t last = first + static_cast<std::int64_t>(next_part(operation)) - 1;
  const auto first_page = static_cast<std::uint64_t>(first / kPage);
  const auto last_page = static_cast<std::uint64_t>(last / kPage);
  RecentPages& recent = operation.file->recent;
  if (recent.cover(first_page, last_page, now())) return true;
  if (!has_byte(file, first)) return false;
  if (last_page > first_page && !has_byte(file, last)) return false;
  recent.note(first_page, last_page, now());
  return true;
}

/// sendfile has no flag for "don't wait": the socket has to be non-blocking. One that an io_uring
/// lane has accepted is not, and may stay so from now on: RECV and SEND don't look at it. A peer
/// that is gone raises SIGPIPE beside EPIPE; Node ignores the signal for the process.
Result send_part(const Operation& operation) {
  const int socket = static_cast<int>(operation.descriptor);
  int yes = 1;
  if (::ioctl(socket, FIONBIO, &yes) != 0) return -errno;
  const Result sent = send_from_cache(operation);
  if (sent <= 0 && sent != -EAGAIN) push(socket);
  return sent;
}

}  // namespace cp::driver
