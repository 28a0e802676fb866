// The locks of a simulation. Whoever locks, finds it locked, or unlocks may be interrupted there.
#pragma once

#include <mutex>
#include <vector>

#include "system/sim/scheduler.h"

namespace cp::sim {

class Mutex {
 public:
  void lock();
  bool try_lock();
  void unlock();

 private:
  Fiber* holder_ = nullptr;
  std::vector<Fiber*> waiting_;
};

class Condition {
 public:
  void wait(std::unique_lock<Mutex>& lock);
  void wait_for(std::unique_lock<Mutex>& lock, std::int64_t nanoseconds);
  void notify_one();
  void notify_all();

 private:
  void wait_until(std::unique_lock<Mutex>& lock, Time until);
  std::vector<Fiber*> waiting_;
};

}  // namespace cp::sim

namespace cp::system {

using Mutex = sim::Mutex;
using Condition = sim::Condition;

}  // namespace cp::system

namespace cp {

class SpinLock : public sim::Mutex {
 public:
  bool try_lock_for(int tries) {
    for (; tries > 0; --tries) {
      if (try_lock()) return true;
    }
    return false;
  }
};

}  // namespace cp
