#include "driver/capabilities.h"

#ifdef __linux__
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

}  // namespace cp::driver
