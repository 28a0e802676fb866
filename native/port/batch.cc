#include "port/batch.h"

namespace cp {

bool Batch::end_keep(std::uint32_t key) const {
  for (std::size_t i = 0; i < size_; ++i) {
    std::uint32_t expected = kSlotKept;
    if (packets_[i].key != key || packets_[i].awaited()) continue;
    if (slot_state(i).compare_exchange_strong(expected, kSlotDone)) return true;
  }
  return false;
}

std::size_t Batch::ready() const {
  std::size_t ready = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    ready += state(i) == kSlotReady && open_to_all(packets_[i]) ? 1 : 0;
  }
  return ready;
}

bool Batch::has_several_keys() const {
  if (stealable() < 2) return false;
  const Packet* first = nullptr;
  for (std::size_t i = 0; i < size_; ++i) {
    const Packet& packet = packets_[i];
    if (!open_to_all(packet)) continue;
    if (first != nullptr && packet.key != first->key) return true;
    if (first == nullptr) first = &packet;
  }
  return false;
}

bool Batch::untouched(std::size_t last, std::uint32_t held, std::vector<std::size_t>& group) const {
  for (std::size_t i = last + 1; i-- > 0 && group.size() < held;) {
    if (cells_[i] != cells_[last]) continue;
    const std::uint32_t now = state(i);
    if (now == kSlotStolen) continue;
    if (now != kSlotReady) return false;
    group.push_back(i);
  }
  return group.size() == held;
}

bool Batch::begun() const {
  for (std::size_t i = 0; i < size_; ++i) {
    if (state(i) == kSlotClaimed) return true;
  }
  return false;
}

}  // namespace cp
