// The driver for kernels and sandboxes without io_uring.
#pragma once

#include <memory>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// Every Linux has what it takes: fails only for lack of descriptors or memory.
std::unique_ptr<Driver> make_epoll_driver(Result& error, std::string& reason);

}  // namespace cp::driver
