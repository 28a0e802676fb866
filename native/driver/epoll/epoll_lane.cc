#include "driver/epoll/epoll_lane.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace cp::driver::epoll {
namespace {

constexpr std::size_t kEventsAtOnce = 256;

bool watch(int epoll, int fd) {
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = Readiness::event_data(fd, 0);
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

void close_if_open(int fd) {
  if (fd >= 0) ::close(fd);
}

}  // namespace

std::unique_ptr<EpollLane> EpollLane::make(BlockingPool& pool, BlockingPool& direct_pool,
                                           BufferSource& buffers, Result& error) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const int wake = epoll < 0 ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int timer = wake < 0 ? -1 : ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer >= 0 && watch(epoll, wake) && watch(epoll, timer)) {
    error = 0;
    return std::unique_ptr<EpollLane>(
        new EpollLane(epoll, wake, timer, pool, direct_pool, buffers));
  }
  error = -errno;
  close_if_open(timer);
  close_if_open(wake);
  close_if_open(epoll);
  return nullptr;
}

EpollLane::EpollLane(int epoll, int wake, int timer, BlockingPool& pool, BlockingPool& direct_pool,
                     BufferSource& buffers)
    : pool_(pool),
      direct_pool_(direct_pool),
      buffers_(buffers),
      epoll_(epoll),
      wake_(wake),
      timer_(timer),
      readiness_(epoll, calls_),
      from_pool_(*this) {}

EpollLane::~EpollLane() {
  assert(in_flight_ == 0 && stash_begin_ == stash_end_);
  from_pool_.wait_for_pool();
  ::close(timer_);
  ::close(wake_);
  ::close(epoll_);
}

void EpollLane::submit(Operation* operation) {
  ++in_flight_;
  operation->lane_descriptor = kNoDescriptor;
  make_runnable(operation);
}

void EpollLane::cancel(Operation* operation) {
  switch (static_cast<State>(operation->lane_state)) {
    case kRunnable:
      short_.remove(operation);
      break;
    case kRunnableLong:
      long_.remove(operation);
      break;
    case kWaiting:
      stop_waiting(operation);
      break;
    case kOnPool:
      if (!pool_for(*operation).cancel(operation)) {
        operation->lane_state = kLeavingPool;
        return;
      }
      if (operation->code == Opcode::kSendFile) return sent_by_pool(operation, -ECANCELED);
      break;
    case kLeavingPool:
    case kDone:
      return;
  }
  if (operation->code == Opcode::kConnect) drop_connection(operation);
  finish(operation, -ECANCELED);
}

/// The descriptor tells of edges that nobody has fetched, of a wake-up and of the timer.
bool EpollLane::pending() const {
  if (any_runnable() || !ready_.empty() || stash_begin_ != stash_end_) return true;
  if (!from_pool_.empty()) return true;
  pollfd epoll = {epoll_, POLLIN, 0};
  return ::poll(&epoll, 1, 0) > 0;
}

std::size_t EpollLane::reap(std::span<Completion> out) {
  if (!errand_) on_notifier_ = false;
  Batch batch{out};
  // Before starting anything, so that a few busy descriptors can't keep the others' events waiting.
  // Where there is work already that is soon done, seldom is enough.
  const bool work = (any_runnable() || !ready_.empty()) && moved_ < kBytesPerHarvest;
  if (harvested_ || (work && ++reaps_since_harvest_ < kReapsPerHarvest)) {
    harvested_ = false;
  } else {
    harvest(0);
  }
  collect(batch);
  // An empty batch has to leave the notifier unreadable, or a loop that watches it would spin.
  while (batch.count == 0 && !quiet_ && !out.empty() && harvest(0)) collect(batch);
  return batch.count;
}

void EpollLane::wait(Deadline deadline) {
  fill_stash();
  if (stash_begin_ != stash_end_) return;
  woken_ = false;
  // An event may be nobody's (Readiness counts those); sleep on then.
  while (!any_runnable() && !woken_ && harvest(milliseconds_until(deadline))) {
    if (deadline != kNever && now() >= deadline) break;
  }
  harvested_ = true;
}

