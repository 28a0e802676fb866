// How keys are acquired and released.
#include "port/keys.h"

#include <algorithm>

#include "system/switch_point.h"

namespace cp {

/// Of what stands first.
Consumer* Keys::first_target(const HeldStripe&, const Cell& cell) {
  Consumer* target = cell.queue.front().target;
  if (target != nullptr && !target->gone()) return target;
  return cell.pinned;
}

Consumer* Keys::target(const ReadyKey& entry) {
  const HeldStripe stripe(cells_, entry.cell->key);
  return entry.cell->queue.empty() ? nullptr : first_target(stripe, *entry.cell);
}

/// A free key with packets needs an entry: whether the caller is to queue one now.
bool Keys::take_entry(const HeldStripe&, Cell& cell) {
  if (cell.holder != nullptr || cell.queue.empty() || cell.entries > 0) return false;
  ++cell.entries;
  return true;
}

// ---- taking -----------------------------------------------------------------------------------

std::size_t Keys::take(const HeldConsumer& consumer, Cell& cell, std::size_t room) {
  const HeldStripe stripe(cells_, cell.key);
  --cell.entries;
  const bool free = cell.holder == nullptr || (consumer.is(cell.holder) && !cell.kept);
  std::size_t taken = 0;
  if (free && !cell.queue.empty()) {
    const std::size_t others = std::min(cell.entries, cell.queue.size() - 1);
    const std::size_t wanted = std::min<std::size_t>(cell.queue.size() - others, room);
    for (; taken < wanted && !cell.queue.empty(); ++taken) {
      const Consumer* target = first_target(stripe, cell);
      if (target != nullptr && !consumer.is(target)) break;
      const Packet packet = cell.queue.front();
      cell.queue.pop_front();
      consumer.hold(packet, serialized_ ? &cell : nullptr);
    }
  }
  if (taken > 0) {
    stripe.taken(taken);
    if (serialized_) {
      cell.holder = &*consumer;
      cell.held += static_cast<std::uint32_t>(taken);
    }
  }
  if (take_entry(stripe, cell)) {
    consumer->strays.push_back({&cell, cell.queue.front().queued_at});
  }
  stripe.give_up_if_superfluous(cell);
  return taken;
}

std::size_t Keys::take_all(const HeldConsumer& consumer, const ReadyKey* entries, std::size_t count,
                           std::size_t room) {
  std::size_t got = 0;
  for (std::size_t i = 0; i < count; ++i) {
    got += take(consumer, *entries[i].cell, room - got - (count - 1 - i));
  }
  return got;
}

std::size_t Keys::take_messages(const HeldConsumer& consumer, const HeldConsumer& from,
                                std::size_t most) {
  std::size_t taken = 0;
  while (taken < most) {
    const std::size_t count = std::min<std::size_t>(from.posts().acceptable(), most - taken);
    if (count == 0) break;
    from.posts().secure(static_cast<std::uint32_t>(count));
    for (std::uint32_t i = 0; i < count; ++i) {
      taken += take_message(consumer, from.posts().packet(i)) ? 1 : 0;
    }
    from.posts().advance(static_cast<std::uint32_t>(count));
  }
  return taken;
}

bool Keys::take_message(const HeldConsumer& consumer, Packet packet) {
  packet.queued_at = consumer->clock.now();
  const HeldStripe stripe(cells_, packet.key);
  Cell* cell = serialized_ ? &stripe.find_or_make(packet.key) : stripe.find(packet.key);
  if (cell == nullptr) {
    consumer.hold(packet, nullptr);
    return true;
  }
  const bool free = cell->holder == nullptr || (consumer.is(cell->holder) && !cell->kept) ||
                    CP_PLANTED("a key is held twice");
  const bool mine = cell->pinned == nullptr || consumer.is(cell->pinned);
  if (free && mine && cell->queue.empty()) {
    if (serialized_) {
      cell->holder = &*consumer;
      ++cell->held;
    }
    consumer.hold(packet, serialized_ ? cell : nullptr);
    return true;
  }
  stripe.queue(*cell, packet);
  if (take_entry(stripe, *cell)) consumer->strays.push_back({cell, packet.queued_at});
  return false;
}

// ---- ending a batch ---------------------------------------------------------------------------

/// Packets of one key often come in a row: those are released together.
void Keys::release_batch(const HeldConsumer& consumer) {
  std::vector<ReadyKey> back;
  give_back_unclaimed(consumer, back);
  for (auto entry = back.rbegin(); entry != back.rend(); ++entry) {
    consumer.run_queue().push_front(*entry);
  }
  Batch& batch = consumer.batch();
  Cell* cell = nullptr;
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const std::uint32_t state = batch.forget(i);
    Cell* held = batch.cell(i);
    if (state != kSlotStolen && batch[i].shares()) consumer.let_go(batch[i]);
    if (held == nullptr || state == kSlotStolen) continue;
    if (state == kSlotKept) {
      keep(consumer, i);
      continue;
    }
    if (held != cell && cell != nullptr) release(consumer, *cell, count);
    if (held != cell) count = 0;
    cell = held;
    ++count;
  }
  if (cell != nullptr) release(consumer, *cell, count);
  batch.clear();
}

