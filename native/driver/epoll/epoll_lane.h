// A lane on epoll: readiness turned into completions.
//
// An operation is tried when it is started, unless its descriptor is known not to be ready; on
// EAGAIN it waits for an event and is tried again. What epoll can't wait for goes to the blocking
// pool. epoll_lane.cc has the lane's members, epoll_operations.cc the attempts, readiness.h what
// is remembered between them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "driver/blocking/blocking_pool.h"
#include "driver/blocking/pool_inbox.h"
#include "driver/driver.h"
#include "driver/epoll/readiness.h"
#include "driver/operation_list.h"
#include "driver/ready_list.h"
#include "system/published.h"

namespace cp::driver::epoll {

class EpollLane final : public Lane {
 public:
  /// Null with `error` set when there are no descriptors or memory left.
  static std::unique_ptr<EpollLane> make(BlockingPool& pool, BlockingPool& direct_pool,
                                         BufferSource& buffers, Result& error);
  ~EpollLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void wait(Deadline deadline) override;
  void begin_errand() override { errand_ = true; }
  void end_errand() override { errand_ = false; }
  bool pending() const override;
  void wake() override;
  int notifier() const override { return epoll_; }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override;
  bool refill() override { return buffers_.available(); }
  std::uint64_t system_calls() const override { return calls_.value(); }

 private:
  /// Where an operation is, kept in its `lane_state`. `kDone`: its final completion is decided.
  enum State : std::uint8_t {
    kRunnable,
    kRunnableLong,  ///< the same, and many bytes are to be expected
    kWaiting,       ///< for its descriptor to be ready
    kOnPool,
    kLeavingPool,  ///< cancelled while it runs there
    kDone
  };

  /// Completions on their way out.
  struct Batch {
    std::span<Completion> space;
    std::size_t count = 0;
    bool full() const { return count == space.size(); }
    void push(const Completion& completion) { space[count++] = completion; }
  };

  EpollLane(int epoll, int wake, int timer, BlockingPool& pool, BlockingPool& direct_pool,
            BufferSource& buffers);

  // epoll_lane.cc
  bool any_runnable() const { return !short_.empty() || !long_.empty(); }
  Operation* next_runnable();
  void collect(Batch& out);
  void take_stash(Batch& out);
  void take_ready(Batch& out) {
    out.count += ready_.take(out.space.subspan(out.count), in_flight_);
  }
  void fetch_from_pool();
  void fill_stash();
  bool harvest(int timeout);
  void event(std::uint32_t events, std::uint64_t data);
  void drain_wake();
  void drain_timer();
  void arm_timer(Deadline deadline);

  // epoll_operations.cc
  void start(Operation* operation, Batch& out);
  void accept(Operation* operation, Batch& out);
  void connect(Operation* operation, Batch& out);
  Result begin_connect(Operation* operation);
  void drop_connection(Operation* operation);
  void receive(Operation* operation, Batch& out);
  void send(Operation* operation, Batch& out);
  void shut_down(Operation* operation, Batch& out);
  void pass(Operation* operation, Batch& out);
  void send_file(Operation* operation, Batch& out);
  void sent_by_pool(Operation* operation, Result result);
  bool read_cached(Operation* operation, Batch& out);
  void transfer(Operation* operation, Batch& out);
  void close_now(Operation* operation, Batch& out);
  void stop_waiting(Operation* operation);
  void make_runnable(Operation* operation);
  void count_if_long(std::size_t bytes) {
    if (bytes >= kLongTransfer) moved_ += bytes;
  }
  void wait_ready(Operation* operation, Direction direction);
  void hand_to_pool(Operation* operation);
  /// Of a read or write the flags are those its file was opened with, from submit to the end.
  BlockingPool& pool_for(const Operation& operation) {
    const bool transfer = operation.code == Opcode::kRead || operation.code == Opcode::kWrite;
    return transfer && (operation.flags & kOpenDirect) ? direct_pool_ : pool_;
  }
  void finish(Operation* operation, Result result, Batch& out);
  /// Of what moves bytes; below 0 the result is an error.
  void finish_transfer(Operation* operation, Result result, Batch& out);
  void finish(Operation* operation, Result result);

  BlockingPool& pool_;
  BlockingPool& direct_pool_;
  BufferSource& buffers_;
  Count calls_;
  const int epoll_;
  const int wake_;
  const int timer_;
  Readiness readiness_;

  /// To be tried: new ones, those whose descriptor became ready, multishots that took their turn.
  /// Those of `short_` go first, so that a message does not wait for the megabytes of others.
  OperationList short_, long_;
  /// Short ones that have gone before a long one that waits: as many may, or it might never be
  /// tried.
  static constexpr int kShortPerLong = 16;
  int short_in_a_row_ = 0;
  /// Completions that came about where none could be handed out.
  ReadyList ready_;
  /// Those of operations that `wait` started, which go out first.
  std::array<Completion, 64> stash_;
  std::size_t stash_begin_ = 0, stash_end_ = 0;
  PoolInbox from_pool_;
  std::size_t in_flight_ = 0;
  /// Another thread than the owner is at work.
  bool errand_ = false;

  /// Somebody asked for an end of the wait, or its deadline came.
  bool woken_ = false;
  /// The events were fetched for the `reap` to come, which need not fetch them again.
  bool harvested_ = false;
  static constexpr int kReapsPerHarvest = 4;
  int reaps_since_harvest_ = 0;
  /// Bytes that long transfers have moved since then, or since a `fill_stash`. So many are half a
  /// millisecond of copying: it is time to hand out what has come, and to see what else has.
  static constexpr std::size_t kBytesPerHarvest = 512 * 1024;
  std::size_t moved_ = 0;
  /// Nothing is known that would make the epoll descriptor readable.
  bool quiet_ = false;
  Deadline armed_ = kNever;
  /// The eventfd is readable, or will be in a moment.
  std::atomic<bool> wake_pending_{false};
  /// The owner is in its event loop, which watches the epoll descriptor.
  bool on_notifier_ = false;
};

}  // namespace cp::driver::epoll
