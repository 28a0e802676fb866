// How packets come into the queue, and how those of a handle are taken out again.
#include <algorithm>
#include <atomic>
#include <cassert>

#include "driver/driver.h"
#include "port/dispatcher.h"
#include "port/slots.h"

namespace cp {

/// Read once for all that is reaped, or taken, in one go: 20 to 40 ns. No two of one thread alike,
/// so that its queues can be merged in the order of the packets.
std::int64_t Dispatcher::clock(Consumer* consumer) {
  if (consumer == nullptr) return driver::now();
  if (consumer->clock_read) return ++consumer->clock;
  consumer->clock = std::max(driver::now(), consumer->clock + 1);
  consumer->clock_read = true;
  return consumer->clock;
}

// ---- completions ------------------------------------------------------------------------------

/// The only thread that may take what stands first; null: any. The stripe is locked.
Consumer* Dispatcher::target_of(const Cell& cell) {
  Consumer* target = cell.queue.front().target;
  if (target != nullptr && !target->gone.load()) return target;
  return cell.pinned;
}

/// A packet whose key another thread holds waits for that: the release queues it. Any other one has
/// an entry of its own, also behind others of its key, so that one thread alone takes the packets
/// of all keys as they came.
bool Dispatcher::push(const Packet& arrived, Consumer* from, Tell tell) {
  Packet packet = arrived;
  packet.queued_at = clock(from);
  if (packet.awaited()) return push_awaited(packet, from);
  KeyCells::Stripe& stripe = cells_.stripe(packet.key);
  Cell* cell = nullptr;
  Consumer* target = nullptr;
  {
    std::lock_guard lock(stripe.lock);
    if (drained_.load()) return false;  // `drain` has passed here, or comes after this
    cell = &cells_.find_or_make(stripe, packet.key);
    add_mail(stripe, *cell, packet);
    const bool held = cell->holder != nullptr && (cell->holder != from || cell->kept);
    if (held) return true;
    ++cell->entries;
    target = packet.target != nullptr && !packet.target->gone.load() ? packet.target : cell->pinned;
  }
  queue_ready({cell, packet.queued_at}, target, from);
  if (target == nullptr && from == nullptr && tell == Tell::kNow) wake_if_idle();
  return true;
}

/// A request holds the thread that awaits it. One that waits for room has none: its object may
/// serve another thread by now, which has no such token.
bool Dispatcher::push_awaited(const Packet& packet, Consumer* from) {
  Consumer& target = *packet.target;
  {
    std::lock_guard lock(target.lock);
    if (target.gone.load(std::memory_order_relaxed)) return false;
    if (packet.kind == PacketKind::kRoom && packet.tag != target.buffer_owner) return false;
    target.awaited.push_back(packet);
    target.awaited_size.store(static_cast<std::uint32_t>(target.awaited.size()),
                              std::memory_order_relaxed);
  }
  wake_owner(target, from);
  return true;
}

/// No lock of a consumer is held. Whom the entry was meant for may have left: then it is anybody's.
void Dispatcher::queue_ready(const ReadyKey& entry, Consumer* target, Consumer* from) {
  if (target != nullptr) {
    bool queued = false;
    {
      std::lock_guard lock(target->lock);
      queued = !target->gone.load(std::memory_order_relaxed);
      if (queued) target->own.push_back(entry);
    }
    if (queued) return wake_owner(*target, from);
  }
  if (from != nullptr) {
    std::lock_guard lock(from->lock);
    from->run.push_back(entry);
    return;
  }
  {
    std::lock_guard lock(injected_lock_);
    injected_.push_back(entry);
  }
  if (target != nullptr) wake_if_idle();
}

/// What could not be queued while the consumer's lock was held, because it is for another one.
void Dispatcher::queue_strays(Consumer& consumer) {
  while (!consumer.strays.empty()) {
    std::vector<ReadyKey> strays;
    strays.swap(consumer.strays);
    for (const ReadyKey& entry : strays) queue_ready_anew(entry);
  }
}

void Dispatcher::add_mail(KeyCells::Stripe& stripe, Cell& cell, const Packet& packet,
                          bool in_front) {
  in_front ? cell.queue.push_front(packet) : cell.queue.push_back(packet);
  stripe.queued.fetch_add(1, std::memory_order_relaxed);
}

// ---- messages ---------------------------------------------------------------------------------

bool Dispatcher::post(const Packet& packet, Consumer* from, bool bounded) {
  if (closed()) return false;
  std::int64_t room = room_.load();
  do {
    if (bounded && room <= 0) return false;
  } while (!room_.compare_exchange_weak(room, room - 1));
  if (push(packet, from)) return true;
  room_.fetch_add(1);
  return false;
}

/// Messages in the ring that may be taken out. Those without room are not accepted ones: only a
/// writer that breaks the protocol has any. The consumer is locked.
std::uint32_t Dispatcher::acceptable(Consumer& consumer) {
  if (consumer.ring == nullptr) return 0;
  const std::uint32_t unread = consumer.unread();
  if (unread > 0 && consumer.room == 0) consumer.ring_head.fetch_add(unread);
  return std::min(unread, consumer.room);
}

void Dispatcher::advance(Consumer& consumer, std::uint32_t count) {
  consumer.room -= count;
  consumer.ring_head.fetch_add(count);
}

void Dispatcher::begin_reap(Consumer& consumer) {
  consumer.clock_read = false;
  if (consumer.unread() == 0) return;
  {
    std::lock_guard lock(consumer.lock);
    empty_ring(consumer, consumer);
  }
  queue_strays(consumer);
}

/// Into the run queue, in order (rule D7). `from` is locked; `caller` runs this.
void Dispatcher::empty_ring(Consumer& from, Consumer& caller) {
  Packet packet;
  packet.kind = PacketKind::kPosted;
  while (const std::uint32_t count = acceptable(from)) {
    for (std::uint32_t i = 0; i < count && !closed(); ++i) {
      const PostRing::Post& post = from.ring->posts[(from.ring_head + i) % PostRing::kCapacity];
      packet.key = post.key;
      packet.result = post.value;
      packet.queued_at = clock(&caller);
      KeyCells::Stripe& stripe = cells_.stripe(post.key);
      std::lock_guard lock(stripe.lock);
      Cell& cell = cells_.find_or_make(stripe, post.key);
      add_mail(stripe, cell, packet);
      if (cell.holder != nullptr && (cell.holder != &from || cell.kept)) continue;
      ++cell.entries;
      const ReadyKey entry{&cell, packet.queued_at};
      cell.pinned == nullptr ? from.run.push_back(entry) : caller.strays.push_back(entry);
    }
    advance(from, count);
  }
}

std::uint32_t Dispatcher::reserve(Consumer& consumer, std::uint32_t wanted) {
  if (closed()) return 0;
  std::uint32_t granted = 0;
  {
    std::lock_guard lock(consumer.lock);
    // Both lie in the ring, or will: what was written, and what is still to be written into it.
    if (PostRing::kCapacity - consumer.room < std::min(wanted, kRoomAtOnce)) {
      empty_ring(consumer, consumer);
    }
    wanted = std::min({wanted, kRoomAtOnce, PostRing::kCapacity - consumer.room});
    if (consumer.credit > 0) {
      granted = std::min(wanted, static_cast<std::uint32_t>(consumer.credit));
      consumer.credit -= static_cast<std::int32_t>(granted);
    }
    std::int64_t room = room_.load();
    while (granted == 0 && room > 0) {
      const auto share = static_cast<std::uint32_t>(
          std::min<std::int64_t>(wanted, std::max<std::int64_t>(1, room / 8)));
      if (room_.compare_exchange_weak(room, room - share)) granted = share;
    }
    consumer.room += granted;
  }
  queue_strays(consumer);
  return granted;
}

void Dispatcher::give_back_room(Consumer& consumer) {
  {
    std::lock_guard lock(consumer.lock);
    const std::uint32_t unused = consumer.room - std::min(consumer.room, consumer.unread());
    consumer.room -= unused;
    consumer.credit += static_cast<std::int32_t>(unused);
  }
  settle_credit(consumer, false);
}

/// Room for what a thread has taken is its own at first, for what it posts itself: between threads
/// that post to each other no shared count changes. A small part of the queue at most, none while
/// anybody waits for room, and none while it sleeps.
void Dispatcher::settle_credit(Consumer& consumer, bool all) {
  const auto own = static_cast<std::int32_t>(std::min(kRoomAtOnce, options_.queue_limit / 128));
  const bool wanted = room_wanted_.load();
  if (consumer.credit == 0) return wanted ? tell_drained() : void();
  if (!all && !wanted && consumer.credit > 0 && consumer.credit <= own) return;
  const bool keeps = !all && !wanted && consumer.credit > own;
  room_.fetch_add(consumer.credit - (keeps ? own : 0));
  consumer.credit = keeps ? own : 0;
  if (room_wanted_.load()) tell_drained();
}

void Dispatcher::notify_when_drained(const Packet& packet) {
  bool now = false;
  {
    std::lock_guard lock(room_mutex_);
    // Either this sees what is given back, or whoever gives it back sees that room is wanted.
    room_wanted_.store(true);
    now = room_.load() > 0;
    if (!now) drain_requests_.push_back(packet);
    room_wanted_.store(!drain_requests_.empty());
  }
  if (now) push_awaited(packet, nullptr);
}

void Dispatcher::tell_drained() {
  const std::int64_t enough = std::max<std::int64_t>(1, options_.queue_limit / 4);
  std::vector<Packet> requests;
  {
    std::lock_guard lock(room_mutex_);
    if (room_.load() < enough) return;
    requests.swap(drain_requests_);
    room_wanted_.store(false);
  }
  for (const Packet& request : requests) push_awaited(request, nullptr);
}

// ---- hand-off ---------------------------------------------------------------------------------

/// No packet of the handle is queued meanwhile. Those there are lie in the queue of its key, and in
/// the batch of whoever holds that; without serialized keys in any batch. A thief moves packets
/// from batch to queue with the stripe locked, so whoever has holder and stripe locked misses none.
void Dispatcher::extract_handle(HandleId handle, std::uint32_t key, std::vector<Packet>& out) {
  if (!options_.serialize_keys) return extract_from_all(handle, key, out);
  KeyCells::Stripe& stripe = cells_.stripe(key);
  for (;;) {
    Consumer* holder = nullptr;
    {
      std::lock_guard lock(stripe.lock);
      Cell* cell = cells_.find(stripe, key);
      if (cell == nullptr) return;
      holder = cell->holder;
      if (holder == nullptr) {
        extract_mail(stripe, *cell, handle, out);
        return cells_.give_up_if_superfluous(stripe, *cell);
      }
    }
    ReadyKey entry;
    {
      std::lock_guard batch(holder->lock);
      std::lock_guard lock(stripe.lock);
      Cell* cell = cells_.find(stripe, key);
      if (cell == nullptr) return;
      if (cell->holder != holder) continue;
      cell->held -= static_cast<std::uint32_t>(extract_batch(*holder, handle, key, out));
      if (cell->held == 0) cell->holder = nullptr;
      extract_mail(stripe, *cell, handle, out);
      const bool left = take_entry(*cell);  // another handle has the key as well
      if (left) entry = {cell, cell->queue.front().queued_at};
      cells_.give_up_if_superfluous(stripe, *cell);
      if (!left) return;
    }
    return queue_ready_anew(entry);
  }
}

/// A free key with packets needs an entry: whether the caller is to queue one now. The stripe is
/// locked.
bool Dispatcher::take_entry(Cell& cell) {
  if (cell.holder != nullptr || cell.queue.empty() || cell.entries > 0) return false;
  ++cell.entries;
  return true;
}

/// No lock of a consumer is held.
void Dispatcher::queue_ready_anew(const ReadyKey& entry) {
  KeyCells::Stripe& stripe = cells_.stripe(entry.cell->key);
  Consumer* target = nullptr;
  {
    std::lock_guard lock(stripe.lock);
    if (!entry.cell->queue.empty()) target = target_of(*entry.cell);
  }
  queue_ready(entry, target, nullptr);
  if (target == nullptr) wake_if_idle();
}

/// From the last to the first: the owner claims from the front, and what it wins is older than all
/// that goes. They are put in front of `out`, in order. The consumer is locked: how many.
std::size_t Dispatcher::extract_batch(Consumer& consumer, HandleId handle, std::uint32_t key,
                                      std::vector<Packet>& out) {
  std::vector<Packet> found;
  for (std::size_t i = consumer.batch_size; i-- > 0;) {
    const Packet& packet = consumer.batch[i];
    if (packet.handle != handle || packet.key != key || packet.awaited()) continue;
    if (slot_state(consumer, i).load() == kSlotStolen) continue;  // no longer in this batch
    if (!revoke(consumer, i)) break;
    found.push_back(packet);
  }
  out.insert(out.begin(), found.rbegin(), found.rend());
  return found.size();
}

/// The cell is the caller's to give up.
void Dispatcher::extract_mail(KeyCells::Stripe& stripe, Cell& cell, HandleId handle,
                              std::vector<Packet>& out) {
  const std::uint32_t before = cell.queue.size();
  cell.queue.extract([handle](const Packet& p) { return p.handle == handle; }, out);
  stripe.queued.fetch_sub(before - cell.queue.size(), std::memory_order_relaxed);
}

/// Any thread may have any of them, and thieves move them about: all are locked at once, in the one
/// order that all hand-offs keep.
void Dispatcher::extract_from_all(HandleId handle, std::uint32_t key, std::vector<Packet>& out) {
  std::lock_guard members(members_mutex_);
  std::vector<std::unique_lock<SpinLock>> locks;
  members_.for_each([&](Consumer& consumer) { locks.emplace_back(consumer.lock); });
  KeyCells::Stripe& stripe = cells_.stripe(key);
  std::lock_guard lock(stripe.lock);
  members_.for_each([&](Consumer& consumer) {
    if (!consumer.gone.load()) extract_batch(consumer, handle, key, out);
  });
  std::vector<Packet> queued;
  if (Cell* cell = cells_.find(stripe, key)) {
    extract_mail(stripe, *cell, handle, queued);
    cells_.give_up_if_superfluous(stripe, *cell);
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Packet& a, const Packet& b) { return a.queued_at < b.queued_at; });
  out.insert(out.end(), queued.begin(), queued.end());
}

