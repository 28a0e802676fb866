// Which thread gets which packet, and when: the queue, the serialized keys, the last-in-first-out
// stack of waiting threads, the concurrency limit, bounded posting. What makes a port a port.
//
// One mutex guards all of it. It is taken once or twice a batch, never held across a system call,
// and it is the outer one: a handle's mutex may be taken inside it, no lock of the port's outside.
// Wake-ups are gathered inside and carried out after it was released (class Section).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "port/key_table.h"
#include "port/open_queue.h"
#include "port/packet.h"
#include "port/packet_queue.h"
#include "port/post_ring.h"

namespace cp {

/// Packets one batch holds at most.
inline constexpr std::size_t kBatchLimit = 256;

/// The dispatcher's record of one attached thread. Lives as long as the port, also after the thread
/// has left, so that a wake-up under way never reaches freed memory.
struct Consumer {
  virtual ~Consumer() = default;
  /// Makes the thread come to the dispatcher soon. Any thread; no lock of the port's is held. Where
  /// `end_spin` succeeds, that is enough.
  virtual void wake() = 0;

  /// A thread that is awake and looks for packets before it sleeps. It is set under the mutex by
  /// `park`, ended by anyone, and taken back by the thread before it sleeps: all of them exchange,
  /// so whoever ends it is heard, and whoever comes too late for that wakes the thread instead.
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
    kAway,      ///< left, or not come yet
    kWaiting,   ///< on the stack of waiting threads
    kWoken,     ///< taken off the stack; on its way
    kRunning,   ///< has a batch (rule D3)
    kBlocking,  ///< has a batch, but lets another run (rule D4)
  };

  State state = State::kAway;
  bool gone = false;  ///< has left for good
  /// Waits in its event loop, which may be busy with other things, not in `get`.
  bool in_event_loop = false;
  /// Wants packets that any thread may take, not only its own.
  bool wants_any = false;
  PacketQueue awaited;  ///< answers to what this thread awaits
  PacketQueue own;      ///< other packets only this thread may take (affine dispatch)
  std::unique_ptr<Packet[]> batch{new Packet[kBatchLimit]};
  std::size_t batch_size = 0;
  std::size_t stealable = 0;  ///< packets of the batch that were open to thieves when taken
  /// Keys held beyond the batch, and the handle of the packet that brought each.
  struct KeptKey {
    std::uint32_t key;
    HandleId handle;
  };
  std::vector<KeptKey> kept;
  PacketSlot* slots = nullptr;  ///< kBatchLimit of them, shared with the thread's language
  PostRing* ring = nullptr;     ///< what the thread posts; null: it does so otherwise
  std::uint32_t ring_head = 0;  ///< messages gathered from the ring so far, modulo 2^32
  std::uint32_t room = 0;       ///< set aside for messages that are not in the queue yet
};

/// What `Dispatcher::idle` tells whoever has written a message into its ring.
enum Idle : std::uint32_t {
  kIdleNobody = 0,  ///< no thread waits that may take it
  kIdleAsleep = 1,  ///< one sleeps: `accept_posts` is to be called
  kIdleSpins = 2,   ///< one looks at this word: it is to be set to kIdleTold by compare-and-swap
  kIdleTold = 3,    ///< that thread comes for what is in the rings
};

class Dispatcher {
 public:
  struct Options {
    std::uint32_t concurrency = 1;
    std::uint32_t queue_limit = 65536;
    bool serialize_keys = true;
  };

  explicit Dispatcher(const Options& options) : options_(options) {}
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// Holds the mutex; on leaving releases it and then wakes whom it must.
  class Section {
   public:
    explicit Section(Dispatcher& dispatcher);
    ~Section();
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    Dispatcher& dispatcher_;
  };

  // Everything below is called inside a Section.

  void add(Consumer& consumer);

  /// Queues a completion. `from`: the thread that calls and will come to `take` by itself.
  void push(const Packet& packet, Consumer* from);

