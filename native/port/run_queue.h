// Keys whose packets are ready, in the order those were queued.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "port/packet_queue.h"
#include "system/spin_lock.h"

namespace cp {

struct Cell;

/// An entry of a run queue. It counts among `cell->entries` until whoever took it out has looked
/// there.
struct ReadyKey {
  Cell* cell = nullptr;
  std::int64_t queued_at = 0;  ///< of its first packet
};

/// Guarded by the lock of whoever it belongs to; `size` and `oldest` can be read without.
class RunQueue {
 public:
  std::uint32_t size() const { return size_.load(std::memory_order_relaxed); }
  bool empty() const { return size() == 0; }
  /// When its first packet was queued; meaningless while empty.
  std::int64_t oldest() const { return oldest_.load(std::memory_order_relaxed); }

  void push_back(const ReadyKey& entry) {
    entries_.push_back(entry);
    publish();
  }
  void push_front(const ReadyKey& entry) {
    entries_.push_front(entry);
    publish();
  }
  ReadyKey pop_front() {
    const ReadyKey entry = entries_.front();
    entries_.pop_front();
    publish();
    return entry;
  }

 private:
  void publish() {
    size_.store(static_cast<std::uint32_t>(entries_.size()), std::memory_order_relaxed);
    if (!entries_.empty()) oldest_.store(entries_.front().queued_at, std::memory_order_relaxed);
  }

  GrowingRing<ReadyKey> entries_;
  std::atomic<std::uint32_t> size_{0};
  std::atomic<std::int64_t> oldest_{0};
};

/// One that several threads queue to and take from. Its lock is a leaf.
class SharedRunQueue {
 public:
  std::uint32_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  std::int64_t oldest() const { return entries_.oldest(); }

  void push_back(const ReadyKey& entry) {
    std::lock_guard lock(lock_);
    entries_.push_back(entry);
  }
  /// In their order.
  void push_front(const std::vector<ReadyKey>& entries) {
    std::lock_guard lock(lock_);
    for (auto it = entries.rbegin(); it != entries.rend(); ++it) entries_.push_front(*it);
  }
  /// False when there is none.
  bool pop_front(ReadyKey& out) {
    std::lock_guard lock(lock_);
    if (entries_.empty()) return false;
    out = entries_.pop_front();
    return true;
  }

 private:
  SpinLock lock_;
  RunQueue entries_;
};

}  // namespace cp
