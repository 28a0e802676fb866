// The driver of Windows.
#pragma once

#include <memory>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// Every Windows has what it takes: fails only for lack of handles or memory.
std::unique_ptr<Driver> make_iocp_driver(Result& error, std::string& reason);

}  // namespace cp::driver
