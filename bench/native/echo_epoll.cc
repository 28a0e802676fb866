// An echo server on epoll, edge-triggered: each descriptor is registered once, and a receive that
// leaves room in the buffer has emptied the socket.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "support/server.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr std::size_t kBufferSize = 65536;
constexpr int kEvents = 512;

/// Bytes the peer was too slow to take.
struct Connection {
  std::vector<char> unsent;
  bool open = false;
};

class Server {
 public:
  explicit Server(int listener) : listener_(listener), buffer_(new char[kBufferSize]) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) die("epoll_create1");
    watch(listener, EPOLLIN | EPOLLET);
  }

  void run(ServerRun& run) {
    epoll_event events[kEvents];
    while (!stopping()) {
      ++calls_;
      const int count = epoll_wait(epoll_, events, kEvents, -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_) {
          accept(run);
        } else {
          serve(fd, events[i].events, run);
        }
      }
    }
  }

  std::uint64_t system_calls() const { return calls_; }

 private:
  void watch(int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    ++calls_;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  }

  void accept(ServerRun& run) {
    for (;;) {
      ++calls_;
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0 && errno != EAGAIN) ++run.errors;
      if (fd < 0) return;
      ++run.connections;
      const auto i = static_cast<std::size_t>(fd);
      if (connections_.size() <= i) connections_.resize(i * 2 + 64);
      connections_[i].open = true;
      watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
  }

  void serve(int fd, std::uint32_t events, ServerRun& run) {
    Connection& connection = connections_[static_cast<std::size_t>(fd)];
    if (!connection.open) return;
    // What came while it could not send had its edge then, and is received only now.
    const bool resumed = !connection.unsent.empty();
    if (resumed && !continue_sending(fd, connection)) return;
    if (!resumed && (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
    const bool ends = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    for (;;) {
      ++calls_;
      const ssize_t got = recv(fd, buffer_.get(), kBufferSize, 0);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) return close_connection(fd, connection);
      ++run.messages;
      run.bytes += static_cast<std::uint64_t>(got);
      if (!echo(fd, connection, static_cast<std::size_t>(got))) return;
      const bool emptied = static_cast<std::size_t>(got) < kBufferSize;
      if (emptied && !resumed && !ends) return;
    }
  }

  /// False when no more is to be received for now.
  bool echo(int fd, Connection& connection, std::size_t size) {
    ++calls_;
    ssize_t sent = ::send(fd, buffer_.get(), size, MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(size)) return true;
    if (sent < 0 && errno != EAGAIN) {
      close_connection(fd, connection);
      return false;
    }
    if (sent < 0) sent = 0;
    connection.unsent.assign(buffer_.get() + sent, buffer_.get() + size);
    return false;
  }

  /// True when everything is out.
  bool continue_sending(int fd, Connection& connection) {
    std::vector<char>& unsent = connection.unsent;
    ++calls_;
    const ssize_t sent = ::send(fd, unsent.data(), unsent.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) close_connection(fd, connection);
    if (sent <= 0) return false;
    unsent.erase(unsent.begin(), unsent.begin() + sent);
    return unsent.empty();
  }

  void close_connection(int fd, Connection& connection) {
    connection = {};
    ++calls_;
    close(fd);
  }

  const int listener_;
  int epoll_ = -1;
  std::unique_ptr<char[]> buffer_;
  std::vector<Connection> connections_;
  std::uint64_t calls_ = 0;
};

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  const std::string help = std::string("echo_epoll: echoes TCP on epoll itself\n") + kServerHelp;
  Arguments arguments(argc, argv, help.c_str());
  ServerOptions options = server_options(arguments);
  arguments.end();
  raise_descriptor_limit();
  Server server(listen_at(options.host, options.port, true));
  ServerRun run;
  run.ready(options.port, options.seconds);
  server.run(run);
  run.report(JsonLine().add("program", "echo_epoll"),
             static_cast<std::int64_t>(server.system_calls()));
}
