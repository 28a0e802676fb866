// A lane on an I/O completion port: a share of the one that the process has (kernel_port.h).
//
// An operation is given to the kernel when it is submitted. What completes at once, and what comes
// from the blocking pool, waits in `ready_` for the next reap. iocp_lane.cc has the lane's members,
// iocp_operations.cc how each operation begins and what its packet means, iocp_pipes.cc the same of
// named pipes where they differ.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/blocking/pool_inbox.h"
#include "driver/driver.h"
#include "driver/iocp/kernel_port.h"
#include "driver/iocp/pending.h"
#include "driver/iocp/pipe.h"
#include "driver/operation_list.h"
#include "driver/ready_list.h"
#include "system/published.h"

namespace cp::driver::iocp {

class IocpLane final : public Lane {
 public:
  /// Null with `error` set when there are no handles or memory left.
  static std::unique_ptr<IocpLane> make(KernelPort& port, BlockingPool& pool, BufferSource& buffers,
                                        Result& error);
  ~IocpLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void wait(Deadline deadline) override;
  void begin_errand() override { errand_ = true; }
  void end_errand() override { errand_ = false; }
  bool pending() const override { return something_to_do() || port_.has_arrivals(inbox_); }
  void wake() override { port_.wake(inbox_); }
  /// Windows has no descriptor that a kernel port would make readable.
  int notifier() const override { return -1; }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override { port_.disarm(inbox_); }
  bool watch_notifier() override { return port_.watch(inbox_); }
  void stop_watching() override { port_.end_watch(inbox_); }
  bool refill() override { return buffers_.available(); }
  std::uint64_t system_calls() const override { return calls_.value(); }

 private:
  /// Where an operation is, kept in its `lane_state`. `kDone`: its final completion is decided.
  enum State : std::uint8_t {
    kRunnable,
    kWithKernel,
    kOnPool,
    kLeavingPool,  ///< cancelled while it runs there
    kDone
  };

  /// What a multishot or single accept has with the kernel.
  struct Acceptor {
    Operation* operation = nullptr;
    std::vector<std::unique_ptr<Accepting>> accepts;
    std::size_t busy = 0;
    int family = 0;
    PipeListener* pipe = nullptr;  ///< null: it is a socket
    bool ending = false;
    Result end = 0;
  };

  IocpLane(KernelPort& port, BlockingPool& pool, BufferSource& buffers)
      : port_(port), pool_(pool), buffers_(buffers), from_pool_(*this) {}

  // iocp_lane.cc
  std::size_t take_ready(std::span<Completion> out) { return ready_.take(out, in_flight_); }
  void fetch_from_pool();
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
  void wait_readable(Operation* operation);
  void received(Operation* operation, bool succeeded, DWORD bytes);
  void send(Operation* operation);
  void sent(Operation* operation, bool succeeded, DWORD bytes);
  void shut_down(Operation* operation);
  void send_file(Operation* operation);
  void part_read(Operation* operation, bool succeeded, DWORD bytes);
  void part_sent(Operation* operation, bool succeeded, DWORD bytes);
  void finish_part(Operation* operation, Result result);
  void transfer(Operation* operation);
  void transfer_slice(Operation* operation);
  void transferred(Operation* operation, bool succeeded, DWORD bytes);
  void close(Operation* operation);
  Result take_over(Operation* operation, Descriptor opened);
  Pending& begin_pending(Operation* operation);
  void give_to_kernel(Operation* operation);
  void call_back(Operation* operation);
  Result failure_of(const Operation* operation) const;
  void make_runnable(Operation* operation);
  void hand_to_pool(Operation* operation);
  void finish(Operation* operation, Result result);

  // iocp_pipes.cc
  void accept_clients(Operation* operation);
  void await_clients(Acceptor& acceptor);
  Result await_client(Acceptor& acceptor);
  static Accepting& idle_accepting(Acceptor& acceptor);
  void take_client(Acceptor& acceptor, HANDLE instance);
  void client_came(Accepting& accepting);
  void keep_instance(PipeListener& listener);
  void connect_to_pipe(Operation* operation);
  Result take_over_pipe(Descriptor opened);
  void wait_for_bytes(Operation* operation);
  void bytes_came(Operation* operation, bool succeeded, DWORD bytes);
  void end_wait(Operation* operation);
  void send_to_pipe(Operation* operation);
  void write_to_pipe(Operation* operation, const void* bytes, DWORD length);
  void wrote_to_pipe(Operation* operation, bool succeeded, DWORD bytes);
  void written_to_pipe(Operation* operation, Result result);

  KernelPort& port_;
  BlockingPool& pool_;
  BufferSource& buffers_;
  Count calls_;
  Inbox inbox_;

  /// To be tried again: receives whose socket has something, multishots that took their turn.
  OperationList runnable_;
  /// What completed at once, and what came from the blocking pool.
  ReadyList ready_;
  PoolInbox from_pool_;
  std::size_t in_flight_ = 0;
  /// Another thread than the owner is at work.
  bool errand_ = false;

  std::vector<Arrival> arrivals_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::size_t with_kernel_ = 0;  ///< packets that the kernel owes
};

}  // namespace cp::driver::iocp
