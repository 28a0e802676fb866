// support/system.h, support/sockets.h and support/peer.h on POSIX.
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "peer.h"
#include "sockets.h"
#include "system.h"

namespace cp::test {
namespace {

/// Node ignores SIGPIPE; so do these programs.
const bool sigpipe_ignored = ::signal(SIGPIPE, SIG_IGN) != SIG_ERR;

/// Without "." and "..".
std::size_t entries_of(const char* folder) {
  std::size_t count = 0;
  DIR* directory = ::opendir(folder);
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count - 2;
}

/// A ring of the same thread, also one that is being torn down, can interrupt blocking calls: with
/// a timeout set the kernel does not restart them.
template <typename Call>
std::ptrdiff_t uninterrupted(Call call) {
  for (;;) {
    const std::ptrdiff_t result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

/// The connection goes on being made when the call is interrupted.
bool established(int fd) {
  pollfd writable{fd, POLLOUT, 0};
  while (::poll(&writable, 1, 40'000) < 0 && errno == EINTR) {
  }
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

}  // namespace

/// Without the directory's own.
std::size_t open_descriptors() { return entries_of("/proc/self/fd") - 1; }
std::size_t threads_of_process() { return entries_of("/proc/self/task"); }

driver::SocketAddress any_loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  driver::SocketAddress out;
  std::memcpy(out.bytes, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

std::string temporary_directory() {
  const char* base = ::getenv("TMPDIR");
  return base != nullptr ? base : "/tmp";
}

std::string readable_file() { return "/proc/self/maps"; }

TemporaryFile::TemporaryFile() : path_(temporary_directory() + "/completion-port-XXXXXX") {
  const int fd = ::mkstemp(path_.data());
  if (fd >= 0) ::close(fd);
}
TemporaryFile::~TemporaryFile() { ::unlink(path()); }

std::int64_t read_at(driver::Descriptor file, void* bytes, std::size_t length, std::uint64_t at) {
  return ::pread(static_cast<int>(file), bytes, length, static_cast<off_t>(at));
}
std::int64_t write_at(driver::Descriptor file, const void* bytes, std::size_t length,
                      std::uint64_t at) {
  return ::pwrite(static_cast<int>(file), bytes, length, static_cast<off_t>(at));
}

// ---- sockets ----------------------------------------------------------------------------------

Socket socket_to(const driver::SocketAddress& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto* to = reinterpret_cast<const sockaddr*>(address.bytes);
  return ::connect(fd, to, address.length) == 0 ? fd : -1;
}

void put(Socket socket, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(static_cast<int>(socket), bytes, size, MSG_NOSIGNAL);
    if (sent < 0) return;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

std::ptrdiff_t take(Socket socket, void* data, std::size_t size) {
  return ::recv(static_cast<int>(socket), data, size, 0);
}

void put_urgent(Socket socket) { ::send(static_cast<int>(socket), "!", 1, MSG_OOB); }
void end_writing(Socket socket) { ::shutdown(static_cast<int>(socket), SHUT_WR); }
void end_both(Socket socket) { ::shutdown(static_cast<int>(socket), SHUT_RDWR); }
void shut(Socket socket) { ::close(static_cast<int>(socket)); }

void reset(Socket socket) {
  const linger at_once = {1, 0};
  ::setsockopt(static_cast<int>(socket), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  shut(socket);
}

bool readable(Socket socket, int milliseconds) {
  pollfd ready = {static_cast<int>(socket), POLLIN, 0};
  return ::poll(&ready, 1, milliseconds) == 1;
}

// ---- the other end ----------------------------------------------------------------------------

Peer::Peer(const driver::SocketAddress& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  socket_ = fd;
  timeval limit{40, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const auto* to = reinterpret_cast<const sockaddr*>(address.bytes);
  connected = ::connect(fd, to, address.length) == 0 || (errno == EINTR && established(fd));
}

std::ptrdiff_t Peer::write_some(const char* bytes, std::size_t length) {
  return uninterrupted(
      [&] { return ::send(static_cast<int>(socket_), bytes, length, MSG_NOSIGNAL); });
}

std::ptrdiff_t Peer::read_some(char* bytes, std::size_t length) {
  return uninterrupted([&] { return ::recv(static_cast<int>(socket_), bytes, length, 0); });
}

void Peer::end_writing() { ::shutdown(static_cast<int>(socket_), SHUT_WR); }

void Peer::reset() {
  linger now{1, 0};
  ::setsockopt(static_cast<int>(socket_), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  shut();
}

void Peer::shut() {
  if (socket_ >= 0) ::close(static_cast<int>(socket_));
  socket_ = -1;
}

}  // namespace cp::test
