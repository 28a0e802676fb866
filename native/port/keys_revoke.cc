// How packets that a thread has taken leave it again unbegun: for a thief, for another port, or
// because the thread leaves.
#include <algorithm>
#include <cassert>

#include "port/keys.h"
#include "system/switch_point.h"

namespace cp {

// ---- for a thief ------------------------------------------------------------------------------

std::size_t Keys::revoke(const HeldConsumer& victim, std::size_t wanted, std::vector<ReadyKey>& out,
                         std::int32_t& credit) {
  const Batch& batch = victim.batch();
  std::size_t count = 0;
  for (std::size_t i = batch.size(); i-- > 0 && count < wanted;) {
    const Packet& packet = batch[i];
    if (!open_to_all(packet) || batch.state(i) != kSlotReady) continue;
    if (serialized_) {
      ReadyKey entry;
      const std::size_t revoked = revoke_key(victim, i, entry, credit);
      if (revoked > 0) out.push_back(entry);
      count += revoked;
    } else if (victim.revoke(i)) {
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
std::size_t Keys::revoke_key(const HeldConsumer& victim, std::size_t last, ReadyKey& out,
                             std::int32_t& credit) {
  const Batch& batch = victim.batch();
  Cell& cell = *batch.cell(last);
  const HeldStripe stripe(cells_, cell.key);
  assert(victim.is(cell.holder));
  std::vector<std::size_t> group;
  if (!batch.untouched(last, cell.held, group)) return 0;
  std::size_t revoked = 0;
  for (; revoked < group.size() && victim.revoke(group[revoked]); ++revoked) {
    const Packet& packet = batch[group[revoked]];
    if (packet.posted()) --credit;
    stripe.queue(cell, packet, true);
  }
  cell.held -= static_cast<std::uint32_t>(revoked);
  if (cell.held > 0) return 0;
  cell.holder = nullptr;
  ++cell.entries;
  out = {&cell, cell.queue.front().queued_at};
  return revoked;
}

bool Keys::has_surplus(Consumer& of) {
  if (of.batch().stealable() == 0) return false;
  const HeldConsumer consumer(of);
  if (consumer->gone()) return false;
  const Batch& batch = consumer.batch();
  std::size_t open = 0;
  std::vector<std::size_t> group;
  for (std::size_t i = batch.size(); i-- > 0 && open < 2;) {
    if (batch.state(i) != kSlotReady || !open_to_all(batch[i])) continue;
    group.clear();
    const Cell* cell = batch.cell(i);
    const bool last_of_key =
        cell == nullptr || (batch.untouched(i, held(*cell), group) && group.front() == i);
    open += last_of_key ? 1 : 0;
  }
  return open > (batch.begun() ? 0u : 1u);
}

std::uint32_t Keys::held(const Cell& cell) {
  const HeldStripe stripe(cells_, cell.key);
  return cell.held;
}

// ---- for another port -------------------------------------------------------------------------

/// No packet of the handle is queued meanwhile. Those there are lie in the queue of its key, and in
/// the batch of whoever holds that; without serialized keys in any batch. A thief moves packets
/// from batch to queue with the stripe locked, so whoever has holder and stripe locked misses none.
ReadyKey Keys::extract(HandleId handle, std::uint32_t key, const Members& members,
                       std::vector<Packet>& out) {
  if (!serialized_) {
    extract_from_all(handle, key, members, out);
    return {};
  }
  for (;;) {
    Consumer* holder = nullptr;
    {
      const HeldStripe stripe(cells_, key);
      Cell* cell = stripe.find(key);
      if (cell == nullptr) return {};
      holder = cell->holder;
      if (holder == nullptr) {
        extract_queue(stripe, *cell, handle, out);
        stripe.give_up_if_superfluous(*cell);
        return {};
      }
    }
    const HeldConsumer batch(*holder);
    const HeldStripe stripe(cells_, key);
    Cell* cell = stripe.find(key);
    if (cell == nullptr) return {};
    if (cell->holder != holder) continue;
    cell->held -= static_cast<std::uint32_t>(extract_batch(batch, handle, key, out));
    if (cell->held == 0) cell->holder = nullptr;
    extract_queue(stripe, *cell, handle, out);
    ReadyKey entry;
    if (take_entry(stripe, *cell)) entry = {cell, cell->queue.front().queued_at};
    stripe.give_up_if_superfluous(*cell);
    return entry;
  }
}

/// From the last to the first: the owner claims from the front, and what it wins is older than all
/// that goes. They are put in front of `out`, in order: how many.
std::size_t Keys::extract_batch(const HeldConsumer& consumer, HandleId handle, std::uint32_t key,
                                std::vector<Packet>& out) {
  const Batch& batch = consumer.batch();
  std::vector<Packet> found;
  for (std::size_t i = batch.size(); i-- > 0;) {
    const Packet& packet = batch[i];
    if (packet.handle != handle || packet.key != key || packet.awaited()) continue;
    if (batch.state(i) == kSlotStolen) continue;  // no longer in this batch
    if (!consumer.revoke(i)) break;
    found.push_back(packet);
  }
  out.insert(out.begin(), found.rbegin(), found.rend());
  return found.size();
}

/// The cell is the caller's to give up.
void Keys::extract_queue(const HeldStripe& stripe, Cell& cell, HandleId handle,
                         std::vector<Packet>& out) {
  const std::uint32_t before = cell.queue.size();
  cell.queue.extract([handle](const Packet& p) { return p.handle == handle; }, out);
  stripe.taken(before - cell.queue.size());
}

/// Any thread may have any of them, and thieves move them about: all are locked at once, in the one
/// order that all hand-offs keep.
void Keys::extract_from_all(HandleId handle, std::uint32_t key, const Members& members,
                            std::vector<Packet>& out) {
  const Members::Lock lock = members.lock();
  std::vector<HeldConsumer> held;
  members.for_each([&](Consumer& consumer) { held.emplace_back(consumer); });
  const HeldStripe stripe(cells_, key);
  for (const HeldConsumer& consumer : held) {
    if (!consumer->gone()) extract_batch(consumer, handle, key, out);
  }
  std::vector<Packet> queued;
  if (Cell* cell = stripe.find(key)) {
    extract_queue(stripe, *cell, handle, queued);
    stripe.give_up_if_superfluous(*cell);
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Packet& a, const Packet& b) { return a.queued_at < b.queued_at; });
  out.insert(out.end(), queued.begin(), queued.end());
}

// ---- because the thread leaves ----------------------------------------------------------------

/// One notice for each key, whatever was in the middle of it.
struct Keys::Abandoned {
  Keys& keys;
  std::vector<ReadyKey>& notices;
  std::unordered_set<std::uint32_t> told;

  /// While the key is still the thread's: whoever comes to it from then on meets the notice first,
  /// also where a packet of the key arrives before the entry of the notice is queued.
  void add(std::uint32_t key, HandleId handle) {
    if (!told.insert(key).second) return;
    Packet notice;
    notice.kind = PacketKind::kAbandoned;
    notice.key = key;
    notice.handle = handle;
    notice.queued_at = driver::now();
    notices.push_back(keys.put_notice(notice));
  }
};

Keys::Left Keys::leave(const HeldConsumer& consumer, bool died, std::vector<Packet>& orphans) {
  Left left;
  Abandoned abandoned{*this, left.notices, {}};
  leave_batch(consumer, died, abandoned, left, orphans);
  leave_keys(consumer, abandoned);
  return left;
}

void Keys::leave_batch(const HeldConsumer& consumer, bool died, Abandoned& abandoned, Left& left,
                       std::vector<Packet>& orphans) {
  give_back_unclaimed(consumer, left.back);
  Batch& batch = consumer.batch();
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Packet& packet = batch[i];
    const std::uint32_t state = batch.forget(i);
    if (packet.awaited() && state == kSlotClaimed) orphans.push_back(packet);
    if (state != kSlotStolen && packet.shares()) consumer.let_go(packet);
    const bool held = state == kSlotClaimed || state == kSlotDone || state == kSlotKept;
    if (!held || packet.awaited()) continue;
    if (CP_PLANTED("nobody is told of abandoned keys")) {
    } else if (state == kSlotKept || (died && state == kSlotClaimed)) {
      abandoned.add(packet.key, packet.handle);
    }
    if (batch.cell(i) != nullptr) release(consumer, *batch.cell(i), 1);
  }
  batch.clear();
}

/// Also when the thread leaves in good order: what it kept the key for was not over, and will not
/// be now; what it had for a key that was pinned to it is gone with it.
void Keys::leave_keys(const HeldConsumer& consumer, Abandoned& abandoned) {
  for (const auto& [key, handle] : consumer->kept) {
    abandoned.add(key, handle);
    release_kept(consumer, key);
  }
  consumer->kept.clear();
  const std::unordered_set<std::uint32_t> pinned = consumer->pinned;
  for (const std::uint32_t key : pinned) {
    HandleId handle = 0;
    {
      const HeldStripe stripe(cells_, key);
      handle = stripe.find(key)->pinned_handle;
    }
    abandoned.add(key, handle);
    unpin(*consumer, key);
  }
}

ReadyKey Keys::put_notice(const Packet& notice) {
  const HeldStripe stripe(cells_, notice.key);
  Cell& cell = stripe.find_or_make(notice.key);
  stripe.queue(cell, notice, true);
  ++cell.entries;
  return {&cell, notice.queued_at};
}

}  // namespace cp
