// Where a thread that has nothing left takes from others. The thief has its own lock and tries the
// victim's: it never waits for it, so two thieves cannot wait for each other.
#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "driver/driver.h"
#include "port/dispatcher.h"
#include "port/slots.h"
#include "port/spin.h"

namespace cp {
namespace {

constexpr int kTriesForLock = 40;
/// Fewer than these are left to their thread for a moment, which comes to them before a thief does.
constexpr std::uint32_t kWorthStealing = 8;
constexpr int kMoment = 50;
/// Keys taken from another thread at one time.
constexpr std::size_t kKeysAtOnce = 32;
/// A thread that has work of its own all the time looks after what has waited for so long
/// elsewhere.
constexpr std::int64_t kTooOld = 1'000'000;

std::uint32_t ready_at(Consumer& consumer) { return consumer.run.size() + consumer.unread(); }

/// Not begun, and open to all. The consumer is locked.
std::size_t ready_in_batch(Consumer& consumer) {
  std::size_t ready = 0;
  for (std::size_t i = 0; i < consumer.batch_size; ++i) {
    const bool waits = slot_state(consumer, i).load() == kSlotReady;
    ready += waits && open_to_all(consumer.batch[i]) ? 1 : 0;
  }
  return ready;
}

/// Any sequence does that no two threads share.
std::uint32_t roll(Consumer& consumer) {
  consumer.dice = consumer.dice * 1664525u + 1013904223u;
  return consumer.dice >> 8;
}

/// All members but `self`, from any one on, until `visit` returns something.
template <typename Visit>
std::size_t first_of(const Members& members, Consumer& self, Visit visit) {
  const std::uint32_t count = members.places();
  std::uint32_t at = count > 0 ? roll(self) % count : 0;
  for (std::uint32_t i = 0; i < count; ++i, at = at + 1 == count ? 0 : at + 1) {
    Consumer* consumer = members.at(at);
    if (consumer == nullptr || consumer == &self) continue;
    if (const std::size_t got = visit(*consumer)) return got;
  }
  return 0;
}

}  // namespace

/// What is ready at other threads, and if there is nothing, what they have taken and not begun.
std::size_t Dispatcher::steal(Consumer& thief, std::size_t max) {
  if (members_.count() < 2) return 0;
  bool any = false;
  for (const std::uint32_t least : {kWorthStealing, 1u}) {
    if (least == 1) {
      if (!any) break;
      for (int i = 0; i < kMoment; ++i) relax();
    }
    const std::size_t got = first_of(members_, thief, [&](Consumer& victim) -> std::size_t {
      const std::uint32_t ready = ready_at(victim);
      any = any || ready > 0;
      return ready >= least ? steal_ready(thief, victim, max) : 0;
    });
    if (got > 0) return got;
  }
  return first_of(members_, thief, [&](Consumer& victim) -> std::size_t {
    return victim.stealable.load(std::memory_order_relaxed) > 0 ? steal_surplus(thief, victim, max)
                                                                : 0;
  });
}

/// How much of what is ready at another thread a thief takes: so that it is left its part, if it
/// runs packets, and others that wait get theirs.
std::size_t Dispatcher::portion(const Consumer& thief, const Consumer& victim,
                                std::size_t ready) const {
  const std::size_t others = helpers(thief) + (victim.has_place.load() ? 1 : 0);
  return (ready + others) / (1 + others);
}

/// Its keys, those first that it would come to first; where it has none, its messages.
std::size_t Dispatcher::steal_ready(Consumer& thief, Consumer& victim, std::size_t max) {
  ReadyKey entries[kKeysAtOnce];
  std::size_t count = 0, got = 0;
  if (!victim.lock.try_lock_for(kTriesForLock)) return 0;
  {
    std::lock_guard lock(victim.lock, std::adopt_lock);
    if (victim.gone.load(std::memory_order_relaxed)) return 0;
    const std::size_t keys = portion(thief, victim, victim.run.size());
    const std::size_t wanted = std::min({keys, max, kKeysAtOnce});
    while (count < wanted) entries[count++] = victim.run.pop_front();
    if (count == 0) {
      got = drain_ring(thief, victim, std::min(max, portion(thief, victim, victim.unread())));
    }
  }
  got += hold_entries(thief, entries, count, max);
  thief.steals.fetch_add(got, std::memory_order_relaxed);
  return got;
}

/// One packet of each at least.
std::size_t Dispatcher::hold_entries(Consumer& consumer, const ReadyKey* entries, std::size_t count,
                                     std::size_t room) {
  std::size_t got = 0;
  for (std::size_t i = 0; i < count; ++i) {
    got += hold_from(consumer, *entries[i].cell, room - got - (count - 1 - i));
  }
  return got;
}

// ---- what was taken and not begun -------------------------------------------------------------

/// From the end, where the owner comes last; handed over in their order. About half.
std::size_t Dispatcher::steal_surplus(Consumer& thief, Consumer& victim, std::size_t max) {
  std::vector<ReadyKey> entries;
  if (!victim.lock.try_lock_for(kTriesForLock)) return 0;
  {
    std::lock_guard lock(victim.lock, std::adopt_lock);
    if (victim.gone.load(std::memory_order_relaxed)) return 0;
    const std::size_t ready = ready_in_batch(victim);
    if (ready > 0) revoke_some(victim, std::min(max, (ready + 1) / 2), entries, thief.credit);
  }
  std::reverse(entries.begin(), entries.end());
  const std::size_t got = hold_entries(thief, entries.data(), entries.size(), max);
  thief.steals.fetch_add(got, std::memory_order_relaxed);
  return got;
}

std::size_t Dispatcher::revoke_some(Consumer& victim, std::size_t wanted,
                                    std::vector<ReadyKey>& out, std::int32_t& credit) {
  std::size_t count = 0;
  for (std::size_t i = victim.batch_size; i-- > 0 && count < wanted;) {
    const Packet& packet = victim.batch[i];
    if (!open_to_all(packet) || slot_state(victim, i).load() != kSlotReady) continue;
    if (options_.serialize_keys) {
      ReadyKey entry;
      const std::size_t revoked = revoke_key(victim, i, entry, credit);
      if (revoked > 0) out.push_back(entry);
      count += revoked;
    } else if (revoke(victim, i)) {
      out.push_back(put_back(packet, credit));
      ++count;
    }
  }
  return count;
}

/// All packets of one key move together or not at all: the last one is at `last`. They are
/// revoked from the last to the first, so when the owner wins one in between, those already revoked
/// are the newest; they then wait with the key, which stays the owner's (rules D7, D8). How many
/// are free now, in the queue of their key.
std::size_t Dispatcher::revoke_key(Consumer& victim, std::size_t last, ReadyKey& out,
                                   std::int32_t& credit) {
  Cell& cell = *victim.cells[last];
  KeyCells::Stripe& stripe = cells_.stripe(cell.key);
  std::lock_guard lock(stripe.lock);
  assert(cell.holder == &victim);
  std::vector<std::size_t> group;
  if (!untouched(victim, last, cell.held, group)) return 0;
  std::size_t revoked = 0;
  for (; revoked < group.size() && revoke(victim, group[revoked]); ++revoked) {
    const Packet& packet = victim.batch[group[revoked]];
    if (packet.kind == PacketKind::kPosted) --credit;
    add_mail(stripe, cell, packet, true);
  }
  cell.held -= static_cast<std::uint32_t>(revoked);
  if (cell.held > 0) return 0;
  cell.holder = nullptr;
  ++cell.entries;
  out = {&cell, cell.queue.front().queued_at};
  return revoked;
}

/// Whether all `held` packets of the key of the one at `last`, and a kept key is one more, are
/// still to be had.
bool Dispatcher::untouched(Consumer& victim, std::size_t last, std::uint32_t held,
                           std::vector<std::size_t>& group) {
  for (std::size_t i = last + 1; i-- > 0 && group.size() < held;) {
    if (victim.cells[i] != victim.cells[last]) continue;
    const std::uint32_t state = slot_state(victim, i).load();
    if (state == kSlotStolen) continue;
    if (state != kSlotReady) return false;
    group.push_back(i);
  }
  return group.size() == held;
}

/// Whether a thread has taken more than it is in the middle of, or about to begin, and another
/// could run the rest.
bool Dispatcher::has_surplus(Consumer& consumer) {
  if (consumer.stealable.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(consumer.lock);
  if (consumer.gone.load(std::memory_order_relaxed)) return false;
  bool busy = false;
  std::size_t open = 0;
  std::vector<std::size_t> group;
  for (std::size_t i = consumer.batch_size; i-- > 0 && open < 2;) {
    const std::uint32_t state = slot_state(consumer, i).load();
    busy = busy || state == kSlotClaimed;
    if (state != kSlotReady || !open_to_all(consumer.batch[i])) continue;
    group.clear();
    const Cell* cell = consumer.cells[i];
    if (cell == nullptr) {
      ++open;
    } else if (untouched(consumer, i, held_of(*cell), group) && group.front() == i) {
      ++open;
    }
  }
  for (std::size_t i = 0; i < consumer.batch_size && !busy; ++i) {
    busy = slot_state(consumer, i).load() == kSlotClaimed;
  }
  return open > (busy ? 0u : 1u);
}

std::uint32_t Dispatcher::held_of(const Cell& cell) {
  std::lock_guard lock(cells_.stripe(cell.key).lock);
  return cell.held;
}

// ---- what a busy thread does not begin --------------------------------------------------------

std::size_t Dispatcher::unbegun(Consumer& consumer) {
  if (consumer.stealable.load(std::memory_order_relaxed) == 0) return 0;
  std::lock_guard lock(consumer.lock);
  return consumer.gone.load(std::memory_order_relaxed) ? 0 : ready_in_batch(consumer);
}

/// To where they are merged with all others by age, because those who might come may have work of
/// their own all the time (rule D1). Not those whose keys the thread is in the middle of.
void Dispatcher::take_back(Consumer& stuck) {
  std::vector<ReadyKey> entries;
  std::int32_t credit = 0;
  {
    std::lock_guard lock(stuck.lock);
    if (stuck.gone.load(std::memory_order_relaxed)) return;
    revoke_some(stuck, kBatchLimit, entries, credit);
  }
  if (entries.empty()) return;
  taken_back_.fetch_add(entries.size());
  room_.fetch_add(credit);
  std::reverse(entries.begin(), entries.end());
  inject_in_front(entries);
  wake_if_idle();
}

// ---- age --------------------------------------------------------------------------------------

/// Each thread comes to its own queue first. So that nobody's waits without bound while its thread
/// is in a long handler and all others have enough to do, every one of them looks around now and
/// then for what is old (rule D1).
std::size_t Dispatcher::relieve_oldest(Consumer& consumer, std::size_t max) {
  if (members_.count() < 2) return 0;
  Consumer* oldest = nullptr;
  std::int64_t since = clock(&consumer) - kTooOld;
  if (!consumer.run.empty()) since = std::min(since, consumer.run.oldest());
  first_of(members_, consumer, [&](Consumer& other) -> std::size_t {
    expose_messages(other, consumer);
    if (other.run.empty() || other.run.oldest() >= since) return 0;
    oldest = &other;
    since = other.run.oldest();
    return 0;
  });
  return oldest == nullptr ? 0 : steal_ready(consumer, *oldest, max);
}

/// Messages in a ring have no age. Those of a thread that has not come to its ring since another
/// looked there last go into its run queue, where they have.
void Dispatcher::expose_messages(Consumer& other, Consumer& caller) {
  if (other.unread() == 0 || !other.lock.try_lock()) return;
  std::lock_guard lock(other.lock, std::adopt_lock);
  const std::uint32_t head = other.ring_head.load(std::memory_order_relaxed);
  if (std::exchange(other.seen_head, head) == head) empty_ring(other, caller);
}

}  // namespace cp
