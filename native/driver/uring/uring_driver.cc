#include "driver/uring/uring_driver.h"

#include "driver/linux_driver.h"
#include "driver/linux_socket.h"
#include "driver/uring/probe.h"
#include "driver/uring/uring_lane.h"

namespace cp::driver {
namespace {

class UringDriver final : public LinuxDriver {
 public:
  const char* name() const override { return "io_uring"; }

  std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) override {
    auto lane = std::make_unique<uring::UringLane>(buffers, pool());
    error = lane->open();
    return error < 0 ? nullptr : std::move(lane);
  }

  Result listen(const ListenOptions& options) override {
    const Result fd = LinuxDriver::listen(options);
    if (fd >= 0) set_blocking(static_cast<int>(fd));
    return fd;
  }
};

}  // namespace

std::unique_ptr<Driver> make_uring_driver(Result& error, std::string& reason) {
  error = uring::probe(reason);
  return error < 0 ? nullptr : std::make_unique<UringDriver>();
}

}  // namespace cp::driver
