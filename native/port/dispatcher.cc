#include "port/dispatcher.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>

#include "port/buffer_pool.h"
#include "port/spin.h"

namespace cp {
namespace {

std::atomic_ref<std::uint32_t> state_of(Consumer& consumer, std::size_t i) {
  return std::atomic_ref<std::uint32_t>(consumer.slots[i].state);
}

/// The owner claims slots without the mutex, so a slot changes hands by compare-and-swap only. Its
/// received bytes are nobody's then, until another thread takes the packet.
bool revoke(Consumer& consumer, std::size_t i) {
  std::uint32_t expected = state_of(consumer, i).load();
  if (expected != kSlotReady) return false;
  if (!state_of(consumer, i).compare_exchange_strong(expected, kSlotStolen)) return false;
  const Packet& packet = consumer.batch[i];
  if (packet.chunk != driver::kNoChunk) BufferPool::assign({packet.chunk, packet.offset}, 0);
  return true;
}

/// Frees a slot that is not open to thieves any more, so that it changes hands no more: what it
/// was.
std::uint32_t forget(Consumer& consumer, std::size_t i) {
  const std::uint32_t state = state_of(consumer, i).load(std::memory_order_relaxed);
  assert(state != kSlotReady);
  state_of(consumer, i).store(kSlotFree, std::memory_order_relaxed);
  return state;
}

bool open_to_all(const Packet& packet) { return packet.target == nullptr && !packet.awaited(); }

}  // namespace

/// Others hold the mutex for some microseconds at most, which is less than it takes to put a thread
/// to sleep and wake it again.
Dispatcher::Section::Section(Dispatcher& dispatcher) : dispatcher_(dispatcher) {
  constexpr int kTries = 64;
  constexpr int kPause = 4;
  bool locked = dispatcher_.mutex_.try_lock();
  for (int i = 0; i < kTries && !locked; ++i) {
    for (int n = 0; n < kPause; ++n) relax();
    locked = dispatcher_.mutex_.try_lock();
  }
  if (!locked) dispatcher_.mutex_.lock();
  dispatcher_.clock_read_ = false;
}

/// A few at a time, so that nothing is allocated and no memory of the thread's is needed.
Dispatcher::Section::~Section() {
  std::array<Consumer*, 16> wakes;
  std::vector<Consumer*>& all = dispatcher_.wakes_;
  for (;;) {
    const std::size_t count = std::min(all.size(), wakes.size());
    std::copy_n(all.begin(), count, wakes.begin());
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    dispatcher_.mutex_.unlock();
    for (std::size_t i = 0; i < count; ++i) wakes[i]->wake();
    if (count < wakes.size()) return;
    dispatcher_.mutex_.lock();
  }
}

void Dispatcher::add(Consumer& consumer) {
  consumers_.push_back(&consumer);
  consumer.state = Consumer::State::kAway;
}

// ---- keys -------------------------------------------------------------------------------------

/// The key is the consumer's now, or the packet waits with the key for its holder.
bool Dispatcher::acquire_key(Consumer& consumer, const Packet& packet) {
  // Packets of one key often come in a row.
  const bool again = last_acquired_ != nullptr && last_acquired_->key == packet.key;
  KeyTable::Entry& entry = again ? *last_acquired_ : keys_.find_or_insert(packet.key);
  last_acquired_ = &entry;
  if (entry.holder == nullptr || (entry.holder == &consumer && !entry.kept)) {
    entry.holder = &consumer;
    ++entry.held;
    return true;
  }
  if (!entry.pending) entry.pending = std::make_unique<PacketQueue>();
  entry.pending->push_back(packet);
  return false;
}

/// In front of what waits for the key already, which is newer.
void Dispatcher::wait_with_key(KeyTable::Entry& entry, const Packet& packet) {
  count_in(packet);
  if (!entry.pending) entry.pending = std::make_unique<PacketQueue>();
  entry.pending->push_front(packet);
}

/// What waited for the key goes back to its place in the queue, which is before anything else of
/// its key: the order stays (rules D1, D7).
void Dispatcher::release_key(std::uint32_t key, std::uint32_t count) {
  KeyTable::Entry* entry = keys_.find(key);
  if (entry == nullptr) return;
  entry->held -= std::min(entry->held, count);
  if (entry->held > 0) return;
  const std::unique_ptr<PacketQueue> pending = std::move(entry->pending);
  keys_.erase(entry);
  if (!pending) return;
  std::vector<Packet> waited;
  pending->extract([](const Packet&) { return true; }, waited);
  for (auto packet = waited.rbegin(); packet != waited.rend(); ++packet) put_back(*packet);
}

bool Dispatcher::let_go(Consumer& consumer, std::uint32_t key) {
  const auto kept = std::find_if(consumer.kept.begin(), consumer.kept.end(),
                                 [key](const Consumer::KeptKey& k) { return k.key == key; });
  if (kept != consumer.kept.end()) {
    consumer.kept.erase(kept);
    if (KeyTable::Entry* entry = keys_.find(key)) entry->kept = false;
    release_key(key);
    wake_for_surplus();
    return true;
  }
  // The batch it came in has not ended yet; its end releases the key.
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    std::uint32_t expected = kSlotKept;
    if (consumer.batch[i].key != key || consumer.batch[i].awaited()) continue;
    if (state_of(consumer, i).compare_exchange_strong(expected, kSlotDone)) return true;
  }
  return false;
}

