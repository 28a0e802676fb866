// Which driver: by name, or the first that this process is granted (contract P3).
#include "driver/driver.h"

#include <cerrno>
#include <cstdlib>

#include "driver/epoll/epoll_driver.h"
#include "driver/uring/uring_driver.h"

namespace cp::driver {
namespace {

struct Default {
  Choice choice;
  Result error = 0;
};

/// Refusals that mean "not here": seccomp and sysctl, a kernel without it, a kernel too old.
bool falls_back(Result error) {
  return error == -EPERM || error == -ENOSYS || error == -EINVAL || error == -EACCES;
}

Default find_default() {
  const char* wanted = std::getenv("COMPLETION_PORT_DRIVER");
  if (wanted != nullptr && *wanted != '\0') {
    return {{wanted, "COMPLETION_PORT_DRIVER"}, 0};
  }
  Default found;
  std::string reason;
  const auto driver = make_uring_driver(found.error, reason);
  if (driver || !falls_back(found.error)) {
    found.choice = {"io_uring", reason};
    return found;
  }
  found.error = 0;
  found.choice = {"epoll", reason};
  return found;
}

}  // namespace

const Choice& default_choice(Result& error) {
  static const Default* const found = new Default(find_default());
  error = found->error;
  return found->choice;
}

std::unique_ptr<Driver> make_driver(const std::string& name, std::uint32_t, Result& error,
                                    std::string& reason) {
  error = 0;
  std::string wanted = name;
  if (wanted.empty()) {
    const Choice& choice = default_choice(error);
    reason = choice.reason;
    if (error < 0) return nullptr;
    wanted = choice.name;
  }
  if (wanted == "io_uring") return make_uring_driver(error, reason);
  if (wanted == "epoll") return make_epoll_driver(error, reason);
  error = -EINVAL;
  reason = "no driver is called '" + wanted + "'";
  return nullptr;
}

}  // namespace cp::driver
