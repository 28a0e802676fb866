// The threads of a port, and what those that have left had counted.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "port/consumer.h"
#include "port/histogram.h"
#include "system/mutex.h"

namespace cp {

/// Read by all without a lock, changed with one held.
class Members {
 public:
  using Lock = std::unique_lock<system::Mutex>;

  Members() = default;
  Members(const Members&) = delete;
  Members& operator=(const Members&) = delete;
  ~Members() {
    for (auto& block : blocks_) delete block.load();
  }

  /// While it is held threads neither come nor go: one that is chosen meanwhile is there, and one
  /// that comes later finds what was left to it before.
  Lock lock() const { return Lock(mutex_); }

  /// False when there are too many.
  bool add(Consumer& consumer);
  void remove(Consumer& consumer);
  /// The record serves the next thread, which begins with none.
  void take_over_waits(Consumer& left);

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

  // Of those that are there, and those that were.

  std::uint64_t steals() const;
  std::uint64_t batches() const;
  /// Adds how long packets have waited until they were taken.
  void waits(HistogramCounts& all) const;

 private:
  static constexpr std::uint32_t kBlock = 64;
  struct Block {
    std::atomic<Consumer*> places[kBlock] = {};
  };
  bool insert(Consumer& consumer);
  void erase(Consumer& consumer);

  mutable system::Mutex mutex_;
  std::array<std::atomic<Block*>, 256> blocks_{};
  std::atomic<std::uint32_t> places_{0};
  std::atomic<std::size_t> count_{0};
  std::atomic<std::uint64_t> left_steals_{0};  ///< of threads that have left, as are the next two
  std::atomic<std::uint64_t> left_batches_{0};
  Histogram left_waits_;  ///< written with the lock held
};

}  // namespace cp
