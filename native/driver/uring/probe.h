// Whether this process is granted io_uring, and all that the library needs of it.
#pragma once

#include <string>
#include <vector>

#include "driver/capabilities.h"

namespace cp::driver::uring {

/// 0 when the driver can be used, or a negative errno with the reason.
Result probe(std::string& reason);

/// All that `probe` asks, and what the driver is faster with, each with the kernel's answer.
std::vector<Capability> capabilities();

}  // namespace cp::driver::uring
