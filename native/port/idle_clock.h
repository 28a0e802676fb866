// Ends connections on which nothing moves (`idleTimeout`).
//
// One thread for the process, which is there while some connection has such a time. The deadline is
// the handle's: it stays the same whichever port the handle moves to, and whichever threads come
// and go there. Whoever moves bytes only notes when; the clock looks when the time would have
// passed since the last look, and mostly finds that it has to come again.
//
// It looks; a thread of the handle's port ends what is under way, since an operation ends where it
// runs (Thread::end_idle).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "driver/driver.h"
#include "port/deadlines.h"
#include "port/handle.h"
#include "system/condition.h"
#include "system/mutex.h"
#include "system/thread.h"

namespace cp {

class IdleClock {
 public:
  static IdleClock& instance();

  /// Each handle with a time holds it, listeners among them; before that, whoever gives one its
  /// time does. False, and not held, when the system has no thread to give.
  bool hold();
  /// By a handle while another one holds it, or for one that had a time.
  void hold_too() { holders_.fetch_add(1); }
  void let_go() { holders_.fetch_sub(1); }
  /// Looks at the handle no later than at `time`.
  void watch(std::uint32_t place, driver::Deadline time);
  void forget(std::uint32_t place);
  /// A port has ended: the thread ends where nobody holds it any more.
  void rest();

  /// When nothing will have moved on it for its time, were nothing to move from now on: past, it is
  /// to be ended. Its mutex is held.
  static driver::Deadline due(Handle& handle, driver::Deadline now);

 private:
  static constexpr double kAwake = -Deadlines::kNone;

  bool start();
  void main(std::uint64_t life);
  bool will_sleep_until(double time, std::uint64_t life);
  void sleep_until(double time, std::uint64_t life);
  void look_at(std::uint32_t place, driver::Deadline now);

  Deadlines deadlines_{std::size_t{1} << kPlaceBits};
  /// Until when it sleeps; kAwake: it looks once more before it does.
  std::atomic<double> sleeps_until_{kAwake};
  std::atomic<std::uint64_t> holders_{0};

  system::Mutex mutex_;  ///< guards what follows; a leaf
  system::Condition changed_;
  std::uint64_t life_ = 0;  ///< of the thread; one that is to end had another
  bool woken_ = false;
  system::Thread thread_;
};

}  // namespace cp
