#include "stage/trace.h"

#include <cstring>
#include <iterator>

#include "driver/driver.h"
#include "port/memory.h"

namespace cp::stage {
namespace {

constexpr std::uint32_t kIndex = 0xfffff;
/// Where 32 bits have no more numbers, this one follows, which counts as much as 0 in a check.
constexpr std::uint32_t kHalf = 1u << 31;
/// Odd ones: the check is another one whenever a single word is.
constexpr std::uint32_t kFactors[] = {0xc2b2ae35, 0x27d4eb2f, 0x165667b1, 0xd3a2646d, 0xfd7046c5};
static_assert(offsetof(TraceEntry, check) == sizeof kFactors);

/// lib/stage/record/trace.ts has the same.
std::uint32_t check_of(const TraceEntry& entry, std::uint32_t key, std::uint32_t number) {
  std::uint32_t words[std::size(kFactors)];
  std::memcpy(words, &entry, sizeof words);
  std::uint32_t check = key * 0x9e3779b1 + (number & (kHalf - 1)) * 0x85ebca6b;
  for (std::size_t i = 0; i < std::size(words); ++i) check += words[i] * kFactors[i];
  return check;
}

}  // namespace

std::unique_ptr<Trace> Trace::make(std::size_t limit, std::uint32_t slots) {
  const std::size_t stride = sizeof(TraceHeader) + slots * sizeof(TraceEntry);
  auto* memory = static_cast<std::uint8_t*>(reserve_memory(limit * stride));
  if (memory == nullptr) return nullptr;
  return std::unique_ptr<Trace>(new Trace(memory, limit, slots));
}

Trace::Trace(std::uint8_t* memory, std::size_t limit, std::uint32_t slots)
    : memory_(memory),
      limit_(limit),
      slots_(slots),
      stride_(sizeof(TraceHeader) + slots * sizeof(TraceEntry)) {}

Trace::~Trace() { free_memory(memory_, size()); }

TraceHeader& Trace::header(std::uint32_t key) const {
  return *reinterpret_cast<TraceHeader*>(memory_ + (key & kIndex) * stride_);
}

/// What is left of another connection has a check that does not fit.
void Trace::begin(std::uint32_t key) {
  TraceHeader& header = this->header(key);
  header.count.store(0, std::memory_order_relaxed);
  header.key.store(key, std::memory_order_release);
}

/// The memory is JavaScript's to write: whatever `count` says, the place is one of the ring's.
void Trace::write(std::uint32_t key, TraceEntry entry) {
  TraceHeader& header = this->header(key);
  const std::uint32_t count = header.count.load(std::memory_order_relaxed);
  entry.time = driver::milliseconds();
  entry.check = check_of(entry, key, count);
  auto* entries = reinterpret_cast<TraceEntry*>(&header + 1);
  std::memcpy(&entries[count & (slots_ - 1)], &entry, sizeof entry);
  const std::uint32_t next = count == UINT32_MAX ? kHalf : count + 1;
  header.count.store(next, std::memory_order_relaxed);
}

}  // namespace cp::stage