// ---- pinned keys ------------------------------------------------------------------------------

void Dispatcher::pin(Consumer& consumer, std::uint32_t key, HandleId handle) {
  if (options_.serialize_keys) pins_[key] = {&consumer, handle};
}

void Dispatcher::unpin(Consumer& consumer, std::uint32_t key) {
  const auto pin = pins_.find(key);
  if (pin != pins_.end() && pin->second.consumer == &consumer) pins_.erase(pin);
}

/// A packet of a pinned key is for one consumer.
void Dispatcher::bind(Packet& packet) const {
  if (pins_.empty() || packet.target != nullptr) return;
  const auto pin = pins_.find(packet.key);
  if (pin != pins_.end()) packet.target = pin->second.consumer;
}

/// A packet that was queued before its key was pinned goes to whom it belongs, and is not taken.
bool Dispatcher::belongs_elsewhere(const Consumer& consumer, const Packet& packet) {
  if (pins_.empty() || packet.target != nullptr) return false;
  const auto pin = pins_.find(packet.key);
  if (pin == pins_.end() || pin->second.consumer == &consumer) return false;
  put_back(packet);
  return true;
}

// ---- queueing ---------------------------------------------------------------------------------

/// 20 to 40 ns: once for all that is queued, or taken, in one go.
std::uint32_t Dispatcher::clock() {
  if (!clock_read_) clock_ = static_cast<std::uint32_t>(driver::now() / 1000);
  clock_read_ = true;
  return clock_;
}

void Dispatcher::place_back(const Packet& packet, Consumer* from) {
  if (packet.target == nullptr) {
    queue_.push_back(packet);
    if (from == nullptr) wake_for_surplus();
    return;
  }
  (packet.awaited() ? packet.target->awaited : packet.target->own).push_back(packet);
  wake_owner(*packet.target, from);
}

void Dispatcher::put_back(const Packet& packet) {
  if (packet.target == nullptr || packet.target->gone) {
    // One that waited for its key while its thread left is for any thread now.
    Packet open = packet;
    open.target = nullptr;
    bind(open);
    if (open.target == nullptr) return queue_.put_back(open);
    open.target->own.put_back(open);
    wake_owner(*open.target, nullptr);
    return;
  }
  (packet.awaited() ? packet.target->awaited : packet.target->own).put_back(packet);
  wake_owner(*packet.target, nullptr);
}

void Dispatcher::push(const Packet& arrived, Consumer* from) {
  Packet packet = arrived;
  enqueue(packet, from);
}

