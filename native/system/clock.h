// The monotonic clock, which is read here and nowhere else: a simulator gives another one.
#pragma once

#include <cstdint>

namespace cp::system {

/// Nanoseconds. CLOCK_MONOTONIC | QueryPerformanceCounter.
std::int64_t now();

}  // namespace cp::system
