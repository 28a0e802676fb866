// The system calls that can block, one per operation. Run by the blocking pool.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// Nothing happened yet: the other end of a FIFO is missing, or a stream that can't be waited for
/// has nothing to give. Ask again in a few milliseconds. Never the result of a kTruncate.
inline constexpr Result kTryLater = INT64_MIN;

/// Runs `operation` on the calling thread: what the system call returned, or a negative errno.
/// Sockets are not its business. EINTR is retried.
Result run_blocking(Operation& operation);

}  // namespace cp::driver