  /// Queues a posted message; false when the queue is full (rule Q2) or the port closed. One that
  /// was let into another queue before is not `bounded`.
  bool post(const Packet& packet, Consumer* from, bool bounded = true);

  /// Sets room aside for messages that `consumer` is about to write into its ring, at most
  /// `wanted`: how much. Never more than an eighth of what is free, so that no thread takes the
  /// last of it from the others for messages it does not post after all.
  std::uint32_t reserve(Consumer& consumer, std::uint32_t wanted);
  /// Gives back room that was not used.
  void give_back_room(Consumer& consumer);
  /// Takes over what the threads have written into their rings, and sends for threads that wait.
  void accept_posts() { wake_for_surplus(); }

  /// Asks for a kRoom packet: now when the queue has room, else when a quarter of it is free, so
  /// that a producer is not woken for each message that leaves.
  void notify_when_drained(const Packet& packet);

  /// Ends the consumer's batch: its keys are free, it runs no more.
  void release(Consumer& consumer);

  /// Fills the consumer's batch: its own packets, and up to `max` in all of those any thread may
  /// take, fewer when other threads wait that could run the rest (rule D5). 0: nothing to be had.
  std::size_t take(Consumer& consumer, std::size_t max);

  /// Puts a consumer that got nothing on the stack of waiting threads (rule D2). `spins`: it looks
  /// at `told` and its own `spin` now, and calls `stop_spinning` before it sleeps. One thread of a
  /// port does so at a time, the one that came last; the one before is told to sleep.
  void park(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins = false);
  /// Takes over what was posted while the consumer looked; from here on it has to be woken.
  void stop_spinning(Consumer& consumer);
  /// Whether a message was posted that the thread which spins is to fetch. Without the mutex.
  bool told() { return std::atomic_ref<std::uint32_t>(idle_).load() == kIdleTold; }
  /// Takes it off, whatever woke it.
  void unpark(Consumer& consumer);
  /// The same, and it does not come to `take`: what it was woken for is for another.
  void leave_waiting(Consumer& consumer);
  /// Whether `take` would give a parked consumer something; while not, it keeps its place.
  bool worth_taking(const Consumer& consumer) const;

  void begin_blocking(Consumer& consumer);
  void end_blocking(Consumer& consumer);

  /// The key of a packet the consumer marked kSlotKept is free again. False when it holds none.
  bool let_go(Consumer& consumer, std::uint32_t key);

  /// From now on packets of `key` are for this consumer alone; only where keys are serialized. The
  /// consumer must hold the key.
  void pin(Consumer& consumer, std::uint32_t key, HandleId handle);
  void unpin(Consumer& consumer, std::uint32_t key);

  /// The thread leaves. What it has not begun goes back to the front of the queue; with `died`,
  /// each key it was in the middle of is released with a kAbandoned packet (rule T1). So is in any
  /// case each that it kept beyond a batch, because what goes on there will not end now, and each
  /// that was pinned to it, since what it had for that key is gone. Packets nobody can take
  /// any more are appended to `orphans` for the caller to dispose of.
  void remove(Consumer& consumer, bool died, std::vector<Packet>& orphans);

  /// Takes out all packets of a handle that no thread has begun, in order (rule A3).
  void extract_handle(HandleId handle, std::vector<Packet>& out);

  /// Every waiter is woken, nothing is taken any more (rule D10).
  void close();
  bool closed() const { return closed_; }
  /// What is left in the queue after the last thread has gone.
  void drain(std::vector<Packet>& orphans);
  /// Nobody takes what is queued from here on.
  bool drained() const { return drained_; }

  /// An Idle: whether a thread waits that may take packets, and how it is told of a message. Read
  /// without the mutex, after the ring's tail was stored.
  std::uint32_t& idle() { return idle_; }
  /// What a writer does after it has stored its ring's tail, as lib/lane.ts does; true when it is
  /// to call `accept_posts`.
  bool tell_idle() {
    const std::atomic_ref<std::uint32_t> word(idle_);
    std::uint32_t idle = word.load();
    if (idle == kIdleSpins) word.compare_exchange_strong(idle, kIdleTold);
    return idle == kIdleAsleep;
  }

