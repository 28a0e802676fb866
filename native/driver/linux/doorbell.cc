// An eventfd to ring at, in an epoll set together with the notifiers.
#include "driver/doorbell.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

namespace cp::driver {
namespace {

class LinuxDoorbell final : public Doorbell {
 public:
  LinuxDoorbell(int epoll, int bell) : epoll_(epoll), bell_(bell) { hear(bell_); }
  ~LinuxDoorbell() override {
    ::close(bell_);
    ::close(epoll_);
  }

  void ring() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(bell_, &one, sizeof one);
  }

  /// By edges, so that a notifier which stays readable, because its owner is busy, wakes once.
  void hear(int notifier) override {
    struct epoll_event event = {};
    event.events = EPOLLIN | EPOLLET;
    event.data.fd = notifier;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, notifier, &event);
  }

  void sleep() override {
    std::array<struct epoll_event, 64> events;
    ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    silence();
  }

  void pause(std::int64_t nanoseconds) override {
    const struct timespec time = {nanoseconds / 1'000'000'000,
                                  static_cast<long>(nanoseconds % 1'000'000'000)};
    pollfd bell = {bell_, POLLIN, 0};
    if (::ppoll(&bell, 1, &time, nullptr) > 0) silence();
  }

 private:
  void silence() {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(bell_, &count, sizeof count);
  }

  const int epoll_;
  const int bell_;
};

}  // namespace

std::unique_ptr<Doorbell> Doorbell::make() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return nullptr;
  const int bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell >= 0) return std::make_unique<LinuxDoorbell>(epoll, bell);
  ::close(epoll);
  return nullptr;
}

}  // namespace cp::driver
