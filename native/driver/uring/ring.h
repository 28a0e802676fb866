// One ring: the memory shared with the kernel, and the order in which both sides look at it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/driver.h"
#include "driver/uring/abi.h"
#include "driver/uring/nudge.h"

namespace cp::driver::uring {

/// Whether others than the thread that made a ring may look after it while that thread is busy.
enum class Access : std::uint8_t {
  kOwner,  ///< nobody else: SINGLE_ISSUER and DEFER_TASKRUN, which is the cheapest
  kNudge,  ///< the same ring, and others have its thread enter it: see Nudge
  /// Anybody, one at a time. The kernel runs what it has put off (COOP_TASKRUN) when the owner
  /// enters it for whatever reason, its timer's tick at the latest.
  kTick,
};

/// Used by the thread that made it; by another one only through `visit`, `front`, `pop` and
/// `next_sqe`, while the owner doesn't.
class Ring {
 public:
  Ring() = default;
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// 0 or a negative errno of io_uring_setup(2) or mmap(2).
  Result open(std::uint32_t entries, std::uint32_t cq_entries, Access access = Access::kOwner);

  /// The next free entry, zeroed; null when the queue is full: submit first.
  Sqe* next_sqe();
  std::uint32_t unsubmitted() const { return sq_tail_ - sq_submitted_; }

  /// io_uring_enter(2) with what is queued: waits for `wait` completions, at most until `deadline`.
  /// Runs what the kernel has put off (DEFER_TASKRUN). 0 or a negative errno; -ETIME and -EINTR
  /// are not errors of the submission.
  Result enter(std::uint32_t wait, Deadline deadline);

  /// What `enter(0, kNever)` is to the owner, by another thread: submits what is queued and has the
  /// kernel tell of what it has put off, as far as that can be done from outside. `submits`: what
  /// is queued may be submitted by this thread itself.
  void visit(bool submits);
  /// Whether it is the ring's own thread that submits when another one visits.
  bool nudges() const { return access_ == Access::kNudge; }

  bool has_completions() const;
  /// The kernel has work that only a call to enter brings about.
  bool wants_enter() const;
  /// The oldest completion; null when there is none. Valid until `pop`.
  const Cqe* front() const;
  void pop();

  /// Whether completions signal the registered eventfd. Enabling is followed by a full barrier:
  /// look at the queue once more afterwards, or a completion that came before goes unheard.
  void signal_eventfd(bool enabled);

  int fd() const { return fd_; }
  /// Setup and Feature bits the kernel granted.
  std::uint32_t flags() const { return setup_flags_; }
  std::uint32_t features() const { return features_; }
  /// Calls name the ring by its registered index, not by its descriptor.
  bool registered() const { return (enter_flags_ & kEnterRegisteredRing) != 0; }
  std::uint64_t calls() const;

 private:
  Result map(const Params& params);
  void register_ring_fd();
  void count_call();

  Access access_ = Access::kOwner;
  Nudge nudge_;
  int fd_ = -1;
  int enter_fd_ = -1;
  std::uint32_t enter_flags_ = 0;
  std::uint32_t setup_flags_ = 0;
  std::uint32_t features_ = 0;
  std::uint8_t* rings_ = nullptr;
  std::size_t rings_size_ = 0;
  Sqe* sqes_ = nullptr;
  std::size_t sqes_size_ = 0;
  std::uint32_t sq_entries_ = 0, cq_mask_ = 0;
  std::uint32_t sq_tail_ = 0, sq_submitted_ = 0;
  std::uint32_t *sq_ktail_ = nullptr, *sq_khead_ = nullptr, *sq_flags_ = nullptr;
  std::uint32_t *cq_khead_ = nullptr, *cq_ktail_ = nullptr, *cq_flags_ = nullptr;
  std::uint32_t cq_head_ = 0;
  const Cqe* cqes_ = nullptr;
  std::uint64_t calls_ = 0;
};

}  // namespace cp::driver::uring
