// How a thread of ours that sleeps is told of what happens elsewhere in the process.
#pragma once

#include <memory>

#include "driver/driver.h"

namespace cp::driver {

/// One thread sleeps at it, any may ring.
class Doorbell {
 public:
  virtual ~Doorbell() = default;
  /// Null when the system has no descriptors or handles left.
  static std::unique_ptr<Doorbell> make();

  /// Ends a `sleep` or `pause` that goes on, else the next one.
  virtual void ring() = 0;
  /// From now on what makes a lane's notifier readable rings, too, but only for `sleep`. Until the
  /// lane closes it. Nothing to do where there is none.
  virtual void hear(int notifier) = 0;
  virtual void sleep() = 0;
  /// Sleeps for that long unless somebody rings.
  virtual void pause(std::int64_t nanoseconds) = 0;
};

}  // namespace cp::driver
