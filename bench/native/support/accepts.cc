#include "support/accepts.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "support/process.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr int kEvents = 256;
constexpr int kLookMilliseconds = 100;

class Connector {
 public:
  Connector(const sockaddr_in& address, std::uint32_t outstanding, std::int64_t count_from)
      : address_(address), attempts_(outstanding), count_from_(count_from) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) die("epoll_create1");
  }
  ~Connector() {
    for (const Attempt& attempt : attempts_) {
      if (attempt.socket >= 0) close(attempt.socket);
    }
    close(epoll_);
  }

  AcceptCount run() {
    for (std::uint32_t i = 0; i < attempts_.size(); ++i) begin(i);
    epoll_event events[kEvents];
    while (!stopping()) {
      const int count = epoll_wait(epoll_, events, kEvents, kLookMilliseconds);
      for (int i = 0; i < count; ++i) go_on(events[i].data.u32, events[i].events);
    }
    return count_;
  }

 private:
  struct Attempt {
    int socket = -1;
    bool sent = false;
    std::int64_t began = 0;
  };

  void begin(std::uint32_t i) {
    Attempt& attempt = attempts_[i];
    attempt = {socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), false, now()};
    if (attempt.socket < 0) die("socket");
    reset_on_close(attempt.socket);
    const auto* address = reinterpret_cast<const sockaddr*>(&address_);
    if (connect(attempt.socket, address, sizeof address_) < 0 && errno != EINPROGRESS)
      die("connect");
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u32 = i;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, attempt.socket, &event) < 0) die("epoll_ctl");
  }

  void go_on(std::uint32_t i, std::uint32_t events) {
    Attempt& attempt = attempts_[i];
    char byte = 'a';
    if (!attempt.sent && (events & EPOLLOUT) != 0) {
      attempt.sent = send(attempt.socket, &byte, 1, MSG_NOSIGNAL) == 1;
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return;
    const bool answered = recv(attempt.socket, &byte, 1, 0) == 1 && byte == 'a';
    finish(attempt, answered);
    begin(i);
  }

  void finish(Attempt& attempt, bool answered) {
    const std::int64_t time = now();
    if (!answered) {
      ++count_.errors;
    } else if (time >= count_from_) {
      ++count_.accepts;
      count_.latency.add(static_cast<std::uint64_t>(time - attempt.began));
    }
    close(attempt.socket);
    attempt.socket = -1;
  }

  const sockaddr_in address_;
  std::vector<Attempt> attempts_;
  const std::int64_t count_from_;
  int epoll_ = -1;
  AcceptCount count_;
};

}  // namespace

AcceptCount count_accepts(const sockaddr_in& address, std::uint32_t outstanding,
                          std::int64_t count_from) {
  return Connector(address, outstanding, count_from).run();
}

}  // namespace cp::bench
