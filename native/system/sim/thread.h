// Threads that the library starts, in a simulation. Like std::thread, but for what the library does
// not use.
#pragma once

#include <functional>
#include <utility>

#include "system/sim/scheduler.h"

namespace cp::sim {

class Thread {
 public:
  Thread() = default;
  template <typename Work>
  explicit Thread(Work work)
      : fiber_(Scheduler::current()->spawn("library", std::function<void()>(std::move(work)))) {}
  Thread(Thread&& other) noexcept : fiber_(std::exchange(other.fiber_, nullptr)) {}
  Thread& operator=(Thread&& other) noexcept {
    if (joinable()) fail("threads end", "a thread was forgotten");
    fiber_ = std::exchange(other.fiber_, nullptr);
    return *this;
  }
  ~Thread() {
    if (joinable()) fail("threads end", "a thread was forgotten");
  }

  bool joinable() const { return fiber_ != nullptr; }
  void join() { Scheduler::current()->join(std::exchange(fiber_, nullptr)); }
  Fiber* fiber() const { return fiber_; }

 private:
  Fiber* fiber_ = nullptr;
};

}  // namespace cp::sim

namespace cp::system {

using Thread = sim::Thread;

}  // namespace cp::system