/// A packet joins those that wait for its key only when no older one can still be in a queue, which
/// it would overtake (rule D7).
void Dispatcher::enqueue(Packet& packet, Consumer* from) {
  packet.sequence = ++last_sequence_;
  packet.queued_at = clock();
  bind(packet);
  const bool queues_empty =
      queue_.empty() && (packet.target == nullptr || packet.target->own.empty());
  if (queues_empty && serialized(packet)) {
    KeyTable::Entry* entry = keys_.find(packet.key);
    if (entry != nullptr && entry->pending && !entry->pending->empty()) {
      entry->pending->push_back(packet);
      return;
    }
  }
  place_back(packet, from);
}

bool Dispatcher::post(const Packet& packet, Consumer* from, bool bounded) {
  if (closed_ || (bounded && posted_ >= options_.queue_limit)) return false;
  ++posted_;
  push(packet, from);
  return true;
}

std::uint32_t Dispatcher::reserve(Consumer& consumer, std::uint32_t wanted) {
  accept_posts();  // the ring is empty from here on
  if (closed_ || posted_ >= options_.queue_limit) return 0;
  const std::uint32_t share = std::max(1u, (options_.queue_limit - posted_) / 8);
  const std::uint32_t granted = std::min({wanted, share, PostRing::kCapacity - consumer.room});
  consumer.room += granted;
  posted_ += granted;
  return granted;
}

void Dispatcher::give_back_room(Consumer& consumer) {
  if (consumer.room == 0) return;
  gather_from(consumer);
  posted_ -= consumer.room;
  consumer.room = 0;
  tell_drained();
}

/// The order of one producer stays (rule D7). Messages without room are not accepted ones: only a
/// writer that breaks the protocol has any.
void Dispatcher::gather_from(Consumer& consumer) {
  if (consumer.ring == nullptr) return;
  const std::uint32_t tail = std::atomic_ref<std::uint32_t>(consumer.ring->tail).load();
  if (tail == consumer.ring_head) return;
  const std::uint32_t count = std::min(tail - consumer.ring_head, consumer.room);
  Packet packet;
  packet.kind = PacketKind::kPosted;
  const bool unbound = pins_.empty();
  for (std::uint32_t i = 0; i < count && !closed_; ++i) {
    const PostRing::Post& post =
        consumer.ring->posts[(consumer.ring_head + i) % PostRing::kCapacity];
    if (unbound && !queue_.empty()) {  // what `enqueue` comes to then
      queue_.push_post(post.key, post.value, ++last_sequence_, clock());
      continue;
    }
    packet.key = post.key;
    packet.result = post.value;
    packet.target = nullptr;  // it may have been bound to the thread that its key is pinned to
    enqueue(packet, &consumer);
  }
  consumer.room -= count;
  consumer.ring_head = tail;
}

void Dispatcher::gather() {
  for (Consumer* consumer : consumers_) gather_from(*consumer);
}

/// No message is left lying: it is stored before its writer looks here, and this is stored before
/// the rings are gathered. Either the writer sees that a thread waits, or the message is gathered.
/// All of it is sequentially consistent. A writer that saw kIdleSpins, and finds the word changed
/// when it comes to tell, need not do anything: its message was stored before the change, and who
/// changes the word to less gathers after that, or has sent the thread that spun to do so. One that
/// was told stays told until it has come (`stop_spinning`).
void Dispatcher::publish_idle() {
  const std::atomic_ref<std::uint32_t> word(idle_);
  const std::uint32_t now = word.load();
  const std::uint32_t idle = idle_state();
  if (idle == now || (idle == kIdleSpins && now == kIdleTold)) return;
  word.store(idle);
}

Idle Dispatcher::idle_state() const {
  if (running_ + woken_ >= options_.concurrency) return kIdleNobody;
  if (spinner_ != nullptr && spinner_->state == Consumer::State::kWaiting) return kIdleSpins;
  const auto may_take = [](const Consumer* consumer) { return consumer->wants_any; };
  return std::any_of(waiting_.begin(), waiting_.end(), may_take) ? kIdleAsleep : kIdleNobody;
}

void Dispatcher::notify_when_drained(const Packet& packet) {
  if (posted_ < options_.queue_limit) {
    place_back(packet, nullptr);
  } else {
    drain_requests_.push_back(packet);
  }
}

