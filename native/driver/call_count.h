// System calls of a lane.
#pragma once

#include <atomic>
#include <cstdint>

namespace cp::driver {

/// Counted by whoever is at work in the lane, one thread at a time; read by any thread.
class CallCount {
 public:
  void add() { count_.store(value() + 1, std::memory_order_relaxed); }
  std::uint64_t value() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> count_{0};
};

}  // namespace cp::driver
