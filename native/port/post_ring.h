// Messages on their way from one thread to those that take packets, without a lock or a call: the
// thread writes them here, and it or whoever has nothing to do takes them out
// (Dispatcher::drain_ring).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cp {

/// One writer, in the thread's language; read under its consumer's lock. It can't overflow: the
/// writer has room set aside for each message first (Dispatcher::reserve), never more than fits.
struct PostRing {
  static constexpr std::uint32_t kCapacity = 4096;

  struct Post {
    std::uint32_t key;
    std::uint32_t reserved;
    double value;
  };

  Post posts[kCapacity];
};
static_assert(sizeof(PostRing::Post) == 16 && offsetof(PostRing::Post, value) == 8);

}  // namespace cp
