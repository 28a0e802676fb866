// Which thread gets which packet, and when: serialized keys, run queues and stealing, the
// last-in-first-out stack of waiting threads, the concurrency limit, bounded posting. What makes a
// port a port.
//
// No lock guards all of it. Locks, outermost first: a handle's mutex (the callers'), the members',
// a consumer's, a stripe's of the key cells; the injected queue's, the idle mutex and the room's
// are leaves. Two consumers' locks are held together only by a thief, which tries the second one
// and never waits for it, and by a hand-off without serialized keys, which takes all in the order
// of the members. None of the dispatcher's is held while it wakes a thread.
//
// Nobody sleeps over work. Work is made visible (a ring's tail, a run queue's size), then the idle
// word is read; whoever goes to sleep writes the idle word, then looks for work. Both with
// sequential consistency, so one of the two sees the other. While a thread is on its way to the
// dispatcher (woken, or back from waiting by itself) the word says that nobody is to be called:
// that thread looks for all there is once it has stopped counting as one on its way (`end_search`).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "port/histogram.h"
#include "port/key_cells.h"
#include "port/packet.h"
#include "port/packet_queue.h"
#include "port/post_ring.h"
#include "port/run_queue.h"
#include "port/shared_word.h"
#include "port/spin_lock.h"

namespace cp {

/// Packets one batch holds at most.
inline constexpr std::size_t kBatchLimit = 256;

/// The dispatcher's record of one attached thread. Lives as long as the port, also after the thread
/// has left, so that a wake-up or a thief under way never reaches freed memory; it may serve
/// another thread of the same port then.
struct Consumer {
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

  /// The thread comes, to an object that is new or that another one has left.
  void arrive(PacketSlot* packet_slots, PostRing* post_ring, std::uint32_t number);
  /// It has left (`Dispatcher::remove`): what it had of memory goes.
  void leave_arrays();

  // ---- of the idle mutex; `state` is read without it where it can only be too old

  std::atomic<State> state{State::kAway};
  std::int64_t woken_at = 0;
  /// Waits in its event loop, which may be busy with other things, not in `get`.
  bool in_event_loop = false;
  /// Wants packets that any thread may take, not only its own.
  std::atomic<bool> wants_any{false};

  /// Set before the thread sleeps, taken by whoever has something for it alone and wakes it.
  std::atomic<bool> sleeping{false};

  // ---- of `lock`

  SpinLock lock;
  std::atomic<bool> gone{false};  ///< has left for good; stored locked
  RunQueue run;                   ///< keys that any thread may take, stolen from the front
  RunQueue own;                   ///< keys whose next packet is for this thread alone
  PacketQueue awaited;            ///< answers to what this thread awaits
  std::atomic<std::uint32_t> awaited_size{0};
  std::unique_ptr<Packet[]> batch{new Packet[kBatchLimit]};
  std::unique_ptr<Cell*[]> cells = std::make_unique<Cell*[]>(kBatchLimit);  ///< null: no key held
  std::size_t batch_size = 0;
  /// Packets of the batch that were open to thieves when taken; stored locked.
  std::atomic<std::uint32_t> stealable{0};
  PacketSlot* slots = nullptr;  ///< kBatchLimit of them, shared with the thread's language
  PostRing* ring = nullptr;     ///< what the thread posts; null: it does so otherwise, or has left
  /// Messages taken from the ring so far, modulo 2^32; stored locked.
  std::atomic<std::uint32_t> ring_head{0};
  std::uint32_t room = 0;       ///< set aside for messages that were not taken from the ring yet
  std::int32_t credit = 0;      ///< room of messages it has taken: its own until it is given back
  std::uint32_t seen_head = 0;  ///< `ring_head` when another thread last looked whether it moves
  /// Microseconds that packets had waited when this thread took them; read by others without it.
  Histogram waits;

  // ---- of the thread itself

  std::uint32_t buffer_owner = 0;  ///< whom the received bytes of its batch belong to
  bool blocking = false;
  std::uint32_t takes = 0;
  std::uint32_t dice = 0x9e3779b9u;
  std::int64_t clock = 0;  ///< the last time read, and a nanosecond more for each use
  bool clock_read = false;
  /// Keys held beyond the batch, and the handle of the packet that brought each.
  std::unordered_map<std::uint32_t, HandleId> kept;
  std::unordered_set<std::uint32_t> pinned;
  std::vector<ReadyKey> strays;  ///< to be queued elsewhere once `lock` is released

