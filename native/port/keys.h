// Keys, and the packets that wait for them: a key is acquired with the first of its packets that a
// thread takes, and released with the last that it is done with (rules D7, D8).
//
// Entries of run queues are returned, for the caller to queue. Where it is a thread that has its
// own record locked, they go into its run queue, or among its strays where they are for another.
// A consumer's lock is outside of a stripe's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "port/consumer.h"
#include "port/key_cells.h"
#include "port/members.h"
#include "port/packet.h"
#include "port/run_queue.h"

namespace cp {

class Keys {
 public:
  /// `threads`: that may run at one time. `serialized`: no two threads hold packets of one key.
  Keys(std::uint32_t threads, bool serialized) : cells_(threads), serialized_(serialized) {}
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  // ---- queueing

  struct Queued {
    bool refused = false;  ///< nothing is queued any more
    bool ready = false;    ///< the entry is to be queued; else the key's release does that
    ReadyKey entry;
    Consumer* target = nullptr;  ///< the only thread that may take it; null: any
  };
  /// A packet whose key another thread than `from` holds waits for that. Any other one has an entry
  /// of its own, also behind others of its key, so that one thread alone takes the packets of all
  /// keys as they came.
  Queued queue(const Packet& packet, const Consumer* from) {
    const HeldStripe stripe(cells_, packet.key);
    if (drained_.load()) return {true};  // `drain` has passed here, or comes after this
    Cell& cell = stripe.find_or_make(packet.key);
    stripe.queue(cell, packet);
    if (cell.holder != nullptr && (cell.holder != from || cell.kept)) return {};
    ++cell.entries;
    Consumer* target =
        packet.target != nullptr && !packet.target->gone() ? packet.target : cell.pinned;
    return {false, true, {&cell, packet.queued_at}, target};
  }
  /// The only thread that may take what an entry stands for; null: any.
  Consumer* target(const ReadyKey& entry);

  // ---- taking

  /// Comes for one entry: takes what that stands for, and all where it is the last one; `room` at
  /// most. 0 when another thread holds the key, or was faster.
  std::size_t take(const HeldConsumer& consumer, Cell& cell, std::size_t room);
  /// One packet of each entry at least.
  std::size_t take_all(const HeldConsumer& consumer, const ReadyKey* entries, std::size_t count,
                       std::size_t room);
  /// Messages straight from the ring of `from`, in order; those that are not the next of their key
  /// go into its queue. How many were taken.
  std::size_t take_messages(const HeldConsumer& consumer, const HeldConsumer& from,
                            std::size_t most);

  // ---- releasing

  /// The batch ends: what the thread has not begun goes to the front of its run queue, and all keys
  /// are free but those that it keeps.
  void release_batch(const HeldConsumer& consumer);
  /// A key that was kept beyond its batch.
  void release_kept(const HeldConsumer& consumer, std::uint32_t key);
  /// Packets the thread has not begun go back to the queue of their keys; those keys it has not
  /// begun at all are free. `back`: an entry for each packet that any thread may take, in order.
  void give_back_unclaimed(const HeldConsumer& consumer, std::vector<ReadyKey>& back);

  /// From now on packets of `key`, which the consumer holds, are for it alone. Only where keys are
  /// serialized.
  void pin(Consumer& consumer, std::uint32_t key, HandleId handle);
  void unpin(Consumer& consumer, std::uint32_t key);

  struct Left {
    std::vector<ReadyKey> notices;  ///< of abandoned keys: in front of everything
    std::vector<ReadyKey> back;     ///< what was not begun, in order
  };
  /// The thread leaves: it holds nothing any more. See Dispatcher::remove.
  Left leave(const HeldConsumer& consumer, bool died, std::vector<Packet>& orphans);

  // ---- what another thread has taken and not begun

  /// Out of the victim's batch, `wanted` at most, from the end, where the owner comes last: how
  /// many. `out`: entries, the newest first. `credit` pays for the room that messages take again.
  std::size_t revoke(const HeldConsumer& victim, std::size_t wanted, std::vector<ReadyKey>& out,
                     std::int32_t& credit);
  /// Whether a thread has taken more than it is in the middle of, or about to begin, and another
  /// could run the rest.
  bool has_surplus(Consumer& consumer);

  // ---- hand-off, the end, counts

  /// Takes out all packets of a handle that no thread has begun, in order. An entry, where another
  /// handle has the key as well and is ready; its `cell` is null otherwise.
  ReadyKey extract(HandleId handle, std::uint32_t key, const Members& members,
                   std::vector<Packet>& out);

  /// All that waits. Nothing is queued from here on.
  void drain(std::vector<Packet>& orphans);
  bool drained() const { return drained_.load(); }

  /// Packets that wait; while others queue and take, about.
  std::size_t queued() const { return cells_.queued(); }
  /// Those whose key nobody holds. Looks at all keys.
  std::size_t ready();

 private:
  struct Abandoned;

  static Consumer* first_target(const HeldStripe& stripe, const Cell& cell);
  static bool take_entry(const HeldStripe& stripe, Cell& cell);
  bool take_message(const HeldConsumer& consumer, Packet packet);

  void release(const HeldConsumer& consumer, Cell& cell, std::uint32_t count);
  void keep(const HeldConsumer& consumer, std::size_t i);
  ReadyKey put_back(const Packet& packet, std::int32_t& credit);
  std::size_t revoke_key(const HeldConsumer& victim, std::size_t last, ReadyKey& out,
                         std::int32_t& credit);
  std::uint32_t held(const Cell& cell);

  void leave_batch(const HeldConsumer& consumer, bool died, Abandoned& abandoned, Left& left,
                   std::vector<Packet>& orphans);
  void leave_keys(const HeldConsumer& consumer, Abandoned& abandoned);
  ReadyKey put_notice(const Packet& notice);

  static std::size_t extract_batch(const HeldConsumer& consumer, HandleId handle, std::uint32_t key,
                                   std::vector<Packet>& out);
  static void extract_queue(const HeldStripe& stripe, Cell& cell, HandleId handle,
                            std::vector<Packet>& out);
  void extract_from_all(HandleId handle, std::uint32_t key, const Members& members,
                        std::vector<Packet>& out);

  KeyCells cells_;
  const bool serialized_;
  std::atomic<bool> drained_{false};
};

}  // namespace cp
