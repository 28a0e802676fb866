// The lock that may be held for long, and that a thread sleeps for. A leaf of it is in spin_lock.h.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/mutex.h"
#else
#include <mutex>

namespace cp::system {

using Mutex = std::mutex;

}  // namespace cp::system
#endif
