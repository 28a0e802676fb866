// Completions that a lane has and nobody has taken yet, in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "driver/operation.h"

namespace cp::driver {

class ReadyList {
 public:
  bool empty() const { return first_ == completions_.size(); }
  std::size_t size() const { return completions_.size() - first_; }
  void push(const Completion& completion) { completions_.push_back(completion); }

  /// Moves those that fit to `out` and returns how many. `in_flight` counts the final ones down.
  std::size_t take(std::span<Completion> out, std::size_t& in_flight) {
    const std::size_t taken = std::min(size(), out.size());
    for (std::size_t i = 0; i < taken; ++i) {
      out[i] = completions_[first_ + i];
      in_flight -= out[i].more ? 0 : 1;
    }
    first_ += taken;
    drop_taken();
    return taken;
  }

 private:
  /// Not at every take, lest those that stay be moved each time.
  void drop_taken() {
    constexpr std::size_t kFew = 1024;
    if (!empty() && (first_ < kFew || first_ < size())) return;
    completions_.erase(completions_.begin(),
                       completions_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }

  std::vector<Completion> completions_;
  std::size_t first_ = 0;  ///< those before it have been taken
};

}  // namespace cp::driver