  // ---- of the thread itself, read by others

  /// Odd while the thread is in its program, a handler or its event loop; even while it looks after
  /// its lane or waits there. One more each time it goes and each time it comes, so that whoever
  /// looks twice can tell that it did not move.
  std::atomic<std::uint64_t> turn{1};
  std::atomic<bool> has_place{false};  ///< counts as running (rule D3)
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> steals{0};

  /// Messages written into the ring so far, modulo 2^32. Not in the ring, whose memory goes with
  /// the thread: others look here without a lock. Stored sequentially consistent, after the
  /// message, by the thread's language, which keeps it as well.
  const SharedWordKeeper tail_keeper = std::make_shared<SharedWord>();
  std::uint32_t& ring_tail = tail_keeper->value;

  /// Messages in the ring that nobody has taken.
  std::uint32_t unread() {
    return std::atomic_ref<std::uint32_t>(ring_tail).load() - ring_head.load();
  }
  /// What lib/thread/posts.ts does to post: `Dispatcher::tell_idle` is next.
  void write_post(std::uint32_t key, double value) {
    const std::atomic_ref<std::uint32_t> tail(ring_tail);
    const std::uint32_t at = tail.load(std::memory_order_relaxed);
    ring->posts[at % PostRing::kCapacity] = {key, 0, value};
    tail.store(at + 1);
  }
};

/// What `Dispatcher::idle` tells whoever has written a message into its ring.
enum Idle : std::uint32_t {
  kIdleNobody = 0,  ///< no thread waits that may take it, or one is on its way
  kIdleAsleep = 1,  ///< one sleeps: `accept_posts` is to be called
  kIdleSpins = 2,   ///< one looks at this word: it is to be set to kIdleTold by compare-and-swap
  kIdleTold = 3,    ///< that thread comes for what is in the rings
};

/// The threads of a port. Read by all without a lock, changed under one.
class Members {
 public:
  ~Members() {
    for (auto& block : blocks_) delete block.load();
  }
  /// False when there are too many.
  bool add(Consumer& consumer);
  void remove(Consumer& consumer);
  std::size_t count() const { return count_.load(std::memory_order_relaxed); }
  /// Those there ever were at one time: some places may be empty.
  std::uint32_t places() const { return places_.load(std::memory_order_acquire); }
  /// Null where a thread has left.
  Consumer* at(std::uint32_t i) const {
    Block* block = blocks_[i / kBlock].load(std::memory_order_acquire);
    return block->places[i % kBlock].load(std::memory_order_acquire);
  }
  template <typename Visit>
  void for_each(Visit visit) const {
    const std::uint32_t count = places();
    for (std::uint32_t i = 0; i < count; ++i) {
      if (Consumer* consumer = at(i)) visit(*consumer);
    }
  }

 private:
  static constexpr std::uint32_t kBlock = 64;
  struct Block {
    std::atomic<Consumer*> places[kBlock] = {};
  };
  std::array<std::atomic<Block*>, 256> blocks_{};
  std::atomic<std::uint32_t> places_{0};
  std::atomic<std::size_t> count_{0};
};

class Dispatcher {
 public:
  struct Options {
    std::uint32_t concurrency = 1;
    std::uint32_t queue_limit = 65536;
    bool serialize_keys = true;
  };

  explicit Dispatcher(const Options& options)
      : options_(options), cells_(options.concurrency), room_(options.queue_limit) {}
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// False when the port has more threads than anyone could run.
  bool add(Consumer& consumer);

  // ---- queueing: dispatcher_queue.cc

  /// When a thread that waits is told of what was queued: by `push`, or by the caller, who has more
  /// to queue and then calls `tell`.
  enum class Tell : std::uint8_t { kNow, kLater };
  /// Queues a completion. `from`: the thread that calls and will come to `take` by itself. False
  /// when nobody takes any more (`drain`): the packet stays the caller's.
  bool push(const Packet& packet, Consumer* from, Tell tell = Tell::kNow);
  /// Who goes to sleep between `push` and this looks for what is queued before: nothing is missed.
  void tell() { wake_if_idle(); }

