// What the threads of the blocking pool have done for a lane, and the lane has not seen yet.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/driver.h"
#include "system/mutex.h"

namespace cp::driver {

class PoolInbox final : public CompletionSink {
 public:
  explicit PoolInbox(Lane& lane) : lane_(lane) {}

  /// Before the lane gives up what `wake` needs: a thread of the pool may still be about to leave
  /// `completed`.
  void wait_for_pool() { std::lock_guard lock(mutex_); }

  bool empty() const { return !filled_.load(std::memory_order_acquire); }

  /// Calls `visit(operation, result)` for each, in order.
  template <typename Visit>
  void fetch(Visit visit) {
    if (empty()) return;
    std::vector<Answer> fetched;
    {
      std::lock_guard lock(mutex_);
      fetched.swap(results_);
      filled_.store(false, std::memory_order_relaxed);
    }
    for (const Answer& it : fetched) visit(it.operation, it.result);
  }

 private:
  struct Answer {
    Operation* operation;
    Result result;
  };

  /// Everything under the lock, the wake as well: once the owner has taken the result, it may
  /// destroy the lane, and `wait_for_pool` waits for this call. Only the first of several wakes:
  /// the owner does not sleep while there is something here.
  void completed(Operation* operation, Result result) override {
    std::lock_guard lock(mutex_);
    results_.push_back({operation, result});
    if (results_.size() > 1) return;
    filled_.store(true, std::memory_order_release);
    lane_.wake();
  }

  Lane& lane_;
  system::Mutex mutex_;  ///< guards what the pool's threads write
  std::vector<Answer> results_;
  std::atomic<bool> filled_{false};
};

}  // namespace cp::driver
