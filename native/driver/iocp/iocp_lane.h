// A lane on an I/O completion port: a share of the one that the process has (kernel_port.h).
//
// An operation is given to the kernel when it is submitted. What completes at once, and what comes
// from the blocking pool, waits in `ready_` for the next reap. iocp_lane.cc has the lane's members,
// iocp_operations.cc how each operation begins and what its packet means.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/driver.h"
#include "driver/iocp/kernel_port.h"
#include "driver/iocp/pending.h"
#include "driver/operation_list.h"

namespace cp::driver {

class IocpLane final : public Lane, private CompletionSink {
 public:
  /// Null with `error` set when there are no handles or memory left.
  static std::unique_ptr<IocpLane> make(KernelPort& port, BlockingPool& pool, BufferSource& buffers,
                                        Result& error);
  ~IocpLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void begin_errand() override { errand_ = true; }
  void end_errand() override { errand_ = false; }
  bool pending() const override { return something_to_do() || port_.has_arrivals(mailbox_); }
  void wait(Deadline deadline) override;
  void wake() override { port_.wake(mailbox_); }
  /// Windows has no descriptor that a kernel port would make readable.
  int notifier() const override { return -1; }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override { port_.disarm(mailbox_); }
  bool watch_notifier() override { return port_.watch(mailbox_); }
  void stop_watching() override { port_.end_watch(mailbox_); }
  bool refill() override { return buffers_.available(); }
  std::uint64_t system_calls() const override { return calls_.load(std::memory_order_relaxed); }

 private:
  /// Where an operation is, kept in its `lane_state`. `kDone`: its final completion is decided.
  enum State : std::uint8_t { kRunnable, kPending, kOnPool, kDone };

  /// What a multishot or single accept has with the kernel.
  struct Acceptor {
    Operation* operation = nullptr;
    std::vector<std::unique_ptr<Accepting>> accepts;
    std::size_t busy = 0;
    int family = 0;
    bool ending = false;
    Result end = 0;
  };

  IocpLane(KernelPort& port, BlockingPool& pool, BufferSource& buffers)
      : port_(port), pool_(pool), buffers_(buffers) {}

  // iocp_lane.cc
  void completed(Operation* operation, Result result) override;
  void fetch_from_pool();
  void take_over(Completion& opened);
  std::size_t take_ready(std::span<Completion> out);
  bool something_to_do() const;

  // iocp_operations.cc
  void start(Operation* operation);
  void arrived(const Arrival& arrival);
  void accept(Operation* operation);
  void accept_more(Acceptor& acceptor);
  Result accept_one(Acceptor& acceptor, Accepting& accepting);
  void accepted(Accepting& accepting);
  void end_accept(Acceptor& acceptor);
  void cancel_accept(Operation* operation);
  Acceptor& acceptor_of(const Operation* operation);
  void connect(Operation* operation);
  Result begin_connect(Operation* operation, bool& done);
  void connected(Operation* operation, bool succeeded);
  void receive(Operation* operation);
  Result receive_once(const Operation* operation, Completion& completion, std::uint64_t& asked);
  void wait_readable(Operation* operation);
  void received(Operation* operation, bool succeeded, DWORD bytes);
  void send(Operation* operation);
  void sent(Operation* operation, bool succeeded, DWORD bytes);
  void send_file(Operation* operation);
  void part_read(Operation* operation, bool succeeded, DWORD bytes);
  void part_sent(Operation* operation, bool succeeded, DWORD bytes);
  void finish_part(Operation* operation, Result result);
  void transfer(Operation* operation);
  void transfer_slice(Operation* operation);
  void transferred(Operation* operation, bool succeeded, DWORD bytes);
  void close(Operation* operation);
  Pending& begin_pending(Operation* operation);
  void pending(Operation* operation);
  Result failure_of(const Operation* operation) const;
  void make_runnable(Operation* operation);
  void hand_to_pool(Operation* operation);
  void finish(Operation* operation, Result result);
  void count_call() { calls_.fetch_add(1, std::memory_order_relaxed); }

  KernelPort& port_;
  BlockingPool& pool_;
  BufferSource& buffers_;
  Mailbox mailbox_;

  /// To be tried again: receives whose socket has something, multishots that took their turn.
  OperationList runnable_;
  std::deque<Completion> ready_;
  std::vector<Arrival> arrivals_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::size_t in_flight_ = 0;
  std::size_t with_kernel_ = 0;  ///< packets that the kernel owes
  bool errand_ = false;          ///< another thread than the owner is at work
  std::atomic<std::uint64_t> calls_{0};

  std::mutex pool_mutex_;  ///< guards what the pool's threads write
  std::vector<Completion> from_pool_;
  std::atomic<bool> has_from_pool_{false};
};

}  // namespace cp::driver
