// First in, first out, of packets and other small things.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "port/packet.h"

namespace cp {

/// Not thread-safe: whoever has it guards it.
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
    constexpr std::size_t kFirst = 8;
    std::vector<T> larger(ring_.empty() ? kFirst : ring_.size() * 2);
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

/// What waits for one key: one packet as a rule, which needs no memory of its own then.
class KeyQueue {
 public:
  bool empty() const { return size_ == 0; }
  std::uint32_t size() const { return size_; }
  const Packet& front() const { return first_; }

  void push_back(const Packet& packet) {
    if (size_++ == 0) {
      first_ = packet;
      return;
    }
    rest().push_back(packet);
  }

  void push_front(const Packet& packet) {
    if (size_++ > 0) rest().push_front(first_);
    first_ = packet;
  }

  void pop_front() {
    if (--size_ == 0) return;
    first_ = rest_->front();
    rest_->pop_front();
  }

  /// As PacketQueue::extract.
  template <typename Take>
  void extract(Take take, std::vector<Packet>& out) {
    std::vector<Packet> kept;
    for (; size_ > 0; pop_front()) (take(first_) ? out : kept).push_back(first_);
    for (const Packet& packet : kept) push_back(packet);
  }

  /// Gives memory back; it must be empty.
  void shrink() { rest_.reset(); }

 private:
  PacketQueue& rest() {
    if (!rest_) rest_ = std::make_unique<PacketQueue>();
    return *rest_;
  }

  std::uint32_t size_ = 0;
  Packet first_;
  std::unique_ptr<PacketQueue> rest_;
};

}  // namespace cp
