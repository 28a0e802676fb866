#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "driver/blocking/blocking_thread.h"
#include "system/thread.h"

namespace cp::driver {

system::Thread start_blocking_thread(std::function<void()> work) {
  try {
    return system::Thread(std::move(work));
  } catch (const std::system_error&) {
    return {};
  }
}

void sleep_blocking_thread(Deadline until) {
  const Deadline left = until - now();
  if (left > 0) ::Sleep(static_cast<DWORD>(std::min<Deadline>(left / 1'000'000 + 1, 0x7fffffff)));
}

}  // namespace cp::driver
