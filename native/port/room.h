// The bound on posted messages (rule Q2): how many more may be posted, what threads have of that,
// and who asked to be told when there is some again.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "port/packet.h"
#include "system/mutex.h"
#include "system/switch_point.h"

namespace cp {

/// A thread's `credit` is the room of messages it has taken, its own until it is settled; below 0
/// where it has put some back. Only that thread changes it.
class Room {
 public:
  /// Messages a thread sets room aside for at one time.
  static constexpr std::uint32_t kAtOnce = 512;

  explicit Room(std::uint32_t limit)
      : limit_(limit),
        own_(static_cast<std::int32_t>(std::min(kAtOnce, limit / 128))),
        free_(limit) {}
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  std::uint32_t limit() const { return limit_; }
  /// But for what threads have. Below 0 by messages that are not bounded.
  std::int64_t free() const { return free_.load(); }

  /// For one message. False when there is none; one that is not `bounded` gets it all the same.
  bool take_one(bool bounded) {
    std::int64_t free = free_.load();
    do {
      if (bounded && free <= 0 && !CP_PLANTED("no limit of the queue")) return false;
    } while (!free_.compare_exchange_weak(free, free - 1));
    return true;
  }
  /// For so many, or for none of them.
  bool take(std::uint32_t count) {
    std::int64_t free = free_.load();
    do {
      if (free < static_cast<std::int64_t>(count)) return false;
    } while (!free_.compare_exchange_weak(free, free - count));
    return true;
  }
  /// Below 0: takes it, whether or not there is some.
  void give_back(std::int64_t count) { free_.fetch_add(count); }

  /// From the thread's own, else at most an eighth of what is free, so that no thread takes the
  /// last of it from the others for messages it does not post after all: how much.
  std::uint32_t set_aside(std::uint32_t wanted, std::int32_t& credit);

  /// Room for what a thread has taken is its own at first, for what it posts itself: between
  /// threads that post to each other no shared count changes. A small part of the queue at most,
  /// none while anybody waits for room, and, with `all`, none at all, before it sleeps. True when
  /// somebody may have to be told: see `answered`.
  bool settle(std::int32_t& credit, bool all) {
    const bool wanted = wanted_.load();
    if (credit == 0) return wanted;
    if (!all && !wanted && credit > 0 && credit <= own_) return false;
    const bool keeps = !all && !wanted && credit > own_;
    free_.fetch_add(credit - (keeps ? own_ : 0));
    credit = keeps ? own_ : 0;
    return wanted_.load();
  }

  /// True when there is room now; else the request waits.
  bool ask(const Packet& request);
  /// The requests that wait, once a quarter of the limit is free: a producer is not woken for each
  /// message that leaves. They wait no longer.
  std::vector<Packet> answered();
  /// The thread has left: its requests are nobody's.
  void forget(const Consumer& consumer);

 private:
  const std::uint32_t limit_;
  const std::int32_t own_;  ///< of its credit, what a thread keeps at most
  std::atomic<std::int64_t> free_;
  std::atomic<bool> wanted_{false};
  system::Mutex mutex_;  ///< a leaf
  std::vector<Packet> requests_;
};

}  // namespace cp
