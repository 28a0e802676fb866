// A lane on io_uring: one ring, owned by one thread.
//
// An operation is given to the kernel when it is submitted. What the ring does not have, or would
// hand to a kernel thread, is done at once or on the blocking pool. uring_lane.cc has the lane's
// members, uring_operations.cc how each operation begins and what its completion means.
//
// On an errand (driver.h) another thread fills entries, too. They are few, and short-lived: the
// kernel ends what a thread has submitted when that thread exits, so what may last is submitted by
// whoever owns a lane, in it (native/port). What is ended that way nevertheless is begun again.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "driver/blocking/blocking_pool.h"
#include "driver/blocking/pool_inbox.h"
#include "driver/driver.h"
#include "driver/operation_list.h"
#include "driver/ready_list.h"
#include "driver/uring/provided_buffers.h"
#include "driver/uring/registered_chunks.h"
#include "driver/uring/ring.h"
#include "system/published.h"

namespace cp::driver::uring {

class UringLane final : public Lane {
 public:
  /// Null with `error` set when there are no descriptors or memory left.
  static std::unique_ptr<UringLane> make(BlockingPool& pool, BufferSource& buffers, Access access,
                                         Result& error);
  ~UringLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void wait(Deadline deadline) override;
  void flush() override;
  void begin_errand() override;
  void end_errand() override;
  bool pending() const override;
  bool has_news() const override;
  void wake() override;
  int notifier() const override { return notify_fd_; }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override;
  bool refill() override { return provided_.top_up(true); }
  std::uint64_t system_calls() const override { return ring_.calls() + calls_.value(); }

 private:
  /// Where an operation is, kept in its `lane_state`. `kDone`: its final completion is decided.
  enum State : std::uint8_t {
    kRunnable,
    kWithKernel,
    kWaiting,  ///< the ring polls its descriptor
    kOnPool,
    kLeavingPool,    ///< cancelled while it runs there
    kCancelled,      ///< kWithKernel, and a cancel is on its way
    kWaitCancelled,  ///< kWaiting, and a cancel is on its way
    kDone
  };

  UringLane(BlockingPool& pool, BufferSource& buffers);
  Result open(Access access);

  // uring_lane.cc
  Sqe* sqe();
  void cancel_in_ring(const Operation* operation);
  void queue_surplus();
  void stash_completions();
  bool settle(const Cqe& cqe, Completion& out);
  bool settle_internal(const Cqe& cqe);
  std::size_t take_ready(std::span<Completion> out) { return ready_.take(out, in_flight_); }
  void fetch_from_pool();
  bool something_to_do() const;
  void arm(Deadline deadline);
  void arm_wake();
  Deadline rest(Deadline deadline);
  void draw_back(std::uint32_t count);
  void leave_notifier();

  // uring_operations.cc
  void start(Operation* operation);
  void give_to_kernel(Operation* operation);
  void fill(Sqe& entry, Operation& operation);
  void fill_open(Sqe& entry, Operation& operation);
  void fill_transfer(Sqe& entry, Operation& operation);
  void fill_accept(Sqe& entry, Operation& operation);
  void fill_connect(Sqe& entry, Operation& operation);
  void fill_receive(Sqe& entry, Operation& operation);
  void fill_send(Sqe& entry, Operation& operation);
  void fill_passing(Sqe& entry, Operation& operation);
  void connect(Operation* operation);
  void shut_down(Operation* operation);
  void heed_length(Operation& operation, const Completion& received);
  void send_files();
  void send_file(Operation* operation);
  void sent_by_pool(Operation* operation, Result result);
  bool goes_on(Operation& operation, Result result);
  bool try_elsewhere(Operation& operation, Result result);
  bool ended_unasked(Operation& operation, Result result);
  void opened(Operation& operation, Completion& out);
  void make_runnable(Operation* operation);
  void wait_ready(Operation* operation);
  void wait_a_while(Operation* operation);
  void hand_to_pool(Operation* operation);
  void finish(Operation* operation, Result result);

  BlockingPool& pool_;
  Count calls_;
  Ring ring_;
  ProvidedBuffers provided_;
  RegisteredChunks registered_;

  /// To be tried at the next reap: kSendFile, of which this thread sends the next part.
  OperationList runnable_;
  /// Completions that did not come through the ring.
  ReadyList ready_;
  PoolInbox from_pool_;
  std::size_t in_flight_ = 0;
  bool errand_ = false;      ///< another thread than the owner is at work
  bool owners_ = false;      ///< entries that are queued are the owner's to submit
  bool stashing_ = false;    ///< completions are taken off because the kernel has no room
  std::deque<Sqe> surplus_;  ///< entries there was no room for in the ring, in order

  int wake_fd_ = -1;
  int notify_fd_ = -1;
  Deadline armed_ = kNever;  ///< what the one timeout in the ring is set to
  bool timeout_in_ring_ = false;
  Timespec timeout_{};         ///< read by the kernel when the entry is submitted
  std::uint32_t drawing_ = 0;  ///< reads under way that draw buffers back
  int zero_fd_ = -1;           ///< what they read from, while some are not submitted
  std::atomic<bool> wake_pending_{false};
  std::atomic<bool> on_notifier_{false};  ///< the owner is in its event loop
};

}  // namespace cp::driver::uring
