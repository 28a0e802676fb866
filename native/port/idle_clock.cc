#include "port/idle_clock.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "driver/blocking/blocking_thread.h"
#include "port/port.h"
#include "port/thread.h"
#include "system/thread.h"

namespace cp {
namespace {

constexpr std::int64_t kNanosecondsPerMillisecond = 1'000'000;
/// It looks at whole ticks only, so that many connections cost few wake-ups.
constexpr double kTick = 20.0 * kNanosecondsPerMillisecond;

driver::Deadline span_of(const Handle& handle) {
  return static_cast<driver::Deadline>(handle.idle_timeout) * kNanosecondsPerMillisecond;
}

}  // namespace

/// Leaked on purpose: threads may still run while the process's static objects are destroyed.
IdleClock& IdleClock::instance() {
  static IdleClock* const clock = new IdleClock;
  return *clock;
}

bool IdleClock::hold() {
  hold_too();
  std::lock_guard lock(mutex_);
  if (thread_.joinable() || start()) return true;
  let_go();
  return false;
}

/// With the mutex.
bool IdleClock::start() {
  thread_ = driver::start_blocking_thread([this, life = life_] { main(life); });
  return thread_.joinable();
}

void IdleClock::forget(std::uint32_t place) {
  deadlines_.remove(place, [] {});
}

/// Without the lock while it waits for the thread, which may wait for a handle whose holder wants
/// the lock. Whoever holds the clock first and then looks for a thread finds this one, or starts
/// another.
void IdleClock::rest() {
  system::Thread over;
  {
    std::lock_guard lock(mutex_);
    if (!thread_.joinable() || holders_.load() > 0) return;
    ++life_;
    over = std::exchange(thread_, system::Thread());
    changed_.notify_all();
  }
  over.join();
}

/// What is entered is visible before this looks until when the clock sleeps, and the clock looks
/// for what was entered after it has said that: one of both sees the other.
void IdleClock::watch(std::uint32_t place, driver::Deadline time) {
  const double tick = std::ceil(static_cast<double>(time) / kTick) * kTick;
  deadlines_.enter(place, tick, [](double) {});
  if (tick >= sleeps_until_.load()) return;
  std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

void IdleClock::main(std::uint64_t life) {
  while (will_sleep_until(kAwake, life)) {
    const driver::Deadline now = driver::now();
    deadlines_.take_due(
        static_cast<double>(now), [](std::uint32_t) {},
        [this, now](std::uint32_t place) { look_at(place, now); });
    const double next = deadlines_.earliest();
    if (will_sleep_until(next, life) && deadlines_.earliest() >= next) sleep_until(next, life);
  }
}

/// False when the thread is to end: what another one says of its own sleep is not to be
/// overwritten.
bool IdleClock::will_sleep_until(double time, std::uint64_t life) {
  std::lock_guard lock(mutex_);
  if (life_ != life) return false;
  sleeps_until_.store(time);
  return true;
}

void IdleClock::sleep_until(double time, std::uint64_t life) {
  std::unique_lock lock(mutex_);
  while (!woken_ && life_ == life) {
    if (time == Deadlines::kNone) {
      changed_.wait(lock);
      continue;
    }
    const double left = time - static_cast<double>(driver::now());
    if (left <= 0) break;
    constexpr double kLongest = 3600e9;
    changed_.wait_for(lock, static_cast<std::int64_t>(std::min(left, kLongest)) + 1);
  }
  woken_ = false;
}

/// While nothing is asked of the peer no time passes: it is the program that takes its time then,
/// or another connection that this one waits for. What the kernel has moved since the last look and
/// no thread has settled counts as well: a thread may be in one handler for long, and a long send
/// is settled at its end.
driver::Deadline IdleClock::due(Handle& handle, driver::Deadline now) {
  const driver::Deadline span = span_of(handle);
  if (!handle.waits_for_peer()) handle.moved_at = now;
  const driver::Deadline at = handle.moved_at + span;
  const std::int64_t traffic = driver::traffic(handle.descriptor);
  const auto settled = static_cast<std::int64_t>(handle.received + handle.sent);
  const std::int64_t ahead = traffic < 0 ? 0 : traffic - settled;
  const bool moved = std::exchange(handle.ahead, ahead) != ahead;
  return moved && at <= now ? now + span : at;
}

/// The place may be another handle's by now, which is looked at once too often then.
void IdleClock::look_at(std::uint32_t place, driver::Deadline now) {
  Handle& handle = *HandleTable::instance().find(place);
  std::lock_guard lock(handle.mutex);
  if (handle.id == 0 || handle.kind != HandleKind::kSocket) return;
  if (handle.idle_timeout == 0 || handle.closing || handle.timed_out) return;
  const driver::Deadline at = due(handle, now);
  if (at > now) return watch(place, at);
  Thread::ask_to_end_idle(handle);
  // Once more: the thread may find that something has moved, and where none is there one may come.
  watch(place, now + span_of(handle));
}

}  // namespace cp
