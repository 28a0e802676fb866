// Who waits, and who is woken for what.
#include <algorithm>
#include <atomic>
#include <cassert>

#include "driver/driver.h"
#include "port/dispatcher.h"

namespace cp {

// ---- is there anything ------------------------------------------------------------------------

/// Something that a thread which waits could take. Called after the idle word was written, with a
/// barrier between: what is queued later is told to whoever waits. Of `self` its batch does not
/// count, which it is about to begin.
bool Dispatcher::anything_ready(const Consumer* self) {
  if (!injected_.empty()) return true;
  const std::uint32_t count = members_.places();
  for (std::uint32_t i = 0; i < count; ++i) {
    Consumer* consumer = members_.at(i);
    if (consumer == nullptr) continue;
    if (!consumer->run.empty() || consumer->unread() > 0) return true;
    if (consumer != self && has_surplus(*consumer)) return true;
  }
  return false;
}

// ---- waking -----------------------------------------------------------------------------------

/// After something was queued. The barrier stands between what was queued and the idle word, as the
/// one in `park` stands between that and what is queued.
void Dispatcher::wake_if_idle() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (std::atomic_ref<std::uint32_t>(idle_).load() != kIdleNobody) wake_one();
}

void Dispatcher::wake_if_ready(Consumer* self) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (std::atomic_ref<std::uint32_t>(idle_).load() == kIdleNobody) return;
  if (anything_ready(self)) wake_one(self);
}

/// One thread more, unless one is on its way already: that one looks for all there is, and sends
/// for the next if it finds something. So a burst of packets wakes threads one after the other,
/// each by the one before, and a single packet wakes one.
void Dispatcher::wake_one(Consumer* self) {
  Consumer* consumer = nullptr;
  {
    std::lock_guard lock(idle_mutex_);
    if (on_their_way_.load() > 0 || running_.load() >= options_.concurrency) return;
    consumer = pop_waiting();
    if (consumer == nullptr) return;
    consumer->state.store(Consumer::State::kWoken);
    consumer->woken_at = driver::now();
    on_their_way_.fetch_add(1);
    publish_idle();
  }
  if (consumer == self) return;
  wake_ups_.fetch_add(1, std::memory_order_relaxed);
  consumer->wake();
}

/// The thread that waited for the shortest time, so the warmest (rule D2). One that is blocked in
/// `get` comes at once; one in its event loop may be busy with something else, so it is second.
Consumer* Dispatcher::pop_waiting() {
  auto chosen = waiting_.rend();
  for (auto it = waiting_.rbegin(); it != waiting_.rend(); ++it) {
    if (!(*it)->wants_any) continue;
    if (chosen == waiting_.rend()) chosen = it;
    if ((*it)->in_event_loop) continue;
    chosen = it;
    break;
  }
  if (chosen == waiting_.rend()) return nullptr;
  Consumer* consumer = *chosen;
  erase_waiting(*consumer);
  return consumer;
}

void Dispatcher::erase_waiting(Consumer& consumer) {
  const auto it = std::find(waiting_.rbegin(), waiting_.rend(), &consumer);
  assert(it != waiting_.rend());
  waiting_.erase(std::next(it).base());
  if (consumer.wants_any) helpers_.fetch_sub(1);
  if (spinner_ == &consumer) spinner_ = nullptr;
}

/// Something is there for this consumer alone. A thread that runs comes by itself. `sleeping` is
/// stored before the thread looks at its own queues for the last time.
void Dispatcher::wake_owner(Consumer& consumer, Consumer* from) {
  if (&consumer == from) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!consumer.sleeping.load() || !consumer.sleeping.exchange(false)) return;
  wake_ups_.fetch_add(1, std::memory_order_relaxed);
  consumer.wake();
}

/// A place is free that there was none before: for a thread with packets of its own, or for any.
void Dispatcher::wake_for_place() {
  std::vector<Consumer*> owners;
  {
    std::lock_guard lock(idle_mutex_);
    publish_idle();
    for (Consumer* consumer : waiting_) {
      if (consumer->wants_any && !consumer->own.empty()) owners.push_back(consumer);
    }
  }
  for (Consumer* consumer : owners) {
    consumer->sleeping.store(true);
    wake_owner(*consumer, nullptr);
  }
  wake_if_ready();
}

// ---- waiting ----------------------------------------------------------------------------------

bool Dispatcher::park(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins) {
  settle_credit(consumer, true);
  {
    std::lock_guard lock(idle_mutex_);
    consumer.in_event_loop = in_event_loop;
    consumer.wants_any = wants_any;
    consumer.state.store(Consumer::State::kWaiting);
    waiting_.push_back(&consumer);
    if (wants_any) helpers_.fetch_add(1);
    if (wants_any && !in_event_loop) {
      // What comes next is for this thread (rule D2), not for one that looked before it.
      if (spinner_ != nullptr) spinner_->end_spin();
      spinner_ = spins ? &consumer : nullptr;
      if (spins) consumer.spin.store(Consumer::kSpinGoesOn);
    }
    publish_idle();
  }
  if (has_own(consumer)) return false;
  // What was queued since `take` may be for this very thread.
  wake_if_ready(&consumer);
  return consumer.state.load() == Consumer::State::kWaiting && !closed();
}