  std::size_t queued() const { return queue_.size(); }
  std::size_t consumers() const { return consumers_.size(); }
  std::uint32_t running() const { return running_; }
  /// Threads that wait for packets: not those that wait for answers of their own alone.
  std::size_t waiting() const;
  std::uint64_t wake_ups() const { return wake_ups_; }
  std::uint64_t steals() const { return steals_; }
  std::uint64_t batches() const { return batches_; }
  const Options& options() const { return options_; }
  const std::vector<Consumer*>& all() const { return consumers_; }

 private:
  bool serialized(const Packet& packet) const {
    return options_.serialize_keys && !packet.awaited();
  }
  void bind(Packet& packet) const;
  bool belongs_elsewhere(const Consumer& consumer, const Packet& packet);
  std::uint32_t clock();
  void keep(Consumer& consumer, const Packet& packet);
  void abandon(std::uint32_t key, HandleId handle, std::vector<Packet>& notices);
  void release_kept(Consumer& consumer, std::vector<Packet>& notices);
  void release_pins(Consumer& consumer, std::vector<Packet>& notices);
  bool acquire_key(Consumer& consumer, const Packet& packet);
  void release_key(std::uint32_t key, std::uint32_t count = 1);
  void enqueue(Packet& packet, Consumer* from);
  void place_back(const Packet& packet, Consumer* from);
  void put_back(const Packet& packet);
  void hold(Consumer& consumer);
  std::size_t share(std::size_t max) const;
  template <typename Queue>
  bool take_front(Queue& queue, Consumer& consumer);
  void take_awaited(Consumer& consumer, std::size_t limit);
  void take_shared(Consumer& consumer, std::size_t max);
  void steal(Consumer& thief, std::size_t max);
  void steal_from(Consumer& victim, Consumer& thief, std::size_t wanted, std::size_t max);
  std::size_t steal_key(Consumer& victim, Consumer& thief, std::size_t last, std::size_t room,
                        bool (&stolen)[kBatchLimit]);
  void wait_with_key(KeyTable::Entry& entry, const Packet& packet);
  void give_back_unclaimed(Consumer& consumer);
  void stop_running(Consumer& consumer);
  void wake_for_surplus();
  void wake_thief();
  void send_for(Consumer& consumer);
  void wake_owner(Consumer& consumer, Consumer* from);
  Consumer* pop_waiting();
  Consumer* ready_waiter();
  void count_in(const Packet& packet);
  void count_out(const Packet& packet);
  void tell_drained();
  void gather();
  void gather_from(Consumer& consumer);
  void publish_idle();
  Idle idle_state() const;

  const Options options_;
  std::mutex mutex_;
  OpenQueue queue_;
  KeyTable keys_;
  KeyTable::Entry* last_acquired_ = nullptr;  ///< by the `take` under way, which erases none
  struct Pin {
    Consumer* consumer;
    HandleId handle;
  };
  std::unordered_map<std::uint32_t, Pin> pins_;
  std::vector<Consumer*> consumers_;
  std::vector<Consumer*> waiting_;  ///< a stack: the last in is the first out
  std::vector<Consumer*> wakes_;    ///< to be carried out when the Section ends
  Consumer* spinner_ = nullptr;     ///< of those that wait, the one that looks before it sleeps
  std::vector<Packet> drain_requests_;
  std::uint32_t running_ = 0;
  std::uint32_t woken_ = 0;
  std::uint32_t posted_ = 0;  ///< messages in the queue, and room set aside for more
  std::uint64_t last_sequence_ = 0;
  std::uint32_t clock_ = 0;  ///< read at most once a Section: see `clock`
  bool clock_read_ = false;
  bool closed_ = false;
  bool drained_ = false;
  std::uint64_t wake_ups_ = 0;
  std::uint64_t steals_ = 0;
  std::uint64_t batches_ = 0;
  /// Alone in its cache line: producers look at it for each message.
  alignas(64) std::uint32_t idle_ = 0;
};

}  // namespace cp
