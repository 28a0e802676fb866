// A lane on epoll: readiness turned into completions.
//
// An operation is tried when it is started, unless its descriptor is known not to be ready; on
// EAGAIN it waits for an event and is tried again. What epoll can't wait for goes to the blocking
// pool. epoll_lane.cc has the lane's members, epoll_operations.cc the attempts, readiness.h what
// is remembered between them.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <mutex>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/driver.h"
#include "driver/epoll/readiness.h"
#include "driver/operation_list.h"

namespace cp::driver {

class EpollLane final : public Lane, private CompletionSink {
 public:
  /// Null with `error` set when there are no descriptors or memory left.
  static std::unique_ptr<EpollLane> make(BlockingPool& pool, BlockingPool& direct_pool,
                                         BufferSource& buffers, Result& error);
  ~EpollLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void begin_errand() override { errand_ = true; }
  void end_errand() override { errand_ = false; }
  bool pending() const override;
  void wait(Deadline deadline) override;
  void wake() override;
  int notifier() const override { return epoll_; }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override;
  bool refill() override { return buffers_.available(); }
  std::uint64_t system_calls() const override { return calls_.value(); }

 private:
  /// Where an operation is, kept in its `lane_state`. `kDone`: its final completion is decided.
  /// `kLeavingPool`: cancelled while it runs there.
  enum State : std::uint8_t { kRunnable, kWaiting, kOnPool, kLeavingPool, kDone };

  /// Completions on their way out.
  struct Batch {
    std::span<Completion> space;
    std::size_t count = 0;
    bool full() const { return count == space.size(); }
    void push(const Completion& completion) { space[count++] = completion; }
  };

  struct Finished {
    Operation* operation;
    Result result;
  };

  EpollLane(int epoll, int wake, int timer, BlockingPool& pool, BlockingPool& direct_pool,
            BufferSource& buffers);

  // epoll_lane.cc
  void completed(Operation* operation, Result result) override;
  void collect(Batch& out);
  void take_stash(Batch& out);
  void take_finished(Batch& out);
  void take_pool_results();
  void fill_stash();
  bool harvest(int timeout);
  void event(std::uint32_t events, std::uint64_t data);
  void drain_wake();
  void drain_timer();
  void arm_timer(Deadline deadline);

  // epoll_operations.cc
  void attempt(Operation* operation, Batch& out);
  bool read_cached(Operation* operation, Batch& out);
  void accept(Operation* operation, Batch& out);
  void connect(Operation* operation, Batch& out);
  Result begin_connect(Operation* operation);
  void drop_connection(Operation* operation);
  void receive(Operation* operation, Batch& out);
  Result receive_once(const Operation* operation, Completion& completion, std::uint64_t& asked);
  void send(Operation* operation, Batch& out);
  void send_file(Operation* operation, Batch& out);
  void sent_by_pool(Operation* operation, Result result);
  void transfer(Operation* operation, Batch& out);
  void close_now(Operation* operation, Batch& out);
  void make_runnable(Operation* operation);
  void wait_ready(Operation* operation, Direction direction);
  void hand_to_pool(Operation* operation);
  /// Of a read or write the flags are those its file was opened with, from submit to the end.
  BlockingPool& pool_for(const Operation& operation) {
    const bool transfer = operation.code == Opcode::kRead || operation.code == Opcode::kWrite;
    return transfer && (operation.flags & kOpenDirect) ? direct_pool_ : pool_;
  }
  void finish(Operation* operation, Result result, Batch& out);
  void finish_later(Operation* operation, Result result);

  const int epoll_;
  const int wake_;
  const int timer_;
  BlockingPool& pool_;
  BlockingPool& direct_pool_;
  BufferSource& buffers_;
  CallCount calls_;
  Readiness readiness_;

  /// To be tried: new ones, those whose descriptor became ready, multishots that took their turn.
  OperationList runnable_;
  /// Results that came about where no completion could be handed out.
  std::deque<Finished> finished_;
  /// Completions of operations that `wait` started; they go out first.
  std::array<Completion, 64> stash_;
  std::size_t stash_begin_ = 0, stash_end_ = 0;
  std::size_t in_flight_ = 0;

  /// Somebody asked for an end of the wait, or its deadline came.
  bool woken_ = false;
  /// The events were fetched for the `reap` to come, which need not fetch them again.
  bool harvested_ = false;
  static constexpr int kReapsPerHarvest = 4;
  int reaps_since_harvest_ = 0;
  /// Nothing is known that would make the epoll descriptor readable.
  bool quiet_ = false;
  Deadline armed_ = kNever;
  /// The owner is in its event loop, which watches the epoll descriptor.
  bool on_notifier_ = false;
  /// Another thread than the owner is at work.
  bool errand_ = false;

  /// The eventfd is readable, or will be in a moment.
  std::atomic<bool> wake_pending_{false};
  std::mutex pool_mutex_;
  std::vector<Finished> pool_results_;
  std::atomic<bool> has_pool_results_{false};
};

}  // namespace cp::driver