/// A posted packet waits again that had been taken.
void Dispatcher::count_in(const Packet& packet) {
  if (packet.kind == PacketKind::kPosted) ++posted_;
}

/// A posted packet has left the queue for a batch.
void Dispatcher::count_out(const Packet& packet) {
  if (packet.kind != PacketKind::kPosted) return;
  --posted_;
  if (!drain_requests_.empty()) tell_drained();
}

void Dispatcher::tell_drained() {
  if (drain_requests_.empty()) return;
  const std::uint32_t enough = options_.queue_limit - options_.queue_limit / 4;
  if (posted_ >= options_.queue_limit || posted_ > enough) return;
  const std::vector<Packet> requests = std::move(drain_requests_);
  drain_requests_.clear();
  for (const Packet& request : requests) place_back(request, nullptr);
}

// ---- waiting and waking -----------------------------------------------------------------------

std::size_t Dispatcher::waiting() const {
  const auto wants_any = [](const Consumer* consumer) { return consumer->wants_any; };
  return static_cast<std::size_t>(std::count_if(waiting_.begin(), waiting_.end(), wants_any));
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
  waiting_.erase(std::next(chosen).base());
  return consumer;
}

/// A waiting thread there is something for: packets of its own that the limit kept from it, or the
/// queue's, one thread to a packet.
Consumer* Dispatcher::ready_waiter() {
  for (auto it = waiting_.rbegin(); it != waiting_.rend(); ++it) {
    if ((*it)->own.empty() || !(*it)->wants_any) continue;
    Consumer* consumer = *it;
    waiting_.erase(std::next(it).base());
    return consumer;
  }
  return queue_.size() > woken_ ? pop_waiting() : nullptr;
}

/// Rule D5: a place is free, and what could use it stands unclaimed in the batch of a thread that
/// runs.
void Dispatcher::wake_thief() {
  if (running_ + woken_ >= options_.concurrency) return;
  const auto has_surplus = [](Consumer* consumer) {
    if (consumer->stealable == 0) return false;
    for (std::size_t i = 0; i < consumer->batch_size; ++i) {
      const bool unclaimed = state_of(*consumer, i).load() == kSlotReady;
      if (unclaimed && open_to_all(consumer->batch[i])) return true;
    }
    return false;
  };
  if (std::none_of(consumers_.begin(), consumers_.end(), has_surplus)) return;
  Consumer* consumer = pop_waiting();
  if (consumer != nullptr) send_for(*consumer);
}

void Dispatcher::send_for(Consumer& consumer) {
  consumer.state = Consumer::State::kWoken;
  ++woken_;
  ++wake_ups_;
  wakes_.push_back(&consumer);
}

/// Rule D5: a packet that is ready is on its way to a thread that waits, unless the limit (D3) is
/// reached. Threads already on their way count as running.
void Dispatcher::wake_for_surplus() {
  publish_idle();
  gather();
  while (running_ + woken_ < options_.concurrency) {
    Consumer* consumer = ready_waiter();
    if (consumer == nullptr) break;
    send_for(*consumer);
  }
  publish_idle();
}

/// A packet for this consumer alone. A thread that runs comes by itself.
void Dispatcher::wake_owner(Consumer& consumer, Consumer* from) {
  if (&consumer == from || consumer.state != Consumer::State::kWaiting) return;
  if (!wakes_.empty() && wakes_.back() == &consumer) return;
  ++wake_ups_;
  wakes_.push_back(&consumer);
}

void Dispatcher::park(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins) {
  consumer.state = Consumer::State::kWaiting;
  consumer.in_event_loop = in_event_loop;
  consumer.wants_any = wants_any;
  waiting_.push_back(&consumer);
  if (wants_any && !in_event_loop) {
    // What comes next is for this thread (rule D2), not for one that looked before it.
    if (spinner_ != nullptr) spinner_->end_spin();
    spinner_ = spins ? &consumer : nullptr;
    if (spins) consumer.spin.store(Consumer::kSpinGoesOn);
  }
  wake_for_surplus();  // what was posted since `take` may be for this very thread
}

