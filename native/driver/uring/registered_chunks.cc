#include "driver/uring/registered_chunks.h"

namespace cp::driver::uring {

int RegisteredChunks::index_of(std::uint32_t chunk) {
  if (off_ || chunk == kNoChunk) return -1;
  const auto known = indices_.find(chunk);
  if (known != indices_.end()) return known->second;
  const int index = add(chunk);
  indices_.emplace(chunk, index);
  return index;
}

int RegisteredChunks::add(std::uint32_t chunk) {
  Slice memory;
  if (used_ == kSlots || !source_.chunk(chunk, memory)) return -1;
  if (memory.length > kLargestRegistered) return -1;
  if (used_ == 0) {
    ResourceRegistration table{kSlots, kResourceSparse, 0, 0, 0};
    off_ = register_(ring_.fd(), kRegisterBuffers2, &table, sizeof table) < 0;
    if (off_) return -1;
  }
  ResourceUpdate2 update{used_, 0, address_of(&memory), 0, 1, 0};
  if (register_(ring_.fd(), kRegisterBuffersUpdate, &update, sizeof update) != 1) {
    off_ = true;
    return -1;
  }
  return static_cast<int>(used_++);
}

}  // namespace cp::driver::uring
