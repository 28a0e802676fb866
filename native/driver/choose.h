// Which driver a port gets, and why: by name, or the first that this process is granted (contract
// P3).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// How the driver of the process came about.
struct Choice {
  std::string name;    ///< "io_uring", "epoll", "iocp"
  std::string reason;  ///< why not the first choice, "" when it is the first choice
};

/// What this process uses by default, found out once: io_uring where the kernel grants the ring and
/// every operation needed, else epoll; COMPLETION_PORT_DRIVER overrides.
/// `error` < 0: the ring's set-up failed for lack of memory or descriptors, which is no reason to
/// fall back but an error to report.
Choice default_choice(Result& error);

/// Makes a driver. `name` empty: the default. Null with `error` set when it can't be had here;
/// `reason` says why. With `concurrency` 1 no thread is ever on an errand in another's lane.
std::unique_ptr<Driver> make_driver(const std::string& name, std::uint32_t concurrency,
                                    Result& error, std::string& reason);

}  // namespace cp::driver