void Dispatcher::stop_spinning(Consumer& consumer) {
  if (spinner_ != &consumer) return;
  spinner_ = nullptr;
  publish_idle();
  gather();
}

void Dispatcher::unpark(Consumer& consumer) {
  if (consumer.state == Consumer::State::kWoken) --woken_;
  if (consumer.state == Consumer::State::kWaiting) {
    const auto it = std::find(waiting_.rbegin(), waiting_.rend(), &consumer);
    if (it != waiting_.rend()) waiting_.erase(std::next(it).base());
  }
  if (consumer.state == Consumer::State::kWoken || consumer.state == Consumer::State::kWaiting) {
    consumer.state = Consumer::State::kAway;
  }
}

void Dispatcher::leave_waiting(Consumer& consumer) {
  const bool expected = consumer.state == Consumer::State::kWoken;
  unpark(consumer);
  wake_for_surplus();
  if (expected) wake_thief();
}

/// A thread that looks only because its time slice is over does not take what another was woken for
/// (rule D2).
bool Dispatcher::worth_taking(const Consumer& consumer) const {
  if (closed_ || consumer.state != Consumer::State::kWaiting) return true;
  if (!consumer.awaited.empty()) return true;
  if (!consumer.wants_any || running_ >= options_.concurrency) return false;
  return !consumer.own.empty() || queue_.size() > woken_;
}

// ---- taking -----------------------------------------------------------------------------------

/// What lies behind the end of the batch belongs to it now, and is shown to the thread.
void Dispatcher::hold(Consumer& consumer) {
  const std::size_t i = consumer.batch_size++;
  const Packet& packet = consumer.batch[i];
  PacketSlot& slot = consumer.slots[i];
  slot.kind = static_cast<std::uint8_t>(packet.kind);
  slot.flags = packet.flags;
  slot.key = packet.key;
  slot.handle = packet.handle;
  slot.error = packet.error;
  slot.token = packet.token;
  slot.result = packet.result;
  slot.chunk = packet.chunk;
  slot.offset = packet.offset;
  slot.accepted = packet.accepted;
  slot.accepted_key = packet.accepted_key;
  slot.tag = packet.tag;
  slot.age = clock() - packet.queued_at;
  if (open_to_all(packet)) ++consumer.stealable;
  // The owner is this thread, and thieves come with the mutex: no fence, which would cost more than
  // all of the above.
  state_of(consumer, i)
      .store(packet.awaited() ? kSlotClaimed : kSlotReady, std::memory_order_release);
}

/// How many of the queue's packets a thread takes at one time, so that threads which wait get some.
std::size_t Dispatcher::share(std::size_t max) const {
  std::size_t helpers = woken_;
  for (const Consumer* consumer : waiting_) helpers += consumer->wants_any ? 1 : 0;
  const std::size_t free_places = options_.concurrency - running_ - 1;
  helpers = std::min(helpers, free_places);
  return std::min(max, (queue_.size() + helpers) / (1 + helpers));
}

/// Whether the queue's first packet is the consumer's now; it leaves the queue either way.
template <typename Queue>
bool Dispatcher::take_front(Queue& queue, Consumer& consumer) {
  assert(consumer.batch_size < kBatchLimit);
  Packet& packet = consumer.batch[consumer.batch_size];
  queue.pop_front(packet);
  if (belongs_elsewhere(consumer, packet)) return false;
  if (serialized(packet) && !acquire_key(consumer, packet)) return false;
  count_out(packet);
  hold(consumer);
  return true;
}

void Dispatcher::take_awaited(Consumer& consumer, std::size_t limit) {
  while (limit > 0 && !consumer.awaited.empty()) {
    if (take_front(consumer.awaited, consumer)) --limit;
  }
}

