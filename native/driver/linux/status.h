#pragma once

#include <sys/stat.h>

#include "driver/driver.h"

namespace cp::driver {

/// What statx tells of `path` under `directory`, or of the descriptor itself with an empty path and
/// AT_EMPTY_PATH. By the older calls where statx is refused: seccomp profiles of before 2020 answer
/// calls that they do not know with EPERM. 0 or a negative errno.
Result status_of(int directory, const char* path, int flags, unsigned mask, struct statx& out);

}  // namespace cp::driver
