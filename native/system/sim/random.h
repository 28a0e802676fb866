// Everything a simulation decides comes from here, so that a seed is the whole of it.
#pragma once

#include <cstdint>

namespace cp::sim {

/// SplitMix64: a number from a number, without a state.
constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ull;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}
  /// A stream of its own for each purpose: what one draws changes nothing for the others.
  Random(std::uint64_t seed, std::uint64_t stream) : state_(mix(mix(seed) ^ mix(~stream))) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ull;
    return mix(state_);
  }
  /// From 0 to `limit` - 1; 0 where the limit is 0.
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
  /// From `low` to `high`, both among them.
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  bool one_in(std::uint64_t many) { return many != 0 && below(many) == 0; }
  bool coin() { return (next() & 1) != 0; }
  /// Small numbers as often as large ones: from 1 to `most`.
  std::uint64_t size(std::uint64_t most) {
    std::uint64_t limit = 1;
    while (limit < most && coin()) limit *= 4;
    return 1 + below(limit < most ? limit : most);
  }

 private:
  std::uint64_t state_;
};

}  // namespace cp::sim
