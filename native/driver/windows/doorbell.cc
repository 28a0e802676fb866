// An event. Lanes have no notifiers here: whoever takes their packets from the kernel port rings.
#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <algorithm>

#include "driver/doorbell.h"

namespace cp::driver {
namespace {

class WindowsDoorbell final : public Doorbell {
 public:
  explicit WindowsDoorbell(HANDLE event) : event_(event) {}
  ~WindowsDoorbell() override { ::CloseHandle(event_); }

  void ring() override { ::SetEvent(event_); }
  void hear(int) override {}
  void sleep() override { ::WaitForSingleObject(event_, INFINITE); }
  void pause(std::int64_t nanoseconds) override {
    const std::int64_t milliseconds = std::max<std::int64_t>(1, nanoseconds / 1'000'000);
    ::WaitForSingleObject(event_, static_cast<DWORD>(milliseconds));
  }

 private:
  const HANDLE event_;  ///< resets itself
};

}  // namespace

std::unique_ptr<Doorbell> Doorbell::make() {
  HANDLE event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
  return event != nullptr ? std::make_unique<WindowsDoorbell>(event) : nullptr;
}

}  // namespace cp::driver
