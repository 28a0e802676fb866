// The packets that any thread may take, in the order of the port.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "port/packet.h"
#include "port/packet_queue.h"

namespace cp {

/// Two queues, each in the order of the sequence numbers, read as one. Messages lie in a quarter of
/// the memory of a packet: tens of thousands of them may wait, written by one CPU and read by
/// another, and moving that memory is what a message costs most. Not thread-safe: the dispatcher's
/// mutex guards it.
class OpenQueue {
 public:
  bool empty() const { return packets_.empty() && posts_.empty(); }
  std::size_t size() const { return packets_.size() + posts_.size(); }
  /// Of the first packet; the queue must not be empty.
  std::uint64_t front_sequence() const {
    return post_is_first() ? posts_.front().sequence : packets_.front().sequence;
  }

  /// `packet` is younger than all that was pushed before.
  void push_back(const Packet& packet) {
    if (packet.kind == PacketKind::kPosted) {
      push_post(packet.key, packet.result, packet.sequence, packet.queued_at);
    } else {
      packets_.push_back(packet);
    }
  }

  /// The same for what is nothing but a message.
  void push_post(std::uint32_t key, double value, std::uint64_t sequence, std::uint32_t queued_at) {
    posts_.push_back({sequence, value, key, queued_at});
  }

  /// To its place, before all that is younger.
  void put_back(const Packet& packet) { packets_.put_back(packet); }

  /// Takes the first packet out.
  void pop_front(Packet& out) {
    if (!post_is_first()) {
      out = packets_.front();
      packets_.pop_front();
      return;
    }
    const Post& post = posts_.front();
    out = Packet{};
    out.kind = PacketKind::kPosted;
    out.key = post.key;
    out.result = post.value;
    out.sequence = post.sequence;
    out.queued_at = post.queued_at;
    posts_.pop_front();
  }

  /// Moves the packets that are about `handle` to `out`, in order; the others keep theirs. Messages
  /// are about none.
  void extract_handle(HandleId handle, std::vector<Packet>& out) {
    packets_.extract([handle](const Packet& p) { return p.handle == handle; }, out);
  }

  /// Moves all to `out`.
  void drain(std::vector<Packet>& out) {
    while (!empty()) pop_front(out.emplace_back());
  }

 private:
  /// What `post` says, and nothing else: a message that has a target, or had been taken before, is
  /// kept as a packet.
  struct Post {
    std::uint64_t sequence;
    double value;
    std::uint32_t key;
    std::uint32_t queued_at;
  };

  bool post_is_first() const {
    if (posts_.empty()) return false;
    return packets_.empty() || posts_.front().sequence < packets_.front().sequence;
  }

  PacketQueue packets_;
  GrowingRing<Post> posts_;
};

}  // namespace cp
