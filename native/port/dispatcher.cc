// What a thread takes, how its batch ends, and what becomes of it when it leaves.
#include "port/dispatcher.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "port/slots.h"

namespace cp {

// ---- members ----------------------------------------------------------------------------------

bool Members::add(Consumer& consumer) {
  const std::uint32_t used = places_.load(std::memory_order_relaxed);
  std::uint32_t i = 0;
  while (i < used && at(i) != nullptr) ++i;
  if (i == blocks_.size() * kBlock) return false;
  if (blocks_[i / kBlock].load() == nullptr) blocks_[i / kBlock].store(new Block);
  blocks_[i / kBlock].load()->places[i % kBlock].store(&consumer, std::memory_order_release);
  if (i == used) places_.store(used + 1, std::memory_order_release);
  count_.fetch_add(1);
  return true;
}

void Members::remove(Consumer& consumer) {
  for (std::uint32_t i = 0; i < places(); ++i) {
    if (at(i) != &consumer) continue;
    blocks_[i / kBlock].load()->places[i % kBlock].store(nullptr);
    count_.fetch_sub(1);
    return;
  }
}

void Consumer::arrive(PacketSlot* packet_slots, PostRing* post_ring, std::uint32_t number) {
  std::lock_guard held(lock);
  slots = packet_slots;
  ring = post_ring;
  buffer_owner = number;
  if (!batch) batch.reset(new Packet[kBatchLimit]);
  if (!cells) cells = std::make_unique<Cell*[]>(kBatchLimit);
  std::atomic_ref<std::uint32_t>(ring_tail).store(0);
  ring_head.store(0);
  seen_head = 0;
  spin.store(kSpinNot);
  wants_any.store(false);
  batches.store(0);  // those of the thread before count with the dispatcher
  steals.store(0);
  clock_read = false;
  gone.store(false);
}

/// Thieves look whether it has gone with the lock held, and hand-offs, too.
void Consumer::leave_arrays() {
  std::lock_guard held(lock);
  batch.reset();
  cells.reset();
  awaited = {};
  slots = nullptr;
}

bool Dispatcher::add(Consumer& consumer) {
  std::lock_guard lock(members_mutex_);
  consumer.dice += 977 * members_.places();
  return members_.add(consumer);
}

// ---- into the batch ---------------------------------------------------------------------------

/// The packet belongs to the batch now, and is shown to the thread. The consumer is locked. `cell`
/// counts it already; null: it has no key that is held.
void Dispatcher::hold(Consumer& consumer, const Packet& packet, Cell* cell) {
  const std::size_t i = consumer.batch_size++;
  assert(i < kBatchLimit);
  consumer.batch[i] = packet;
  consumer.cells[i] = cell;
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
  const std::int64_t waited = std::max<std::int64_t>(0, clock(&consumer) - packet.queued_at);
  slot.age = static_cast<std::uint32_t>(waited / 1000);
  if (packet.kind != PacketKind::kPosted) consumer.waits.record(slot.age);
  // For this thread to release, or for its end. A thief that gets the packet later writes after
  // this, since it has both locks.
  if (packet.chunk != driver::kNoChunk) {
    BufferPool::assign({packet.chunk, packet.offset}, consumer.buffer_owner);
  }
  if (packet.kind == PacketKind::kPosted) ++consumer.credit;
  if (open_to_all(packet)) consumer.stealable.fetch_add(1, std::memory_order_relaxed);
  // The owner is this thread, and thieves come with the lock: no fence, which would cost more than
  // all of the above.
  slot_state(consumer, i)
      .store(packet.awaited() ? kSlotClaimed : kSlotReady, std::memory_order_release);
}

/// Comes for one entry: takes what that stands for, and all where it is the last one. 0 when
/// another thread holds the key, or was faster. The consumer is locked.
std::size_t Dispatcher::hold_from(Consumer& consumer, Cell& cell, std::size_t room) {
  KeyCells::Stripe& stripe = cells_.stripe(cell.key);
  std::lock_guard lock(stripe.lock);
  --cell.entries;
  const bool free = cell.holder == nullptr || (cell.holder == &consumer && !cell.kept);
  std::size_t taken = 0;
  if (free && !cell.queue.empty()) {
    const std::size_t others = std::min(cell.entries, cell.queue.size() - 1);
    const std::size_t wanted = std::min<std::size_t>(cell.queue.size() - others, room);
    for (; taken < wanted && !cell.queue.empty(); ++taken) {
      Consumer* target = target_of(cell);
      if (target != nullptr && target != &consumer) break;
      Cell* held = options_.serialize_keys ? &cell : nullptr;
      const Packet packet = cell.queue.front();
      cell.queue.pop_front();
      hold(consumer, packet, held);
    }
  }
  if (taken > 0) {
    stripe.queued.fetch_sub(static_cast<std::uint32_t>(taken), std::memory_order_relaxed);
    if (options_.serialize_keys) {
      cell.holder = &consumer;
      cell.held += static_cast<std::uint32_t>(taken);
    }
  }
  if (take_entry(cell)) {
    consumer.strays.push_back({&cell, cell.queue.front().queued_at});
  }
  cells_.give_up_if_superfluous(stripe, cell);
  return taken;
}

/// A message straight from a ring, or into its queue where it is not the next of its key. The
/// consumer is locked.
bool Dispatcher::hold_post(Consumer& consumer, const PostRing::Post& post) {
  Packet packet;
  packet.kind = PacketKind::kPosted;
  packet.key = post.key;
  packet.result = post.value;
  packet.queued_at = clock(&consumer);
  KeyCells::Stripe& stripe = cells_.stripe(post.key);
  std::lock_guard lock(stripe.lock);
  Cell* cell = options_.serialize_keys ? &cells_.find_or_make(stripe, post.key)
                                       : cells_.find(stripe, post.key);
  if (cell == nullptr) {
    hold(consumer, packet, nullptr);
    return true;
  }
  const bool free = cell->holder == nullptr || (cell->holder == &consumer && !cell->kept);
  const bool mine = cell->pinned == nullptr || cell->pinned == &consumer;
  if (free && mine && cell->queue.empty()) {
    if (options_.serialize_keys) {
      cell->holder = &consumer;
      ++cell->held;
    }
    hold(consumer, packet, options_.serialize_keys ? cell : nullptr);
    return true;
  }
  add_mail(stripe, *cell, packet);
  if (take_entry(*cell)) consumer.strays.push_back({cell, packet.queued_at});
  return false;
}

/// Messages of `from`, in order, into the consumer's batch. Both are locked.
std::size_t Dispatcher::drain_ring(Consumer& consumer, Consumer& from, std::size_t most) {
  std::size_t taken = 0;
  while (taken < most) {
    const std::size_t count = std::min<std::size_t>(acceptable(from), most - taken);
    if (count == 0) break;
    const std::uint32_t head = from.ring_head.load(std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < count; ++i) {
      taken += hold_post(consumer, from.ring->posts[(head + i) % PostRing::kCapacity]) ? 1 : 0;
    }
    advance(from, static_cast<std::uint32_t>(count));
  }
  return taken;
}

// ---- taking -----------------------------------------------------------------------------------

std::size_t Dispatcher::take(Consumer& consumer, std::size_t max) {
  std::size_t open = 0;
  if (!closed()) {
    std::lock_guard lock(consumer.lock);
    consumer.clock_read = false;
    // Awaited answers are outside of the limit D3: no other thread could run them in its place.
    take_awaited(consumer, max == 0 ? kBatchLimit : kBatchLimit / 2);
    max = std::min(max, kBatchLimit - consumer.batch_size);  // what else the batch has room for
    if (max > 0 && take_place(consumer)) open = fill(consumer, max);
  }
  queue_strays(consumer);
  settle_credit(consumer, open == 0);
  if (open == 0) give_back_place(consumer);
  if (consumer.batch_size > 0) consumer.batches.fetch_add(1, std::memory_order_relaxed);
  if (consumer.state.load(std::memory_order_relaxed) == Consumer::State::kSearching) {
    end_search(consumer);
  }
  // Rule D5: what it has left, and what it has taken and cannot begin at once.
  const bool left = !consumer.run.empty() || !injected_.empty() || consumer.unread() > 0;
  if (left || has_several_keys(consumer)) wake_if_idle();
  return consumer.batch_size;
}

/// The thread's share was reckoned by entries, some of which may have led nowhere.
bool Dispatcher::has_several_keys(const Consumer& consumer) {
  if (consumer.stealable.load(std::memory_order_relaxed) < 2) return false;
  const Packet* first = nullptr;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const Packet& packet = consumer.batch[i];
    if (!open_to_all(packet)) continue;
    if (first != nullptr && packet.key != first->key) return true;
    if (first == nullptr) first = &packet;
  }
  return false;
}

