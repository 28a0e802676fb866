// Pool memory registered with a ring, so that O_DIRECT transfers need not pin its pages each time
// (IORING_REGISTER_BUFFERS2 with a sparse table, 5.13 and 5.19).
#pragma once

#include <cstdint>
#include <unordered_map>

#include "driver/driver.h"
#include "driver/uring/ring.h"

namespace cp::driver::uring {

class RegisteredChunks {
 public:
  RegisteredChunks(const Ring& ring, BufferSource& source) : ring_(ring), source_(source) {}

  /// The index to use for memory in `chunk`, registering it at first use; -1: go without. ENOMEM
  /// (the memlock limit) ends registering for this lane, and is no error (rule P3).
  int index_of(std::uint32_t chunk);

 private:
  static constexpr std::uint32_t kSlots = 64;
  int add(std::uint32_t chunk);

  const Ring& ring_;
  BufferSource& source_;
  std::unordered_map<std::uint32_t, int> indices_;
  std::uint32_t used_ = 0;
  bool off_ = false;
};

}  // namespace cp::driver::uring
