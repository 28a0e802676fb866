// Messages on their way from one thread to those that take packets, without a lock or a call: the
// thread writes them here, and it or whoever has nothing to do takes them out
// (Keys::take_messages).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cp {

/// One writer, in the thread's language; read under its consumer's lock. It can't overflow: the
/// writer has room set aside for each message first (Dispatcher::reserve), never more than fits.
struct PostRing {
  static constexpr std::uint32_t kCapacity = 4096;

  /// Of `bytes`: the message is that many bytes, at `chunk` and `start` of the pool.
  static constexpr std::uint32_t kHasBytes = 1u << 31;
  /// They have a block to themselves, which the writer's thread owns until the message is taken
  /// out. Else they lie in the thread's block for messages (Thread::next_message_block).
  static constexpr std::uint32_t kOwnBlock = 1u << 30;
  static constexpr std::uint32_t kFormShift = 28;  ///< two bits: see Packet::token
  static constexpr std::uint32_t kLength = (1u << kFormShift) - 1;

  struct Post {
    std::uint32_t key;
    std::uint32_t bytes;  ///< 0: it is a number
    union {
      double value;
      struct {
        std::uint32_t chunk, start;
      } place;
    };
  };

  Post posts[kCapacity];
};
static_assert(sizeof(PostRing::Post) == 16 && offsetof(PostRing::Post, bytes) == 4 &&
              offsetof(PostRing::Post, value) == 8);

}  // namespace cp
