// Whether a connection can be ended in one direction, and the other go on.
#pragma once

#include "driver/operation.h"

namespace cp::driver {

/// Whether the peer hears of a kShutdown. Of a named pipe of Windows it does not: only closing
/// tells it, and takes nothing away from it that was sent.
bool half_closes(Descriptor connection);

}  // namespace cp::driver
