// Which part of the file each read is of.
#pragma once

#include <cstdint>
#include <string>

#include "support/process.h"

namespace cp::bench {

struct ReadOptions {
  std::string file, driver;
  bool direct = false, random = true;
  std::uint32_t size = 4096, depth = 128;
  double seconds = 3;
};

/// What an engine did.
struct ReadCount {
  std::uint64_t operations = 0, bytes = 0, errors = 0;
  std::int64_t system_calls = 0;
  double seconds = 0;
  CpuTime cpu;
};

class ReadPlan {
 public:
  /// `length`: of the file; 0 where it has none (a device).
  ReadPlan(const ReadOptions& options, std::uint64_t length)
      : size_(options.size), blocks_(length / options.size), random_(options.random) {
    if (blocks_ == 0) blocks_ = 1;
  }

  std::uint64_t next() {
    if (random_) return draw() % blocks_ * size_;
    const std::uint64_t at = sequential_++ * size_;
    if (sequential_ == blocks_) sequential_ = 0;
    return at;
  }

 private:
  /// xorshift64: a few cycles, and the same places in every run.
  std::uint64_t draw() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

  const std::uint64_t size_;
  std::uint64_t blocks_;
  const bool random_;
  std::uint64_t sequential_ = 0;
  std::uint64_t state_ = 0x9e3779b97f4a7c15ull;
};

/// The engines: io_uring itself, and this library's core.
ReadCount read_raw(const ReadOptions& options, std::uint64_t length);
ReadCount read_core(const ReadOptions& options, std::uint64_t length);

}  // namespace cp::bench
