// What tests share that say the same on every thread.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string>
#include <thread>

namespace cp::test {

/// Nothing asserts a time: a test waits for what has to come and gives up only after this.
inline constexpr std::int64_t kPatience = 40'000'000'000;

/// Collects what goes wrong on any thread; the test's own thread looks at it in the end.
class Verdict {
 public:
  bool expect(bool holds, const std::string& what) {
    if (holds) return true;
    std::lock_guard lock(mutex_);
    if (first_.empty()) first_ = what;
    ++count_;
    return false;
  }
  std::string first() {
    std::lock_guard lock(mutex_);
    return first_;
  }
  bool good() { return first().empty(); }

 private:
  std::mutex mutex_;
  std::string first_;
  std::uint64_t count_ = 0;
};

/// From CP_SEED when it is set, else a new one; printed either way.
inline std::uint64_t seed(const char* what) {
  const char* given = std::getenv("CP_SEED");
  const std::uint64_t value =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("%s: CP_SEED=%llu\n", what, static_cast<unsigned long long>(value));
  std::fflush(stdout);
  return value;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  /// From 0 to `below` - 1.
  std::uint32_t operator()(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(engine_);
  }
  bool one_in(std::uint32_t n) { return (*this)(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

/// Looks again and again; false after kPatience.
template <typename Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

}  // namespace cp::test
