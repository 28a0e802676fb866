#include "driver/epoll/epoll_driver.h"

#include <utility>

#include "driver/epoll/epoll_lane.h"
#include "driver/linux/linux_driver.h"

namespace cp::driver {
namespace {

class EpollDriver final : public LinuxDriver {
 public:
  const char* name() const override { return "epoll"; }

  std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) override {
    return epoll::EpollLane::make(pool(), direct_pool_, buffers, error);
  }

 private:
  /// What passes the page cache by waits for the device, and a device is only fast with many
  /// requests under way: as many threads as that takes, which sleep nearly all of the time.
  static constexpr std::uint32_t kDirectThreads = 32;
  BlockingPool direct_pool_{kDirectThreads};
};

}  // namespace

std::unique_ptr<Driver> make_epoll_driver(Result& error, std::string& reason) {
  error = 0;
  reason.clear();
  return std::make_unique<EpollDriver>();
}

}  // namespace cp::driver
