#include "driver/capabilities.h"

#ifdef __linux__
#include "driver/uring/nudge.h"
#include "driver/uring/probe.h"
#endif

namespace cp::driver {

std::vector<Capability> capabilities() {
#ifdef __linux__
  return uring::capabilities();
#else
  return {};
#endif
}

Nudging nudging() {
  Nudging found;
#ifdef __linux__
  switch (uring::nudge_mode(&found.reason)) {
    case uring::NudgeMode::kSignal:
      found.mode = "signal";
      break;
    case uring::NudgeMode::kTick:
      found.mode = "tick";
      break;
    case uring::NudgeMode::kOff:
      found.mode = "off";
      break;
  }
#endif
  return found;
}

}  // namespace cp::driver
