#include "port/members.h"

namespace cp {

bool Members::add(Consumer& consumer) {
  const Lock held = lock();
  consumer.dice += 977 * places();
  return insert(consumer);
}

bool Members::insert(Consumer& consumer) {
  const std::uint32_t used = places_.load(std::memory_order_relaxed);
  std::uint32_t i = 0;
  while (i < used && at(i) != nullptr) ++i;
  if (i == blocks_.size() * kBlock) return false;
  if (blocks_[i / kBlock].load() == nullptr) blocks_[i / kBlock].store(new Block);
  blocks_[i / kBlock].load()->places[i % kBlock].store(&consumer, std::memory_order_release);
  if (i == used) places_.store(used + 1, std::memory_order_release);
  count_.fetch_add(1);
  return true;
}

void Members::remove(Consumer& consumer) {
  const Lock held = lock();
  erase(consumer);
  left_steals_.fetch_add(consumer.steals.value());
  left_batches_.fetch_add(consumer.batches.value());
}

void Members::erase(Consumer& consumer) {
  for (std::uint32_t i = 0; i < places(); ++i) {
    if (at(i) != &consumer) continue;
    blocks_[i / kBlock].load()->places[i % kBlock].store(nullptr);
    count_.fetch_sub(1);
    return;
  }
}

void Members::take_over_waits(Consumer& left) {
  const Lock held = lock();
  left_waits_.take_over(left.waits);
}

std::uint64_t Members::steals() const {
  std::uint64_t sum = 0;
  for_each([&](const Consumer& consumer) { sum += consumer.steals.value(); });
  return sum + left_steals_.load();
}

std::uint64_t Members::batches() const {
  std::uint64_t sum = 0;
  for_each([&](const Consumer& consumer) { sum += consumer.batches.value(); });
  return sum + left_batches_.load();
}

void Members::waits(HistogramCounts& all) const {
  for_each([&](const Consumer& consumer) { consumer.waits.add_to(all); });
  left_waits_.add_to(all);
}

}  // namespace cp
