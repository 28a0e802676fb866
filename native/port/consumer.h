// The record of one thread that takes packets: whether it waits, what is queued for it, its batch,
// what it posts.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "driver/driver.h"
#include "port/batch.h"
#include "port/buffer_pool.h"
#include "port/histogram.h"
#include "port/packet.h"
#include "port/packet_queue.h"
#include "port/posts.h"
#include "port/run_queue.h"
#include "system/published.h"
#include "system/spin_lock.h"

namespace cp {

/// Read once for all that is reaped, or taken, in one go: 20 to 40 ns. No two times alike, so that
/// the queues of a thread can be merged in the order of the packets.
class PacketClock {
 public:
  /// What follows is later.
  void go_on() { read_ = false; }
  std::int64_t now() {
    if (read_) return ++last_;
    last_ = std::max(driver::now(), last_ + 1);
    read_ = true;
    return last_;
  }

 private:
  std::int64_t last_ = 0;
  bool read_ = false;
};

/// The dispatcher's record of one attached thread. Lives as long as the port, also after the thread
/// has left, so that a wake-up or a thief under way never reaches freed memory; it may serve
/// another thread of the same port then.
class Consumer {
 public:
  virtual ~Consumer() = default;
  /// Makes the thread come to the dispatcher soon. Any thread; no lock of the port's but a handle's
  /// is held. Where `end_spin` succeeds, that is enough.
  virtual void wake() = 0;

  /// A thread that is awake and looks for packets before it sleeps. It is set by `park`, ended by
  /// anyone, and taken back by the thread before it sleeps: all of them exchange, so whoever ends
  /// it is heard, and whoever comes too late for that wakes the thread instead.
  enum Spin : std::uint32_t { kSpinNot, kSpinGoesOn, kSpinEnded };
  std::atomic<std::uint32_t> spin{kSpinNot};
  /// True when the thread was looking, and will come without being woken.
  bool end_spin() {
    std::uint32_t was = spin.load();
    while (was != kSpinNot) {
      if (spin.compare_exchange_weak(was, kSpinEnded)) return true;
    }
    return false;
  }

  enum class State : std::uint8_t {
    kAway,       ///< runs, left, or has not come yet
    kWaiting,    ///< on the stack of waiting threads
    kWoken,      ///< taken off the stack; on its way
    kLate,       ///< was woken and has not come: another was sent in its place
    kSearching,  ///< has come from the stack and takes
  };

  // ---- changed by Waiters alone, with its mutex. Read without where it can only be too old

  State state() const { return state_.load(); }
  std::int64_t woken_at() const { return woken_at_; }
  /// Waits in its event loop, which may be busy with other things, not in `get`.
  bool in_event_loop() const { return in_event_loop_; }
  /// Wants packets that any thread may take, not only its own.
  bool wants_any() const { return wants_any_.load(); }
  /// Set before the thread sleeps, taken by whoever has something for it alone and wakes it.
  bool sleeping() const { return sleeping_.load(); }

  // ---- of its lock: see HeldConsumer. Read by others without it, about

  /// Has left for good.
  bool gone() const { return gone_.load(); }
  /// Keys that any thread may take, stolen from the front.
  const RunQueue& run_queue() const { return run_queue_; }
  /// Keys whose next packet is for this thread alone.
  const RunQueue& own_queue() const { return own_queue_; }
  /// Answers to what this thread awaits.
  std::uint32_t awaited() const { return awaited_size_.load(); }
  const Batch& batch() const { return batch_; }
  const Posts& posts() const { return posts_; }
  std::uint32_t unread() const { return posts_.unread(); }
  /// Microseconds that packets had waited when this thread took them.
  Histogram waits;

  // ---- of the thread itself

  bool blocking = false;
  std::uint32_t takes = 0;
  std::uint32_t dice = 0x9e3779b9u;
  PacketClock clock;
  std::int32_t credit = 0;  ///< of room: see Room
  /// Keys held beyond the batch, and the handle of the packet that brought each.
  std::unordered_map<std::uint32_t, HandleId> kept;
  std::unordered_set<std::uint32_t> pinned;
  std::vector<ReadyKey> strays;  ///< to be queued elsewhere once its lock is released
  /// Memory of messages that it is done with.
  struct Holds {
    Place place;
    std::uint32_t times;
  };
  std::vector<Holds> over;
  void free_let_go() {
    for (const Holds& holds : over) BufferPool::let_go(holds.place, holds.times);
    over.clear();
  }

  // ---- of the thread itself, read by others

  /// Odd while the thread is in its program, a handler or its event loop; even while it looks after
  /// its lane or waits there. One more each time it goes and each time it comes, so that whoever
  /// looks twice can tell that it did not move.
  std::atomic<std::uint64_t> turn{1};
  std::atomic<bool> has_place{false};  ///< counts as running (rule D3)
  Count batches;
  Count steals;

