// A file whose bytes go to sockets.
#pragma once

#include <atomic>
#include <cstdint>

#include "driver/operation.h"

namespace cp::driver {

/// Pages of a file that were in the page cache a moment ago: those of one part, the last that was
/// looked at. Any thread notes and asks; all of it is one word, so nobody sees the half of a note,
/// and one that is lost costs another look.
class RecentPages {
 public:
  /// Nanoseconds that a look is good for. What is sent all the time is not thrown out meanwhile; if
  /// it was after all, its reader waits for a disk once.
  static constexpr std::int64_t kGoodFor = 100'000'000;

  bool cover(std::uint64_t first, std::uint64_t last, std::int64_t now) const {
    const std::uint64_t noted = word_.load(std::memory_order_relaxed);
    const std::uint64_t from = noted >> kFirstShift;
    const std::uint64_t pages = noted & kMostPages;
    const std::uint64_t age = (ticks(now) - (noted >> kPagesBits)) & kTickMask;
    return pages > 0 && first >= from && last < from + pages && age <= ticks(kGoodFor);
  }

  void note(std::uint64_t first, std::uint64_t last, std::int64_t now) {
    const std::uint64_t pages = last - first + 1;
    if (first >> (64 - kFirstShift) != 0 || pages > kMostPages) return;
    word_.store(first << kFirstShift | ticks(now) << kPagesBits | pages, std::memory_order_relaxed);
  }

 private:
  /// From the top: the first page (16 TiB of 4 KiB pages), the time in some 17 ms, the pages.
  static constexpr unsigned kPagesBits = 8, kTickBits = 24, kFirstShift = kPagesBits + kTickBits;
  static constexpr std::uint64_t kMostPages = (1 << kPagesBits) - 1;
  static constexpr std::uint64_t kTickMask = (1 << kTickBits) - 1;
  static std::uint64_t ticks(std::int64_t nanoseconds) {
    return (static_cast<std::uint64_t>(nanoseconds) >> 24) & kTickMask;
  }

  std::atomic<std::uint64_t> word_{0};
};

/// Outlives the operations that send from it.
struct SourceFile {
  explicit SourceFile(Descriptor descriptor) : descriptor(descriptor) {}

  const Descriptor descriptor;
  RecentPages recent;
};

}  // namespace cp::driver