void Dispatcher::take_awaited(Consumer& consumer, std::size_t limit) {
  for (; limit > 0 && !consumer.awaited.empty(); --limit) {
    hold(consumer, consumer.awaited.front(), nullptr);
    consumer.awaited.pop_front();
  }
  consumer.awaited_size.store(static_cast<std::uint32_t>(consumer.awaited.size()),
                              std::memory_order_relaxed);
}

/// Threads that could run a part of what this one is about to take.
std::size_t Dispatcher::helpers(const Consumer& consumer) const {
  const bool counts = consumer.state.load(std::memory_order_relaxed) == Consumer::State::kSearching;
  const std::uint32_t there = helpers_.load(std::memory_order_relaxed) +
                              on_their_way_.load(std::memory_order_relaxed) - (counts ? 1 : 0);
  const std::uint32_t running = running_.load(std::memory_order_relaxed);  // this thread, too
  const std::uint32_t limit = options_.concurrency;
  return std::min(there, limit > running ? limit - running : 0);
}

/// How many keys, of those any thread may take, this one takes, so that threads which wait get
/// some.
std::size_t Dispatcher::share(Consumer& consumer, std::size_t max) const {
  const std::size_t ready = consumer.run.size() + injected_.size() + consumer.unread();
  const std::size_t others = helpers(consumer);
  return std::min(max, std::max<std::size_t>(1, (ready + others) / (1 + others)));
}

