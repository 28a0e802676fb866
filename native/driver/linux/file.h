// Files on Linux, for all drivers there, with calls that do not block.
#pragma once

#include <sys/stat.h>

#include "driver/driver.h"

namespace cp::driver {

/// `st_mode` of an open descriptor, or a negative errno.
Result mode_of(int fd);

/// What an open descriptor with this `st_mode` is.
FileKind file_kind_of(int fd, mode_t mode);

/// OpenFlag as open(2) wants it; always O_CLOEXEC and O_NOCTTY.
int open_flags(std::uint32_t flags);

/// Another descriptor of what is open there, and what that is.
Result duplicate_descriptor(int fd, FileKind& kind);

}  // namespace cp::driver
