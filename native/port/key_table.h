// Who holds which key, and what waits for it (rule D8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "port/packet_queue.h"

namespace cp {

/// An open-addressing table: it is asked twice per packet. An entry exists while its key is held or
/// has packets waiting. Not thread-safe: the dispatcher's mutex guards it.
class KeyTable {
 public:
  struct Entry {
    std::uint32_t key = 0;
    std::uint32_t held = 0;  ///< packets of this key in the holder's batch, and one if `kept`
    Consumer* holder = nullptr;
    std::unique_ptr<PacketQueue> pending;  ///< older than anything of this key in a queue
    bool used = false;
    bool kept = false;  ///< held beyond a batch: further packets wait, also for the holder
  };

  /// Null when nobody holds `key` and nothing waits for it. Valid until the next `insert`.
  Entry* find(std::uint32_t key) {
    if (count_ == 0) return nullptr;
    for (std::size_t i = slot(key);; i = next(i)) {
      if (!entries_[i].used) return nullptr;
      if (entries_[i].key == key) return &entries_[i];
    }
  }

  Entry& find_or_insert(std::uint32_t key) {
    if ((count_ + 1) * 2 > entries_.size()) grow();
    std::size_t i = slot(key);
    while (entries_[i].used) {
      if (entries_[i].key == key) return entries_[i];
      i = next(i);
    }
    entries_[i].used = true;
    entries_[i].key = key;
    ++count_;
    return entries_[i];
  }

  /// Removes an entry by moving its successors up (no tombstones).
  void erase(Entry* entry) {
    std::size_t hole = static_cast<std::size_t>(entry - entries_.data());
    entries_[hole] = Entry{};
    --count_;
    for (std::size_t i = next(hole); entries_[i].used; i = next(i)) {
      const std::size_t home = slot(entries_[i].key);
      const bool stays = hole < i ? (home > hole && home <= i) : (home > hole || home <= i);
      if (stays) continue;
      entries_[hole] = std::move(entries_[i]);
      entries_[i] = Entry{};
      hole = i;
    }
  }

  std::size_t size() const { return count_; }

  template <typename Visit>
  void for_each(Visit visit) {
    for (Entry& entry : entries_) {
      if (entry.used) visit(entry);
    }
  }

 private:
  std::size_t slot(std::uint32_t key) const {
    return (key * 0x9e3779b1u) >> shift_;  // Fibonacci hashing: unique keys are consecutive
  }
  std::size_t next(std::size_t i) const { return (i + 1) & (entries_.size() - 1); }

  void grow() {
    std::vector<Entry> old = std::move(entries_);
    const std::size_t size = old.empty() ? 64 : old.size() * 2;
    entries_ = std::vector<Entry>(size);
    shift_ = 32;
    for (std::size_t n = size; n > 1; n /= 2) --shift_;
    for (Entry& entry : old) {
      if (!entry.used) continue;
      std::size_t i = slot(entry.key);
      while (entries_[i].used) i = next(i);
      entries_[i] = std::move(entry);
    }
  }

  std::vector<Entry> entries_;
  std::size_t count_ = 0;
  unsigned shift_ = 32;
};

}  // namespace cp
