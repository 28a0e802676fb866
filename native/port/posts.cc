#include "port/posts.h"

#include <algorithm>

namespace cp {
namespace {

/// What was to be held was not there, which the library does not write: the message has no bytes.
constexpr std::uint32_t kLost = PostRing::kHasBytes;

bool has_bytes(const PostRing::Post& post) {
  return (post.bytes & PostRing::kHasBytes) != 0 && (post.bytes & PostRing::kLength) != 0;
}

Place place_of(const PostRing::Post& post) { return {post.place.chunk, post.place.start}; }

}  // namespace

/// By numbers that wrap around. `head_` is past what was secured where messages without room were
/// skipped.
void Posts::secure(std::uint32_t count) {
  const std::uint32_t head = head_.load(std::memory_order_relaxed);
  if (static_cast<std::int32_t>(secured_ - head) < 0) secured_ = head;
  const std::uint32_t end = head + count;
  while (static_cast<std::int32_t>(end - secured_) > 0) {
    secured_ += has_bytes(post(secured_)) ? hold_run(secured_, end) : 1;
  }
}

/// Messages in a row often lie in one block: those are held together. How many they are.
std::uint32_t Posts::hold_run(std::uint32_t at, std::uint32_t end) const {
  PostRing::Post& first = post(at);
  const Place place = place_of(first);
  if ((first.bytes & PostRing::kOwnBlock) != 0) {
    if (!BufferPool::share(place, owner_)) first.bytes = kLost;
    return 1;
  }
  std::uint32_t count = 1;
  std::uint64_t farthest = std::uint64_t{place.offset} + (first.bytes & PostRing::kLength);
  std::uint32_t nearest = place.offset;
  for (; at + count != end; ++count) {
    const PostRing::Post& next = post(at + count);
    if (!has_bytes(next) || (next.bytes & PostRing::kOwnBlock) != 0) break;
    if (!BufferPool::same_block(place, place_of(next))) break;
    const std::uint64_t length = next.bytes & PostRing::kLength;
    farthest = std::max(farthest, next.place.start + length);
    nearest = std::min(nearest, next.place.start);
  }
  if (BufferPool::hold({place.chunk, nearest}, farthest - nearest, count)) return count;
  for (std::uint32_t i = 0; i < count; ++i) post(at + i).bytes = kLost;
  return count;
}

Packet Posts::packet(std::uint32_t i) const {
  const PostRing::Post& from = post(head_.load(std::memory_order_relaxed) + i);
  Packet packet;
  packet.key = from.key;
  if ((from.bytes & PostRing::kHasBytes) == 0) {
    packet.kind = PacketKind::kPosted;
    packet.result = from.value;
    return packet;
  }
  packet.kind = PacketKind::kMessage;
  packet.token = (from.bytes >> PostRing::kFormShift) & 3;
  packet.result = from.bytes & PostRing::kLength;
  if (has_bytes(from)) packet.chunk = from.place.chunk, packet.offset = from.place.start;
  return packet;
}

void Posts::drop(std::uint32_t i) const {
  const PostRing::Post& dropped = post(head_.load(std::memory_order_relaxed) + i);
  if (has_bytes(dropped)) BufferPool::let_go(place_of(dropped));
}

}  // namespace cp
