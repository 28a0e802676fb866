// Looking for a moment before going to sleep: what a thread that blocks in `get` does, so that a
// message posted meanwhile costs no system call on either side.
#pragma once

#include <algorithm>
#include <cstdint>

#include "system/relax.h"

namespace cp {

/// Whether to look before the next sleep. Where looking does not pay, seldom: it goes on as long as
/// one attempt in three is met with a packet, and falls to one sleep in 128 otherwise, so that it
/// costs a thread whose packets come rarely next to nothing.
class SpinHistory {
 public:
  bool worth_it() {
    if (skip_ == 0) return true;
    --skip_;
    return false;
  }

  void tell(bool paid) {
    misses_ = paid ? misses_ - std::min(misses_, 2u) : std::min(misses_ + 1, kMostMisses);
    skip_ = (1u << misses_) - 1;
  }

 private:
  static constexpr std::uint32_t kMostMisses = 7;
  std::uint32_t misses_ = 0;
  std::uint32_t skip_ = 0;
};

}  // namespace cp
