// Messages on their way from one thread to the dispatcher, without a lock or a call: the thread
// writes them here, and whoever takes packets gathers them (Dispatcher::gather).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cp {

/// One writer, in the thread's language; read under the dispatcher's mutex. It can't overflow: the
/// writer has room set aside for each message first (Dispatcher::reserve), never more than fits.
struct PostRing {
  static constexpr std::uint32_t kCapacity = 512;

  struct Post {
    std::uint32_t key;
    std::uint32_t reserved;
    double value;
  };

  /// Messages written so far, modulo 2^32. Stored sequentially consistent, after the message: it is
  /// visible from then on, and only then may the writer look whether a thread waits
  /// (Dispatcher::idle).
  std::uint32_t tail;
  std::uint32_t padding[15];
  Post posts[kCapacity];

  /// What lib/lane.ts does.
  void write(std::uint32_t key, double value) {
    const std::atomic_ref<std::uint32_t> end(tail);
    const std::uint32_t at = end.load(std::memory_order_relaxed);
    posts[at % kCapacity] = {key, 0, value};
    end.store(at + 1);
  }
};
static_assert(sizeof(PostRing::Post) == 16 && offsetof(PostRing::Post, value) == 8);
static_assert(offsetof(PostRing, posts) == 64);

}  // namespace cp
