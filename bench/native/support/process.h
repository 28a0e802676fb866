// This process: its clock, the CPU time it has used, its end, its limit of descriptors.
#pragma once

#include <cstdint>

namespace cp::bench {

/// Nanoseconds on the monotonic clock.
std::int64_t now();

/// Of all threads, in microseconds. The sum is exact; how it is split comes from the kernel's
/// sampling on most machines.
struct CpuTime {
  double user = 0, system = 0;

  static CpuTime used();
  double sum() const { return user + system; }
  CpuTime operator-(const CpuTime& before) const {
    return {user - before.user, system - before.system};
  }
};

/// From now on SIGTERM, SIGINT and the passing of `seconds` end the program: `stopping` becomes
/// true and system calls that wait come back with EINTR, again every second, so that a signal which
/// falls between a look at `stopping` and the wait costs a second and no more.
void stop_after(double seconds);
bool stopping();

/// Up to the hard limit.
void raise_descriptor_limit();

/// Prints what failed, with errno, and exits.
[[noreturn]] void die(const char* what);
[[noreturn]] void die(const char* what, int error);

}  // namespace cp::bench
