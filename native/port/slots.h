// The slots of a batch, whose packets change hands by compare-and-swap: their owner claims them
// without a lock.
#pragma once

#include <atomic>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "port/buffer_pool.h"
#include "port/dispatcher.h"

namespace cp {

inline std::atomic_ref<std::uint32_t> slot_state(Consumer& consumer, std::size_t i) {
  return std::atomic_ref<std::uint32_t>(consumer.slots[i].state);
}

/// Takes a packet back that its owner has not claimed; false when it has. The consumer is locked.
/// Received bytes are nobody's then, until another thread takes the packet.
inline bool revoke(Consumer& consumer, std::size_t i) {
  std::uint32_t expected = slot_state(consumer, i).load();
  if (expected != kSlotReady) return false;
  if (!slot_state(consumer, i).compare_exchange_strong(expected, kSlotStolen)) return false;
  const Packet& packet = consumer.batch[i];
  if (packet.kind != PacketKind::kPosted) consumer.waits.take_back(consumer.slots[i].age);
  if (packet.chunk != driver::kNoChunk) BufferPool::assign({packet.chunk, packet.offset}, 0);
  return true;
}

/// Frees a slot that is not open to thieves any more, so that it changes hands no more: what it
/// was.
inline std::uint32_t forget(Consumer& consumer, std::size_t i) {
  const std::uint32_t state = slot_state(consumer, i).load(std::memory_order_relaxed);
  assert(state != kSlotReady);
  slot_state(consumer, i).store(kSlotFree, std::memory_order_relaxed);
  return state;
}

inline bool open_to_all(const Packet& packet) {
  return packet.target == nullptr && !packet.awaited();
}

}  // namespace cp
