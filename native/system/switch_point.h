// Places where a simulated thread may be interrupted although it neither locks nor waits: before
// and after what threads agree on without a lock. Nothing at all in the library.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/switch_point.h"
#else

namespace cp::system {

inline void switch_point() {}

}  // namespace cp::system

/// Whether a mistake is made on purpose, to see that the simulator finds it.
#define CP_PLANTED(name) false

#endif
