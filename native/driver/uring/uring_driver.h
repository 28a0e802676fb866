// The driver for kernels that grant io_uring.
#pragma once

#include <memory>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// Null with `error` and `reason` where the ring or an operation the library needs is refused.
/// `errands`: threads of its port are to do each other's work while one is busy.
std::unique_ptr<Driver> make_uring_driver(bool errands, Result& error, std::string& reason);

}  // namespace cp::driver
