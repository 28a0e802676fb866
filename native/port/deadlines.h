// When records, or handles, are to be looked at next. Costs by those that have a deadline, not by
// all there are.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "system/spin_lock.h"

namespace cp {

/// Heaps of indices by time, each index in one place at most; in parts with a lock each, by index:
/// those that one thread takes lie together. A time is when to look, not the deadline itself, which
/// is mostly put off before it passes: a connection that is busy leaves its entry where it is, and
/// whoever looks at it then enters it anew.
class Deadlines {
 public:
  static constexpr double kNone = std::numeric_limits<double>::infinity();

  /// For indices below `limit`; their memory is touched where they are used.
  explicit Deadlines(std::size_t limit)
      : places_(static_cast<std::uint32_t*>(std::calloc(limit, sizeof(std::uint32_t)))) {
    if (places_ == nullptr) throw std::bad_alloc();
  }

  /// `index` is to be looked at no later than at `time`. `tell` is called with the time that it has
  /// then, under the lock that `take_due` and `remove` take for it.
  template <typename Tell>
  void enter(std::uint32_t index, double time, Tell tell) {
    Part& part = part_of(index);
    std::lock_guard lock(part.lock);
    std::uint32_t& place = places_[index];
    if (place == 0) {
      part.heap.push_back({time, index});
      place = static_cast<std::uint32_t>(part.heap.size());
      rise(part, place - 1);
    } else if (time < part.heap[place - 1].time) {
      part.heap[place - 1].time = time;
      rise(part, place - 1);
    }
    tell(part.heap[place - 1].time);
    publish(part);
  }

  template <typename Tell>
  void remove(std::uint32_t index, Tell tell) {
    Part& part = part_of(index);
    std::lock_guard lock(part.lock);
    if (places_[index] == 0) return;
    take_out(part, places_[index] - 1);
    tell();
    publish(part);
  }

  /// Takes out all whose time is not after `now`, and calls `tell` with the index of each under the
  /// lock, then `look` with it without.
  template <typename Tell, typename Look>
  void take_due(double now, Tell tell, Look look) {
    std::vector<std::uint32_t> due;
    for (Part& part : parts_) {
      if (part.earliest.load() > now) continue;
      due.clear();
      {
        std::lock_guard lock(part.lock);
        while (!part.heap.empty() && part.heap.front().time <= now) {
          due.push_back(part.heap.front().index);
          take_out(part, 0);
          tell(due.back());
        }
        publish(part);
      }
      for (const std::uint32_t index : due) look(index);
    }
  }

  /// kNone: there are none. Sequentially consistent with `enter`.
  double earliest() const {
    double earliest = kNone;
    for (const Part& part : parts_) earliest = std::min(earliest, part.earliest.load());
    return earliest;
  }

 private:
  static constexpr std::size_t kParts = 16;
  static constexpr std::uint32_t kTogether = 32;

  struct Entry {
    double time;
    std::uint32_t index;
  };
  struct alignas(64) Part {
    SpinLock lock;
    std::vector<Entry> heap;
    std::atomic<double> earliest{kNone};  ///< of the heap; stored locked
  };

  Part& part_of(std::uint32_t index) { return parts_[index / kTogether % kParts]; }

  static void publish(Part& part) {
    part.earliest.store(part.heap.empty() ? kNone : part.heap.front().time);
  }
  void put(Part& part, std::size_t i, const Entry& entry) {
    part.heap[i] = entry;
    places_[entry.index] = static_cast<std::uint32_t>(i + 1);
  }
  void rise(Part& part, std::size_t i) {
    const Entry entry = part.heap[i];
    for (; i > 0 && entry.time < part.heap[(i - 1) / 2].time; i = (i - 1) / 2) {
      put(part, i, part.heap[(i - 1) / 2]);
    }
    put(part, i, entry);
  }
  void sink(Part& part, std::size_t i) {
    const Entry entry = part.heap[i];
    for (;;) {
      std::size_t child = 2 * i + 1;
      if (child >= part.heap.size()) break;
      const bool right = child + 1 < part.heap.size();
      if (right && part.heap[child + 1].time < part.heap[child].time) ++child;
      if (part.heap[child].time >= entry.time) break;
      put(part, i, part.heap[child]);
      i = child;
    }
    put(part, i, entry);
  }
  void take_out(Part& part, std::size_t i) {
    places_[part.heap[i].index] = 0;
    const Entry last = part.heap.back();
    part.heap.pop_back();
    if (i == part.heap.size()) return;
    put(part, i, last);
    rise(part, i);
    sink(part, places_[last.index] - 1);
  }

  Part parts_[kParts];
  /// By index: one more than its place in the heap of its part, 0: in none.
  struct Free {
    void operator()(std::uint32_t* places) const { std::free(places); }
  };
  const std::unique_ptr<std::uint32_t[], Free> places_;
};

}  // namespace cp
