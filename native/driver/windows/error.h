// Windows' error numbers as Linux's, mapped to the names Node.js gives them.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// A negative errno for what GetLastError or WSAGetLastError said. Numbers that mean nothing to a
/// program become EIO: they are told apart in a debugger, not in an error code.
Result from_windows(unsigned long error);

/// The same for the last error of the calling thread. Sockets' errors are kept there too.
Result last_error();

/// What a transfer of a file's failed with: Windows says "access denied" of a descriptor that was
/// opened for the other direction.
Result transfer_error(Result error, Opcode code);

}  // namespace cp::driver