// ---- the end ----------------------------------------------------------------------------------

void Dispatcher::close() {
  closed_.store(true);
  members_.for_each([](Consumer& consumer) { consumer.wake(); });
}

/// Whoever queues looks at `drained_` with the stripe locked: before this comes by, and then it is
/// found here, or after, and then it is refused.
void Dispatcher::drain(std::vector<Packet>& orphans) {
  drained_.store(true);
  cells_.for_each([&](KeyCells::Stripe& stripe, Cell& cell) {
    for (; !cell.queue.empty(); cell.queue.pop_front()) {
      orphans.push_back(cell.queue.front());
      stripe.queued.fetch_sub(1, std::memory_order_relaxed);
    }
  });
}

std::size_t Dispatcher::ready() {
  std::size_t sum = 0;
  cells_.for_each([&](KeyCells::Stripe&, Cell& cell) {
    if (cell.holder == nullptr && cell.pinned == nullptr) sum += cell.queue.size();
  });
  members_.for_each([&](Consumer& consumer) { sum += consumer.unread(); });
  return sum;
}

std::size_t Dispatcher::queued() const {
  std::size_t sum = cells_.queued();
  members_.for_each([&](Consumer& consumer) {
    std::lock_guard lock(consumer.lock);
    if (consumer.ring != nullptr) sum += std::min(consumer.unread(), consumer.room);
  });
  return sum;
}

}  // namespace cp
