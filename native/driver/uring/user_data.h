// What names an operation, or an entry of the lane's own, in the ring.
#pragma once

#include <cstdint>

#include "driver/operation.h"

namespace cp::driver::uring {

/// Entries that are not operations; no operation lies at such an address.
enum Tag : std::uint64_t {
  kTagWake = 1,
  kTagTimeout = 2,
  kTagIgnored = 3,
  kTagDrawn = 4,
  kTagLimit = 64
};

/// Address and generation in one word: user space ends below 2^47. A cancel that is queued when its
/// target completes can then not hit a later life of the same object.
inline std::uint64_t user_data(const Operation* operation) {
  return reinterpret_cast<std::uint64_t>(operation) |
         static_cast<std::uint64_t>(operation->lane_generation) << 48;
}
inline Operation* operation_of(std::uint64_t word) {
  return reinterpret_cast<Operation*>(word & ((1ull << 48) - 1));
}

}  // namespace cp::driver::uring
