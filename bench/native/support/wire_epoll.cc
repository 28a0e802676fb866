#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "support/process.h"
#include "support/raw_ring.h"
#include "support/socket.h"
#include "support/wire.h"

namespace cp::bench {
namespace {

constexpr int kEvents = 512;
constexpr std::size_t kBufferSize = 65536;

class EpollWire final : public Wire {
 public:
  EpollWire() : epoll_(epoll_create1(EPOLL_CLOEXEC)), buffer_(new std::uint8_t[kBufferSize]) {
    if (epoll_ < 0) die("epoll_create1");
  }
  ~EpollWire() override {
    for (const Connection& connection : connections_) {
      reset_on_close(connection.socket);
      close(connection.socket);
    }
    close(epoll_);
  }

  void add(int socket) override {
    set_non_blocking(socket);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u32 = static_cast<std::uint32_t>(connections_.size());
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) < 0) die("epoll_ctl");
    connections_.push_back({socket, nullptr, 0});
  }

  void send(std::uint32_t connection, const std::uint8_t* data, std::size_t size) override {
    connections_[connection].unsent = data;
    connections_[connection].left = size;
    go_on(connections_[connection]);
  }

  void wait(std::int64_t deadline, Receiver& receiver) override {
    epoll_event events[kEvents];
    const int count = wait_for(events, deadline);
    for (int i = 0; i < count; ++i) {
      const std::uint32_t connection = events[i].data.u32;
      if (connections_[connection].left > 0) go_on(connections_[connection]);
      if (events[i].events == EPOLLOUT) continue;
      receive(connection, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0, receiver);
    }
  }

  const char* name() const override { return "epoll"; }

 private:
  struct Connection {
    int socket;
    const std::uint8_t* unsent;
    std::size_t left;
  };

  /// To the nanosecond where the C library has it, by rounding up to the millisecond elsewhere.
  int wait_for(epoll_event* events, std::int64_t deadline) {
    if (deadline == kForever) return epoll_wait(epoll_, events, kEvents, -1);
    const std::int64_t left = std::max<std::int64_t>(0, deadline - now());
#if defined(SYS_epoll_pwait2)
    const uring::Timespec time{left / 1'000'000'000, left % 1'000'000'000};
    const long count = syscall(SYS_epoll_pwait2, epoll_, events, kEvents, &time, nullptr, 0);
    if (count >= 0 || errno != ENOSYS) return static_cast<int>(count);
#endif
    return epoll_wait(epoll_, events, kEvents, static_cast<int>((left + 999'999) / 1'000'000));
  }

  void go_on(Connection& connection) {
    const ssize_t sent =
        ::send(connection.socket, connection.unsent, connection.left, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) shutdown(connection.socket, SHUT_RDWR);
    if (sent <= 0) return;
    connection.unsent += sent;
    connection.left -= static_cast<std::size_t>(sent);
  }

  /// A receive that leaves room in the buffer has emptied the socket.
  void receive(std::uint32_t connection, bool ends, Receiver& receiver) {
    for (;;) {
      const ssize_t got = recv(connections_[connection].socket, buffer_.get(), kBufferSize, 0);
      if (got < 0 && errno == EAGAIN) return;
      const std::size_t size = got > 0 ? static_cast<std::size_t>(got) : 0;
      receiver.received(connection, buffer_.get(), size);
      if (size == 0 || (size < kBufferSize && !ends)) return;
    }
  }

  const int epoll_;
  std::unique_ptr<std::uint8_t[]> buffer_;
  std::vector<Connection> connections_;
};

}  // namespace

std::unique_ptr<Wire> make_epoll_wire() { return std::make_unique<EpollWire>(); }

}  // namespace cp::bench
