// io_uring as a careful C program uses it: nothing between the caller and the shared memory. The
// measure for native/driver/uring, so it shares that folder's definitions and none of its code.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "driver/uring/abi.h"

namespace cp::bench {

namespace uring = driver::uring;

inline constexpr std::int64_t kForever = INT64_MAX;
/// No completion for an operation that succeeds (5.17).
inline constexpr std::uint8_t kSqeSkipSuccess = 1u << 6;

class RawRing {
 public:
  /// Exits where the kernel refuses.
  RawRing(std::uint32_t entries, std::uint32_t cq_entries);
  ~RawRing();
  RawRing(const RawRing&) = delete;
  RawRing& operator=(const RawRing&) = delete;

  /// Whether this process is granted a ring.
  static bool available();

  /// A zeroed entry; submits what is queued when there is none left.
  uring::Sqe& next() {
    while (sq_tail_ - std::atomic_ref(*sq_khead_).load(std::memory_order_acquire) == sq_entries_) {
      enter(0, kForever);
    }
    uring::Sqe& entry = sqes_[sq_tail_++ & sq_mask_];
    std::memset(static_cast<void*>(&entry), 0, sizeof entry);
    return entry;
  }

  /// Submits what is queued, and waits for `wait` completions until `deadline` (see now()).
  void enter(std::uint32_t wait, std::int64_t deadline);

  /// Shows every completion to `visit` and gives the room back to the kernel once.
  template <typename Visit>
  std::uint32_t drain(Visit visit) {
    std::uint32_t head = cq_head_;
    const std::uint32_t tail = std::atomic_ref(*cq_ktail_).load(std::memory_order_acquire);
    const std::uint32_t count = tail - head;
    for (; head != tail; ++head) visit(cqes_[head & cq_mask_]);
    cq_head_ = head;
    std::atomic_ref(*cq_khead_).store(head, std::memory_order_release);
    return count;
  }

  int fd() const { return fd_; }
  std::uint64_t system_calls() const { return system_calls_; }

 private:
  int fd_ = -1;
  int enter_fd_ = -1;
  std::uint32_t enter_flags_ = uring::kEnterGetEvents;
  std::uint8_t* rings_ = nullptr;
  std::size_t rings_size_ = 0;
  uring::Sqe* sqes_ = nullptr;
  std::uint32_t sq_entries_ = 0, sq_mask_ = 0, sq_tail_ = 0, sq_submitted_ = 0;
  std::uint32_t cq_mask_ = 0, cq_head_ = 0;
  std::uint32_t *sq_khead_ = nullptr, *sq_ktail_ = nullptr;
  std::uint32_t *cq_khead_ = nullptr, *cq_ktail_ = nullptr;
  uring::Cqe* cqes_ = nullptr;
  std::uint64_t system_calls_ = 0;
};

/// Buffers the kernel picks from when data has come. `count` is a power of two.
class ProvidedRing {
 public:
  static constexpr std::uint16_t kGroup = 0;

  ProvidedRing(RawRing& ring, std::uint32_t count, std::uint32_t size);
  ~ProvidedRing();
  ProvidedRing(const ProvidedRing&) = delete;
  ProvidedRing& operator=(const ProvidedRing&) = delete;

  std::uint8_t* data(std::uint16_t id) { return memory_ + std::size_t{id} * size_; }
  std::uint32_t count() const { return count_; }

  /// The kernel sees it with the next `publish`.
  void give_back(std::uint16_t id) {
    uring::BufferEntry& entry = entries_[tail_++ & (count_ - 1)];
    entry.address = reinterpret_cast<std::uint64_t>(data(id));
    entry.length = size_;
    entry.id = id;  // `reserved` stays: of the first entry it is the ring's tail
  }
  void publish() { std::atomic_ref(entries_[0].reserved).store(tail_, std::memory_order_release); }

 private:
  const std::uint32_t count_, size_;
  uring::BufferEntry* entries_ = nullptr;
  std::uint8_t* memory_ = nullptr;
  std::uint16_t tail_ = 0;
};

}  // namespace cp::bench