/// Packets for this thread alone and those any thread may take, as they were queued (rule D1); the
/// thread's own messages come last, because what it reaps is queued behind what it had posted
/// (`begin_reap`). The consumer is locked, and has its place.
std::size_t Dispatcher::fill(Consumer& consumer, std::size_t max) {
  std::size_t got = 0;
  if (++consumer.takes % kTakesToLookAround == 0) got = relieve_oldest(consumer, max);
  std::size_t left = share(consumer, max - got);
  while (got < max) {
    RunQueue* queue = next_queue(consumer, left);
    if (queue == nullptr) break;
    const std::size_t taken = take_ready(consumer, *queue, max - got);
    got += taken;
    if (queue != &consumer.own && taken > 0) --left;
  }
  if (got < max && left > 0) got += drain_ring(consumer, consumer, std::min(left, max - got));
  return got > 0 ? got : steal(consumer, max);
}

/// The one whose first packet has waited longest. Once the thread has its share of what any may
/// take, it leaves its own newer packets, too.
RunQueue* Dispatcher::next_queue(Consumer& consumer, std::size_t left) {
  RunQueue* open = consumer.run.empty() ? nullptr : &consumer.run;
  if (!injected_.empty() && (open == nullptr || injected_.oldest() < open->oldest())) {
    open = &injected_;
  }
  RunQueue* own = consumer.own.empty() ? nullptr : &consumer.own;
  if (own != nullptr && (open == nullptr || own->oldest() <= open->oldest())) return own;
  return left > 0 ? open : nullptr;
}

std::size_t Dispatcher::take_ready(Consumer& consumer, RunQueue& queue, std::size_t room) {
  ReadyKey entry;
  if (&queue == &injected_) {
    std::lock_guard lock(injected_lock_);
    if (injected_.empty()) return 0;
    entry = injected_.pop_front();
  } else {
    entry = queue.pop_front();
  }
  return hold_from(consumer, *entry.cell, room);
}

// ---- the limit --------------------------------------------------------------------------------

/// A thread keeps its place from batch to batch as long as it finds packets. One above the limit,
/// back from `blocking`, gives its place up here.
bool Dispatcher::take_place(Consumer& consumer) {
  if (consumer.has_place && running_.load() <= options_.concurrency) return true;
  if (consumer.has_place) running_.fetch_sub(1);
  std::uint32_t running = running_.load();
  do {
    consumer.has_place = running < options_.concurrency;
    if (!consumer.has_place) return false;
  } while (!running_.compare_exchange_weak(running, running + 1));
  if (running + 1 == options_.concurrency && helpers_.load() > 0) {
    std::lock_guard lock(idle_mutex_);
    publish_idle();
  }
  return true;
}

