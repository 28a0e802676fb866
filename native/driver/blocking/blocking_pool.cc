#include "driver/blocking/blocking_pool.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <type_traits>
#include <utility>

#include "driver/blocking/blocking_calls.h"
#include "driver/errno.h"
#include "system/switch_point.h"
#include "system/thread.h"

namespace cp::driver {
namespace {

constexpr std::int64_t kFirstDelay = 1'000'000;
constexpr std::int64_t kLongestDelay = 16'000'000;

/// What the pool remembers about an operation, kept in the operation.
struct Job {
  enum State : std::uint8_t { kReady, kDelayed, kRunning };
  CompletionSink* sink = nullptr;
  Deadline not_before = 0;
  std::int64_t delay = kFirstDelay;
  State state = kReady;
  bool cancelled = false;
};
static_assert(sizeof(Job) <= Scratch::kSize);
static_assert(std::is_trivially_destructible_v<Job>);

Job& job_of(Operation* operation) { return *static_cast<Job*>(operation->lane_scratch.get()); }

}  // namespace

BlockingPool::~BlockingPool() {
  {
    std::lock_guard<system::Mutex> lock(mutex_);
    assert(ready_.empty() && delayed_.empty());
    stopping_ = true;
    wake_.notify_all();
  }
  for (system::Thread& thread : threads_) thread.join();
}

void BlockingPool::submit(Operation* operation, CompletionSink& sink) {
  Job* job = new (operation->lane_scratch.make()) Job;
  job->sink = &sink;
  {
    std::lock_guard<system::Mutex> lock(mutex_);
    assert(!stopping_);
    ready_.push_back(operation);
    provide_thread();
    if (!threads_.empty()) return;
    ready_.remove(operation);
    job->state = Job::kRunning;
  }
  // A descriptor that nobody closes is lost: rather wait here.
  const bool closes =
      operation->code == Opcode::kClose && !CP_PLANTED("a close is lost without a thread");
  sink.completed(operation, closes ? run_blocking(*operation) : -EAGAIN);
}

bool BlockingPool::cancel(Operation* operation) {
  std::lock_guard<system::Mutex> lock(mutex_);
  Job& job = job_of(operation);
  if (job.state == Job::kRunning) {
    job.cancelled = true;
    return false;
  }
  (job.state == Job::kReady ? ready_ : delayed_).remove(operation);
  return true;
}

/// Sees to it that somebody looks after the queues: `idle_` still counts threads that were notified
/// and have not taken their operation yet, as `ready_` still counts that operation.
void BlockingPool::provide_thread() {
  const std::size_t keepers = delayed_.empty() || keeper_ ? 0 : 1;
  const std::size_t wanted = ready_.size() + keepers;
  if (wanted > idle_ && threads_.size() < limit_ && start_thread()) return;
  if (wanted > 0 && idle_ > 0) wake_.notify_one();
}

bool BlockingPool::start_thread() {
  system::Thread thread = start_blocking_thread([this] { work(); });
  const bool started = thread.joinable();
  if (started) threads_.push_back(std::move(thread));
  return started;
}

void BlockingPool::work() {
  std::unique_lock<system::Mutex> lock(mutex_);
  while (!stopping_) {
    if (Operation* operation = take_due()) {
      // This thread may be gone for long: the rest needs another.
      provide_thread();
      run(operation, lock);
    } else if (!delayed_.empty() && !keeper_) {
      sleep_for_delayed(lock);
    } else {
      ++idle_;
      wake_.wait(lock);
      --idle_;
    }
  }
}

/// Sleeps outside the condition: its timed waits go by the system clock, and last for hours when
/// somebody sets that back (choosing another clock, or naming one, needs a newer glibc). What is
/// queued meanwhile is for the other threads.
void BlockingPool::sleep_for_delayed(std::unique_lock<system::Mutex>& lock) {
  const Deadline until = job_of(delayed_.front()).not_before;
  keeper_ = true;
  lock.unlock();
  sleep_blocking_thread(until);
  lock.lock();
  keeper_ = false;
}

Operation* BlockingPool::take_due() {
  // Those that waited go first: they were submitted earlier.
  const bool due = !delayed_.empty() && job_of(delayed_.front()).not_before <= now();
  Operation* operation = (due ? delayed_ : ready_).pop_front();
  if (operation != nullptr) job_of(operation).state = Job::kRunning;
  return operation;
}

void BlockingPool::run(Operation* operation, std::unique_lock<system::Mutex>& lock) {
  lock.unlock();
  Result result = run_blocking(*operation);
  lock.lock();
  Job& job = job_of(operation);
  if (result == kTryLater) {
    if (!job.cancelled) return put_off(operation);
    result = -ECANCELED;
  }
  CompletionSink* sink = job.sink;
  lock.unlock();
  sink->completed(operation, result);
  lock.lock();
}

/// Queues the operation to be tried again, rather than have it occupy a thread while it waits.
void BlockingPool::put_off(Operation* operation) {
  Job& job = job_of(operation);
  job.state = Job::kDelayed;
  job.not_before = now() + job.delay;
  job.delay = std::min(job.delay * 2, kLongestDelay);
  Operation* before = delayed_.back();
  while (before != nullptr && job_of(before).not_before > job.not_before) {
    before = before->lane_previous;
  }
  delayed_.insert_after(before, operation);
}

}  // namespace cp::driver
