#include "driver/choose.h"

#include <cstdlib>
#include <mutex>

#include "driver/errno.h"

#ifdef _WIN32
#include "driver/iocp/iocp_driver.h"
#else
#include "driver/epoll/epoll_driver.h"
#include "driver/uring/uring_driver.h"
#endif

namespace cp::driver {
namespace {

#ifdef _WIN32

Choice first_choice(Result&) { return {"iocp", ""}; }

std::unique_ptr<Driver> make_named(const std::string& name, bool, Result& error,
                                   std::string& reason) {
  return name == "iocp" ? make_iocp_driver(error, reason) : nullptr;
}

#else

/// Refusals that mean "not here": seccomp and sysctl, a kernel without it, a kernel too old.
bool falls_back(Result error) {
  return error == -EPERM || error == -ENOSYS || error == -EINVAL || error == -EACCES;
}

Choice first_choice(Result& error) {
  std::string reason;
  if (make_uring_driver(false, error, reason) || !falls_back(error)) return {"io_uring", reason};
  error = 0;
  return {"epoll", reason};
}

std::unique_ptr<Driver> make_named(const std::string& name, bool errands, Result& error,
                                   std::string& reason) {
  if (name == "io_uring") return make_uring_driver(errands, error, reason);
  if (name == "epoll") return make_epoll_driver(error, reason);
  return nullptr;
}

#endif

Choice find_default(Result& error) {
  const char* wanted = std::getenv("COMPLETION_PORT_DRIVER");
  if (wanted != nullptr && *wanted != '\0') return {wanted, "COMPLETION_PORT_DRIVER"};
  return first_choice(error);
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

std::unique_ptr<Driver> make_driver(const std::string& name, std::uint32_t concurrency,
                                    Result& error, std::string& reason) {
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
  std::unique_ptr<Driver> driver = make_named(wanted, concurrency > 1, error, refusal);
  if (!driver && error < 0) reason = refusal;
  if (driver || error < 0) return driver;
  error = -EINVAL;
  const bool known = wanted == "io_uring" || wanted == "epoll" || wanted == "iocp";
  reason = known ? "the driver '" + wanted + "' is not one of this system's"
                 : "no driver is called '" + wanted + "'";
  return nullptr;
}

}  // namespace cp::driver
