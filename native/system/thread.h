// Threads that the library starts itself.
#pragma once

#ifdef CP_SIMULATION
#include "system/sim/thread.h"
#else
#include <thread>

namespace cp::system {

using Thread = std::thread;

}  // namespace cp::system
#endif
