// The processors that the process may use, and threads bound to one of them.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/driver.h"

namespace cp::stage {

/// Their numbers; none where the system does not tell. On Windows those of the process's group,
/// which has 64 at most.
std::vector<std::uint32_t> allowed_cpus();

/// The calling thread runs there and nowhere else. 0 or a negative errno.
driver::Result bind_to_cpu(std::uint32_t cpu);

}  // namespace cp::stage
