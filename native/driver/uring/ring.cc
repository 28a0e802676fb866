#include "driver/uring/ring.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>

namespace cp::driver::uring {
namespace {

// The kernel is the other thread: what io_uring(7) calls smp_load_acquire and smp_store_release.
std::uint32_t load_acquire(std::uint32_t* word) {
  return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire);
}
std::uint32_t load_relaxed(std::uint32_t* word) {
  return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_relaxed);
}
void store_release(std::uint32_t* word, std::uint32_t value) {
  std::atomic_ref<std::uint32_t>(*word).store(value, std::memory_order_release);
}

/// What it takes from an interrupt of another processor until the completions are there, and more.
constexpr std::int64_t kAfterInterrupt = 50'000;

constexpr std::uint32_t kBase = kSetupClamp | kSetupCqSize | kSetupSubmitAll;

/// Newest first: EINVAL means that the kernel does not know a flag.
constexpr std::uint32_t kOwnersLadder[] = {
    kBase | kSetupSingleIssuer | kSetupDeferTaskrun | kSetupTaskrunFlag | kSetupNoSqArray,  // 6.6
    kBase | kSetupSingleIssuer | kSetupDeferTaskrun | kSetupTaskrunFlag,                    // 6.1
    kBase | kSetupSingleIssuer | kSetupCoopTaskrun | kSetupTaskrunFlag,                     // 6.0
};
constexpr std::uint32_t kTickLadder[] = {
    kBase | kSetupCoopTaskrun | kSetupTaskrunFlag | kSetupNoSqArray,  // 6.6
    kBase | kSetupCoopTaskrun | kSetupTaskrunFlag,                    // 5.19
};

std::span<const std::uint32_t> ladder(Access access) {
  if (access == Access::kTick) return kTickLadder;
  return kOwnersLadder;
}

/// Interrupts every processor that runs a thread of this process: on the way out of the interrupt
/// each does what its thread's kernel side has put off. False where it is refused, and the tick of
/// the timer has to do.
bool interrupt_running_threads() {
  constexpr int kPrivateExpedited = 1 << 3;          // membarrier(2), 4.14
  constexpr int kRegisterPrivateExpedited = 1 << 4;  // once for the process
  static const bool registered = syscall(SYS_membarrier, kRegisterPrivateExpedited, 0, 0) == 0;
  return registered && syscall(SYS_membarrier, kPrivateExpedited, 0, 0) == 0;
}

}  // namespace

Result Ring::open(std::uint32_t entries, std::uint32_t cq_entries, Access access) {
  Params params{};
  for (const std::uint32_t flags : ladder(access)) {
    params = Params{};
    params.flags = flags;
    params.cq_entries = cq_entries;
    fd_ = setup(entries, &params);  // the descriptor is close-on-exec
    if (fd_ >= 0 || errno != EINVAL) break;
  }
  if (fd_ < 0) return -errno;
  const std::uint32_t needed = kFeatureSingleMmap | kFeatureNoDrop | kFeatureExtArg;
  features_ = params.features;
  if ((features_ & needed) != needed) return -EINVAL;
  setup_flags_ = params.flags;
  // A thread that waits here is idle, not waiting for a disk, whatever the statistics would say.
  enter_flags_ = features_ & kFeatureNoIowait ? kEnterNoIowait : 0u;
  enter_fd_ = fd_;
  const Result mapped = map(params);
  if (mapped < 0) return mapped;
  register_ring_fd();
  access_ = access;
  if (nudges()) nudge_.open(enter_fd_, enter_flags_, sq_flags_);
  // Regular files that block go to kernel threads; not as many as there are requests.
  std::uint32_t workers[2] = {8, 64};
  register_(fd_, kRegisterIowqMaxWorkers, workers, 2);
  return 0;
}

Result Ring::map(const Params& params) {
  const std::size_t sq_size = params.sq.array + params.sq_entries * sizeof(std::uint32_t);
  const std::size_t cq_size = params.cq.cqes + params.cq_entries * sizeof(Cqe);
  rings_size_ = std::max(sq_size, cq_size);
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  constexpr int kFlags = MAP_SHARED | MAP_POPULATE;
  void* rings = mmap(nullptr, rings_size_, kProtection, kFlags, fd_, 0);
  if (rings == MAP_FAILED) return -errno;
  rings_ = static_cast<std::uint8_t*>(rings);
  sqes_size_ = params.sq_entries * sizeof(Sqe);
  void* sqes = mmap(nullptr, sqes_size_, kProtection, kFlags, fd_, 0x10000000);
  if (sqes == MAP_FAILED) return -errno;
  sqes_ = static_cast<Sqe*>(sqes);
  // A fork shares neither: the child would submit into its parent's ring.
  madvise(rings_, rings_size_, MADV_DONTFORK);
  madvise(sqes_, sqes_size_, MADV_DONTFORK);
  const auto word = [this](std::uint32_t offset) {
    return reinterpret_cast<std::uint32_t*>(rings_ + offset);
  };
  sq_entries_ = params.sq_entries;
  sq_khead_ = word(params.sq.head);
  sq_ktail_ = word(params.sq.tail);
  sq_flags_ = word(params.sq.flags);
  cq_khead_ = word(params.cq.head);
  cq_ktail_ = word(params.cq.tail);
  cq_flags_ = word(params.cq.flags);
  cq_mask_ = params.cq_entries - 1;
  cqes_ = reinterpret_cast<const Cqe*>(rings_ + params.cq.cqes);
  if (!(params.flags & kSetupNoSqArray)) {
    for (std::uint32_t i = 0; i < sq_entries_; ++i) word(params.sq.array)[i] = i;
  }
  return 0;
}

