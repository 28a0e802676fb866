// The project's core as a program in C++ uses it: a port, and one thread's part of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "port/port.h"
#include "port/thread.h"

namespace cp::bench {

/// Exits where it can't be made.
PortHold make_port(PortOptions options);

class Attached {
 public:
  explicit Attached(Port& port);
  ~Attached() { thread_->detach(false); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;

  Thread& thread() { return *thread_; }

  /// Shows every packet of a batch to `visit`, claiming each as the library's JavaScript does.
  template <typename Visit>
  void each(std::int64_t count, Visit visit) {
    for (std::int64_t i = 0; i < count; ++i) {
      PacketSlot& slot = slots_[i];
      std::atomic_ref<std::uint32_t> state(slot.state);
      std::uint32_t expected = kSlotReady;
      const bool mine = (slot.flags & kPacketAwaited) != 0 ||
                        state.compare_exchange_strong(expected, kSlotClaimed);
      if (!mine) continue;  // another thread was quicker
      visit(slot);
      state.store(kSlotDone, std::memory_order_release);
    }
  }

 private:
  std::unique_ptr<PacketSlot[]> slots_;
  Thread* thread_;
};

/// A request that uses `bytes` of pool memory at `place`; with `release` the memory is free again
/// after it.
Request* transfer(PacketKind kind, Place place, std::uint32_t bytes, bool release);

/// The result of an operation this thread awaits: waits for it and takes nothing else.
std::int64_t await(Attached& attached, std::uint32_t token);

}  // namespace cp::bench
