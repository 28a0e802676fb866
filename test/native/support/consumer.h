// A consumer without a lane: it waits on a condition variable, and handles its batch as the
// library's JavaScript does.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "port/dispatcher.h"
#include "port/spin.h"

namespace cp::test {

inline Packet posted(std::uint32_t key, double value) {
  Packet packet;
  packet.kind = PacketKind::kPosted;
  packet.key = key;
  packet.result = value;
  return packet;
}

inline Packet completed(std::uint32_t key, HandleId handle, double value) {
  Packet packet;
  packet.kind = PacketKind::kReceive;
  packet.key = key;
  packet.handle = handle;
  packet.result = value;
  return packet;
}

inline Packet for_one(Packet packet, Consumer& target) {
  packet.target = &target;
  return packet;
}

inline Packet awaited(Consumer& target, std::uint32_t token) {
  Packet packet;
  packet.kind = PacketKind::kRead;
  packet.flags = kPacketAwaited;
  packet.token = token;
  packet.target = &target;
  return packet;
}

class FakeThread final : public Consumer {
 public:
  explicit FakeThread(Dispatcher& dispatcher, PostRing* ring = nullptr)
      : slots(new PacketSlot[kBatchLimit]()), dispatcher_(dispatcher) {
    HeldConsumer(*this).arrive(slots.get(), ring, 0);
    dispatcher_.add(*this);
  }

  void wake() override {
    if (end_spin()) return;
    std::lock_guard lock(mutex_);
    ++wakes_;
    condition_.notify_all();
  }
  std::uint64_t wakes() {
    std::lock_guard lock(mutex_);
    return wakes_;
  }

  /// Ends the batch and takes the next without waiting.
  std::size_t take(std::size_t max = kBatchLimit) {
    dispatcher_.unpark(*this);
    dispatcher_.release(*this);
    return dispatcher_.take(*this, max);
  }

  /// The same; parks when there is nothing, as a thread in `get` does, but does not wait.
  std::size_t take_or_park(std::size_t max = kBatchLimit, bool in_event_loop = false) {
    const std::size_t count = take(max);
    if (count == 0) dispatcher_.park(*this, in_event_loop, true);
    return count;
  }

  /// Parks as a thread that looks before it sleeps.
  void park_spinning() {
    REQUIRE(take() == 0);
    dispatcher_.park(*this, false, true, true);
  }
  /// Ends that; true when there is something for it now.
  bool stop_spinning() {
    spin.exchange(kSpinNot);
    dispatcher_.stop_spinning(*this);
    return dispatcher_.worth_taking(*this);
  }

  /// Waits; 0 when the dispatcher was closed. Before it sleeps it looks so many times for news.
  std::size_t get(std::size_t max, std::uint32_t looks = 0) {
    bool spun = false;
    dispatcher_.unpark(*this);
    dispatcher_.release(*this);
    for (;;) {
      const std::uint64_t seen = wakes();
      if (dispatcher_.worth_taking(*this)) {
        dispatcher_.unpark(*this);
        if (dispatcher_.closed()) return 0;
        const std::size_t count = dispatcher_.take(*this, max);
        if (count > 0) return count;
        const bool spins = !spun && looks > 0;
        spun = true;
        if (!dispatcher_.park(*this, false, true, spins)) {
          spin.store(kSpinNot);
          continue;
        }
        if (spins) {
          const bool roused = look(looks);
          dispatcher_.stop_spinning(*this);
          if (roused || dispatcher_.worth_taking(*this)) continue;
        }
      }
      std::unique_lock lock(mutex_);
      condition_.wait(lock, [&] { return wakes_ != seen; });
    }
  }

  /// As Thread::spin_until: true when it was woken meanwhile.
  bool look(std::uint32_t times) {
    while (times-- > 0 && !dispatcher_.told() && spin.load() == kSpinGoesOn) relax();
    return spin.exchange(kSpinNot) == kSpinEnded;
  }

  bool claim(std::size_t i) {
    std::uint32_t expected = kSlotReady;
    return std::atomic_ref(slots[i].state).compare_exchange_strong(expected, kSlotClaimed);
  }
  void done(std::size_t i) { std::atomic_ref(slots[i].state).store(kSlotDone); }
  /// The key stays with this thread beyond the batch.
  void keep(std::size_t i) { std::atomic_ref(slots[i].state).store(kSlotKept); }
  bool release_key(std::uint32_t key) { return dispatcher_.release_key(*this, key); }
  void pin(std::uint32_t key, HandleId handle, bool pinned = true) {
    pinned ? dispatcher_.pin(*this, key, handle) : dispatcher_.unpin(*this, key);
  }
  std::uint32_t slot_state(std::size_t i) { return std::atomic_ref(slots[i].state).load(); }

  void begin_blocking() { dispatcher_.begin_blocking(*this); }
  void end_blocking() { dispatcher_.end_blocking(*this); }
  std::vector<Packet> leave(bool died) {
    std::vector<Packet> orphans;
    dispatcher_.remove(*this, died, orphans);
    return orphans;
  }

  /// The results of the batch, whoever may have stolen some of it since.
  std::vector<double> values() const {
    std::vector<double> all;
    for (std::size_t i = 0; i < batch().size(); ++i) all.push_back(slots[i].result);
    return all;
  }

  const std::unique_ptr<PacketSlot[]> slots;

 private:
  Dispatcher& dispatcher_;
  std::mutex mutex_;
  std::condition_variable condition_;
  std::uint64_t wakes_ = 0;
};

/// A thread that posts through a ring, as the library's JavaScript does.
class RingWriter {
 public:
  explicit RingWriter(Dispatcher& dispatcher)
      : dispatcher_(dispatcher), self_(dispatcher, &ring_) {}

  /// False when the queue is full. Asks for room for `block` messages when it has none left.
  bool post(std::uint32_t key, double value, std::uint32_t block = PostRing::kCapacity) {
    if (room_ == 0) {
      room_ = dispatcher_.reserve(self_, block);
      if (room_ == 0) return false;
    }
    --room_;
    self_.posts().write(key, value);
    if (dispatcher_.tell_idle()) dispatcher_.accept_posts();
    return true;
  }

  std::uint32_t room() const { return room_; }
  void end_turn() {
    room_ = 0;
    dispatcher_.give_back_room(self_);
  }
  /// With what is still in the ring.
  void leave(bool died) { self_.leave(died); }

 private:
  Dispatcher& dispatcher_;
  PostRing ring_{};
  FakeThread self_;
  std::uint32_t room_ = 0;
};

inline bool post(Dispatcher& dispatcher, const Packet& packet) {
  return dispatcher.post(packet, nullptr);
}

inline void push(Dispatcher& dispatcher, const Packet& packet, Consumer* from = nullptr) {
  dispatcher.push(packet, from);
}

}  // namespace cp::test
