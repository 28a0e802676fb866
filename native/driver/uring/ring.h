// One ring: the memory shared with the kernel, and the order in which both sides look at it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "driver/driver.h"
#include "driver/uring/abi.h"

namespace cp::driver::uring {

/// Used by the thread that made it and no other: SINGLE_ISSUER and DEFER_TASKRUN demand it.
class Ring {
 public:
  Ring() = default;
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// 0 or a negative errno of io_uring_setup(2) or mmap(2).
  Result open(std::uint32_t entries, std::uint32_t cq_entries);

  /// The next free entry, zeroed; null when the queue is full: submit first.
  Sqe* next_sqe();
  std::uint32_t unsubmitted() const { return sq_tail_ - sq_submitted_; }

  /// io_uring_enter(2) with what is queued: waits for `wait` completions, at most until `deadline`.
  /// Runs what the kernel has put off (DEFER_TASKRUN). 0 or a negative errno; -ETIME and -EINTR
  /// are not errors of the submission.
  Result enter(std::uint32_t wait, Deadline deadline);

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
