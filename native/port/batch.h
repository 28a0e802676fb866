// The batch of a thread: the packets it has taken and is not done with, in slots that change hands
// by compare-and-swap. Their owner claims them without a lock; a thief has that of the consumer.
#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "port/packet.h"

namespace cp {

struct Cell;

/// Packets one batch holds at most.
inline constexpr std::size_t kBatchLimit = 256;

inline bool open_to_all(const Packet& packet) {
  return packet.target == nullptr && !packet.awaited();
}

/// What is not const is for whoever has the consumer's lock. Its thread alone adds packets and ends
/// the batch, so it may look without.
class Batch {
 public:
  /// A thread comes. `slots`: kBatchLimit of them, shared with its language.
  void begin(PacketSlot* slots) {
    slots_ = slots;
    if (!packets_) packets_.reset(new Packet[kBatchLimit]);
    if (!cells_) cells_ = std::make_unique<Cell*[]>(kBatchLimit);
  }
  /// It has left: the memory goes.
  void end() {
    packets_.reset();
    cells_.reset();
    slots_ = nullptr;
  }

  std::size_t size() const { return size_; }
  const Packet& operator[](std::size_t i) const { return packets_[i]; }
  /// Null: the packet holds no key.
  Cell* cell(std::size_t i) const { return cells_[i]; }
  std::uint32_t age(std::size_t i) const { return slots_[i].age; }
  std::uint32_t state(std::size_t i) const { return slot_state(i).load(); }

  /// Shows one packet more to the thread; `now` is not before it was queued.
  void add(const Packet& packet, Cell* cell, std::int64_t now) {
    const std::size_t i = size_++;
    assert(i < kBatchLimit);
    packets_[i] = packet;
    cells_[i] = cell;
    PacketSlot& slot = slots_[i];
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
    const std::int64_t waited = std::max<std::int64_t>(0, now - packet.queued_at);
    slot.age = static_cast<std::uint32_t>(waited / 1000);
    if (open_to_all(packet)) stealable_.fetch_add(1, std::memory_order_relaxed);
  }
  /// The packet that was added last is the thread's from here on. That is its caller, and thieves
  /// come with the lock: no fence, which would cost more than all of the above.
  void open_last() {
    slot_state(size_ - 1).store(packets_[size_ - 1].awaited() ? kSlotClaimed : kSlotReady,
                                std::memory_order_release);
  }

  /// Takes a packet back that its owner has not claimed; false when it has.
  bool revoke(std::size_t i) {
    std::uint32_t expected = slot_state(i).load();
    if (expected != kSlotReady) return false;
    return slot_state(i).compare_exchange_strong(expected, kSlotStolen);
  }
  /// The owner's own packets go back to the queue, or are done with: thieves need not look.
  void close_to_thieves() { stealable_.store(0, std::memory_order_relaxed); }
  /// Frees a slot that is not open to thieves any more, so that it changes hands no more: what it
  /// was.
  std::uint32_t forget(std::size_t i) {
    const std::uint32_t state = slot_state(i).load(std::memory_order_relaxed);
    assert(state != kSlotReady);
    slot_state(i).store(kSlotFree, std::memory_order_relaxed);
    return state;
  }
  void clear() { size_ = 0; }

  /// The owner's: what is kept of `key` is done with, and goes with the batch. False: there is
  /// none.
  bool end_keep(std::uint32_t key) const;

  /// Packets that were open to thieves when taken: some of them may be for nobody any more.
  std::uint32_t stealable() const { return stealable_.load(std::memory_order_relaxed); }
  /// Not begun, and open to all.
  std::size_t ready() const;
  /// Whether thieves could take packets of one key and leave those of another.
  bool has_several_keys() const;
  /// Whether all `held` packets of the key of the one at `last`, and a kept key is one more, are
  /// still to be had: their places, from the last to the first.
  bool untouched(std::size_t last, std::uint32_t held, std::vector<std::size_t>& group) const;
  /// Whether the owner is in the middle of one.
  bool begun() const;

 private:
  std::atomic_ref<std::uint32_t> slot_state(std::size_t i) const {
    return std::atomic_ref<std::uint32_t>(slots_[i].state);
  }

  std::unique_ptr<Packet[]> packets_{new Packet[kBatchLimit]};
  std::unique_ptr<Cell*[]> cells_ = std::make_unique<Cell*[]>(kBatchLimit);
  PacketSlot* slots_ = nullptr;
  std::size_t size_ = 0;
  std::atomic<std::uint32_t> stealable_{0};
};

}  // namespace cp
