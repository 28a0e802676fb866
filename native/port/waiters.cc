#include "port/waiters.h"

#include <algorithm>
#include <cassert>

#include "driver/driver.h"

namespace cp {

// ---- who is called ----------------------------------------------------------------------------

Consumer* Waiters::call_next() {
  const Lock lock(mutex_);
  if (on_their_way_.load() > 0 || running_.full()) return nullptr;
  Consumer* consumer = pop(lock);
  if (consumer == nullptr) return nullptr;
  send(lock, *consumer);
  publish(lock);
  return consumer;
}

Consumer* Waiters::call_for_errand() {
  const Lock lock(mutex_);
  if (running_.full()) return nullptr;
  Consumer* consumer = pop(lock);
  if (consumer == nullptr) return nullptr;
  send(lock, *consumer);
  publish(lock);
  return consumer;
}

/// One that is blocked in `get` comes at once; one in its event loop may be busy with something
/// else, so it is second.
Consumer* Waiters::pop(const Lock& lock) {
  auto chosen = stack_.rend();
  for (auto it = stack_.rbegin(); it != stack_.rend(); ++it) {
    if (!(*it)->wants_any_) continue;
    if (chosen == stack_.rend()) chosen = it;
    if ((*it)->in_event_loop_) continue;
    chosen = it;
    break;
  }
  if (chosen == stack_.rend()) return nullptr;
  Consumer* consumer = *chosen;
  erase(lock, *consumer);
  return consumer;
}

void Waiters::erase(const Lock&, Consumer& consumer) {
  const auto it = std::find(stack_.rbegin(), stack_.rend(), &consumer);
  assert(it != stack_.rend());
  stack_.erase(std::next(it).base());
  if (consumer.wants_any_) helpers_.fetch_sub(1);
  if (spinner_ == &consumer) spinner_ = nullptr;
}

void Waiters::send(const Lock&, Consumer& consumer) {
  consumer.state_.store(Consumer::State::kWoken);
  consumer.woken_at_ = driver::now();
  on_their_way_.fetch_add(1);
}

std::vector<Consumer*> Waiters::place_is_free() {
  std::vector<Consumer*> owners;
  const Lock lock(mutex_);
  publish(lock);
  for (Consumer* consumer : stack_) {
    if (!consumer->wants_any_ || consumer->own_queue().empty()) continue;
    consumer->sleeping_.store(true);  // it is woken in any case
    owners.push_back(consumer);
  }
  return owners;
}

void Waiters::no_place_is_free() {
  if (helpers_.load() == 0) return;
  const Lock lock(mutex_);
  publish(lock);
}

// ---- waiting ----------------------------------------------------------------------------------

void Waiters::add(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins) {
  const Lock lock(mutex_);
  consumer.in_event_loop_ = in_event_loop;
  consumer.wants_any_ = wants_any;
  consumer.state_.store(Consumer::State::kWaiting);
  stack_.push_back(&consumer);
  if (wants_any) helpers_.fetch_add(1);
  if (wants_any && !in_event_loop) {
    if (spinner_ != nullptr) spinner_->end_spin();
    spinner_ = spins ? &consumer : nullptr;
    if (spins) consumer.spin.store(Consumer::kSpinGoesOn);
  }
  publish(lock);
}

bool Waiters::has_own(Consumer& consumer) const {
  consumer.sleeping_.store(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (consumer.awaited() > 0) return true;
  return consumer.wants_any_ && !consumer.own_queue().empty() && running_.may_run(consumer);
}

bool Waiters::stop_spinning(Consumer& consumer) {
  const Lock lock(mutex_);
  if (spinner_ != &consumer) return false;
  const bool was_told = told();
  spinner_ = nullptr;
  if (was_told && consumer.state_.load() == Consumer::State::kWaiting) {
    erase(lock, consumer);
    send(lock, consumer);
  }
  publish(lock);
  return true;
}

void Waiters::take_off(Consumer& consumer) {
  consumer.sleeping_.store(false);
  if (consumer.state_.load() == Consumer::State::kAway) return;
  const Lock lock(mutex_);
  const Consumer::State state = consumer.state_.load();
  if (state == Consumer::State::kWaiting) erase(lock, consumer);
  if (state == Consumer::State::kWaiting || state == Consumer::State::kLate)
    on_their_way_.fetch_add(1);
  consumer.state_.store(Consumer::State::kSearching);
  publish(lock);
}

void Waiters::end_search(Consumer& consumer) {
  if (consumer.state_.load() != Consumer::State::kSearching) return;
  const Lock lock(mutex_);
  on_their_way_.fetch_sub(1);
  consumer.state_.store(Consumer::State::kAway);
  publish(lock);
}

// ---- those that are late ----------------------------------------------------------------------

Waiters::Relieved Waiters::relieve(const Members& members, std::int64_t now,
                                   std::int64_t patience) {
  Relieved relieved;
  const Lock lock(mutex_);
  if (on_their_way_.load() == 0) return relieved;
  members.for_each([&](Consumer& consumer) {
    if (consumer.state_.load() != Consumer::State::kWoken || !consumer.in_event_loop_) return;
    relieved.expected |= now - consumer.woken_at_ < patience;
    if (now - consumer.woken_at_ < patience) return;
    consumer.state_.store(Consumer::State::kLate);
    on_their_way_.fetch_sub(1);
    relieved.late = true;
  });
  if (relieved.late) publish(lock);
  return relieved;
}

bool Waiters::set_aside(Consumer& consumer) {
  const Lock lock(mutex_);
  if (consumer.state_.load() != Consumer::State::kWaiting || !consumer.in_event_loop_) return false;
  erase(lock, consumer);
  consumer.state_.store(Consumer::State::kLate);
  publish(lock);
  return true;
}

// ---- the idle word ----------------------------------------------------------------------------

/// After each change of what it says. No message is left lying: it is stored before its writer
/// looks here, and whoever makes the word say more than before looks for messages afterwards. A
/// writer that saw kIdleSpins, and finds the word changed when it comes to tell, need not do
/// anything: its message was stored before the change, and a thread that has come off the stack, or
/// onto it, looks after that. One that was told stays told until it has come.
void Waiters::publish(const Lock&) {
  const std::atomic_ref<std::uint32_t> word(idle_);
  const std::uint32_t now = word.load();
  const std::uint32_t idle = idle_state();
  if (idle == now || (idle == kIdleSpins && now == kIdleTold)) return;
  word.store(idle);
}

Idle Waiters::idle_state() const {
  if (on_their_way_.load() > 0 || running_.full()) return kIdleNobody;
  if (spinner_ != nullptr) return kIdleSpins;
  return helpers_.load() > 0 ? kIdleAsleep : kIdleNobody;
}

std::size_t Waiters::count() {
  const Lock lock(mutex_);
  return helpers_.load();
}

}  // namespace cp