 private:
  friend class HeldConsumer;
  friend class Waiters;

  std::atomic<State> state_{State::kAway};
  std::int64_t woken_at_ = 0;
  bool in_event_loop_ = false;
  std::atomic<bool> wants_any_{false};
  std::atomic<bool> sleeping_{false};

  SpinLock lock_;
  std::atomic<bool> gone_{false};
  RunQueue run_queue_, own_queue_;
  PacketQueue awaited_;
  std::atomic<std::uint32_t> awaited_size_{0};
  std::uint32_t buffer_owner_ = 0;  ///< whom the received bytes of its batch belong to
  Batch batch_;
  Posts posts_;
};

/// A consumer whose lock is held, and with it what may be changed then. A function that takes one
/// cannot be called without the lock.
class HeldConsumer {
 public:
  explicit HeldConsumer(Consumer& consumer) : lock_(consumer.lock_), consumer_(&consumer) {}
  /// Held, unless another thread had the lock so many times.
  static HeldConsumer tried(Consumer& consumer, int times) {
    return HeldConsumer(consumer, consumer.lock_.try_lock_for(times));
  }
  explicit operator bool() const { return lock_.owns_lock(); }

  Consumer& operator*() const { return *consumer_; }
  Consumer* operator->() const { return consumer_; }
  bool is(const Consumer* consumer) const { return consumer_ == consumer; }

  RunQueue& run_queue() const { return consumer_->run_queue_; }
  RunQueue& own_queue() const { return consumer_->own_queue_; }
  Batch& batch() const { return consumer_->batch_; }
  Posts& posts() const { return consumer_->posts_; }

  /// False when it has left, or the packet is for the thread that its record served before: one
  /// that waits for room has no request, which would hold the thread.
  bool queue_awaited(const Packet& packet) const;
  /// Answers into the batch, so many at most.
  void take_awaited(std::size_t most) const;

  /// The packet belongs to the batch now, and is shown to the thread. `cell` counts it already;
  /// null: it has no key that is held.
  void hold(const Packet& packet, Cell* cell) const {
    Consumer& me = *consumer_;
    const std::size_t i = me.batch_.size();
    me.batch_.add(packet, cell, me.clock.now());
    if (packet.posted()) {
      ++me.credit;
    } else {
      me.waits.record(me.batch_.age(i));
    }
    // For this thread to release, or for its end. A thief that gets the packet later writes after
    // this, since it has both locks.
    if (packet.chunk != driver::kNoChunk && !packet.shares()) {
      BufferPool::assign({packet.chunk, packet.offset}, me.buffer_owner_);
    }
    me.batch_.open_last();
  }
  /// Takes a packet out of the batch that the thread has not claimed; false when it has. Received
  /// bytes are nobody's then, until another thread takes the packet.
  bool revoke(std::size_t i) const {
    Consumer& me = *consumer_;
    if (!me.batch_.revoke(i)) return false;
    const Packet& packet = me.batch_[i];
    if (!packet.posted()) me.waits.take_back(me.batch_.age(i));
    if (packet.chunk != driver::kNoChunk && !packet.shares()) {
      BufferPool::assign({packet.chunk, packet.offset}, 0);
    }
    return true;
  }
  /// The thread is done with the packet of a message: its hold is over when the lock is released,
  /// with the caller's `free_let_go`. Memory may go back to the system with that.
  void let_go(const Packet& packet) const {
    const Place place{packet.chunk, packet.offset};
    std::vector<Consumer::Holds>& over = consumer_->over;
    if (!over.empty() && BufferPool::same_block(over.back().place, place)) {
      ++over.back().times;
    } else {
      over.push_back({place, 1});
    }
  }

  /// The thread comes, to a record that is new or that another one has left. `number`: whom
  /// received bytes belong to.
  void arrive(PacketSlot* slots, PostRing* ring, std::uint32_t number) const;
  /// It leaves: nothing is queued here from now on. What is in its queues, and answers that nobody
  /// can take any more, are the caller's.
  void leave(std::vector<ReadyKey>& entries, std::vector<Packet>& orphans) const;
  /// It has left: what it had of memory goes.
  void leave_arrays() const;

 private:
  HeldConsumer(Consumer& consumer, bool held)
      : lock_(consumer.lock_, std::defer_lock), consumer_(&consumer) {
    if (held) lock_ = std::unique_lock(consumer.lock_, std::adopt_lock);
  }

  std::unique_lock<SpinLock> lock_;
  Consumer* consumer_;
};

}  // namespace cp