/// Only the first of several calls writes to the eventfd. `wake_pending_` set means: the eventfd is
/// readable, or the one who set the flag is about to write. See drain_wake for the other half.
/// Writing can't fail: the counter never gets beyond 1.
void EpollLane::wake() {
  if (wake_pending_.exchange(true, std::memory_order_acq_rel)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  assert(written == sizeof one);
}

/// First the eventfd, then the flag. The other way round, a wake in between would have its write
/// swallowed and leave the flag set: no later wake would write, and the lane would sleep for ever.
/// This way a wake in between finds the flag set and writes nothing, which is right: the owner is
/// awake, and as both sides do a read-modify-write, what was published before any wake ordered
/// before this exchange is visible after it. A wake ordered after the exchange writes again.
void EpollLane::drain_wake() {
  std::uint64_t value;
  calls_.add();
  if (::read(wake_, &value, sizeof value) != sizeof value) return;
  wake_pending_.exchange(false, std::memory_order_acq_rel);
  woken_ = true;
}

void EpollLane::drain_timer() {
  std::uint64_t expirations;
  calls_.add();
  if (::read(timer_, &expirations, sizeof expirations) != sizeof expirations) return;
  armed_ = kNever;
  woken_ = true;
}

bool EpollLane::sleep_on_notifier(Deadline deadline) {
  fill_stash();
  if (stash_begin_ != stash_end_) return false;
  arm_timer(deadline);
  harvested_ = false;
  on_notifier_ = true;
  return true;
}

void EpollLane::arm_timer(Deadline deadline) {
  if (deadline == armed_) return;
  struct itimerspec time = {};  // all zero disarms
  if (deadline != kNever) {
    const Deadline at = std::max<Deadline>(deadline, 1);
    time.it_value.tv_sec = static_cast<time_t>(at / 1'000'000'000);
    time.it_value.tv_nsec = static_cast<long>(at % 1'000'000'000);
  }
  calls_.add();
  ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &time, nullptr);
  armed_ = deadline;
}

void EpollLane::clear_notifier() {
  harvest(0);
  harvested_ = true;
}

void EpollLane::fetch_from_pool() {
  from_pool_.fetch([this](Operation* operation, Result result) {
    if (operation->code == Opcode::kSendFile) return sent_by_pool(operation, result);
    finish(operation, result);
  });
}

/// The stash goes first: it may hold packets of a multishot that was cancelled since.
void EpollLane::collect(Batch& out) {
  take_stash(out);
  fetch_from_pool();
  take_ready(out);
  while (any_runnable() && !out.full() && moved_ < kBytesPerHarvest) start(next_runnable(), out);
  take_ready(out);
}

Operation* EpollLane::next_runnable() {
  const bool short_one = !short_.empty() && (long_.empty() || short_in_a_row_ < kShortPerLong);
  short_in_a_row_ = short_one && !long_.empty() ? short_in_a_row_ + 1 : 0;
  return (short_one ? short_ : long_).pop_front();
}

void EpollLane::take_stash(Batch& out) {
  while (stash_begin_ != stash_end_ && !out.full()) out.push(stash_[stash_begin_++]);
}

/// Starts what is queued where nobody takes completions.
void EpollLane::fill_stash() {
  if (stash_begin_ != stash_end_) return;
  Batch batch{stash_};
  moved_ = 0;  // whoever sleeps next must leave nothing that can be tried
  collect(batch);
  stash_begin_ = 0;
  stash_end_ = batch.count;
}

/// Fetches events, sleeping up to `timeout` milliseconds. False when a signal interrupted it.
bool EpollLane::harvest(int timeout) {
  std::array<struct epoll_event, kEventsAtOnce> events;
  calls_.add();
  const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout);
  if (count < 0) return false;
  quiet_ = static_cast<std::size_t>(count) < events.size();
  reaps_since_harvest_ = 0;
  moved_ = 0;
  for (int i = 0; i < count; ++i) {
    const auto& it = events[static_cast<std::size_t>(i)];
    event(it.events, it.data.u64);
  }
  return true;
}

void EpollLane::event(std::uint32_t events, std::uint64_t data) {
  const int fd = Readiness::event_fd(data);
  // An owner in its event loop, which is busy, is to hear of these when it looks.
  const bool for_owner = errand_ && on_notifier_;
  if (fd == wake_) return for_owner ? void() : drain_wake();
  if (fd == timer_) return for_owner ? void() : drain_timer();
  const Readiness::Woken woken = readiness_.event(events, data);
  if (woken.in != nullptr) make_runnable(woken.in);
  if (woken.out != nullptr) make_runnable(woken.out);
}

}  // namespace cp::driver::epoll
