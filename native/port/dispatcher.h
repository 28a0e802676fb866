// Which thread gets which packet, and when: what makes a port a port.
//
// The dispatcher conducts, its parts do the work: they know nothing of each other but what they are
// given, and return what follows: whom to wake, what to queue elsewhere.
//   Keys            who holds which key, what waits for it
//   Members         the threads of the port; Consumer: the record of one, with its run queues, its
//                   Batch and its Posts
//   SharedRunQueue  keys that are ready and no thread's
//   RunningThreads  the limit
//   Waiters         the stack of waiting threads, and the idle word
//   Room            the bound on messages
//
// No lock guards all of it. Locks, outermost first: a handle's mutex (the callers'), the members',
// a consumer's, a stripe's of the key cells; the shared run queue's, the waiters' and the room's
// are leaves. Two consumers' locks are held together only by a thief, which tries the second one
// and never waits for it, and by a hand-off without serialized keys, which takes all in the order
// of the members. None of them is held while a thread is woken. A lock that a method needs is its
// parameter (HeldConsumer, HeldStripe, a `Lock`), or its own business.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "port/consumer.h"
#include "port/histogram.h"
#include "port/keys.h"
#include "port/members.h"
#include "port/packet.h"
#include "port/room.h"
#include "port/run_queue.h"
#include "port/running_threads.h"
#include "port/shared_word.h"
#include "port/waiters.h"

namespace cp {

class Dispatcher {
 public:
  struct Options {
    std::uint32_t concurrency = 1;
    std::uint32_t queue_limit = 65536;
    bool serialize_keys = true;
  };

  explicit Dispatcher(const Options& options)
      : options_(options),
        keys_(options.concurrency, options.serialize_keys),
        running_(options.concurrency),
        waiters_(running_),
        room_(options.queue_limit) {}
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  /// False when the port has more threads than anyone could run.
  bool add(Consumer& consumer) { return members_.add(consumer); }

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

  /// Queues a message of bytes for each of the keys: for all of them, or none, and false, when the
  /// queue has no room for so many or the port is closed. The packet's block has a hold for each
  /// already, and they are the queue's when it returns true. `from`: the thread that calls; null:
  /// none of this port.
  bool publish(Packet packet, const std::uint32_t* keys, std::uint32_t count, Consumer* from);
  /// The messages in the thread's ring hold their bytes themselves from here on: see Posts::secure.
  void secure_posts(Consumer& consumer);

  /// The completions that follow were reaped by this thread now. What it has posted is older, and
  /// is queued before them (rule D1).
  void begin_reap(Consumer& consumer);

  /// Sets room aside for messages that `consumer` is about to write into its ring, at most
  /// `wanted`: how much. Never more than an eighth of what is free, so that no thread takes the
  /// last of it from the others for messages it does not post after all.
  std::uint32_t reserve(Consumer& consumer, std::uint32_t wanted);
  /// Gives back room that was not used.
  /// `all`: of what it has taken, too.
  void give_back_room(Consumer& consumer, bool all = false);
  std::uint32_t queue_limit() const { return room_.limit(); }
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
  void pin(Consumer& consumer, std::uint32_t key, HandleId handle) {
    keys_.pin(consumer, key, handle);
  }
  void unpin(Consumer& consumer, std::uint32_t key) { keys_.unpin(consumer, key); }

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
  bool told() const { return waiters_.told(); }
  /// Takes it off, whatever woke it; `take` is called next.
  void unpark(Consumer& consumer) { waiters_.take_off(consumer); }
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
  void drain(std::vector<Packet>& orphans) { keys_.drain(orphans); }
  bool drained() const { return keys_.drained(); }

  /// An Idle: whether a thread waits that may take packets, and how it is told of a message. Read
  /// after the ring's tail was stored.
  std::uint32_t& idle() { return waiters_.idle(); }
  const SharedWordKeeper& idle_keeper() const { return waiters_.idle_keeper(); }
  /// What a writer does after it has stored its ring's tail; true when it is to call
  /// `accept_posts`.
  bool tell_idle() { return waiters_.tell_idle(); }

