#include "port/consumer.h"

namespace cp {

bool HeldConsumer::queue_awaited(const Packet& packet) const {
  Consumer& me = *consumer_;
  if (me.gone()) return false;
  if (packet.kind == PacketKind::kRoom && packet.tag != me.buffer_owner_) return false;
  me.awaited_.push_back(packet);
  me.awaited_size_.store(static_cast<std::uint32_t>(me.awaited_.size()), std::memory_order_relaxed);
  return true;
}

void HeldConsumer::take_awaited(std::size_t most) const {
  Consumer& me = *consumer_;
  for (; most > 0 && !me.awaited_.empty(); --most) {
    hold(me.awaited_.front(), nullptr);
    me.awaited_.pop_front();
  }
  me.awaited_size_.store(static_cast<std::uint32_t>(me.awaited_.size()), std::memory_order_relaxed);
}

void HeldConsumer::arrive(PacketSlot* slots, PostRing* ring, std::uint32_t number) const {
  Consumer& me = *consumer_;
  me.batch_.begin(slots);
  me.posts_.begin(ring, number);
  me.buffer_owner_ = number;
  me.spin.store(Consumer::kSpinNot);
  me.wants_any_.store(false);
  me.batches.reset();  // those of the thread before count with the members
  me.steals.reset();
  me.clock.go_on();
  me.gone_.store(false);
}

void HeldConsumer::leave(std::vector<ReadyKey>& entries, std::vector<Packet>& orphans) const {
  Consumer& me = *consumer_;
  for (; !me.awaited_.empty(); me.awaited_.pop_front()) orphans.push_back(me.awaited_.front());
  while (!me.run_queue_.empty()) entries.push_back(me.run_queue_.pop_front());
  while (!me.own_queue_.empty()) entries.push_back(me.own_queue_.pop_front());
  entries.insert(entries.end(), me.strays.begin(), me.strays.end());
  me.strays.clear();
  me.gone_.store(true);
}

/// Thieves look whether it has gone with the lock held, and hand-offs, too.
void HeldConsumer::leave_arrays() const {
  Consumer& me = *consumer_;
  me.batch_.end();
  me.awaited_ = {};
}

}  // namespace cp
