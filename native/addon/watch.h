// How the thread of a notifier learns that a lane has something to tell.
#pragma once

#include <memory>

#include "driver/driver.h"

namespace cp::addon {

class Watch {
 public:
  virtual ~Watch() = default;
  /// On the notifier's thread: sleeps until there is something to tell, and after that until
  /// `rearm`. False after `stop`.
  virtual bool wait() = 0;
  /// JavaScript has been to the lane and found nothing more.
  virtual void rearm() = 0;
  virtual void stop() = 0;
};

/// Null when the system has no means left.
std::unique_ptr<Watch> make_watch(driver::Lane& lane);

}  // namespace cp::addon
