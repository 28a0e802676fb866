// Threads that wait for packets: the stack of them, the one that looks before it sleeps, those that
// were woken and are on their way, and the word that tells whether anybody is to be called.
//
// Nobody sleeps over work. Work is made visible (a ring's tail, a run queue's size), then the idle
// word is read; whoever goes to sleep writes the idle word, then looks for work. Both with
// sequential consistency, so one of the two sees the other. While a thread is on its way (woken, or
// back from waiting by itself) the word says that nobody is to be called: that thread looks for all
// there is once it has stopped counting as one on its way (`end_search`).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "port/consumer.h"
#include "port/members.h"
#include "port/running_threads.h"
#include "port/shared_word.h"
#include "system/mutex.h"
#include "system/switch_point.h"

namespace cp {

/// What the idle word tells whoever has written a message into its ring.
enum Idle : std::uint32_t {
  kIdleNobody = 0,  ///< no thread waits that may take it, or one is on its way
  kIdleAsleep = 1,  ///< one sleeps: `Dispatcher::accept_posts` is to be called
  kIdleSpins = 2,   ///< one looks at this word: it is to be set to kIdleTold by compare-and-swap
  kIdleTold = 3,    ///< that thread comes for what is in the rings
};

/// Wakes nobody itself: whom it names is the caller's to wake, once no lock is held.
class Waiters {
 public:
  explicit Waiters(const RunningThreads& running) : running_(running) {}
  Waiters(const Waiters&) = delete;
  Waiters& operator=(const Waiters&) = delete;

  // ---- asked by whoever has queued something

  /// Whether one is to be called. The barrier stands between what was queued and the idle word, as
  /// the one in `has_own` stands between that and what is queued.
  bool anybody() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return std::atomic_ref<std::uint32_t>(idle_).load() != kIdleNobody;
  }
  /// The thread that waited for the shortest time, so the warmest (rule D2); it is on its way now.
  /// Null while another one is: that one looks for all there is, and calls the next if it finds
  /// something. So a burst of packets wakes threads one after the other, each by the one before,
  /// and a single packet wakes one.
  Consumer* call_next();
  /// The same also while another is on its way: for an errand, so that one has its own part to do
  /// first.
  Consumer* call_for_errand();
  /// A place is free that there was none before: those with packets of their own, which `call_next`
  /// does not look at. See `ends_sleep`.
  std::vector<Consumer*> place_is_free();
  /// No place is free any more.
  void no_place_is_free();

  /// Something was queued for this thread alone: whether it sleeps, and is to be woken. One that
  /// runs comes by itself. `sleeping` is stored before the thread looks at its own queues for the
  /// last time.
  static bool ends_sleep(Consumer& consumer) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return consumer.sleeping_.load() && consumer.sleeping_.exchange(false);
  }

  // ---- called by a thread that waits, or has

  /// On the stack. One that `spins` looks at `told` and its own `spin` before it sleeps; the one
  /// that did so before is told to sleep: what comes next is for this thread (rule D2).
  void add(Consumer& consumer, bool in_event_loop, bool wants_any, bool spins);
  /// Whether there is something for the consumer alone. It sleeps if not: whoever queues something
  /// after this has looked wakes it.
  bool has_own(Consumer& consumer) const;
  bool told() const { return std::atomic_ref<std::uint32_t>(idle_).load() == kIdleTold; }
  /// It has looked long enough. False when it was not the one that does.
  bool stop_spinning(Consumer& consumer);
  /// Off the stack, whatever woke it: it counts as one on its way until it has looked.
  void take_off(Consumer& consumer);
  /// Nobody was called for what was queued while it counted: the caller looks after that now.
  void end_search(Consumer& consumer);

  // ---- those that are late

  struct Relieved {
    bool late = false;      ///< some are not counted on any more: others are to be called
    bool expected = false;  ///< some are waited for
  };
  /// Threads that were woken for longer than `patience` nanoseconds ago and have not come, because
  /// their event loop is busy. One that is blocked in `get` comes as soon as it gets a processor.
  Relieved relieve(const Members& members, std::int64_t now, std::int64_t patience);
  /// The same for one that waits in its event loop and does not come for what its lane has. False
  /// when it does not wait there.
  bool set_aside(Consumer& consumer);

  // ---- counts, about

  /// Threads that could run a part of what this one is about to take.
  std::size_t helpers(const Consumer& consumer) const {
    const bool counts =
        consumer.state_.load(std::memory_order_relaxed) == Consumer::State::kSearching;
    const std::uint32_t there = helpers_.load(std::memory_order_relaxed) +
                                on_their_way_.load(std::memory_order_relaxed) - (counts ? 1 : 0);
    return std::min(there, running_.free_places());
  }
  /// Exactly: threads that wait for packets, not those that wait for answers of their own alone.
  std::size_t count();

  // ---- the idle word, shared with the thread's language

  std::uint32_t& idle() { return idle_; }
  const SharedWordKeeper& idle_keeper() const { return idle_keeper_; }
  /// What a writer does after it has stored its ring's tail, as lib/thread/posts.ts does; true when
  /// it is to have one called.
  bool tell_idle() {
    const std::atomic_ref<std::uint32_t> word(idle_);
    std::uint32_t idle = word.load();
    system::switch_point();
    if (idle == kIdleSpins) word.compare_exchange_strong(idle, kIdleTold);
    return idle == kIdleAsleep;
  }

 private:
  using Lock = std::lock_guard<system::Mutex>;

  Consumer* pop(const Lock& lock);
  void erase(const Lock& lock, Consumer& consumer);
  void send(const Lock& lock, Consumer& consumer);
  void publish(const Lock& lock);
  Idle idle_state() const;

  const RunningThreads& running_;
  alignas(64) system::Mutex mutex_;  ///< a leaf
  std::vector<Consumer*> stack_;     ///< the last in is the first out
  Consumer* spinner_ = nullptr;      ///< of those, the one that looks before it sleeps
  /// Stored under the mutex: threads in State::kWoken and kSearching; of the stack, those that want
  /// any packet.
  std::atomic<std::uint32_t> on_their_way_{0};
  std::atomic<std::uint32_t> helpers_{0};

  const SharedWordKeeper idle_keeper_ = std::make_shared<SharedWord>();
  std::uint32_t& idle_ = idle_keeper_->value;
};

}  // namespace cp
