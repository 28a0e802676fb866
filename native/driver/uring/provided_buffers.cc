#include "driver/uring/provided_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace cp::driver::uring {
namespace {
constexpr std::size_t kRingSize = ProvidedBuffers::kEntries * sizeof(BufferEntry);
}

Result ProvidedBuffers::open(const Ring& ring) {
  void* memory = mmap(nullptr, kRingSize, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return -errno;
  ring_ = static_cast<BufferEntry*>(memory);
  madvise(ring_, kRingSize, MADV_DONTFORK);
  BufferRingRegistration registration{};
  registration.ring_address = address_of(ring_);
  registration.ring_entries = kEntries;
  registration.group = kGroup;
  if (register_(ring.fd(), kRegisterBufferRing, &registration, 1) < 0) return -errno;
  buffers_.resize(kEntries);
  for (std::uint32_t id = kEntries; id-- > 0;) free_ids_.push_back(static_cast<std::uint16_t>(id));
  return 0;
}

ProvidedBuffers::~ProvidedBuffers() {
  for (const Buffer& buffer : buffers_) {
    if (buffer.data != nullptr) source_.give_back(buffer);
  }
  if (ring_ != nullptr) munmap(ring_, kRingSize);
}

Buffer ProvidedBuffers::take_out(std::uint16_t id) {
  const Buffer buffer = buffers_[id];
  buffers_[id] = Buffer{};
  free_ids_.push_back(id);
  --lent_;
  return buffer;
}

Buffer ProvidedBuffers::taken(std::uint16_t id) {
  used_ = true;
  return take_out(id);
}

void ProvidedBuffers::wake_up() {
  resting_ = false;
  most_ = kFew;
  look_at_ = now() + kQuiet;
  used_ = true;  // what it woke up for may take its time
  lend();
}

bool ProvidedBuffers::top_up(bool at_once) {
  if (resting_) {
    if (at_once) wake_up();
    return lent_ > 0;
  }
  // Asking what the share is now means looking at what every other thread has.
  if (!at_once && lent_ * 2 > target_) return lent_ > 0;
  if (used_) most_ = std::min(kEntries, most_ * (at_once ? 4 : 2));
  lend();
  return lent_ > 0;
}

void ProvidedBuffers::lend() {
  target_ = std::min(most_, source_.allowance(lent_));
  const std::uint16_t before = tail_;
  while (lent_ < target_) {
    Buffer buffer;
    if (!source_.take(buffer)) break;
    const std::uint16_t id = free_ids_.back();
    free_ids_.pop_back();
    buffers_[id] = buffer;
    BufferEntry& entry = ring_[tail_ & (kEntries - 1)];
    entry.address = address_of(buffer.data);
    entry.length = buffer.size;
    entry.id = id;  // `reserved` stays: of the first entry it is the ring's tail
    ++tail_;
    ++lent_;
  }
  if (tail_ != before) {
    std::atomic_ref<std::uint16_t>(ring_[0].reserved).store(tail_, std::memory_order_release);
  }
}

std::uint32_t ProvidedBuffers::look(Deadline now) {
  if (now < look_at_) return 0;
  look_at_ = now + kQuiet;
  const bool quiet = !used_;
  used_ = false;
  if (!quiet) return 0;
  resting_ = true;
  return lent_;
}

}  // namespace cp::driver::uring
