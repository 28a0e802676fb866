// What a world runs on: the simulator's threads, which one of the system's runs by turns
// (system/sim), or the threads of a process, by turns as well, but in the order and the time that
// the system gives (process_host.h).
#pragma once

#ifndef CP_SIMULATION
#include "driver/sim/process_host.h"
#else

#include <functional>

#include "driver/driver.h"
#include "system/sim/scheduler.h"
#include "system/switch_point.h"

namespace cp::driver::sim {

/// A call of the library into the world: others may go on before it, and nobody during it.
struct Turn {
  Turn() { system::switch_point(); }
};

/// How the owner of a lane is told: in `wait`, or at the notifier that its event loop looks at.
class Notice {
 public:
  explicit Notice(Descriptor descriptor) : descriptor_(descriptor) {}
  Descriptor descriptor() const { return descriptor_; }
  /// Any thread.
  void tell();
  /// The owner, until it is told or then.
  void sleep(const char* where, Deadline until) {
    cp::sim::Scheduler& scheduler = *cp::sim::Scheduler::current();
    waiter_ = scheduler.self();
    scheduler.block(where, until);
    waiter_ = nullptr;
  }
  /// The notifier becomes readable then: whoever watches it sees to that.
  void arm(Deadline deadline) { armed_ = deadline; }
  Deadline armed() const { return armed_; }
  void clear() { armed_ = kNever; }

 private:
  const Descriptor descriptor_;
  cp::sim::Fiber* waiter_ = nullptr;
  Deadline armed_ = kNever;
};

}  // namespace cp::driver::sim

#endif
