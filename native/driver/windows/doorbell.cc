// An event. Lanes have no notifiers here: whoever takes their packets from the kernel port rings.
#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <algorithm>

#include "driver/doorbell.h"

namespace cp::driver {
namespace {

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 0x2
#endif

class WindowsDoorbell final : public Doorbell {
 public:
  explicit WindowsDoorbell(HANDLE event)
      : event_(event),
        timer_(::CreateWaitableTimerExW(nullptr, nullptr, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION,
                                        TIMER_ALL_ACCESS)) {}
  ~WindowsDoorbell() override {
    if (timer_ != nullptr) ::CloseHandle(timer_);
    ::CloseHandle(event_);
  }

  void ring() override { ::SetEvent(event_); }
  void hear(int) override {}
  void sleep() override { ::WaitForSingleObject(event_, INFINITE); }
  /// The time limit of a wait is counted in ticks of the system's clock, 15.6 ms each.
  void pause(std::int64_t nanoseconds) override {
    LARGE_INTEGER due;
    due.QuadPart = -std::max<std::int64_t>(1, nanoseconds / 100);  // from now, in 100 ns
    if (timer_ == nullptr || !::SetWaitableTimer(timer_, &due, 0, nullptr, nullptr, FALSE)) {
      const std::int64_t milliseconds = std::max<std::int64_t>(1, nanoseconds / 1'000'000);
      ::WaitForSingleObject(event_, static_cast<DWORD>(milliseconds));
      return;
    }
    const HANDLE either[] = {event_, timer_};
    ::WaitForMultipleObjects(2, either, FALSE, INFINITE);
  }

 private:
  const HANDLE event_;  ///< resets itself
  const HANDLE timer_;  ///< null before Windows 10 1803
};

}  // namespace

std::unique_ptr<Doorbell> Doorbell::make() {
  HANDLE event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
  return event != nullptr ? std::make_unique<WindowsDoorbell>(event) : nullptr;
}

}  // namespace cp::driver
