// A log-linear histogram: 128 steps to each power of two, so a value is known to within 0.8 %.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cp::bench {

class Histogram {
 public:
  Histogram() : counts_((65 - kStepBits) * kSteps) {}

  void add(std::uint64_t value) {
    ++counts_[index(value)];
    ++total_;
    if (value > max_) max_ = value;
  }

  std::uint64_t total() const { return total_; }
  std::uint64_t max() const { return max_; }

  /// The least value that no more than 1 - `part` of all values exceed.
  std::uint64_t quantile(double part) const {
    const auto rank = static_cast<std::uint64_t>(part * static_cast<double>(total_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > rank) return std::min(upper_bound(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned kStepBits = 7;
  static constexpr std::size_t kSteps = 1u << kStepBits;

  static std::size_t index(std::uint64_t value) {
    const unsigned width = static_cast<unsigned>(std::bit_width(value));
    if (width <= kStepBits) return static_cast<std::size_t>(value);
    const unsigned shift = width - kStepBits - 1;
    return (shift + 1) * kSteps + static_cast<std::size_t>((value >> shift) - kSteps);
  }
  static std::uint64_t upper_bound(std::size_t i) {
    if (i < kSteps) return i;
    const std::size_t shift = i / kSteps - 1;
    return ((i % kSteps + kSteps + 1) << shift) - 1;
  }

  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace cp::bench
