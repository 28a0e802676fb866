// How many threads run packets, and how many may at one time (rule D3).
#pragma once

#include <atomic>
#include <cstdint>

#include "port/consumer.h"
#include "system/switch_point.h"

namespace cp {

/// A thread keeps its place from batch to batch as long as it finds packets. Each changes its own
/// `has_place` alone.
class RunningThreads {
 public:
  explicit RunningThreads(std::uint32_t limit) : limit_(limit) {}
  RunningThreads(const RunningThreads&) = delete;
  RunningThreads& operator=(const RunningThreads&) = delete;

  std::uint32_t count() const { return count_.load(); }
  bool full() const { return count() >= limit_; }
  bool may_run(const Consumer& consumer) const { return consumer.has_place || !full(); }
  /// About.
  std::uint32_t free_places() const {
    const std::uint32_t count = count_.load(std::memory_order_relaxed);
    return limit_ > count ? limit_ - count : 0;
  }

  enum class Place : std::uint8_t {
    kNone,
    kHas,   ///< it had one already, or others are free
    kLast,  ///< the last there was: nobody is to be called any more
  };
  /// One above the limit, back from `blocking`, gives its place up here.
  Place take_place(Consumer& consumer) {
    if (consumer.has_place && count_.load() <= limit_) return Place::kHas;
    if (consumer.has_place) count_.fetch_sub(1);
    std::uint32_t count = count_.load();
    do {
      consumer.has_place = count < limit_ + (CP_PLANTED("one thread too many") ? 1 : 0);
      if (!consumer.has_place) return Place::kNone;
    } while (!count_.compare_exchange_weak(count, count + 1));
    return count + 1 == limit_ ? Place::kLast : Place::kHas;
  }

  /// True where a place is free now that there was none before.
  bool give_back_place(Consumer& consumer) {
    if (!consumer.has_place) return false;
    consumer.has_place = false;
    return count_.fetch_sub(1) >= limit_;
  }

  /// As on Windows the limit is exceeded until the threads above it come for their next batch.
  void run_on(Consumer& consumer) {
    consumer.has_place = true;
    count_.fetch_add(1);
  }

 private:
  const std::uint32_t limit_;
  alignas(64) std::atomic<std::uint32_t> count_{0};
};

}  // namespace cp
