// The driver for kernels that grant io_uring.
#pragma once

#include <memory>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// Null with `error` and `reason` where the ring or an operation the library needs is refused.
std::unique_ptr<Driver> make_uring_driver(Result& error, std::string& reason);

}  // namespace cp::driver
