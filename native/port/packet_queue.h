// First in, first out, of packets, with a way back to their place for those that had left.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "port/packet.h"

namespace cp {

/// Not thread-safe: the dispatcher's mutex guards it.
template <typename T>
class GrowingRing {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  void push_back(const T& item) {
    if (size_ == ring_.size()) grow();
    ring_[(head_ + size_) & (ring_.size() - 1)] = item;
    ++size_;
  }

  void push_front(const T& item) {
    if (size_ == ring_.size()) grow();
    head_ = (head_ - 1) & (ring_.size() - 1);
    ring_[head_] = item;
    ++size_;
  }

  const T& front() const { return ring_[head_]; }

  void pop_front() {
    head_ = (head_ + 1) & (ring_.size() - 1);
    --size_;
  }

 protected:
  T& at(std::size_t i) { return ring_[(head_ + i) & (ring_.size() - 1)]; }

  void grow() {
    std::vector<T> larger(ring_.empty() ? 64 : ring_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) larger[i] = at(i);
    ring_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> ring_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

class PacketQueue : public GrowingRing<Packet> {
 public:
  /// Puts back a packet that had left: in front, but behind those with a smaller sequence.
  void put_back(const Packet& packet) {
    push_front(packet);
    for (std::size_t i = 0; i + 1 < size_ && at(i + 1).sequence < packet.sequence; ++i) {
      std::swap(at(i), at(i + 1));
    }
  }

  void pop_front(Packet& out) {
    out = front();
    GrowingRing::pop_front();
  }
  using GrowingRing::pop_front;

  /// Moves the packets that `take` accepts to `out`, in order; the others keep theirs.
  template <typename Take>
  void extract(Take take, std::vector<Packet>& out) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const Packet packet = at(i);
      if (take(packet)) {
        out.push_back(packet);
      } else {
        at(kept++) = packet;
      }
    }
    size_ = kept;
  }
};

}  // namespace cp
