// A lane on the world in memory. It promises what driver.h asks of a lane and no more: completions
// come late, in any order that one operation's own allows, a wait may end for nothing, and a cancel
// may lose.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "driver/blocking/blocking_pool.h"
#include "driver/blocking/pool_inbox.h"
#include "driver/driver.h"
#include "driver/sim/world.h"

namespace cp::driver::sim {

/// An operation that a lane has.
struct Job {
  enum class State : std::uint8_t {
    kQueued,   ///< not begun
    kStarted,  ///< the world has it
    kReady,    ///< to be tried by the lane's thread, which has the buffers
    kOnPool,
    kDone,
  };
  Operation* operation = nullptr;
  SimLane* lane = nullptr;
  State state = State::kQueued;
  bool cancelled = false;
  bool waiting = false;              ///< in the list of its descriptor
  bool tried = false;                ///< an attempt is on its way
  Connection* connection = nullptr;  ///< of a connect
};

class SimLane final : public Lane {
 public:
  SimLane(World& world, BlockingPool& pool, BufferSource& buffers);
  ~SimLane() override;

  void submit(Operation* operation) override;
  void cancel(Operation* operation) override;
  std::size_t reap(std::span<Completion> out) override;
  void wait(Deadline deadline) override;
  void flush() override;
  void begin_errand() override { errand_ = true; }
  void end_errand() override { errand_ = false; }
  bool pending() const override;
  bool has_news() const override;
  void wake() override;
  int notifier() const override { return static_cast<int>(notice_.descriptor()); }
  bool sleep_on_notifier(Deadline deadline) override;
  void clear_notifier() override;
  bool refill() override;
  std::uint64_t system_calls() const override { return calls_; }

  /// What the owner's event loop does: sleeps until the notifier is readable, or until then.
  /// Whether it is.
  bool watch(Deadline deadline);

  /// Of an operation that waits for its descriptor: it may have become ready.
  void kick(Job& job);

 private:
  friend class World;
  using Handler = void (SimLane::*)(Job&);

  void start_queued();
  void start(Job& job);
  void on_pool(Job& job);
  void later(Job& job, Time span);
  void attempt(Job& job);
  void accept(Job& job);
  void connect(Job& job);
  void receive(Job& job);
  void send(Job& job);
  void send_file(Job& job);
  void shut_down(Job& job);
  void close(Job& job);
  void on_file(Job& job);
  void perform(Job& job);
  void receive_ready(Job& job);
  void wait_ready(Job& job);
  void stop_waiting(Job& job);
  void end_cancelled(Job& job);
  void finish(Job& job, Result result);
  void push(const Completion& completion);
  void cancel_now(const std::shared_ptr<Job>& job);
  void flush_overflow();
  void news();
  bool anything() const;
  void fetch_from_pool();
  void top_up();
  void take_buffers();
  std::shared_ptr<Job> find(const Operation* operation) const;

  World& world_;
  BlockingPool& pool_;
  BufferSource& buffers_;
  PoolInbox from_pool_;
  const bool holds_buffers_;  ///< as a ring does, with the kernel
  const bool uses_pool_;
  std::vector<std::shared_ptr<Job>> jobs_;
  std::vector<Completion> ready_;
  /// Completions that had no room in the ring (IORING_FEAT_NODROP), in their order: the kernel
  /// keeps them, and until they have been taken it begins nothing (EBUSY).
  std::vector<Completion> overflow_;
  std::vector<std::weak_ptr<Job>> late_cancels_;
  std::vector<Buffer> held_;
  Notice notice_;
  std::atomic<bool> woken_{false};
  bool errand_ = false;
  std::atomic<std::uint64_t> calls_{0};
};

}  // namespace cp::driver::sim
