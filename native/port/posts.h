// What one thread posts: its ring, how far that was written and read, and the room that is set
// aside for it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "port/buffer_pool.h"
#include "port/packet.h"
#include "port/post_ring.h"
#include "port/shared_word.h"
#include "system/switch_point.h"

namespace cp {

/// The thread writes without a lock; what is not const is for whoever has its consumer's.
class Posts {
 public:
  /// A thread comes, which is to release memory as `owner`. Null: it posts otherwise.
  void begin(PostRing* ring, std::uint32_t owner) {
    ring_ = ring;
    owner_ = owner;
    std::atomic_ref<std::uint32_t>(tail_).store(0);
    head_.store(0);
    secured_ = 0;
    seen_head_ = 0;
  }
  /// It leaves: the room that is not used.
  std::uint32_t end() {
    ring_ = nullptr;
    return std::exchange(room_, 0);
  }

  /// Messages in the ring that nobody has taken.
  std::uint32_t unread() const {
    return std::atomic_ref<std::uint32_t>(tail_).load() - head_.load();
  }
  /// What lib/thread/posts.ts does to post: `Dispatcher::tell_idle` is next.
  void write(std::uint32_t key, double value) const {
    const std::atomic_ref<std::uint32_t> tail(tail_);
    const std::uint32_t at = tail.load(std::memory_order_relaxed);
    PostRing::Post& post = ring_->posts[at % PostRing::kCapacity];
    post.key = key;
    post.bytes = 0;
    post.value = value;
    system::switch_point();
    tail.store(at + 1);
    system::switch_point();
  }
  /// The same of bytes: `bytes` as that of PostRing::Post.
  void write(std::uint32_t key, std::uint32_t bytes, Place place) const {
    const std::atomic_ref<std::uint32_t> tail(tail_);
    const std::uint32_t at = tail.load(std::memory_order_relaxed);
    PostRing::Post& post = ring_->posts[at % PostRing::kCapacity];
    post.key = key;
    post.bytes = bytes;
    post.place = {place.chunk, place.offset};
    system::switch_point();
    tail.store(at + 1);
    system::switch_point();
  }
  /// Messages written so far, modulo 2^32. Not in the ring, whose memory goes with the thread:
  /// others look here without a lock. Stored sequentially consistent, after the message, by the
  /// thread's language, which keeps it as well.
  const SharedWordKeeper& tail_keeper() const { return tail_keeper_; }

  /// Messages that are accepted ones and not taken.
  std::uint32_t accepted() { return ring_ == nullptr ? 0 : std::min(unread(), room_); }
  /// The same, to be taken out. Those without room are skipped: only a writer that breaks the
  /// protocol has any.
  std::uint32_t acceptable() {
    if (ring_ == nullptr) return 0;
    const std::uint32_t count = unread();
    if (count > 0 && room_ == 0) head_.fetch_add(count);
    return std::min(count, room_);
  }
  /// The bytes of the next `count` of those are held by the messages from here on: until now they
  /// were by the thread that has written them, which may let go of them only after this. Comes
  /// before `packet` and `drop`.
  void secure(std::uint32_t count);
  /// The `i`th of those, secured, with the hold of its bytes.
  Packet packet(std::uint32_t i) const;
  /// Nobody takes the `i`th.
  void drop(std::uint32_t i) const;
  /// So many were taken.
  void advance(std::uint32_t count) {
    room_ -= count;
    head_.fetch_add(CP_PLANTED("a message stays in the ring") ? count - 1 : count);
  }

  /// For messages that are still to be written: those that were lie in the ring, too.
  std::uint32_t places() const { return PostRing::kCapacity - room_; }
  void add_room(std::uint32_t count) { room_ += count; }
  std::uint32_t take_unused_room() {
    const std::uint32_t unused = room_ - std::min(room_, unread());
    room_ -= unused;
    return unused;
  }

  /// Whether nobody has taken any since this was asked last.
  bool stood_still() {
    const std::uint32_t head = head_.load(std::memory_order_relaxed);
    return std::exchange(seen_head_, head) == head;
  }

 private:
  PostRing::Post& post(std::uint32_t at) const { return ring_->posts[at % PostRing::kCapacity]; }
  std::uint32_t hold_run(std::uint32_t at, std::uint32_t end) const;

  PostRing* ring_ = nullptr;
  std::uint32_t owner_ = 0;
  std::atomic<std::uint32_t> head_{0};  ///< messages taken so far, modulo 2^32
  std::uint32_t room_ = 0;              ///< for messages that were not taken yet
  std::uint32_t secured_ = 0;           ///< messages before this one hold their bytes
  std::uint32_t seen_head_ = 0;
  const SharedWordKeeper tail_keeper_ = std::make_shared<SharedWord>();
  std::uint32_t& tail_ = tail_keeper_->value;
};

}  // namespace cp