/// The consumer's own packets and those any thread may take, as they stand in the order of the port
/// (rule D1): the two may be of one handle. Its own ones first would let what was received overtake
/// the notice of the hand-off that brought the handle (rule A3), or that its key was abandoned. So
/// once it has its share of the queue, it leaves its own newer ones, too.
void Dispatcher::take_shared(Consumer& consumer, std::size_t max) {
  std::size_t got = 0;
  std::size_t left = queue_.empty() ? 0 : std::max<std::size_t>(1, share(max));
  while (got < max) {
    const bool own = !consumer.own.empty() &&
                     (queue_.empty() || consumer.own.front().sequence < queue_.front_sequence());
    if (!own && (queue_.empty() || left == 0)) break;
    // Packets whose key another thread holds leave without being taken; it goes on behind them.
    if (!(own ? take_front(consumer.own, consumer) : take_front(queue_, consumer))) continue;
    ++got;
    if (!own) --left;
  }
  if (got == 0) steal(consumer, max);
}

std::size_t Dispatcher::take(Consumer& consumer, std::size_t max) {
  if (closed_) return 0;
  gather();
  last_acquired_ = nullptr;
  // Awaited answers are outside of the limit D3: no other thread could run them in its place.
  take_awaited(consumer, max == 0 ? kBatchLimit : kBatchLimit / 2);
  max = std::min(max, kBatchLimit - consumer.batch_size);  // what else the batch has room for
  if (max > 0 && running_ < options_.concurrency) take_shared(consumer, max);
  if (consumer.batch_size > 0) {
    consumer.state = Consumer::State::kRunning;
    ++running_;
    ++batches_;
  }
  wake_for_surplus();
  return consumer.batch_size;
}

/// The queue is empty, but a thread may have taken more than it can run at once (rule D5).
void Dispatcher::steal(Consumer& thief, std::size_t max) {
  for (Consumer* victim : consumers_) {
    if (victim == &thief || victim->stealable == 0) continue;
    std::size_t ready = 0;
    for (std::size_t i = 0; i < victim->batch_size; ++i) {
      const bool waits = state_of(*victim, i).load() == kSlotReady;
      ready += waits && open_to_all(victim->batch[i]) ? 1 : 0;
    }
    if (ready > 0) steal_from(*victim, thief, std::min(max, (ready + 1) / 2), max);
    if (thief.batch_size > 0) return;
  }
}

/// From the end, where the owner comes last; handed over in their order. About `wanted`, and more
/// only where the first key has more packets; never more than `max`, which the thief has room for.
void Dispatcher::steal_from(Consumer& victim, Consumer& thief, std::size_t wanted,
                            std::size_t max) {
  bool stolen[kBatchLimit] = {};
  std::size_t count = 0;
  for (std::size_t i = victim.batch_size; i-- > 0 && count < wanted;) {
    const Packet& packet = victim.batch[i];
    if (stolen[i] || !open_to_all(packet)) continue;
    if (state_of(victim, i).load() != kSlotReady) continue;
    if (options_.serialize_keys) {
      count += steal_key(victim, thief, i, count == 0 ? max : wanted - count, stolen);
    } else if (revoke(victim, i)) {
      stolen[i] = true;
      ++count;
    }
  }
  for (std::size_t i = 0; i < victim.batch_size; ++i) {
    if (!stolen[i]) continue;
    assert(thief.batch_size < kBatchLimit);
    thief.batch[thief.batch_size] = victim.batch[i];
    hold(thief);
    ++steals_;
  }
}

/// All packets of one key move together or not at all: the last one stands at `last`. They are
/// revoked from the last to the first, so when the owner wins one in between, those already revoked
/// are the newest; they then wait with the key, which stays the owner's (rules D7, D8). Returns how
/// many moved: none of a key that has more than `room`.
std::size_t Dispatcher::steal_key(Consumer& victim, Consumer& thief, std::size_t last,
                                  std::size_t room, bool (&stolen)[kBatchLimit]) {
  const std::uint32_t key = victim.batch[last].key;
  KeyTable::Entry* entry = keys_.find(key);
  if (entry == nullptr || entry->holder != &victim || entry->held > room) return 0;
  std::vector<std::size_t> group;
  for (std::size_t i = last + 1; i-- > 0 && group.size() < entry->held;) {
    const Packet& packet = victim.batch[i];
    if (packet.awaited() || packet.key != key) continue;
    if (state_of(victim, i).load() != kSlotReady) return 0;
    group.push_back(i);
  }
  if (group.size() != entry->held) return 0;
  std::size_t revoked = 0;
  while (revoked < group.size() && revoke(victim, group[revoked])) ++revoked;
  if (revoked == group.size()) {
    for (std::size_t i : group) stolen[i] = true;
    entry->holder = &thief;
    return group.size();
  }
  for (std::size_t n = 0; n < revoked; ++n) wait_with_key(*entry, victim.batch[group[n]]);
  entry->held -= static_cast<std::uint32_t>(revoked);
  return 0;
}