void Dispatcher::give_back_place(Consumer& consumer) {
  if (!consumer.has_place) return;
  consumer.has_place = false;
  if (running_.fetch_sub(1) >= options_.concurrency) wake_for_place();
}

void Dispatcher::begin_blocking(Consumer& consumer) {
  if (!consumer.has_place || consumer.blocking) return;
  consumer.blocking = true;
  std::vector<ReadyKey> back;
  {
    std::lock_guard lock(consumer.lock);
    give_back_unclaimed(consumer, back);
    while (!consumer.run.empty()) back.push_back(consumer.run.pop_front());
  }
  inject_in_front(back);
  queue_strays(consumer);
  settle_credit(consumer, true);
  give_back_place(consumer);
  wake_if_ready();
}

/// As on Windows the limit is exceeded until the threads above it come for their next batch.
void Dispatcher::end_blocking(Consumer& consumer) {
  if (!consumer.blocking) return;
  consumer.blocking = false;
  consumer.has_place = true;
  running_.fetch_add(1);
}

// ---- ending a batch ---------------------------------------------------------------------------

void Dispatcher::release(Consumer& consumer) {
  if (consumer.batch_size == 0) return;
  {
    std::lock_guard lock(consumer.lock);
    consumer.clock_read = false;
    std::vector<ReadyKey> back;
    give_back_unclaimed(consumer, back);
    for (auto entry = back.rbegin(); entry != back.rend(); ++entry) consumer.run.push_front(*entry);
    release_slots(consumer);
  }
  queue_strays(consumer);
}

/// Packets the thread has not begun go back to the queue of their keys, in front of what is newer;
/// those keys it has not begun at all are free. `back`: an entry for each packet where the key is
/// free, in order. The consumer is locked.
void Dispatcher::give_back_unclaimed(Consumer& consumer, std::vector<ReadyKey>& back) {
  consumer.stealable.store(0, std::memory_order_relaxed);
  for (std::size_t i = consumer.batch_size; i-- > 0;) {
    const Packet& packet = consumer.batch[i];
    if (packet.awaited() || !revoke(consumer, i)) continue;
    const ReadyKey entry = put_back(packet, consumer.credit);
    if (packet.target == nullptr) {
      back.push_back(entry);
    } else {
      consumer.strays.push_back(entry);
    }
  }
  std::reverse(back.begin(), back.end());
}

/// In front of what waits for its key, which is newer. The entry is the caller's to queue. `credit`
/// pays for the room that a message takes up again.
ReadyKey Dispatcher::put_back(const Packet& packet, std::int32_t& credit) {
  if (packet.kind == PacketKind::kPosted) --credit;
  KeyCells::Stripe& stripe = cells_.stripe(packet.key);
  std::lock_guard lock(stripe.lock);
  Cell& cell = cells_.find_or_make(stripe, packet.key);
  add_mail(stripe, cell, packet, true);
  if (options_.serialize_keys && --cell.held == 0) cell.holder = nullptr;
  ++cell.entries;
  return {&cell, packet.queued_at};
}

/// Packets of one key often come in a row: those are released together.
void Dispatcher::release_slots(Consumer& consumer) {
  Cell* cell = nullptr;
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const std::uint32_t state = forget(consumer, i);
    Cell* held = consumer.cells[i];
    if (held == nullptr || state == kSlotStolen) continue;
    if (state == kSlotKept) {
      keep(consumer, i);
      continue;
    }
    if (held != cell && cell != nullptr) release_key(consumer, *cell, count);
    if (held != cell) count = 0;
    cell = held;
    ++count;
  }
  if (cell != nullptr) release_key(consumer, *cell, count);
  consumer.batch_size = 0;
}

/// What waited for the key is ready where it was held. The consumer is locked.
void Dispatcher::release_key(Consumer& consumer, Cell& cell, std::uint32_t count) {
  KeyCells::Stripe& stripe = cells_.stripe(cell.key);
  std::lock_guard lock(stripe.lock);
  cell.held -= count;
  if (cell.held > 0) return;
  cell.holder = nullptr;
  if (take_entry(cell)) {
    const ReadyKey entry{&cell, cell.queue.front().queued_at};
    target_of(cell) == nullptr ? consumer.run.push_back(entry) : consumer.strays.push_back(entry);
  }
  cells_.give_up_if_superfluous(stripe, cell);
}

