#include "system/sim/mutex.h"

#include <algorithm>
#include <utility>

namespace cp::sim {

void Mutex::lock() {
  Scheduler* scheduler = Scheduler::current();
  if (scheduler == nullptr) return;
  scheduler->switch_point("lock");
  if (holder_ == scheduler->self()) {
    fail("order of locks", scheduler->self()->name + " locks what it has locked");
  }
  while (holder_ != nullptr) {
    waiting_.push_back(scheduler->self());
    scheduler->block("waits for a lock");
  }
  holder_ = scheduler->self();
}

bool Mutex::try_lock() {
  Scheduler* scheduler = Scheduler::current();
  if (scheduler == nullptr) return true;
  scheduler->switch_point("try lock");
  if (holder_ != nullptr) return false;
  holder_ = scheduler->self();
  return true;
}

void Mutex::unlock() {
  Scheduler* scheduler = Scheduler::current();
  if (scheduler == nullptr) return;
  if (holder_ != scheduler->self()) {
    fail("order of locks", scheduler->self()->name + " unlocks what it has not locked");
  }
  holder_ = nullptr;
  for (Fiber* fiber : std::exchange(waiting_, {})) scheduler->wake(fiber);
  scheduler->switch_point("unlock");
}

void Condition::wait(std::unique_lock<Mutex>& lock) { wait_until(lock, kEndOfTime); }

void Condition::wait_for(std::unique_lock<Mutex>& lock, std::int64_t nanoseconds) {
  wait_until(lock, Scheduler::current()->now() + nanoseconds);
}

/// Entered before the lock is given up: whoever notifies with the lock held is heard.
void Condition::wait_until(std::unique_lock<Mutex>& lock, Time until) {
  Scheduler& scheduler = *Scheduler::current();
  Fiber* self = scheduler.self();
  waiting_.push_back(self);
  lock.unlock();
  const auto listed = [&] {
    return std::find(waiting_.begin(), waiting_.end(), self) != waiting_.end();
  };
  if (listed()) scheduler.block("waits for a condition", until);
  std::erase(waiting_, self);
  lock.lock();
}

void Condition::notify_one() {
  Scheduler& scheduler = *Scheduler::current();
  scheduler.switch_point("notify");
  if (waiting_.empty()) return;
  Fiber* first = waiting_.front();
  waiting_.erase(waiting_.begin());
  scheduler.wake(first);
}

void Condition::notify_all() {
  Scheduler& scheduler = *Scheduler::current();
  scheduler.switch_point("notify");
  for (Fiber* fiber : std::exchange(waiting_, {})) scheduler.wake(fiber);
}

}  // namespace cp::sim
