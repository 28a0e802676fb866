// What a thread of the blocking pool asks of the system it runs on.
#pragma once

#include <functional>
#include <thread>

#include "driver/driver.h"

namespace cp::driver {

/// Not joinable when the system has no thread to give.
std::thread start_blocking_thread(std::function<void()> work);

/// Sleeps until then on the monotonic clock.
void sleep_blocking_thread(Deadline until);

}  // namespace cp::driver