  /// Queues a posted message; false when the queue is full (rule Q2) or the port closed. One that
  /// was let into another queue before is not `bounded`.
  bool post(const Packet& packet, Consumer* from, bool bounded = true);

  /// The completions that follow were reaped by this thread now. What it has posted is older, and
  /// is queued before them (rule D1).
  void begin_reap(Consumer& consumer);

  /// Sets room aside for messages that `consumer` is about to write into its ring, at most
  /// `wanted`: how much. Never more than an eighth of what is free, so that no thread takes the
  /// last of it from the others for messages it does not post after all.
  std::uint32_t reserve(Consumer& consumer, std::uint32_t wanted);
  /// Gives back room that was not used.
  void give_back_room(Consumer& consumer);
  /// Sends for a thread that waits to take what was written into a ring.
  void accept_posts() { wake_if_idle(); }

  /// Asks for a kRoom packet: now when the queue has room, else when a quarter of it is free, so
  /// that a producer is not woken for each message that leaves.
  void notify_when_drained(const Packet& packet);

  /// Takes out all packets of a handle that no thread has begun, in order (rule A3). `key`: that of
  /// all of them. The caller sees to it that none is queued meanwhile.
  void extract_handle(HandleId handle, std::uint32_t key, std::vector<Packet>& out);

  // ---- taking: dispatcher.cc

  /// Ends the consumer's batch: its keys are free. It counts as running until `take` finds nothing.
  void release(Consumer& consumer);

  /// Fills the consumer's batch: its own packets, and up to `max` in all of those any thread may
  /// take, fewer when other threads wait that could run the rest (rule D5). 0: nothing to be had.
  std::size_t take(Consumer& consumer, std::size_t max);

  void begin_blocking(Consumer& consumer);
  void end_blocking(Consumer& consumer);

  /// The key of a packet the consumer marked kSlotKept is free again. False when it holds none.
  bool release_key(Consumer& consumer, std::uint32_t key);

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

  // ---- waiting and waking: dispatcher_idle.cc

  /// Puts a consumer that got nothing on the stack of waiting threads (rule D2). False: something
  /// came meanwhile, `take` is to be called again. `spins`: it looks at `told` and its own `spin`
  /// now, and calls `stop_spinning` before it sleeps. One thread of a port does so at a time, the
  /// one that came last; the one before is told to sleep.
  bool park(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins = false);
  /// It has looked long enough; from here on it has to be woken, unless `worth_taking`.
  void stop_spinning(Consumer& consumer);
  /// Whether a message was posted that the thread which spins is to fetch.
  bool told() { return std::atomic_ref<std::uint32_t>(idle_).load() == kIdleTold; }
  /// Takes it off, whatever woke it; `take` is called next.
  void unpark(Consumer& consumer);
  /// The same, and it does not come to `take`: what it was woken for is for another.
  void leave_waiting(Consumer& consumer);
  /// Whether a parked consumer is to call `take`; while not, it keeps its place.
  bool worth_taking(Consumer& consumer);
  /// Threads that were sent for longer than `patience` nanoseconds ago and have not come, because
  /// their event loop is busy, get no work kept for them: others are sent for it. True while some
  /// are waited for.
  bool relieve(std::int64_t now, std::int64_t patience);
  /// The same for one that waits in its event loop and does not come for what its lane has. It is
  /// woken all the same.
  void set_aside(Consumer& consumer);
  /// Packets the thread has taken and not begun that others could run.
  std::size_t unbegun(Consumer& consumer);
  /// The thread begins none of them, because it is busy with something else: they go back to the
  /// queue.
  void take_back(Consumer& stuck);
  /// Takes a thread off the stack that is to carry out an errand for another, which the caller
  /// tells it before it wakes it; null where none waits that might run (rule D3).
  Consumer* send_on_errand();

  /// Every waiter is woken, nothing is taken any more (rule D10).
  void close();
  bool closed() const { return closed_.load(); }
  /// What is left in the queue after the last thread has gone. Nothing is queued from here on.
  void drain(std::vector<Packet>& orphans);
  bool drained() const { return drained_.load(); }