/// Whether there is something for the consumer alone. It sleeps if not: whoever queues something
/// after this has looked wakes it.
bool Dispatcher::has_own(Consumer& consumer) {
  consumer.sleeping.store(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (consumer.awaited_size.load() > 0) return true;
  return consumer.wants_any && !consumer.own.empty() && may_run(consumer);
}

bool Dispatcher::may_run(const Consumer& consumer) const {
  return consumer.has_place || running_.load() < options_.concurrency;
}

/// A thread that looks only because its time slice is over, or because its lane had news, does not
/// take what another was woken for (rule D2).
bool Dispatcher::worth_taking(Consumer& consumer) {
  if (closed() || consumer.state.load() != Consumer::State::kWaiting) return true;
  if (has_own(consumer)) return true;
  return consumer.wants_any && !consumer.run.empty() && may_run(consumer);
}

void Dispatcher::stop_spinning(Consumer& consumer) {
  {
    std::lock_guard lock(idle_mutex_);
    if (spinner_ != &consumer) return;
    const bool was_told = told();
    spinner_ = nullptr;
    if (was_told && consumer.state.load() == Consumer::State::kWaiting) {
      erase_waiting(consumer);
      consumer.state.store(Consumer::State::kWoken);
      consumer.woken_at = driver::now();
      on_their_way_.fetch_add(1);
    }
    publish_idle();
  }
  wake_if_ready(&consumer);
}

/// Whatever takes a thread off the stack, it counts as one on its way until it has looked.
void Dispatcher::unpark(Consumer& consumer) {
  consumer.sleeping.store(false);
  if (consumer.state.load() == Consumer::State::kAway) return;
  std::lock_guard lock(idle_mutex_);
  const Consumer::State state = consumer.state.load();
  if (state == Consumer::State::kWaiting) erase_waiting(consumer);
  if (state == Consumer::State::kWaiting || state == Consumer::State::kLate)
    on_their_way_.fetch_add(1);
  consumer.state.store(Consumer::State::kSearching);
  publish_idle();
}

/// While it counted, nobody was called for what was queued: it looks after that now.
void Dispatcher::end_search(Consumer& consumer) {
  if (consumer.state.load() == Consumer::State::kSearching) {
    std::lock_guard lock(idle_mutex_);
    on_their_way_.fetch_sub(1);
    consumer.state.store(Consumer::State::kAway);
    publish_idle();
  }
  wake_if_ready(&consumer);
}

void Dispatcher::leave_waiting(Consumer& consumer) {
  unpark(consumer);
  end_search(consumer);
}

/// One that is blocked in `get` comes as soon as it gets a processor.
bool Dispatcher::relieve(std::int64_t now, std::int64_t patience) {
  if (members_.count() < 2) return false;
  bool late = false;
  bool expected = false;
  {
    std::lock_guard lock(idle_mutex_);
    if (on_their_way_.load() == 0) return false;
    members_.for_each([&](Consumer& consumer) {
      if (consumer.state.load() != Consumer::State::kWoken || !consumer.in_event_loop) return;
      expected |= now - consumer.woken_at < patience;
      if (now - consumer.woken_at < patience) return;
      consumer.state.store(Consumer::State::kLate);
      on_their_way_.fetch_sub(1);
      late = true;
    });
    if (late) publish_idle();
  }
  if (late) wake_if_ready();
  return expected;
}

void Dispatcher::set_aside(Consumer& consumer) {
  {
    std::lock_guard lock(idle_mutex_);
    if (consumer.state.load() != Consumer::State::kWaiting || !consumer.in_event_loop) return;
    erase_waiting(consumer);
    consumer.state.store(Consumer::State::kLate);
    publish_idle();
  }
  consumer.wake();
}

/// Also while another thread is on its way: that one has its own part to do first.
Consumer* Dispatcher::send_on_errand() {
  std::lock_guard lock(idle_mutex_);
  if (closed() || running_.load() >= options_.concurrency) return nullptr;
  Consumer* consumer = pop_waiting();
  if (consumer == nullptr) return nullptr;
  consumer->state.store(Consumer::State::kWoken);
  consumer->woken_at = driver::now();
  on_their_way_.fetch_add(1);
  wake_ups_.fetch_add(1, std::memory_order_relaxed);
  publish_idle();
  return consumer;
}

// ---- the idle word ----------------------------------------------------------------------------

/// Under the idle mutex, after each change of what it says. No message is left lying: it is stored
/// before its writer looks here, and whoever makes the word say more than before looks for messages
/// afterwards. A writer that saw kIdleSpins, and finds the word changed when it comes to tell, need
/// not do anything: its message was stored before the change, and a thread that has come off the
/// stack, or onto it, looks after that. One that was told stays told until it has come.
void Dispatcher::publish_idle() {
  const std::atomic_ref<std::uint32_t> word(idle_);
  const std::uint32_t now = word.load();
  const std::uint32_t idle = idle_state();
  if (idle == now || (idle == kIdleSpins && now == kIdleTold)) return;
  word.store(idle);
}

Idle Dispatcher::idle_state() const {
  if (on_their_way_.load() > 0 || running_.load() >= options_.concurrency) return kIdleNobody;
  if (spinner_ != nullptr) return kIdleSpins;
  return helpers_.load() > 0 ? kIdleAsleep : kIdleNobody;
}

std::size_t Dispatcher::waiting() {
  std::lock_guard lock(idle_mutex_);
  return helpers_.load();
}

}  // namespace cp
