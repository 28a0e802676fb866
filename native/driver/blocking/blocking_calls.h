// The system calls that can block, one per operation. Run by the blocking pool.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// Nothing happened yet: the other end of a FIFO is missing, or a stream that can't be waited for
/// has nothing to give. Ask again in a few milliseconds. Never the result of a kTruncate.
inline constexpr Result kTryLater = INT64_MIN;

/// Of a kSendFile: the socket takes no more. The lane waits for it, which the pool can't.
inline constexpr Result kNotWritable = INT64_MIN + 1;

/// Runs `operation` on the calling thread: what the system call returned, or a negative errno.
/// Sockets are not its business, but for kSendFile, which may wait for a disk. EINTR is retried.
Result run_blocking(Operation& operation);

}  // namespace cp::driver