  /// An Idle: whether a thread waits that may take packets, and how it is told of a message. Read
  /// after the ring's tail was stored.
  std::uint32_t& idle() { return idle_; }
  const SharedWordKeeper& idle_keeper() const { return idle_keeper_; }
  /// What a writer does after it has stored its ring's tail, as lib/thread/posts.ts does; true when
  /// it is to call `accept_posts`.
  bool tell_idle() {
    const std::atomic_ref<std::uint32_t> word(idle_);
    std::uint32_t idle = word.load();
    if (idle == kIdleSpins) word.compare_exchange_strong(idle, kIdleTold);
    return idle == kIdleAsleep;
  }

  /// Packets and messages nobody has taken; while others queue and take, about.
  std::size_t queued() const;
  /// Room for messages, but for what threads have set aside.
  std::int64_t room() const { return room_.load(); }
  /// Packets that a thread could take if it came now: those whose key nobody holds, and messages in
  /// rings. Looks at everything; for tests.
  std::size_t ready();
  std::size_t consumers() const { return members_.count(); }
  std::uint32_t running() const { return running_.load(); }
  /// Threads that wait for packets: not those that wait for answers of their own alone.
  std::size_t waiting();
  std::uint64_t wake_ups() const { return wake_ups_.load(std::memory_order_relaxed); }
  std::uint64_t steals() const;
  std::uint64_t taken_back() const { return taken_back_.load(); }
  std::uint64_t batches() const;
  /// Adds how long packets have waited until they were taken, but for messages: nobody looks at the
  /// clock when one is posted.
  void waits(HistogramCounts& all) const;
  const Options& options() const { return options_; }
  const Members& members() const { return members_; }
  /// Held while threads come and go: a thread that is chosen with it held is there, and one that
  /// comes later finds what was left to it before.
  std::mutex& members_mutex() { return members_mutex_; }

 private:
  /// Messages a thread sets room aside for at one time.
  static constexpr std::uint32_t kRoomAtOnce = 512;
  /// Each thread looks around for what is old at every so manieth batch.
  static constexpr std::uint32_t kTakesToLookAround = 61;

  static Consumer* target_of(const Cell& cell);
  std::int64_t clock(Consumer* consumer);

  bool push_awaited(const Packet& packet, Consumer* from);
  void queue_ready(const ReadyKey& entry, Consumer* target, Consumer* from);
  void queue_ready_anew(const ReadyKey& entry);
  void queue_strays(Consumer& consumer);
  static void add_mail(KeyCells::Stripe& stripe, Cell& cell, const Packet& packet,
                       bool in_front = false);
  static bool take_entry(Cell& cell);

  static std::uint32_t acceptable(Consumer& consumer);
  static void advance(Consumer& consumer, std::uint32_t count);
  void empty_ring(Consumer& from, Consumer& caller);
  void settle_credit(Consumer& consumer, bool all);
  void tell_drained();

  static std::size_t extract_batch(Consumer& consumer, HandleId handle, std::uint32_t key,
                                   std::vector<Packet>& out);
  static void extract_mail(KeyCells::Stripe& stripe, Cell& cell, HandleId handle,
                           std::vector<Packet>& out);
  void extract_from_all(HandleId handle, std::uint32_t key, std::vector<Packet>& out);

  void hold(Consumer& consumer, const Packet& packet, Cell* cell);
  std::size_t hold_from(Consumer& consumer, Cell& cell, std::size_t room);
  bool hold_post(Consumer& consumer, const PostRing::Post& post);
  std::size_t drain_ring(Consumer& consumer, Consumer& from, std::size_t most);

  std::size_t helpers(const Consumer& consumer) const;
  std::size_t share(Consumer& consumer, std::size_t max) const;
  void take_awaited(Consumer& consumer, std::size_t limit);
  std::size_t fill(Consumer& consumer, std::size_t max);
  RunQueue* next_queue(Consumer& consumer, std::size_t left);
  std::size_t take_ready(Consumer& consumer, RunQueue& queue, std::size_t room);
  std::size_t hold_entries(Consumer& consumer, const ReadyKey* entries, std::size_t count,
                           std::size_t room);
  bool take_place(Consumer& consumer);
  void give_back_place(Consumer& consumer);

