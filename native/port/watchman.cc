#include "port/watchman.h"

#include <algorithm>

#include "driver/blocking/blocking_thread.h"
#include "port/port.h"
#include "port/thread.h"

namespace cp {
namespace {

using driver::Deadline;

constexpr std::int64_t kMillisecond = 1'000'000;
/// In a handler for longer than that: stuck.
constexpr std::int64_t kPatience = kMillisecond;
/// An event loop has other things to do now and then, and a thread that was woken has to get a
/// processor first.
constexpr std::int64_t kPatienceWithLoop = 2 * kMillisecond;
/// A thread that was sent and has not begun: another is sent.
constexpr std::int64_t kPatienceWithCarrier = 2 * kMillisecond;
/// A thread has something in its lane and nobody waits: one that runs is asked to look after it
/// before its next batch.
constexpr std::int64_t kPatienceWithAll = 10 * kMillisecond;
/// After an errand the next one, twice as long after each that brought nothing.
constexpr std::int64_t kBetweenErrands = kMillisecond / 4;
constexpr std::uint32_t kMostDoublings = 6;
/// Between two looks: while a lane has something its owner does not look after; while somebody
/// could help; and while nobody could, or nothing has happened for long.
constexpr std::int64_t kNextLook = kMillisecond / 4;
constexpr std::int64_t kUsualLook = kMillisecond;
constexpr std::int64_t kSeldom = 4 * kMillisecond;
constexpr std::uint32_t kLooksUntilSeldom = 1000;
/// Nothing has moved: it sleeps.
constexpr std::int64_t kUntilSleep = 20 * kMillisecond;

}  // namespace

/// Leaked on purpose: its thread may still run while the process's static objects are destroyed.
Watchman& Watchman::instance() {
  static Watchman* const watchman = new Watchman;
  return *watchman;
}

void Watchman::watch(Port& port) {
  std::lock_guard life(life_mutex_);
  {
    std::lock_guard lock(mutex_);
    const bool known = std::find(ports_.begin(), ports_.end(), &port) != ports_.end();
    if (!known) ports_.push_back(&port);
  }
  if (!thread_.joinable()) start();
  if (!thread_.joinable()) return;
  for (Thread* thread : port.members()) thread->be_watched();
  notice();
}

void Watchman::forget(Port& port) {
  std::lock_guard life(life_mutex_);
  bool last = false;
  {
    std::lock_guard lock(mutex_);
    std::erase(ports_, &port);
    last = ports_.empty();
  }
  if (last && thread_.joinable()) stop();
}

/// Where there is no thread or descriptor to be had, a port does without.
void Watchman::start() {
  if (!bell_) bell_ = driver::Doorbell::make();
  if (!bell_) return;
  stopping_.store(false);
  thread_ = driver::start_blocking_thread([this] { main(); });
}

void Watchman::stop() {
  stopping_.store(true);
  bell_->ring();
  thread_.join();
  bell_.reset();
}

void Watchman::wake() {
  if (asleep_.exchange(false)) bell_->ring();
}

/// Whoever goes into a handler stores its turn and then looks whether the watchman sleeps; the
/// watchman says that it sleeps and then looks at the turns once more. All of it is sequentially
/// consistent, so one of them sees the other.
void Watchman::main() {
  Deadline moved = driver::now();
  std::uint32_t idle_looks = 0;
  while (!stopping_.load()) {
    const Deadline now = driver::now();
    const Sight sight = look(now);
    if (sight.moved || sight.busy || sight.pending) moved = now;
    idle_looks = sight.moved || sight.pending ? 0 : idle_looks + 1;
    if (now - moved < kUntilSleep) {
      const bool seldom = !sight.idle || idle_looks > kLooksUntilSeldom;
      bell_->pause(seldom ? kSeldom : sight.pending ? kNextLook : kUsualLook);
      continue;
    }
    asleep_.store(true);
    const Sight again = look(driver::now());
    if (!again.moved && !again.busy && !again.pending && !stopping_.load()) bell_->sleep();
    asleep_.store(false);
    moved = driver::now();
  }
}

Watchman::Sight Watchman::look(Deadline now) {
  Sight sight;
  looks_.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard lock(mutex_);
  for (Port* port : ports_) look_at(*port, now, sight);
  return sight;
}

void Watchman::look_at(Port& port, Deadline now, Sight& sight) {
  threads_ = port.members();
  sight.idle |= std::atomic_ref<std::uint32_t>(port.dispatcher().idle()).load() != kIdleNobody;
  sight.pending |= port.dispatcher().relieve(now, kPatienceWithLoop);
  for (Thread* thread : threads_) look_at(*thread, now, sight);
}

void Watchman::look_at(Thread& thread, Deadline now, Sight& sight) {
  WatchmansNotes& notes = thread.notes_;
  const std::uint64_t turn = thread.turn.load();
  if (turn != notes.turn) {
    notes = {turn, thread.errands(), now, 0, 0, 0, 0};
    sight.moved = true;
  }
  constexpr std::uint64_t kNeverCame = 1;
  if (turn % 2 == 0 || turn == kNeverCame) return;
  const bool parked = thread.parked();
  const bool stuck = thread.blocking() || now - notes.since >= kPatience;
  if (!parked) sight.busy = true;
  if (!stuck) return;
  look_at_batch(thread, now);
  if (!thread.needs_errand(now)) {
    notes.needed_since = 0;
    return;
  }
  sight.pending = true;
  if (notes.needed_since == 0) notes.needed_since = now;
  if (parked && now - notes.needed_since < kPatienceWithLoop) return;
  if (notes.errands != thread.errands()) {
    notes.errands = thread.errands();
    const std::uint32_t doublings = std::min(thread.vain_errands(), kMostDoublings);
    notes.next_errand = now + (doublings == 0 ? 0 : kBetweenErrands << doublings);
  }
  if (now >= notes.next_errand && send_somebody(thread, now)) {
    notes.next_errand = now + kPatienceWithCarrier;
  }
}

/// The rest of a batch belongs to others once its thread is in one handler for long, or in
/// something else before it has begun the first.
void Watchman::look_at_batch(Thread& thread, Deadline now) {
  WatchmansNotes& notes = thread.notes_;
  Dispatcher& dispatcher = thread.port().dispatcher();
  const std::size_t unbegun = dispatcher.unbegun(thread);
  if (unbegun != notes.unbegun || unbegun == 0) {
    notes.unbegun = unbegun;
    notes.unbegun_since = now;
  } else if (now - notes.unbegun_since >= kPatience) {
    dispatcher.take_back(thread);
    notes.unbegun_since = now;
  }
}

bool Watchman::send_somebody(Thread& busy, Deadline now) {
  Dispatcher& dispatcher = busy.port().dispatcher();
  if (busy.parked()) dispatcher.set_aside(busy);
  auto* carrier = static_cast<Thread*>(dispatcher.send_on_errand());
  if (carrier == nullptr) return ask_somebody(busy, now);
  carrier->send_to(busy);
  carrier->wake();
  return true;
}

/// So that nobody's connections wait without end while all others have work all the time (rule D1):
/// the thread that was seen to move last, if it comes often, and has not been asked already.
bool Watchman::ask_somebody(Thread& busy, Deadline now) {
  if (now - busy.notes_.needed_since < kPatienceWithAll) return false;
  Thread* chosen = nullptr;
  for (Thread* thread : threads_) {
    if (thread == &busy || !thread->has_place.load() || thread->parked()) continue;
    if (chosen == nullptr || thread->notes_.since > chosen->notes_.since) chosen = thread;
  }
  const bool comes = chosen != nullptr && now - chosen->notes_.since < kPatienceWithAll;
  return comes && chosen->ask_to(busy);
}

}  // namespace cp