  /// Packets and messages nobody has taken; while others queue and take, about.
  std::size_t queued() const;
  /// Room for messages, but for what threads have set aside.
  std::int64_t room() const { return room_.free(); }
  /// Packets that a thread could take if it came now: those whose key nobody holds, and messages in
  /// rings. Looks at everything; for tests.
  std::size_t ready();
  std::size_t consumers() const { return members_.count(); }
  std::uint32_t running() const { return running_.count(); }
  /// Threads that wait for packets: not those that wait for answers of their own alone.
  std::size_t waiting() { return waiters_.count(); }
  std::uint64_t wake_ups() const { return wake_ups_.load(std::memory_order_relaxed); }
  std::uint64_t steals() const { return members_.steals(); }
  std::uint64_t taken_back() const { return taken_back_.load(); }
  std::uint64_t batches() const { return members_.batches(); }
  /// Adds how long packets have waited until they were taken, but for messages: nobody looks at the
  /// clock when one is posted.
  void waits(HistogramCounts& all) const { members_.waits(all); }
  const Options& options() const { return options_; }
  const Members& members() const { return members_; }

 private:
  /// Each thread looks around for what is old at every so manieth batch.
  static constexpr std::uint32_t kTakesToLookAround = 61;

  bool push_awaited(const Packet& packet, Consumer* from);
  void queue_ready(const ReadyKey& entry, Consumer* target, Consumer* from);
  void queue_ready_anew(const ReadyKey& entry);
  void queue_strays(Consumer& consumer);
  void queue_messages(const HeldConsumer& of, Consumer& caller);
  bool queue_message(Packet packet, const HeldConsumer& of, Consumer& caller);
  std::uint32_t queue_all(Packet packet, const std::uint32_t* keys, std::uint32_t count,
                          Consumer& from);
  void settle_credit(Consumer& consumer, bool all);

  /// Where the next packet of a batch comes from.
  enum class Source : std::uint8_t { kNone, kOwn, kRun, kShared };
  std::size_t share(const Consumer& consumer, std::size_t max) const;
  std::size_t fill(const HeldConsumer& consumer, std::size_t max);
  Source next_source(const Consumer& consumer, std::size_t left) const;
  std::size_t take_ready(const HeldConsumer& consumer, Source source, std::size_t room);
  bool take_place(Consumer& consumer);
  void give_back_place(Consumer& consumer);

  std::size_t steal(const HeldConsumer& thief, std::size_t max);
  std::size_t portion(const Consumer& thief, const Consumer& victim, std::size_t ready) const;
  std::size_t steal_ready(const HeldConsumer& thief, Consumer& victim, std::size_t max);
  std::size_t steal_surplus(const HeldConsumer& thief, Consumer& victim, std::size_t max);
  std::size_t relieve_oldest(const HeldConsumer& consumer, std::size_t max);
  void expose_messages(Consumer& other, Consumer& caller);

  bool anything_ready(const Consumer* self);
  void wake_if_idle();
  void wake_if_ready(Consumer* self = nullptr);
  void wake_one(Consumer* self = nullptr);
  void wake(Consumer& consumer);
  void wake_owner(Consumer& consumer, Consumer* from);
  void wake_for_place();
  void end_search(Consumer& consumer);

  const Options options_;
  Keys keys_;
  Members members_;
  std::atomic<bool> closed_{false};
  std::atomic<std::uint64_t> taken_back_{0};

  /// From whoever is no thread of this port, and from threads that have left.
  alignas(64) SharedRunQueue shared_;

  RunningThreads running_;
  Waiters waiters_;
  std::atomic<std::uint64_t> wake_ups_{0};

  alignas(64) Room room_;
};

}  // namespace cp