/// Spares the kernel the look-up of the descriptor at each call (5.18). Belongs to this thread.
void Ring::register_ring_fd() {
  ResourceUpdate update{0xffffffff, 0, static_cast<std::uint64_t>(fd_)};
  if (register_(fd_, kRegisterRingFds, &update, 1) != 1) return;
  enter_fd_ = static_cast<int>(update.offset);
  enter_flags_ |= kEnterRegisteredRing;
}

Ring::~Ring() {
  nudge_.close();
  if (sqes_ != nullptr) munmap(sqes_, sqes_size_);
  if (rings_ != nullptr) munmap(rings_, rings_size_);
  if (enter_flags_ & kEnterRegisteredRing) {
    ResourceUpdate update{static_cast<std::uint32_t>(enter_fd_), 0, 0};
    register_(fd_, kUnregisterRingFds, &update, 1);  // else the ring lives as long as the thread
  }
  if (fd_ >= 0) close(fd_);
}

Sqe* Ring::next_sqe() {
  if (sq_tail_ - load_acquire(sq_khead_) >= sq_entries_) return nullptr;
  Sqe* sqe = &sqes_[sq_tail_ & (sq_entries_ - 1)];
  ++sq_tail_;
  std::memset(static_cast<void*>(sqe), 0, sizeof *sqe);
  return sqe;
}

Result Ring::enter(std::uint32_t wait, Deadline deadline) {
  store_release(sq_ktail_, sq_tail_);
  Timespec timespec{};
  GetEventsArgument argument{};
  std::uint32_t flags = enter_flags_ | kEnterGetEvents;
  const void* pointer = nullptr;
  std::size_t size = 0;
  if (wait > 0 && deadline != kNever) {
    const std::int64_t left = std::max<std::int64_t>(0, deadline - now());
    timespec = {left / 1'000'000'000, left % 1'000'000'000};
    argument.timespec = address_of(&timespec);
    flags |= kEnterExtArg;
    pointer = &argument;
    size = sizeof argument;
  }
  count_call();
  const int result = uring::enter(enter_fd_, unsubmitted(), wait, flags, pointer, size);
  const Result error = result < 0 ? -errno : 0;
  // Submitting can be partial, also where the answer is an error: the kernel's head tells.
  sq_submitted_ = load_acquire(sq_khead_);
  return error;
}

void Ring::visit(bool submits) {
  if (access_ == Access::kOwner) return;
  store_release(sq_ktail_, sq_tail_);
  const std::uint32_t submitting = submits || nudges() ? unsubmitted() : 0;
  if (nudges()) {
    if (submitting == 0 && !wants_enter()) return;
    count_call();
    nudge_.enter(submitting);
    sq_submitted_ = load_acquire(sq_khead_);
    return;
  }
  // By its descriptor: the registered index is the owner's alone.
  if (submitting > 0 || (load_relaxed(sq_flags_) & kSqCqOverflow)) {
    count_call();
    uring::enter(fd_, submitting, 0, kEnterGetEvents, nullptr, 0);
    sq_submitted_ = load_acquire(sq_khead_);
  }
  if (!wants_enter() || has_completions()) return;
  count_call();
  if (!interrupt_running_threads()) return;
  const Deadline until = now() + kAfterInterrupt;
  while (!has_completions() && now() < until) continue;
}

void Ring::count_call() {
  std::atomic_ref<std::uint64_t>(calls_).store(calls_ + 1, std::memory_order_relaxed);
}

bool Ring::has_completions() const { return load_acquire(cq_ktail_) != cq_head_; }

bool Ring::wants_enter() const {
  return (load_relaxed(sq_flags_) & (kSqTaskrun | kSqCqOverflow)) != 0;
}

const Cqe* Ring::front() const { return has_completions() ? &cqes_[cq_head_ & cq_mask_] : nullptr; }

void Ring::pop() { store_release(cq_khead_, ++cq_head_); }

void Ring::signal_eventfd(bool enabled) {
  std::atomic_ref<std::uint32_t>(*cq_flags_)
      .store(enabled ? 0u : static_cast<std::uint32_t>(kCqEventfdDisabled),
             std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

std::uint64_t Ring::calls() const {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(calls_))
      .load(std::memory_order_relaxed);
}

}  // namespace cp::driver::uring
