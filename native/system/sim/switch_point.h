#pragma once

#include <cstring>

#include "system/sim/scheduler.h"

namespace cp::system {

inline void switch_point() {
  if (sim::Scheduler* scheduler = sim::Scheduler::current()) scheduler->switch_point("atomic");
}

}  // namespace cp::system

namespace cp {

inline void relax() {
  if (sim::Scheduler* scheduler = sim::Scheduler::current()) scheduler->yield("looks");
}

}  // namespace cp

namespace cp::sim {

/// Name of the mistake that is made on purpose; "": none.
inline const char*& planted() {
  static const char* name = "";
  return name;
}

}  // namespace cp::sim

#define CP_PLANTED(name) (std::strcmp(::cp::sim::planted(), name) == 0)
