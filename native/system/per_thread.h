// A variable of which each thread has its own. The threads of a simulation share one of the
// system's (system/sim), so it is not enough to say `thread_local`.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/per_thread.h"
#else

/// Defines `name()`, which is the calling thread's. In a .cc file, outside of functions.
#define CP_PER_THREAD(Type, name)     \
  thread_local Type name##_of_thread; \
  inline Type& name() { return name##_of_thread; }

#endif
