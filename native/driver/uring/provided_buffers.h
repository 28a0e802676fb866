// The buffers a lane has lent to the kernel in advance, so that a receive that waits holds none
// (rule M3): IORING_REGISTER_PBUF_RING, 5.19.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/driver.h"
#include "driver/uring/ring.h"

namespace cp::driver::uring {

class ProvidedBuffers {
 public:
  static constexpr std::uint32_t kEntries = 256;
  static constexpr std::uint16_t kGroup = 0;

  explicit ProvidedBuffers(BufferSource& source) : source_(source) {}
  /// Nothing is being received by now.
  ~ProvidedBuffers();
  ProvidedBuffers(const ProvidedBuffers&) = delete;
  ProvidedBuffers& operator=(const ProvidedBuffers&) = delete;

  Result open(const Ring& ring);

  /// The buffer a completion named; it is the caller's now.
  Buffer taken(std::uint16_t id);
  void give_back(const Buffer& buffer) { source_.give_back(buffer); }

  /// Lends more when few are left. True when the kernel has any.
  bool top_up(bool at_once);

 private:
  BufferSource& source_;
  BufferEntry* ring_ = nullptr;
  std::uint16_t tail_ = 0;
  std::uint32_t lent_ = 0;
  std::uint32_t target_ = 0;     ///< how many were to be lent when that was asked last
  std::vector<Buffer> buffers_;  ///< by id
  std::vector<std::uint16_t> free_ids_;
};

}  // namespace cp::driver::uring
