// A lane that is watched from inside: Windows has no descriptor for what completes.
#include "addon/watch.h"

namespace cp::addon {
namespace {

/// The lane is armed whenever its owner goes to its event loop, so there is nothing to do again.
class LaneWatch final : public Watch {
 public:
  explicit LaneWatch(driver::Lane& lane) : lane_(lane) {}

  bool wait() override { return lane_.watch_notifier(); }
  void rearm() override {}
  void stop() override { lane_.stop_watching(); }

 private:
  driver::Lane& lane_;
};

}  // namespace

std::unique_ptr<Watch> make_watch(driver::Lane& lane) { return std::make_unique<LaneWatch>(lane); }

}  // namespace cp::addon
