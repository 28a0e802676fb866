#include "port/unique_keys.h"

#include <atomic>
#include <bitset>
#include <memory>

#include "port/handle.h"
#include "system/per_thread.h"

namespace cp {
namespace {

constexpr std::uint32_t kFirstKey = 1u << 31;

std::atomic<std::uint64_t> next_range{0};

/// Each thread gives keys of a range of its own: accepting connections writes to no memory that
/// another thread writes to. What a thread leaves of its range waits for the next time round.
/// `taken` is there from the second time round on.
struct Range {
  std::uint32_t next = 0;
  std::uint32_t end = 0;
  std::bitset<kKeysInRange>* taken = nullptr;
};
CP_PER_THREAD(Range, range)

/// Keys of handles that are open, when the numbers have been used before. A look at all handles for
/// thousands of keys, without their mutexes: whoever accepts a connection holds that of its
/// listener. One that is made, or handed on, while this looks has a key of another range, or one
/// that its program has chosen.
void find_taken(std::uint32_t first) {
  auto taken = std::make_unique<std::bitset<kKeysInRange>>();
  HandleTable::instance().for_each([&](Handle& handle) {
    const std::uint32_t index = handle.key.load(std::memory_order_relaxed) - first;
    if (index < kKeysInRange && handle.port.load() != nullptr) taken->set(index);
  });
  delete range().taken;
  range().taken = taken->any() ? taken.release() : nullptr;
}

void next_keys() {
  const std::uint64_t number = next_range.fetch_add(1);
  range().next = kFirstKey + static_cast<std::uint32_t>(number % kKeyRanges) * kKeysInRange;
  range().end = range().next + kKeysInRange;
  if (number >= kKeyRanges) find_taken(range().next);
}

}  // namespace

std::uint32_t unique_key() {
  for (;;) {
    if (range().next == range().end) next_keys();
    const std::uint32_t key = range().next++;
    if (range().taken == nullptr || !range().taken->test(key % kKeysInRange)) return key;
  }
}

void skip_key_ranges(std::uint32_t ranges) {
  next_range.fetch_add(ranges);
  range().next = range().end;
}

}  // namespace cp
