#include "driver/uring/uring_lane.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <new>

#include "driver/blocking/blocking_calls.h"
#include "driver/linux_send_file.h"
#include "driver/linux_socket.h"

namespace cp::driver::uring {
namespace {

constexpr std::uint32_t kSqEntries = 256;
/// Completions beyond it wait in the kernel (NODROP) and are fetched by the next enter.
constexpr std::uint32_t kCqEntries = 4096;
constexpr int kRunsBeforeSleep = 8;
/// One read or write moves at most this many bytes: MAX_RW_COUNT, read(2).
constexpr std::size_t kMaxTransfer = 0x7ffff000;

// user_data of entries that are not operations; no operation lies at such an address.
enum Tag : std::uint64_t {
  kTagWake = 1,
  kTagTimeout = 2,
  kTagIgnored = 3,
  kTagDrawn = 4,
  kTagLimit = 64
};

enum LaneState : std::uint8_t {
  kInRing = 1,
  kInPool,
  kLeavingPool,  ///< cancelled while it runs there
  kRunnable,
  kReady,
  kCancelling,
  kPolling,
  kCancellingPoll
};

/// Address and generation in one word: user space ends below 2^47. A cancel that is queued when its
/// target completes can then not hit a later life of the same object.
std::uint64_t user_data(const Operation* operation) {
  return reinterpret_cast<std::uint64_t>(operation) |
         static_cast<std::uint64_t>(operation->lane_generation) << 48;
}
Operation* operation_of(std::uint64_t word) {
  return reinterpret_cast<Operation*>(word & ((1ull << 48) - 1));
}

std::uint64_t address_of(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

std::uint32_t clipped(std::size_t length) {
  return static_cast<std::uint32_t>(std::min(length, kMaxTransfer));
}

}  // namespace

UringLane::UringLane(BufferSource& buffers, BlockingPool& pool)
    : pool_(pool), provided_(buffers), registered_(ring_, buffers) {}

UringLane::~UringLane() {
  assert(in_flight_ == 0);
  // They end where they begin, in `draw_back`; all the same nothing may write into a buffer that is
  // given back.
  while (drawing_ > 0 && ring_.enter(1, kNever) >= 0) stash_completions();
  if (zero_fd_ >= 0) close(zero_fd_);
  std::lock_guard lock(pool_mutex_);  // the pool's last call has left
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

// ---- submitting -------------------------------------------------------------------------------

/// An entry, making room when the queue is full. Where the kernel refuses for want of room among
/// the completions (EBUSY), taking those off is what helps. An errand can't count on the kernel.
Sqe* UringLane::sqe() {
  if (errand_) {
    Sqe* free = surplus_.empty() ? ring_.next_sqe() : nullptr;
    return free != nullptr ? free : &surplus_.emplace_back();
  }
  queue_surplus();
  owners_ = true;
  for (;;) {
    if (Sqe* free = ring_.next_sqe()) return free;
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

void UringLane::stash_completions() {
  Completion completion;
  while (const Cqe* cqe = ring_.front()) {
    const Cqe copy = *cqe;
    ring_.pop();
    if (!settle(copy, completion)) continue;
    if (!completion.more) ++in_flight_;  // counted out once more when it is reaped
    ready_.push_back(completion);
  }
}

void UringLane::submit(Operation* operation) {
  ++operation->lane_generation;
  ++in_flight_;
  switch (operation->code) {
    case Opcode::kStat:      // STATX would always go to a kernel thread
    case Opcode::kTruncate:  // FTRUNCATE is newer than what we ask for (6.9)
    case Opcode::kSetMode:   // these three the ring does not know
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
      return to_pool(operation);
    case Opcode::kShutdown: {  // never blocks; SHUTDOWN would go to a kernel thread
      count_call();
      const int result =
          shutdown(static_cast<int>(operation->descriptor), static_cast<int>(operation->flags));
      return done_at_once(operation, result < 0 ? -errno : 0);
    }
    case Opcode::kSendFile:
      return make_runnable(operation);
    case Opcode::kOpen:
      // With these OPENAT always goes to a kernel thread, of which there are few, and which a FIFO
      // without a reader keeps.
      if ((operation->flags & (kOpenCreate | kOpenTruncate)) != 0) return to_pool(operation);
      break;
    case Opcode::kAccept:  // the listener may come from a port on epoll
      count_call();
      set_blocking(static_cast<int>(operation->descriptor), true);
      break;
    case Opcode::kConnect: {
      count_call();
      const int fd = socket(family_of(*operation->address), SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (fd < 0) return done_at_once(operation, -errno);
      operation->lane_descriptor = fd;
      break;
    }
    case Opcode::kRead:
      if (operation->stream && operation->pollable) return queue_poll(operation);
      break;
    default:
      break;
  }
  queue(operation);
}

/// A FIFO nobody has written to yet reads as ended; polling waits for its first writer. (OPENAT
/// tries with O_NONBLOCK first, so opening for reading does not wait for one.) What sends a file
/// polls once the socket is full.
void UringLane::queue_poll(Operation* operation) {
  operation->lane_state = kPolling;
  Sqe& entry = *sqe();
  entry.opcode = kOpPollAdd;
  entry.fd = static_cast<std::int32_t>(operation->descriptor);
  entry.op_flags = operation->code == Opcode::kSendFile ? POLLOUT : POLLIN;
  entry.user_data = user_data(operation);
}

void UringLane::queue(Operation* operation) {
  operation->lane_state = kInRing;
  Sqe& entry = *sqe();
  entry.fd = static_cast<std::int32_t>(operation->descriptor);
  entry.user_data = user_data(operation);
  switch (operation->code) {
    case Opcode::kOpen:
      fill_open(entry, *operation);
      break;
    case Opcode::kClose:
      entry.opcode = kOpClose;
      break;
    case Opcode::kRead:
    case Opcode::kWrite:
      fill_transfer(entry, *operation);
      break;
    case Opcode::kSync:
      entry.opcode = kOpFsync;
      break;
    case Opcode::kDataSync:
      entry.opcode = kOpFsync;
      entry.op_flags = kFsyncDatasync;
      break;
    case Opcode::kAllocate:
      entry.opcode = kOpFallocate;
      entry.offset = static_cast<std::uint64_t>(operation->offset);
      entry.address = operation->length;
      break;
    case Opcode::kAccept:
      fill_accept(entry, *operation);
      break;
    case Opcode::kConnect:
      fill_connect(entry, *operation);
      break;
    case Opcode::kReceive:
      fill_receive(entry, *operation);
      break;
    case Opcode::kSend:
      fill_send(entry, *operation);
      break;
    default:
      entry.opcode = kOpNop;
      break;
  }
}

void UringLane::fill_open(Sqe& entry, Operation& operation) {
  entry.opcode = kOpOpenat;
  entry.fd = AT_FDCWD;
  entry.address = address_of(operation.path);
  entry.length = operation.mode;
  entry.op_flags = static_cast<std::uint32_t>(open_flags(operation.flags));
}

void UringLane::fill_transfer(Sqe& entry, Operation& operation) {
  const bool reads = operation.code == Opcode::kRead;
  // -1: the descriptor has no positions. With one, that offset would race with other operations.
  entry.offset = operation.stream ? ~0ull : static_cast<std::uint64_t>(operation.offset);
  if (operation.slice_count != 1) {
    entry.opcode = reads ? kOpReadv : kOpWritev;
    entry.address = address_of(operation.slices);
    entry.length = operation.slice_count;
    return;
  }
  entry.opcode = reads ? kOpRead : kOpWrite;
  entry.address = address_of(operation.slices->base);
  entry.length = clipped(operation.slices->length);
  if (!(operation.flags & kOpenDirect)) return;
  const int index = registered_.index_of(operation.chunk);
  if (index < 0) return;
  entry.opcode = reads ? kOpReadFixed : kOpWriteFixed;
  entry.buffer = static_cast<std::uint16_t>(index);
}

void UringLane::fill_accept(Sqe& entry, Operation& operation) {
  entry.opcode = kOpAccept;
  entry.op_flags = SOCK_CLOEXEC;  // not SOCK_NONBLOCK: io_uring would answer EAGAIN instead of wait
  if (operation.multishot) entry.ioprio = kAcceptMultishot;
}

void UringLane::fill_connect(Sqe& entry, Operation& operation) {
  entry.opcode = kOpConnect;
  entry.fd = static_cast<std::int32_t>(operation.lane_descriptor);
  entry.address = address_of(operation.address->bytes);
  entry.offset = operation.address->length;
}

void UringLane::fill_receive(Sqe& entry, Operation& operation) {
  entry.opcode = kOpRecv;
  if (operation.likely_empty) entry.ioprio |= kReceivePollFirst;
  if (operation.slice_count > 0) {
    entry.address = address_of(operation.slices->base);
    entry.length = clipped(operation.slices->length);
    return;
  }
  provided_.expect_receive();
  entry.flags = kSqeBufferSelect;
  entry.buffer = ProvidedBuffers::kGroup;
  if (operation.multishot) entry.ioprio |= kReceiveMultishot;
}

/// MSG_WAITALL makes the kernel continue a short send by itself (5.19).
void UringLane::fill_send(Sqe& entry, Operation& operation) {
  entry.op_flags = MSG_NOSIGNAL | MSG_WAITALL;
  if (operation.slice_count == 1) {
    entry.opcode = kOpSend;
    entry.address = address_of(operation.slices->base);
    entry.length = clipped(operation.slices->length);
    return;
  }
  static_assert(sizeof(msghdr) <= Scratch::kSize);
  auto* header = new (operation.lane_scratch.make()) msghdr{};
  header->msg_iov = reinterpret_cast<iovec*>(operation.slices);
  header->msg_iovlen = std::min<std::size_t>(operation.slice_count, 1024);  // IOV_MAX
  entry.opcode = kOpSendmsg;
  entry.address = address_of(header);
  entry.length = 1;
}

void UringLane::done_at_once(Operation* operation, Result result) {
  operation->lane_state = kReady;
  ready_.push_back({operation, result, false, false, {}});
}

void UringLane::cancel(Operation* operation) {
  switch (operation->lane_state) {
    case kInRing:
      operation->lane_state = kCancelling;
      break;
    case kPolling:
      operation->lane_state = kCancellingPoll;
      break;
    case kInPool:
      if (pool_.cancel(operation)) return done_at_once(operation, -ECANCELED);
      operation->lane_state = kLeavingPool;
      return;
    case kRunnable:
      runnable_.remove(operation);
      return done_at_once(operation, -ECANCELED);
    default:
      return;
  }
  Sqe& entry = *sqe();
  entry.opcode = kOpAsyncCancel;
  entry.fd = -1;
  entry.address = user_data(operation);
  entry.user_data = kTagIgnored;  // 0, ENOENT or EALREADY; the target's own completion tells
}

// ---- files to sockets -------------------------------------------------------------------------

void UringLane::make_runnable(Operation* operation) {
  operation->lane_state = kRunnable;
  runnable_.push_back(operation);
}

/// After the ring's own operations were begun. A part of each: who has more to send comes again.
void UringLane::send_files() {
  for (std::size_t i = runnable_.size(); i > 0; --i) send_file(runnable_.pop_front());
}

void UringLane::send_file(Operation* operation) {
  count_call();
  if (!next_part_is_cached(*operation)) return to_pool(operation);
  count_call();
  const Result sent = send_part(*operation);
  if (sent == -EAGAIN) return queue_poll(operation);
  done_at_once(operation, sent);
}

void UringLane::sent_by_pool(Operation* operation, Result result) {
  if (result != kNotWritable) return done_at_once(operation, result);
  if (operation->lane_state == kLeavingPool) return done_at_once(operation, -ECANCELED);
  queue_poll(operation);
}

// ---- the blocking pool ------------------------------------------------------------------------

void UringLane::to_pool(Operation* operation) {
  operation->lane_state = kInPool;
  pool_.submit(operation, *this);
}

/// The wake-up is inside the lock: the destructor takes it too, so the lane outlives this call.
void UringLane::completed(Operation* operation, Result result) {
  std::lock_guard lock(pool_mutex_);
  from_pool_.push_back({operation, result, false, false, {}});
  has_from_pool_.store(true, std::memory_order_release);
  wake();
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
  if (has_from_pool_.load(std::memory_order_acquire)) fetch_from_pool();
  return count + take_ready(out.subspan(count));
}

std::size_t UringLane::take_ready(std::span<Completion> out) {
  const std::size_t taken = std::min(ready_.size(), out.size());
  const auto end = ready_.begin() + static_cast<std::ptrdiff_t>(taken);
  std::copy(ready_.begin(), end, out.begin());
  for (auto it = ready_.begin(); it != end; ++it) in_flight_ -= it->more ? 0 : 1;
  ready_.erase(ready_.begin(), end);
  return taken;
}

void UringLane::fetch_from_pool() {
  std::vector<Completion> fetched;
  {
    std::lock_guard lock(pool_mutex_);
    fetched.swap(from_pool_);
    has_from_pool_.store(false, std::memory_order_relaxed);
  }
  for (const Completion& completion : fetched) {
    if (completion.operation->code == Opcode::kSendFile) {
      sent_by_pool(completion.operation, completion.result);
      continue;
    }
    const bool opened = completion.operation->code == Opcode::kOpen && completion.result >= 0;
    // The pool opens FIFOs non-blocking; the ring would answer EAGAIN instead of waiting.
    if (opened) set_blocking(static_cast<int>(completion.result), true);
    ready_.push_back(completion);
  }
}

/// False when there is nothing to tell: the ring's own entries, and operations that go on.
bool UringLane::settle(const Cqe& cqe, Completion& out) {
  if (cqe.user_data < kTagLimit) return settle_internal(cqe);
  Operation* operation = operation_of(cqe.user_data);
  out = {operation, cqe.result, (cqe.flags & kCqeMore) != 0, false, {}};
  out.more_data = (cqe.flags & kCqeSockNonEmpty) != 0;
  if (cqe.flags & kCqeBuffer) {
    const Buffer buffer = provided_.taken(static_cast<std::uint16_t>(cqe.flags >> kCqeBufferShift));
    if (cqe.result > 0) {
      out.buffer = buffer;
    } else {
      provided_.give_back(buffer);
    }
  }
  if (out.more) return true;
  if (try_elsewhere(*operation, cqe.result) || ended_unasked(*operation, cqe.result)) return false;
  // A kernel thread that was interrupted for a cancel may say EINTR.
  if (operation->lane_state == kCancelling && out.result == -EINTR) out.result = -ECANCELED;
  // The poll won the race, but nothing was read: its result is a mask, not a number of bytes.
  if (operation->lane_state == kCancellingPoll) out.result = -ECANCELED;
  settle_opening(*operation, out);
  --in_flight_;
  return true;
}

/// What the ring does not finish by itself. A poll is followed by what it was for. The pool takes
/// what is not to be waited for here: a duplicate of a non-blocking descriptor, and the writing end
/// of a FIFO without a reader (OPENAT tries with O_NONBLOCK first, and ENXIO is its answer).
bool UringLane::try_elsewhere(Operation& operation, std::int64_t result) {
  if (operation.lane_state == kPolling && result >= 0) {
    if (operation.code == Opcode::kSendFile) {
      make_runnable(&operation);
    } else {
      queue(&operation);
    }
    return true;
  }
  if (operation.lane_state != kInRing) return false;
  const bool transfer = operation.code == Opcode::kRead || operation.code == Opcode::kWrite;
  const bool not_ready = transfer && operation.stream && result == -EAGAIN;
  const bool no_reader = operation.code == Opcode::kOpen && result == -ENXIO;
  if (!not_ready && !no_reader) return false;
  to_pool(&operation);
  return true;
}

/// What a thread on an errand had submitted, and that thread has exited.
bool UringLane::ended_unasked(Operation& operation, std::int64_t result) {
  if (result != -ECANCELED) return false;
  if (operation.lane_state == kPolling) {
    queue_poll(&operation);
  } else if (operation.lane_state == kInRing) {
    queue(&operation);
  } else {
    return false;
  }
  return true;
}

void UringLane::settle_opening(Operation& operation, Completion& out) {
  if (operation.code == Opcode::kConnect) {
    const int fd = static_cast<int>(operation.lane_descriptor);
    if (out.result >= 0) {
      out.result = fd;
    } else {
      count_call();
      close(fd);
    }
    operation.lane_descriptor = kNoDescriptor;
  }
  if (operation.code == Opcode::kOpen && out.result >= 0) {
    count_call();
    const int fd = static_cast<int>(out.result);
    const Result mode = mode_of(fd);
    if (mode >= 0) operation.file_kind = file_kind_of(fd, static_cast<mode_t>(mode));
  }
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

void UringLane::flush() {
  queue_surplus();
  if (ring_.unsubmitted() == 0 && !ring_.wants_enter()) return;
  if (errand_) {
    ring_.visit(!owners_);
  } else {
    ring_.enter(0, kNever);
  }
}

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
  return !ready_.empty() || !runnable_.empty() || !surplus_.empty() ||
         has_from_pool_.load(std::memory_order_acquire);
}

void UringLane::wait(Deadline deadline) {
  if (something_to_do()) return;
  if (ring_.has_completions()) return;
  provided_.top_up(false);
  const Deadline next = rest(deadline);
  // A time limit of the call is a timer for each; the one in the ring stays.
  if (deadline == kNever) arm(next);
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
  count_call();
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
  count_call();
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
  if (ring_.unsubmitted() > 0 || ring_.has_completions()) return false;
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
  count_call();
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(notify_fd_, &count, sizeof count);
}

void UringLane::count_call() { calls_.fetch_add(1, std::memory_order_relaxed); }

std::uint64_t UringLane::system_calls() const {
  return ring_.calls() + calls_.load(std::memory_order_relaxed);
}

}  // namespace cp::driver::uring
