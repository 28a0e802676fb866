#include "driver/accepting.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "driver/linux/socket.h"

namespace cp::driver {
namespace {

/// Of the event that ends a `wait`.
constexpr std::uint32_t kNudge = 0;

struct epoll_event event_of(std::uint32_t id, bool wanted) {
  struct epoll_event event = {};
  event.events = wanted ? static_cast<std::uint32_t>(EPOLLIN) : 0u;
  event.data.u32 = id;
  return event;
}

class EpollSockets final : public ListeningSockets {
 public:
  ~EpollSockets() override {
    if (epoll_ >= 0) ::close(epoll_);
    if (nudge_ >= 0) ::close(nudge_);
  }

  bool open() {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    nudge_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (epoll_ < 0 || nudge_ < 0) return false;
    struct epoll_event event = event_of(kNudge, true);
    return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, nudge_, &event) == 0;
  }

  Result add(Descriptor socket, std::uint32_t id) override {
    struct epoll_event event = event_of(id, false);
    const int added = ::epoll_ctl(epoll_, EPOLL_CTL_ADD, static_cast<int>(socket), &event);
    return added == 0 ? 0 : -errno;
  }

  /// Somebody else may have a duplicate of it, so that closing alone would leave it in the set.
  void remove(Descriptor socket, std::uint32_t) override {
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, static_cast<int>(socket), nullptr);
  }

  void look_at(Descriptor socket, std::uint32_t id, bool wanted) override {
    struct epoll_event event = event_of(id, wanted);
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, static_cast<int>(socket), &event);
  }

  void wait(std::vector<std::uint32_t>& ids, Deadline until) override {
    constexpr int kEvents = 16;
    struct epoll_event events[kEvents];
    const int count = ::epoll_wait(epoll_, events, kEvents, milliseconds_until(until));
    ids.clear();
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u32 != kNudge) {
        ids.push_back(events[i].data.u32);
        continue;
      }
      std::uint64_t times = 0;
      [[maybe_unused]] const ssize_t got = ::read(nudge_, &times, sizeof times);
    }
  }

  void nudge() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(nudge_, &one, sizeof one);
  }

 private:
  int epoll_ = -1;
  int nudge_ = -1;
};

}  // namespace

std::unique_ptr<ListeningSockets> ListeningSockets::make() {
  auto sockets = std::make_unique<EpollSockets>();
  if (!sockets->open()) return nullptr;
  return sockets;
}

Result open_shared_socket(const ListenOptions& options) { return open_listener(options); }

Result share_listening_socket(int fd) {
  SocketKind kind;
  const Result copy = duplicate_socket(fd, kind);
  if (copy < 0 || (kind.listens && !kind.messages)) return copy;
  ::close(static_cast<int>(copy));
  // What is accepted becomes a stream.
  return kind.messages ? -ENOTSUP : -EINVAL;
}

Result open_socket_like(Descriptor listener) {
  int family = 0;
  socklen_t size = sizeof family;
  if (::getsockopt(static_cast<int>(listener), SOL_SOCKET, SO_DOMAIN, &family, &size) < 0) {
    return -errno;
  }
  const int made = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return made >= 0 ? made : -errno;
}

Result accept_connection(Descriptor socket) {
  const int accepted =
      ::accept4(static_cast<int>(socket), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return accepted >= 0 ? accepted : -errno;
}

Result address_of_listener(Descriptor socket, SocketAddress& out) {
  return socket_address(static_cast<int>(socket), false, out);
}

void close_socket(Descriptor socket) { ::close(static_cast<int>(socket)); }

void name_acceptor_thread() { ::prctl(PR_SET_NAME, "cp-acceptor"); }

void remove_file_of_socket(const char* path) { ::unlink(path); }

}  // namespace cp::driver
