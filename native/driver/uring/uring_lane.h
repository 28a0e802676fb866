// A lane on io_uring: one ring, owned by one thread.
//
// On an errand (driver.h) another thread fills entries, too. They are few, and short-lived: the
// kernel ends what a thread has submitted when that thread exits, so what may last is submitted by
// whoever owns a lane, in it (native/port). What is ended that way nevertheless is begun again.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/driver.h"
#include "driver/operation_list.h"
#include "driver/uring/provided_buffers.h"
#include "driver/uring/registered_chunks.h"
#include "driver/uring/ring.h"

namespace cp::driver::uring {

class UringLane final : public Lane, private CompletionSink {
 public:
  UringLane(BufferSource& buffers, BlockingPool& pool);
  ~UringLane() override;

  /// 0 or a negative errno; then the lane is of no use.
  Result open(Access access);

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
  std::uint64_t system_calls() const override;

 private:
  // CompletionSink: on a thread of the pool.
  void completed(Operation* operation, Result result) override;

  Sqe* sqe();
  void queue(Operation* operation);
  void fill_transfer(Sqe& sqe, Operation& operation);
  void fill_open(Sqe& sqe, Operation& operation);
  void fill_receive(Sqe& sqe, Operation& operation);
  void fill_send(Sqe& sqe, Operation& operation);
  void fill_accept(Sqe& sqe, Operation& operation);
  void fill_connect(Sqe& sqe, Operation& operation);
  void to_pool(Operation* operation);
  void make_runnable(Operation* operation);
  void send_files();
  void send_file(Operation* operation);
  void sent_by_pool(Operation* operation, Result result);
  void done_at_once(Operation* operation, Result result);
  void arm(Deadline deadline);
  void arm_wake();
  void queue_poll(Operation* operation);
  Deadline rest(Deadline deadline);
  void draw_back(std::uint32_t count);
  void leave_notifier();
  void queue_surplus();
  bool settle(const Cqe& cqe, Completion& out);
  bool settle_internal(const Cqe& cqe);
  bool try_elsewhere(Operation& operation, std::int64_t result);
  void fetch_from_pool();
  bool ended_unasked(Operation& operation, std::int64_t result);
  void stash_completions();
  bool something_to_do() const;
  std::size_t take_ready(std::span<Completion> out);
  void settle_opening(Operation& operation, Completion& out);
  void count_call();

  BlockingPool& pool_;
  Ring ring_;
  ProvidedBuffers provided_;
  RegisteredChunks registered_;
  int wake_fd_ = -1;
  int notify_fd_ = -1;
  Deadline armed_ = kNever;  ///< what the one timeout in the ring is set to
  bool timeout_in_ring_ = false;
  Timespec timeout_{};  ///< read by the kernel when the entry is submitted
  std::size_t in_flight_ = 0;
  std::uint32_t drawing_ = 0;      ///< reads under way that draw buffers back
  int zero_fd_ = -1;               ///< what they read from, while some are not submitted
  bool errand_ = false;            ///< another thread than the owner is at work
  bool owners_ = false;            ///< entries that are queued are the owner's to submit
  std::deque<Sqe> surplus_;        ///< entries an errand had no room for in the ring, in order
  OperationList runnable_;         ///< kSendFile: this thread sends the next part
  std::vector<Completion> ready_;  ///< completions that did not come through the ring
  std::atomic<bool> wake_pending_{false};
  std::atomic<bool> on_notifier_{false};  ///< the owner is in its event loop
  std::atomic<std::uint64_t> calls_{0};

  std::mutex pool_mutex_;  ///< guards what the pool's threads write
  std::vector<Completion> from_pool_;
  std::atomic<bool> has_from_pool_{false};
};

}  // namespace cp::driver::uring
