// A lock for what lasts nanoseconds to a few microseconds and is seldom contended: one exchange to
// take it, one plain store to give it back.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/mutex.h"
#else

#include <atomic>
#include <thread>

#include "system/relax.h"

namespace cp {

/// Usable with std::lock_guard and std::unique_lock. Not recursive, not fair. Never held across a
/// system call that may block, or a call into the program.
class SpinLock {
 public:
  void lock() {
    while (!try_lock()) wait();
  }
  bool try_lock() { return !taken_.exchange(true, std::memory_order_acquire); }
  /// The same, `tries` times: for whoever can do something else instead.
  bool try_lock_for(int tries) {
    for (; tries > 0; --tries) {
      if (try_lock()) return true;
      relax();
    }
    return false;
  }
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  /// Reading alone leaves the cache line shared. The holder may have been preempted: after some
  /// microseconds its processor is of more use to it than to whoever waits.
  void wait() const {
    constexpr int kLooks = 200;
    for (int i = 0; i < kLooks; ++i) {
      if (!taken_.load(std::memory_order_relaxed)) return;
      relax();
    }
    std::this_thread::yield();
  }

  std::atomic<bool> taken_{false};
};

}  // namespace cp

#endif
