// Who waits, and who is woken for what.
#include <atomic>

#include "port/dispatcher.h"
#include "system/switch_point.h"

namespace cp {

// ---- is there anything ------------------------------------------------------------------------

/// Something that a thread which waits could take. Called after the idle word was written, with a
/// barrier between: what is queued later is told to whoever waits. Of `self` its batch does not
/// count, which it is about to begin.
bool Dispatcher::anything_ready(const Consumer* self) {
  if (!shared_.empty()) return true;
  const std::uint32_t count = members_.places();
  for (std::uint32_t i = 0; i < count; ++i) {
    Consumer* consumer = members_.at(i);
    if (consumer == nullptr) continue;
    if (!consumer->run_queue().empty() || consumer->unread() > 0) return true;
    if (consumer != self && keys_.has_surplus(*consumer)) return true;
  }
  return false;
}

// ---- waking -----------------------------------------------------------------------------------

/// After something was queued.
void Dispatcher::wake_if_idle() {
  if (waiters_.anybody()) wake_one();
}

void Dispatcher::wake_if_ready(Consumer* self) {
  if (waiters_.anybody() && anything_ready(self)) wake_one(self);
}

/// `self` is awake and looks.
void Dispatcher::wake_one(Consumer* self) {
  Consumer* consumer = waiters_.call_next();
  if (consumer != nullptr && consumer != self) wake(*consumer);
}

void Dispatcher::wake(Consumer& consumer) {
  wake_ups_.fetch_add(1, std::memory_order_relaxed);
  consumer.wake();
}

/// Something is there for this consumer alone.
void Dispatcher::wake_owner(Consumer& consumer, Consumer* from) {
  if (&consumer != from && Waiters::ends_sleep(consumer)) wake(consumer);
}

/// A place is free that there was none before: for a thread with packets of its own, or for any.
void Dispatcher::wake_for_place() {
  for (Consumer* consumer : waiters_.place_is_free()) {
    wake_owner(*consumer, nullptr);
  }
  wake_if_ready();
}

// ---- waiting ----------------------------------------------------------------------------------

bool Dispatcher::park(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins) {
  settle_credit(consumer, true);
  waiters_.add(consumer, in_event_loop, wants_any, spins);
  if (waiters_.has_own(consumer)) return false;
  if (CP_PLANTED("no look after the idle word")) return true;
  // What was queued since `take` may be for this very thread.
  wake_if_ready(&consumer);
  return consumer.state() == Consumer::State::kWaiting && !closed();
}

/// A thread that looks only because its time slice is over, or because its lane had news, does not
/// take what another was woken for (rule D2).
bool Dispatcher::worth_taking(Consumer& consumer) {
  if (closed() || consumer.state() != Consumer::State::kWaiting) return true;
  if (waiters_.has_own(consumer)) return true;
  return consumer.wants_any() && !consumer.run_queue().empty() && running_.may_run(consumer);
}

void Dispatcher::stop_spinning(Consumer& consumer) {
  if (waiters_.stop_spinning(consumer)) wake_if_ready(&consumer);
}

void Dispatcher::end_search(Consumer& consumer) {
  waiters_.end_search(consumer);
  wake_if_ready(&consumer);
}

void Dispatcher::leave_waiting(Consumer& consumer) {
  unpark(consumer);
  end_search(consumer);
}

// ---- those that do not come -------------------------------------------------------------------

bool Dispatcher::relieve(std::int64_t now, std::int64_t patience) {
  if (members_.count() < 2) return false;
  const Waiters::Relieved relieved = waiters_.relieve(members_, now, patience);
  if (relieved.late) wake_if_ready();
  return relieved.expected;
}

void Dispatcher::set_aside(Consumer& consumer) {
  if (waiters_.set_aside(consumer)) consumer.wake();
}

Consumer* Dispatcher::send_on_errand() {
  Consumer* consumer = closed() ? nullptr : waiters_.call_for_errand();
  if (consumer != nullptr) wake_ups_.fetch_add(1, std::memory_order_relaxed);
  return consumer;
}

}  // namespace cp
