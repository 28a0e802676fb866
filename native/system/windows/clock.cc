#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include "system/clock.h"

namespace cp::system {

/// In two parts: the count times a billion would not fit after a few minutes.
std::int64_t now() {
  static const std::int64_t frequency = [] {
    LARGE_INTEGER ticks;
    ::QueryPerformanceFrequency(&ticks);
    return ticks.QuadPart;
  }();
  constexpr std::int64_t kSecond = 1'000'000'000;
  LARGE_INTEGER ticks;
  ::QueryPerformanceCounter(&ticks);
  return ticks.QuadPart / frequency * kSecond + ticks.QuadPart % frequency * kSecond / frequency;
}

}  // namespace cp::system