// ---- ending a batch ---------------------------------------------------------------------------

void Dispatcher::stop_running(Consumer& consumer) {
  if (consumer.state == Consumer::State::kRunning) --running_;
  consumer.state = Consumer::State::kAway;
}

/// What the thread has not begun goes back to the front of the queue, in order. Keys first, so that
/// what waited for a key ends up behind the older packets that are put in front of it. Where the
/// thread still holds the key, through a packet it has begun, they wait with the key, first of all.
void Dispatcher::give_back_unclaimed(Consumer& consumer) {
  bool back[kBatchLimit] = {};
  std::size_t end = 0;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const Packet& packet = consumer.batch[i];
    if (packet.awaited() || !revoke(consumer, i)) continue;
    back[i] = true;
    end = i + 1;
    if (options_.serialize_keys) release_key(packet.key);
  }
  for (std::size_t i = end; i-- > 0;) {
    if (!back[i]) continue;
    const Packet& packet = consumer.batch[i];
    KeyTable::Entry* entry = options_.serialize_keys ? keys_.find(packet.key) : nullptr;
    if (entry != nullptr) {
      wait_with_key(*entry, packet);
    } else {
      count_in(packet);
      put_back(packet);
    }
  }
  consumer.stealable = 0;
}

void Dispatcher::release(Consumer& consumer) {
  if (consumer.batch_size == 0) return stop_running(consumer);
  give_back_unclaimed(consumer);
  // Packets of one key often come in a row: those are released together.
  std::uint32_t key = 0, count = 0;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const std::uint32_t state = forget(consumer, i);
    const Packet& packet = consumer.batch[i];
    if (!serialized(packet)) continue;
    if (state == kSlotKept) keep(consumer, packet);
    if (state != kSlotClaimed && state != kSlotDone) continue;
    if (count > 0 && packet.key != key) {
      release_key(key, count);
      count = 0;
    }
    key = packet.key;
    ++count;
  }
  if (count > 0) release_key(key, count);
  consumer.batch_size = 0;
  stop_running(consumer);
}

/// The batch ends, but the packet's key stays with the consumer: once, however many of its packets
/// were marked.
void Dispatcher::keep(Consumer& consumer, const Packet& packet) {
  KeyTable::Entry* entry = keys_.find(packet.key);
  if (entry == nullptr || entry->kept) return release_key(packet.key);
  entry->kept = true;
  consumer.kept.push_back({packet.key, packet.handle});
}

void Dispatcher::begin_blocking(Consumer& consumer) {
  if (consumer.state != Consumer::State::kRunning) return;
  give_back_unclaimed(consumer);
  consumer.state = Consumer::State::kBlocking;
  --running_;
  wake_for_surplus();
  wake_thief();
}

/// As on Windows the limit is exceeded until the threads above it come for their next batch.
void Dispatcher::end_blocking(Consumer& consumer) {
  if (consumer.state != Consumer::State::kBlocking) return;
  consumer.state = Consumer::State::kRunning;
  ++running_;
}

/// One notice for each key, whatever was in the middle of it.
void Dispatcher::abandon(std::uint32_t key, HandleId handle, std::vector<Packet>& notices) {
  for (const Packet& notice : notices) {
    if (notice.key == key) return;
  }
  Packet notice;
  notice.kind = PacketKind::kAbandoned;
  notice.key = key;
  notice.handle = handle;
  notice.queued_at = clock();
  notices.push_back(notice);
}

