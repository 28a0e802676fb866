// A condition variable that asks for no newer library than the addon may need:
// std::condition_variable::wait wants a libstdc++ of 2022 when compiled by GCC 12 or later, and
// wait_for a glibc of 2019.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/mutex.h"
#else

#include <cstdint>
#include <mutex>

#include "system/clock.h"
#include "system/mutex.h"

#ifdef _WIN32
#include <chrono>
#include <condition_variable>
#else
#include <pthread.h>
#include <time.h>
#endif

namespace cp::system {

#ifdef _WIN32

class Condition {
 public:
  void wait(std::unique_lock<Mutex>& lock) { condition_.wait(lock); }
  /// Waits for `nanoseconds` at most. May return early.
  void wait_for(std::unique_lock<Mutex>& lock, std::int64_t nanoseconds) {
    condition_.wait_for(lock, std::chrono::nanoseconds(nanoseconds));
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

#else

class Condition {
 public:
  Condition() {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&condition_, &attributes);
    pthread_condattr_destroy(&attributes);
  }
  ~Condition() { pthread_cond_destroy(&condition_); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  void wait(std::unique_lock<Mutex>& lock) {
    pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }
  /// Waits for `nanoseconds` at most. May return early.
  void wait_for(std::unique_lock<Mutex>& lock, std::int64_t nanoseconds) {
    constexpr std::int64_t kSecond = 1'000'000'000;
    const std::int64_t end = now() + nanoseconds;
    const timespec until = {static_cast<time_t>(end / kSecond), static_cast<long>(end % kSecond)};
    pthread_cond_timedwait(&condition_, lock.mutex()->native_handle(), &until);
  }
  void notify_one() { pthread_cond_signal(&condition_); }
  void notify_all() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_;
};

#endif

}  // namespace cp::system

#endif
