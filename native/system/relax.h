// What a loop does that looks for what another thread writes.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/switch_point.h"
#else

#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace cp {

/// Tells the processor that it is in a loop that looks for what another one writes.
inline void relax() {
#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
  _mm_pause();
#elif defined(_MSC_VER)
  __yield();
#elif defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most of them
#endif
}

}  // namespace cp

#endif
