// How often which values came, in buckets that are the wider the greater the values are: none is
// wider than a 32nd of what it holds.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace cp {

/// The counts at one moment.
struct HistogramCounts {
  /// Values below `kParts` have a bucket each; from there on each power of two has `kParts`.
  static constexpr std::uint32_t kPartBits = 5;
  static constexpr std::uint32_t kParts = 1u << kPartBits;
  static constexpr std::size_t kBuckets = (32 - kPartBits + 1) * kParts;

  static constexpr std::size_t bucket_of(std::uint32_t value) {
    if (value < kParts) return value;
    const std::uint32_t shift = static_cast<std::uint32_t>(std::bit_width(value)) - kPartBits - 1;
    return (shift << kPartBits) + (value >> shift);
  }

  std::array<std::uint64_t, kBuckets> counts{};
  std::uint64_t sum = 0;  ///< of the values
};

/// One writer at a time, whom a lock makes that; read by others at any time, about.
class Histogram {
 public:
  void record(std::uint32_t value) { change(value, 1); }
  /// As if it had not been recorded.
  void take_back(std::uint32_t value) { change(value, ~std::uint64_t{0}); }

  void add_to(HistogramCounts& all) const {
    for (std::size_t i = 0; i < HistogramCounts::kBuckets; ++i) {
      all.counts[i] += counts_[i].load(std::memory_order_relaxed);
    }
    all.sum += sum_.load(std::memory_order_relaxed);
  }

  /// All that the other one has comes here.
  void take_over(Histogram& other) {
    for (std::size_t i = 0; i < HistogramCounts::kBuckets; ++i) {
      add(counts_[i], other.counts_[i].exchange(0, std::memory_order_relaxed));
    }
    add(sum_, other.sum_.exchange(0, std::memory_order_relaxed));
  }

 private:
  /// No read-modify-write: nobody else writes.
  static void add(std::atomic<std::uint64_t>& to, std::uint64_t what) {
    to.store(to.load(std::memory_order_relaxed) + what, std::memory_order_relaxed);
  }

  /// Numbers without a sign wrap around: to take back is to add what is missing to 2^64.
  void change(std::uint32_t value, std::uint64_t times) {
    add(counts_[HistogramCounts::bucket_of(value)], times);
    add(sum_, value * times);
  }

  std::array<std::atomic<std::uint64_t>, HistogramCounts::kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_{0};
};

}  // namespace cp
