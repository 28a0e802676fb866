// What a thread of the blocking pool asks of the system it runs on.
#pragma once

#include <functional>

#include "driver/driver.h"
#include "system/thread.h"

namespace cp::driver {

/// Not joinable when the system has no thread to give.
system::Thread start_blocking_thread(std::function<void()> work);

/// Sleeps until then on the monotonic clock.
void sleep_blocking_thread(Deadline until);

}  // namespace cp::driver
