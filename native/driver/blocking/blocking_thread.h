// What a thread of the blocking pool asks of the system it runs on.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

#ifdef _WIN32
#include <condition_variable>
#else
#include <pthread.h>
#endif

#include "driver/driver.h"

namespace cp::driver {

/// Not joinable when the system has no thread to give.
std::thread start_blocking_thread(std::function<void()> work);

/// Sleeps until then on the monotonic clock.
void sleep_blocking_thread(Deadline until);

#ifdef _WIN32
using BlockingCondition = std::condition_variable;
#else
/// std::condition_variable::wait needs a libstdc++ of 2022 when compiled by GCC 12 or later.
class BlockingCondition {
 public:
  ~BlockingCondition() { pthread_cond_destroy(&condition_); }
  void wait(std::unique_lock<std::mutex>& lock) {
    pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }
  void notify_one() { pthread_cond_signal(&condition_); }
  void notify_all() { pthread_cond_broadcast(&condition_); }

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};
#endif

}  // namespace cp::driver
