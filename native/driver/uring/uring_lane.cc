#include "driver/uring/uring_lane.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "driver/linux/socket.h"
#include "driver/uring/user_data.h"

namespace cp::driver::uring {
namespace {

constexpr std::uint32_t kSqEntries = 256;
/// Completions beyond it wait in the kernel (NODROP) and are fetched by the next enter.
constexpr std::uint32_t kCqEntries = 4096;
constexpr int kRunsBeforeSleep = 8;

}  // namespace

std::unique_ptr<UringLane> UringLane::make(BlockingPool& pool, BufferSource& buffers, Access access,
                                           Result& error) {
  std::unique_ptr<UringLane> lane(new UringLane(pool, buffers));
  error = lane->open(access);
  return error < 0 ? nullptr : std::move(lane);
}

UringLane::UringLane(BlockingPool& pool, BufferSource& buffers)
    : pool_(pool), provided_(buffers), registered_(ring_, buffers), from_pool_(*this) {}

UringLane::~UringLane() {
  assert(in_flight_ == 0);
  // They end where they begin, in `draw_back`; all the same nothing may write into a buffer that is
  // given back.
  while (drawing_ > 0 && ring_.enter(1, kNever) >= 0) stash_completions();
  if (zero_fd_ >= 0) close(zero_fd_);
  from_pool_.wait_for_pool();
  if (notify_fd_ >= 0) close(notify_fd_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

Result UringLane::open(Access access) {
  const Result opened = ring_.open(kSqEntries, kCqEntries, access);
  if (opened < 0) return opened;
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  notify_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0 || notify_fd_ < 0) return -errno;
  // The ring's own descriptor does not become readable under DEFER_TASKRUN; an eventfd does.
  if (register_(ring_.fd(), kRegisterEventfd, &notify_fd_, 1) < 0) return -errno;
  ring_.signal_eventfd(false);
  const Result lent = provided_.open(ring_);
  if (lent < 0) return lent;
  arm_wake();
  flush();
  return 0;
}

void UringLane::submit(Operation* operation) {
  ++operation->lane_generation;
  ++in_flight_;
  start(operation);
}

void UringLane::cancel(Operation* operation) {
  switch (static_cast<State>(operation->lane_state)) {
    case kRunnable:
      runnable_.remove(operation);
      return finish(operation, -ECANCELED);
    case kWithKernel:
      operation->lane_state = kCancelled;
      break;
    case kWaiting:
      operation->lane_state = kWaitCancelled;
      break;
    case kOnPool:
      if (pool_.cancel(operation)) return finish(operation, -ECANCELED);
      operation->lane_state = kLeavingPool;
      return;
    case kLeavingPool:
    case kCancelled:
    case kWaitCancelled:
    case kDone:
      return;
  }
  cancel_in_ring(operation);
}

void UringLane::cancel_in_ring(const Operation* operation) {
  Sqe& entry = *sqe();
  entry.opcode = kOpAsyncCancel;
  entry.fd = -1;
  entry.address = user_data(operation);
  entry.user_data = kTagIgnored;  // 0, ENOENT or EALREADY; the target's own completion tells
}

// ---- submitting -------------------------------------------------------------------------------

/// An entry, making room when the queue is full. Where the kernel refuses for lack of room among
/// the completions (EBUSY), taking those off is what helps. An errand can't count on the kernel.
Sqe* UringLane::sqe() {
  if (errand_ || stashing_) {
    Sqe* free = surplus_.empty() ? ring_.next_sqe() : nullptr;
    return free != nullptr ? free : &surplus_.emplace_back();
  }
  owners_ = true;
  for (;;) {
    queue_surplus();
    Sqe* free = surplus_.empty() ? ring_.next_sqe() : nullptr;
    if (free != nullptr) return free;
    if (ring_.enter(0, kNever) < 0) stash_completions();
  }
}

void UringLane::queue_surplus() {
  while (!surplus_.empty()) {
    Sqe* free = ring_.next_sqe();
    if (free == nullptr) return;
    *free = surplus_.front();
    surplus_.pop_front();
  }
}

/// What follows from one, an entry of the ring, waits in `surplus_`: to make room for it the next
/// ones would be taken off, and stashed before this one.
void UringLane::stash_completions() {
  stashing_ = true;
  Completion completion;
  while (const Cqe* cqe = ring_.front()) {
    const Cqe copy = *cqe;
    ring_.pop();
    if (!settle(copy, completion)) continue;
    if (!completion.more) ++in_flight_;  // counted out once more when it is reaped
    ready_.push(completion);
  }
  stashing_ = false;
}

void UringLane::flush() {
  queue_surplus();
  if (ring_.unsubmitted() == 0 && !ring_.wants_enter()) return;
  if (errand_) {
    ring_.visit(!owners_);
  } else {
    ring_.enter(0, kNever);
  }
}

// ---- reaping ----------------------------------------------------------------------------------

std::size_t UringLane::reap(std::span<Completion> out) {
  if (!errand_ && on_notifier_.load(std::memory_order_relaxed)) leave_notifier();
  provided_.top_up(false);
  flush();
  if (!runnable_.empty()) send_files();
  // What was stashed came before what lies in the ring.
  std::size_t count = ready_.empty() ? 0 : take_ready(out);
  while (count < out.size()) {
    const Cqe* cqe = ring_.front();
    if (cqe == nullptr) break;
    const Cqe copy = *cqe;
    ring_.pop();
    if (settle(copy, out[count])) ++count;
    if (!ready_.empty()) break;  // stashed meanwhile, and older than what is left in the ring
  }
  fetch_from_pool();
  return count + take_ready(out.subspan(count));
}

void UringLane::fetch_from_pool() {
  from_pool_.fetch([this](Operation* operation, Result result) {
    if (operation->code == Opcode::kSendFile) return sent_by_pool(operation, result);
    // The pool opens FIFOs non-blocking; the ring would answer EAGAIN instead of waiting.
    const bool opened = operation->code == Opcode::kOpen && result >= 0;
    if (opened) set_blocking(static_cast<int>(result), true);
    finish(operation, result);
  });
}

/// False when there is nothing to tell: the ring's own entries, and operations that go on.
bool UringLane::settle(const Cqe& cqe, Completion& out) {
  if (cqe.user_data < kTagLimit) return settle_internal(cqe);
  Operation* operation = operation_of(cqe.user_data);
  out = {operation, cqe.result, (cqe.flags & kCqeMore) != 0, false, {}};
  out.more_data = (cqe.flags & kCqeSockNonEmpty) != 0;
  if (cqe.flags & kCqeBuffer) {
    const Buffer buffer = provided_.taken(static_cast<std::uint16_t>(cqe.flags >> kCqeBufferShift));
    if (is_cut(*operation, cqe.result, buffer.size)) out.result = -EMSGSIZE;
    if (out.result > 0) {
      out.buffer = buffer;
    } else {
      provided_.give_back(buffer);
    }
  }
  if (out.more) {
    if (operation->code == Opcode::kReceive) heed_length(*operation, out);
    return true;
  }
  const bool called_back = operation->lane_state == kWithKernel && cqe.result == -ECANCELED;
  if (errand_ && called_back && operation->code == Opcode::kReceive) {
    out.result = -EINTR;  // begun again by whoever is on the errand, in a ring of its own
  } else if (goes_on(*operation, cqe.result)) {
    return false;
  }
  // A kernel thread that was interrupted for a cancel may say EINTR.
  if (operation->lane_state == kCancelled && out.result == -EINTR) out.result = -ECANCELED;
  // The poll won the race, but nothing was read: its result is a mask, not a number of bytes.
  if (operation->lane_state == kWaitCancelled) out.result = -ECANCELED;
  opened(*operation, out);
  if (operation->slice_count > 0 && is_cut(*operation, cqe.result, operation->slices->length)) {
    out.result = -EMSGSIZE;
  }
  --in_flight_;
  return true;
}

bool UringLane::settle_internal(const Cqe& cqe) {
  if (cqe.user_data == kTagTimeout) {
    timeout_in_ring_ = false;
    armed_ = kNever;
  }
  if (cqe.user_data == kTagWake) {
    // Cleared before the caller looks at what it was woken for, so that a wake-up after this
    // writes again. The counter of the eventfd is never read: each write is an edge for the poll.
    wake_pending_.exchange(false);
    if (!(cqe.flags & kCqeMore)) arm_wake();
  }
  if (cqe.user_data == kTagDrawn) {
    --drawing_;
    if (cqe.flags & kCqeBuffer) {
      provided_.drawn_back(static_cast<std::uint16_t>(cqe.flags >> kCqeBufferShift));
    }
  }
  return false;
}

// ---- waiting and waking -----------------------------------------------------------------------

void UringLane::begin_errand() {
  errand_ = true;
  owners_ = owners_ && ring_.unsubmitted() > 0;
}

/// What was cancelled, above all.
void UringLane::end_errand() {
  flush();
  errand_ = false;
}

bool UringLane::pending() const {
  const bool unsubmitted = ring_.unsubmitted() > 0 && (ring_.nudges() || !owners_);
  return unsubmitted || has_news();
}

void UringLane::arm_wake() {
  Sqe& entry = *sqe();
  entry.opcode = kOpPollAdd;
  entry.fd = wake_fd_;
  entry.length = kPollMultishot;
  entry.op_flags = POLLIN;
  entry.user_data = kTagWake;
}

bool UringLane::something_to_do() const {
  return !ready_.empty() || !runnable_.empty() || !surplus_.empty() || !from_pool_.empty();
}

void UringLane::wait(Deadline deadline) {
  if (something_to_do()) return;
  if (ring_.has_completions()) return;
  provided_.top_up(false);
  const Deadline next = rest(deadline);
  // A time limit of the call is a timer for each; the one in the ring stays.
  if (deadline == kNever) arm(next);
  if (something_to_do()) return;  // stashed, to make room
  ring_.enter(1, deadline == kNever ? kNever : next);
}

/// Before the owner sleeps: whether its buffers are to be drawn back now (M3), or when to see to
/// that.
Deadline UringLane::rest(Deadline deadline) {
  const Deadline next = provided_.next_look();
  if (next == kNever) return deadline;
  const std::uint32_t count = provided_.look(now());
  if (count == 0) return std::min(deadline, provided_.next_look());
  draw_back(count);
  return deadline;
}

/// A read of /dev/zero waits for nothing: it has ended when it was submitted. Where there is no
/// such file the lane keeps what it has lent.
void UringLane::draw_back(std::uint32_t count) {
  calls_.add();
  if (zero_fd_ < 0) zero_fd_ = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  if (zero_fd_ < 0) return;
  for (; count > 0; --count) {
    Sqe& entry = *sqe();
    entry.opcode = kOpRead;
    entry.fd = zero_fd_;
    entry.length = 1;
    entry.flags = kSqeBufferSelect;
    entry.buffer = ProvidedBuffers::kGroup;
    entry.user_data = kTagDrawn;
    ++drawing_;
  }
  flush();
  // What the kernel has not taken yet would read from whatever has this number next.
  if (ring_.unsubmitted() > 0) return;
  calls_.add();
  close(zero_fd_);
  zero_fd_ = -1;
}

/// What the kernel has put off is news as well: `wait` runs it.
bool UringLane::has_news() const {
  return something_to_do() || ring_.has_completions() || ring_.wants_enter();
}

/// Only the first of several wake-ups costs a system call. All accesses are sequentially
/// consistent: either the owner sees `wake_pending_` before it sleeps on its notifier, or this
/// thread sees that it sleeps there and writes to the notifier itself. That has to be: the ring,
/// polling wake_fd_, would signal the notifier from inside the write to another eventfd, and the
/// kernel puts such a nested signal off and, from the second on, loses it (seen on 6.18).
void UringLane::wake() {
  if (wake_pending_.exchange(true)) return;
  const int target = on_notifier_.load() ? notify_fd_ : wake_fd_;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(target, &one, sizeof one);
}

/// Back from the event loop. What was asked before this exchange is seen by whoever looks after it.
void UringLane::leave_notifier() {
  ring_.signal_eventfd(false);
  on_notifier_.store(false);
  wake_pending_.exchange(false);
}

/// One timeout in the ring serves all deadlines; it is only ever moved forward. One that turns out
/// to be early wakes the owner for nothing, once.
void UringLane::arm(Deadline deadline) {
  if (deadline == kNever || (timeout_in_ring_ && armed_ <= deadline)) return;
  timeout_ = {deadline / 1'000'000'000, deadline % 1'000'000'000};
  Sqe& entry = *sqe();
  if (timeout_in_ring_) {
    entry.opcode = kOpTimeoutRemove;
    entry.fd = -1;
    entry.address = kTagTimeout;
    entry.offset = address_of(&timeout_);
    entry.op_flags = kTimeoutUpdate | kTimeoutAbsolute;
    entry.user_data = kTagIgnored;
  } else {
    entry.opcode = kOpTimeout;
    entry.fd = -1;
    entry.address = address_of(&timeout_);
    entry.length = 1;
    entry.op_flags = kTimeoutAbsolute;
    entry.user_data = kTagTimeout;
    timeout_in_ring_ = true;
  }
  armed_ = deadline;
}

bool UringLane::sleep_on_notifier(Deadline deadline) {
  if (something_to_do()) return false;
  provided_.top_up(false);
  arm(rest(deadline));
  flush();
  if (something_to_do() || ring_.unsubmitted() > 0 || ring_.has_completions()) return false;
  on_notifier_.store(true);
  ring_.signal_eventfd(true);
  // Work that was added before the signal was enabled has to be run now. A few times: each call
  // runs a part. Not until the flag is gone: a kernel thread adds its work first and raises the
  // flag afterwards, so that it can stand over an empty list until there is work again (seen
  // on 6.18).
  for (int i = 0; i < kRunsBeforeSleep && ring_.wants_enter(); ++i) {
    flush();
    if (ring_.has_completions()) break;
  }
  if (!wake_pending_.load() && !ring_.has_completions()) return true;
  leave_notifier();
  return false;
}

void UringLane::clear_notifier() {
  calls_.add();
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(notify_fd_, &count, sizeof count);
}

}  // namespace cp::driver::uring