/// The batch ends, but the packet's key stays with the consumer: once, however many of its packets
/// were marked.
void Dispatcher::keep(Consumer& consumer, std::size_t i) {
  Cell& cell = *consumer.cells[i];
  const Packet& packet = consumer.batch[i];
  if (!consumer.kept.try_emplace(packet.key, packet.handle).second) {
    return release_key(consumer, cell, 1);
  }
  std::lock_guard lock(cells_.stripe(cell.key).lock);
  cell.kept = true;
}

/// The consumer is locked.
void Dispatcher::release_kept(Consumer& consumer, std::uint32_t key) {
  KeyCells::Stripe& stripe = cells_.stripe(key);
  Cell* cell = nullptr;
  {
    std::lock_guard lock(stripe.lock);
    cell = cells_.find(stripe, key);
    cell->kept = false;
  }
  release_key(consumer, *cell, 1);
}

bool Dispatcher::release_key(Consumer& consumer, std::uint32_t key) {
  if (consumer.kept.erase(key) > 0) {
    {
      std::lock_guard lock(consumer.lock);
      release_kept(consumer, key);
    }
    queue_strays(consumer);
    if (!consumer.run.empty()) wake_if_idle();
    return true;
  }
  // The batch it came in has not ended yet; its end releases the key.
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    std::uint32_t expected = kSlotKept;
    if (consumer.batch[i].key != key || consumer.batch[i].awaited()) continue;
    if (slot_state(consumer, i).compare_exchange_strong(expected, kSlotDone)) return true;
  }
  return false;
}

// ---- pinned keys ------------------------------------------------------------------------------

void Dispatcher::pin(Consumer& consumer, std::uint32_t key, HandleId handle) {
  if (!options_.serialize_keys) return;
  consumer.pinned.insert(key);
  KeyCells::Stripe& stripe = cells_.stripe(key);
  std::lock_guard lock(stripe.lock);
  Cell& cell = cells_.find_or_make(stripe, key);
  cell.pinned = &consumer;
  cell.pinned_handle = handle;
}

void Dispatcher::unpin(Consumer& consumer, std::uint32_t key) {
  if (consumer.pinned.erase(key) == 0) return;
  KeyCells::Stripe& stripe = cells_.stripe(key);
  std::lock_guard lock(stripe.lock);
  Cell& cell = *cells_.find(stripe, key);
  cell.pinned = nullptr;
  cells_.give_up_if_superfluous(stripe, cell);
}

// ---- leaving ----------------------------------------------------------------------------------

struct Dispatcher::Leaving {
  std::vector<ReadyKey> notices;  ///< of keys that are abandoned, in front of everything
  std::vector<ReadyKey> back;     ///< what goes to the front of the queue, in order
  std::vector<ReadyKey> rest;     ///< what stood in its queues
  std::unordered_set<std::uint32_t> told;
  std::vector<Packet>& orphans;
};

/// One notice for each key, whatever was in the middle of it. While the key is still the thread's:
/// whoever comes to it from then on meets the notice first, also where a packet of the key arrives
/// before the entry of the notice is queued.
void Dispatcher::abandon(std::uint32_t key, HandleId handle, Leaving& leaving) {
  if (!leaving.told.insert(key).second) return;
  Packet notice;
  notice.kind = PacketKind::kAbandoned;
  notice.key = key;
  notice.handle = handle;
  notice.queued_at = driver::now();
  leaving.notices.push_back(put_notice(notice));
}

void Dispatcher::leave_batch(Consumer& consumer, bool died, Leaving& leaving) {
  give_back_unclaimed(consumer, leaving.back);
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const Packet& packet = consumer.batch[i];
    const std::uint32_t state = forget(consumer, i);
    if (packet.awaited() && state == kSlotClaimed) leaving.orphans.push_back(packet);
    const bool held = state == kSlotClaimed || state == kSlotDone || state == kSlotKept;
    if (!held || packet.awaited()) continue;
    if (state == kSlotKept || (died && state == kSlotClaimed)) {
      abandon(packet.key, packet.handle, leaving);
    }
    if (consumer.cells[i] != nullptr) release_key(consumer, *consumer.cells[i], 1);
  }
  consumer.batch_size = 0;
}

