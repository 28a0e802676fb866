// Which driver: by name, or the first that this process is granted (contract P3).
#include "driver/driver.h"

#include <cerrno>
#include <cstdlib>
#include <mutex>

#include "driver/epoll/epoll_driver.h"
#include "driver/uring/uring_driver.h"

namespace cp::driver {
namespace {

/// Refusals that mean "not here": seccomp and sysctl, a kernel without it, a kernel too old.
bool falls_back(Result error) {
  return error == -EPERM || error == -ENOSYS || error == -EINVAL || error == -EACCES;
}

Choice find_default(Result& error) {
  const char* wanted = std::getenv("COMPLETION_PORT_DRIVER");
  if (wanted != nullptr && *wanted != '\0') return {wanted, "COMPLETION_PORT_DRIVER"};
  std::string reason;
  if (make_uring_driver(error, reason) || !falls_back(error)) return {"io_uring", reason};
  error = 0;
  return {"epoll", reason};
}

}  // namespace

/// Found once; a want of memory or descriptors is not remembered, it may pass.
Choice default_choice(Result& error) {
  static std::mutex* const mutex = new std::mutex;
  static const Choice* found = nullptr;
  std::lock_guard lock(*mutex);
  error = 0;
  if (found != nullptr) return *found;
  Choice choice = find_default(error);
  if (error == 0) found = new Choice(choice);
  return choice;
}

std::unique_ptr<Driver> make_driver(const std::string& name, std::uint32_t, Result& error,
                                    std::string& reason) {
  error = 0;
  std::string wanted = name;
  if (wanted.empty()) {
    const Choice choice = default_choice(error);
    reason = choice.reason;
    if (error < 0) return nullptr;
    wanted = choice.name;
  }
  std::string
      refusal;  // `reason` tells why the driver is not the first choice, also when it is had
  std::unique_ptr<Driver> driver;
  if (wanted == "io_uring") driver = make_uring_driver(error, refusal);
  if (wanted == "epoll") driver = make_epoll_driver(error, refusal);
  if (!driver && error < 0) reason = refusal;
  if (driver || error < 0) return driver;
  error = -EINVAL;
  reason = "no driver is called '" + wanted + "'";
  return nullptr;
}

}  // namespace cp::driver
