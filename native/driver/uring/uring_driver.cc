#include "driver/uring/uring_driver.h"

#include "driver/linux/linux_driver.h"
#include "driver/uring/nudge.h"
#include "driver/uring/probe.h"
#include "driver/uring/uring_lane.h"

namespace cp::driver {
namespace {

class UringDriver final : public LinuxDriver {
 public:
  explicit UringDriver(bool errands) : errands_(errands) {}

  const char* name() const override { return "io_uring"; }

  std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) override {
    return uring::UringLane::make(pool(), buffers, access(), error);
  }

 private:
  /// Of a ring of the calling thread.
  uring::Access access() const {
    if (!errands_) return uring::Access::kOwner;
    switch (uring::nudge_mode()) {
      case uring::NudgeMode::kSignal:
        return uring::Access::kNudge;
      case uring::NudgeMode::kTick:
        return uring::Access::kTick;
      case uring::NudgeMode::kOff:
        return uring::Access::kOwner;
    }
    return uring::Access::kOwner;
  }

  const bool errands_;
};

}  // namespace

std::unique_ptr<Driver> make_uring_driver(bool errands, Result& error, std::string& reason) {
  error = uring::probe(reason);
  return error < 0 ? nullptr : std::make_unique<UringDriver>(errands);
}

}  // namespace cp::driver