  std::size_t relieve_oldest(Consumer& consumer, std::size_t max);
  std::size_t steal(Consumer& thief, std::size_t max);
  std::size_t portion(const Consumer& thief, const Consumer& victim, std::size_t ready) const;
  std::size_t steal_ready(Consumer& thief, Consumer& victim, std::size_t max);
  std::size_t steal_surplus(Consumer& thief, Consumer& victim, std::size_t max);
  std::size_t revoke_some(Consumer& victim, std::size_t wanted, std::vector<ReadyKey>& out,
                          std::int32_t& credit);
  std::size_t revoke_key(Consumer& victim, std::size_t last, ReadyKey& out, std::int32_t& credit);
  ReadyKey put_back(const Packet& packet, std::int32_t& credit);
  static bool untouched(Consumer& victim, std::size_t last, std::uint32_t held,
                        std::vector<std::size_t>& group);
  bool has_surplus(Consumer& consumer);
  static bool has_several_keys(const Consumer& consumer);
  std::uint32_t held_of(const Cell& cell);
  void expose_messages(Consumer& other, Consumer& caller);

  void give_back_unclaimed(Consumer& consumer, std::vector<ReadyKey>& back);
  void release_slots(Consumer& consumer);
  void release_key(Consumer& consumer, Cell& cell, std::uint32_t count);
  void keep(Consumer& consumer, std::size_t i);
  void release_kept(Consumer& consumer, std::uint32_t key);
  void inject_in_front(const std::vector<ReadyKey>& entries);
  struct Leaving;
  ReadyKey put_notice(const Packet& notice);
  void abandon(std::uint32_t key, HandleId handle, Leaving& leaving);
  void leave_batch(Consumer& consumer, bool died, Leaving& leaving);
  void leave_keys(Consumer& consumer, Leaving& leaving);
  void leave_queues(Consumer& consumer, Leaving& leaving);

  bool anything_ready(const Consumer* self);
  void wake_if_idle();
  void wake_if_ready(Consumer* self = nullptr);
  void wake_one(Consumer* self = nullptr);
  Consumer* pop_waiting();
  void erase_waiting(Consumer& consumer);
  void wake_owner(Consumer& consumer, Consumer* from);
  void wake_for_place();
  bool has_own(Consumer& consumer);
  bool may_run(const Consumer& consumer) const;
  void end_search(Consumer& consumer);
  void publish_idle();
  Idle idle_state() const;

  const Options options_;
  KeyCells cells_;
  Members members_;
  std::mutex members_mutex_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> drained_{false};
  std::atomic<std::uint64_t> left_steals_{0};  ///< of threads that have left
  std::atomic<std::uint64_t> taken_back_{0};
  std::atomic<std::uint64_t> left_batches_{0};
  Histogram left_waits_;  ///< written under the members' mutex

  alignas(64) SpinLock injected_lock_;
  RunQueue injected_;  ///< from whoever is no thread of this port, and from threads that have left

  alignas(64) std::mutex idle_mutex_;
  std::vector<Consumer*> waiting_;  ///< a stack: the last in is the first out
  Consumer* spinner_ = nullptr;     ///< of those that wait, the one that looks before it sleeps
  /// Stored under the mutex: threads in State::kWoken and kSearching; of `waiting_`, those that
  /// want any packet.
  std::atomic<std::uint32_t> on_their_way_{0};
  std::atomic<std::uint32_t> helpers_{0};
  std::atomic<std::uint64_t> wake_ups_{0};

  alignas(64) std::atomic<std::uint32_t> running_{0};  ///< rule D3

  alignas(
      64) std::atomic<std::int64_t> room_;  ///< rule Q2; below 0 by messages that are not bounded
  std::atomic<bool> room_wanted_{false};
  std::mutex room_mutex_;
  std::vector<Packet> drain_requests_;

  const SharedWordKeeper idle_keeper_ = std::make_shared<SharedWord>();
  std::uint32_t& idle_ = idle_keeper_->value;
};

}  // namespace cp
