// A lane's descriptor, watched with poll.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "addon/watch.h"

namespace cp::addon {
namespace {

class DescriptorWatch final : public Watch {
 public:
  DescriptorWatch(int descriptor, int rearm) : descriptor_(descriptor), rearm_(rearm) {}
  ~DescriptorWatch() override { ::close(rearm_); }

  bool wait() override {
    while (!stopping_.load()) {
      pollfd descriptors[2] = {{descriptor_, POLLIN, 0}, {rearm_, POLLIN, 0}};
      const bool told = told_.load();
      if (told) descriptors[0].fd = -1;
      if (poll(descriptors, 2, -1) < 0 && errno != EINTR) return false;
      if (descriptors[1].revents != 0) {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t got = ::read(rearm_, &count, sizeof count);
        continue;
      }
      if (told || descriptors[0].revents == 0) continue;
      told_.store(true);
      return true;
    }
    return false;
  }

  void rearm() override {
    if (told_.exchange(false)) write_one();
  }

  void stop() override {
    stopping_.store(true);
    write_one();
  }

 private:
  void write_one() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(rearm_, &one, sizeof one);
  }

  const int descriptor_;
  const int rearm_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> told_{false};
};

}  // namespace

std::unique_ptr<Watch> make_watch(driver::Lane& lane) {
  const int rearm = eventfd(0, EFD_CLOEXEC);
  if (rearm < 0) return nullptr;
  return std::make_unique<DescriptorWatch>(lane.notifier(), rearm);
}

}  // namespace cp::addon