/// Also when the thread leaves in good order: what it kept the key for was not over, and will not
/// be now; what it had for a key that was pinned to it is gone with it.
void Dispatcher::leave_keys(Consumer& consumer, Leaving& leaving) {
  for (const auto& [key, handle] : consumer.kept) {
    abandon(key, handle, leaving);
    release_kept(consumer, key);
  }
  consumer.kept.clear();
  const std::unordered_set<std::uint32_t> pinned = consumer.pinned;
  for (const std::uint32_t key : pinned) {
    HandleId handle = 0;
    {
      KeyCells::Stripe& stripe = cells_.stripe(key);
      std::lock_guard lock(stripe.lock);
      handle = cells_.find(stripe, key)->pinned_handle;
    }
    abandon(key, handle, leaving);
    unpin(consumer, key);
  }
}

void Dispatcher::leave_queues(Consumer& consumer, Leaving& leaving) {
  for (; !consumer.awaited.empty(); consumer.awaited.pop_front()) {
    leaving.orphans.push_back(consumer.awaited.front());
  }
  while (!consumer.run.empty()) leaving.rest.push_back(consumer.run.pop_front());
  while (!consumer.own.empty()) leaving.rest.push_back(consumer.own.pop_front());
  leaving.rest.insert(leaving.rest.end(), consumer.strays.begin(), consumer.strays.end());
  consumer.strays.clear();
}

void Dispatcher::remove(Consumer& consumer, bool died, std::vector<Packet>& orphans) {
  {
    std::lock_guard lock(members_mutex_);
    members_.remove(consumer);
    left_steals_.fetch_add(consumer.steals.load());
    left_batches_.fetch_add(consumer.batches.load());
  }
  unpark(consumer);
  Leaving leaving{{}, {}, {}, {}, orphans};
  {
    std::lock_guard lock(consumer.lock);
    empty_ring(consumer, consumer);  // what it had posted is delivered (rule T1)
    consumer.credit += static_cast<std::int32_t>(std::exchange(consumer.room, 0));
    consumer.ring = nullptr;
    leave_batch(consumer, died, leaving);
    leave_keys(consumer, leaving);
    leave_queues(consumer, leaving);
    consumer.gone.store(true);  // nothing is queued here from now on
  }
  settle_credit(consumer, true);
  inject_in_front(leaving.rest);
  inject_in_front(leaving.back);
  inject_in_front(leaving.notices);
  {
    std::lock_guard lock(room_mutex_);
    std::erase_if(drain_requests_, [&](const Packet& p) { return p.target == &consumer; });
  }
  consumer.blocking = false;
  give_back_place(consumer);
  end_search(consumer);
  // What has left serves the next thread, which begins with none.
  std::lock_guard lock(members_mutex_);
  left_waits_.take_over(consumer.waits);
}

/// For whoever comes.
void Dispatcher::inject_in_front(const std::vector<ReadyKey>& entries) {
  std::lock_guard lock(injected_lock_);
  for (auto it = entries.rbegin(); it != entries.rend(); ++it) injected_.push_front(*it);
}

ReadyKey Dispatcher::put_notice(const Packet& notice) {
  KeyCells::Stripe& stripe = cells_.stripe(notice.key);
  std::lock_guard lock(stripe.lock);
  Cell& cell = cells_.find_or_make(stripe, notice.key);
  add_mail(stripe, cell, notice, true);
  ++cell.entries;
  return {&cell, notice.queued_at};
}

std::uint64_t Dispatcher::steals() const {
  std::uint64_t sum = 0;
  members_.for_each([&](const Consumer& consumer) { sum += consumer.steals.load(); });
  return sum + left_steals_.load();
}

std::uint64_t Dispatcher::batches() const {
  std::uint64_t sum = 0;
  members_.for_each([&](const Consumer& consumer) { sum += consumer.batches.load(); });
  return sum + left_batches_.load();
}

void Dispatcher::waits(HistogramCounts& all) const {
  members_.for_each([&](const Consumer& consumer) { consumer.waits.add_to(all); });
  left_waits_.add_to(all);
}

}  // namespace cp