/// Also when the thread leaves in good order: what it kept the key for was not over, and will not
/// be now.
void Dispatcher::release_kept(Consumer& consumer, std::vector<Packet>& notices) {
  for (const Consumer::KeptKey& kept : consumer.kept) {
    if (KeyTable::Entry* entry = keys_.find(kept.key)) entry->kept = false;
    release_key(kept.key);
    abandon(kept.key, kept.handle, notices);
  }
  consumer.kept.clear();
}

/// Also when the thread leaves in good order: what it kept to itself for the key is gone with it.
void Dispatcher::release_pins(Consumer& consumer, std::vector<Packet>& notices) {
  for (auto pin = pins_.begin(); pin != pins_.end();) {
    if (pin->second.consumer != &consumer) {
      ++pin;
      continue;
    }
    abandon(pin->first, pin->second.handle, notices);
    pin = pins_.erase(pin);
  }
}

void Dispatcher::remove(Consumer& consumer, bool died, std::vector<Packet>& orphans) {
  unpark(consumer);
  if (spinner_ == &consumer) spinner_ = nullptr;
  give_back_room(consumer);  // after what it has posted was taken over (rule T1)
  consumer.ring = nullptr;
  give_back_unclaimed(consumer);
  std::vector<Packet> abandoned;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const Packet& packet = consumer.batch[i];
    const std::uint32_t state = forget(consumer, i);
    if (packet.awaited() && state == kSlotClaimed) orphans.push_back(packet);
    const bool held = state == kSlotClaimed || state == kSlotDone || state == kSlotKept;
    if (!held || packet.awaited()) continue;
    if (options_.serialize_keys) release_key(packet.key);
    if (state == kSlotKept || (died && state == kSlotClaimed)) {
      abandon(packet.key, packet.handle, abandoned);
    }
  }
  consumer.batch_size = 0;
  release_kept(consumer, abandoned);
  release_pins(consumer, abandoned);
  stop_running(consumer);
  consumer.awaited.extract([](const Packet&) { return true; }, orphans);
  std::vector<Packet> own;
  consumer.own.extract([](const Packet&) { return true; }, own);
  for (auto packet = own.rbegin(); packet != own.rend(); ++packet) {
    packet->target = nullptr;
    put_back(*packet);
  }
  for (const Packet& notice : abandoned) put_back(notice);
  consumer.gone = true;
  std::erase(consumers_, &consumer);
  std::erase_if(drain_requests_, [&](const Packet& p) { return p.target == &consumer; });
  wake_for_surplus();
  wake_thief();
}

// ---- hand-off and closing ---------------------------------------------------------------------

void Dispatcher::extract_handle(HandleId handle, std::vector<Packet>& out) {
  const auto matches = [handle](const Packet& p) { return p.handle == handle && !p.awaited(); };
  std::vector<std::uint32_t> keys;
  for (Consumer* consumer : consumers_) {
    // From the last to the first: the owner claims from the front, and what it wins is older than
    // all that goes.
    for (std::size_t i = consumer->batch_size; i-- > 0;) {
      if (!matches(consumer->batch[i])) continue;
      if (state_of(*consumer, i).load() == kSlotStolen) continue;  // no longer in this batch
      if (!revoke(*consumer, i)) break;
      out.push_back(consumer->batch[i]);
      keys.push_back(consumer->batch[i].key);
    }
  }
  // The keys are let go of last, so that what waits for them is still found there.
  keys_.for_each([&](KeyTable::Entry& entry) {
    if (entry.pending) entry.pending->extract(matches, out);
  });
  for (Consumer* consumer : consumers_) consumer->own.extract(matches, out);
  queue_.extract_handle(handle, out);
  std::stable_sort(out.begin(), out.end(),
                   [](const Packet& a, const Packet& b) { return a.sequence < b.sequence; });
  if (options_.serialize_keys) {
    for (const std::uint32_t key : keys) release_key(key);
  }
  wake_for_surplus();
}

void Dispatcher::close() {
  closed_ = true;
  for (Consumer* consumer : consumers_) wakes_.push_back(consumer);
}

void Dispatcher::drain(std::vector<Packet>& orphans) {
  drained_ = true;
  queue_.drain(orphans);
}

}  // namespace cp