void Keys::give_back_unclaimed(const HeldConsumer& consumer, std::vector<ReadyKey>& back) {
  Batch& batch = consumer.batch();
  batch.close_to_thieves();
  for (std::size_t i = batch.size(); i-- > 0;) {
    const Packet& packet = batch[i];
    if (packet.awaited() || !consumer.revoke(i)) continue;
    const ReadyKey entry = put_back(packet, consumer->credit);
    if (packet.target == nullptr) {
      back.push_back(entry);
    } else {
      consumer->strays.push_back(entry);
    }
  }
  std::reverse(back.begin(), back.end());
}

/// In front of what waits for its key, which is newer. The entry is the caller's to queue. `credit`
/// pays for the room that a message takes up again.
ReadyKey Keys::put_back(const Packet& packet, std::int32_t& credit) {
  if (packet.posted()) --credit;
  const HeldStripe stripe(cells_, packet.key);
  Cell& cell = stripe.find_or_make(packet.key);
  stripe.queue(cell, packet, !CP_PLANTED("back to the end of the queue"));
  if (serialized_ && --cell.held == 0) cell.holder = nullptr;
  ++cell.entries;
  return {&cell, packet.queued_at};
}

/// What waited for the key is ready where it was held.
void Keys::release(const HeldConsumer& consumer, Cell& cell, std::uint32_t count) {
  const HeldStripe stripe(cells_, cell.key);
  cell.held -= count;
  if (cell.held > 0) return;
  cell.holder = nullptr;
  if (take_entry(stripe, cell)) {
    const ReadyKey entry{&cell, cell.queue.front().queued_at};
    const bool for_any = first_target(stripe, cell) == nullptr;
    for_any ? consumer.run_queue().push_back(entry) : consumer->strays.push_back(entry);
  }
  stripe.give_up_if_superfluous(cell);
}

/// The batch ends, but the packet's key stays with the consumer: once, however many of its packets
/// were marked.
void Keys::keep(const HeldConsumer& consumer, std::size_t i) {
  Cell& cell = *consumer.batch().cell(i);
  const Packet& packet = consumer.batch()[i];
  if (!consumer->kept.try_emplace(packet.key, packet.handle).second) {
    return release(consumer, cell, 1);
  }
  const HeldStripe stripe(cells_, cell.key);
  cell.kept = true;
}

void Keys::release_kept(const HeldConsumer& consumer, std::uint32_t key) {
  Cell* cell = nullptr;
  {
    const HeldStripe stripe(cells_, key);
    cell = stripe.find(key);
    cell->kept = false;
  }
  release(consumer, *cell, 1);
}

// ---- pinned keys ------------------------------------------------------------------------------

void Keys::pin(Consumer& consumer, std::uint32_t key, HandleId handle) {
  if (!serialized_) return;
  consumer.pinned.insert(key);
  const HeldStripe stripe(cells_, key);
  Cell& cell = stripe.find_or_make(key);
  cell.pinned = &consumer;
  cell.pinned_handle = handle;
}

void Keys::unpin(Consumer& consumer, std::uint32_t key) {
  if (consumer.pinned.erase(key) == 0) return;
  const HeldStripe stripe(cells_, key);
  Cell& cell = *stripe.find(key);
  cell.pinned = nullptr;
  stripe.give_up_if_superfluous(cell);
}

// ---- the end, counts --------------------------------------------------------------------------

/// Whoever queues looks at `drained_` with the stripe locked: before this comes by, and then it is
/// found here, or after, and then it is refused.
void Keys::drain(std::vector<Packet>& orphans) {
  drained_.store(true);
  cells_.for_each([&](const HeldStripe& stripe, Cell& cell) {
    for (; !cell.queue.empty(); cell.queue.pop_front()) {
      orphans.push_back(cell.queue.front());
      stripe.taken(1);
    }
  });
}

std::size_t Keys::ready() {
  std::size_t sum = 0;
  cells_.for_each([&](const HeldStripe&, Cell& cell) {
    if (cell.holder == nullptr && cell.pinned == nullptr) sum += cell.queue.size();
  });
  return sum;
}

}  // namespace cp
