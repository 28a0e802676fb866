// A few threads for the operations that can hold a thread up: files, and opening by path.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "driver/blocking/blocking_thread.h"
#include "driver/driver.h"
#include "driver/operation_list.h"
#include "system/condition.h"
#include "system/mutex.h"
#include "system/thread.h"

namespace cp::driver {

/// Told of the end of an operation it gave to the pool, on a thread of the pool.
class CompletionSink {
 public:
  /// The operation is the sink's again. The pool touches neither it nor the sink afterwards, but
  /// the sink has to outlive the call: take a lock here, and again before destroying the sink.
  virtual void completed(Operation* operation, Result result) = 0;

 protected:
  ~CompletionSink() = default;
};

/// Belongs to a driver; all lanes of a port share it. The operations waiting are strung on their
/// own links, so the queue is bounded by what the port has in flight. Every member is thread-safe.
class BlockingPool {
 public:
  static constexpr std::uint32_t kThreads = 4;

  explicit BlockingPool(std::uint32_t threads = kThreads) : limit_(threads) {}
  /// No operation is queued or running by now.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Uses the operation's links and `lane_scratch` until it is the sink's again. Where not even
  /// one thread can be had, the sink is told -EAGAIN before this returns; but a close is done by
  /// the calling thread then.
  void submit(Operation* operation, CompletionSink& sink);

  /// For an operation that was submitted and that the submitter has not seen complete.
  /// True: it had not started; it is the caller's again and the sink will not hear of it.
  /// False: the sink hears of it, with its natural result or, if it was about to wait for the
  /// other end of a FIFO once more, with -ECANCELED.
  bool cancel(Operation* operation);

 private:
  void work();
  Operation* take_due();
  void run(Operation* operation, std::unique_lock<system::Mutex>& lock);
  void put_off(Operation* operation);
  void sleep_for_delayed(std::unique_lock<system::Mutex>& lock);
  void provide_thread();
  bool start_thread();

  const std::uint32_t limit_;
  system::Mutex mutex_;
  system::Condition wake_;
  OperationList ready_;
  /// To be tried again, the earliest first.
  OperationList delayed_;
  std::vector<system::Thread> threads_;
  std::uint32_t idle_ = 0;
  /// A thread sleeps until the first of `delayed_` is due.
  bool keeper_ = false;
  bool stopping_ = false;
};

}  // namespace cp::driver
