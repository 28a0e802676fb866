// What the kernel holds of an operation: the OVERLAPPED it was given, and where its packet goes.
#pragma once

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "driver/operation.h"

namespace cp::driver::iocp {

struct Inbox;

/// Lies in the operation's own `lane_scratch`, so it lives until the operation's final
/// completion, which is not reported before the kernel's packet was taken.
struct Pending {
  OVERLAPPED overlapped = {};
  Inbox* inbox = nullptr;
  Operation* operation = nullptr;
  union {
    std::uint64_t done = 0;  ///< kRead: bytes of the slices that are full
    std::uint8_t* part;      ///< kSendFile: what is read and then sent, the lane's own memory
  };
  std::uint32_t slices_done = 0;  ///< kRead: how many are full
  bool sending = false;           ///< kSendFile: the part is on its way to the socket
  bool cancelled = false;         ///< what succeeds all the same is not to be followed by more

  static Pending* of(OVERLAPPED* overlapped) { return reinterpret_cast<Pending*>(overlapped); }
  static Pending& in(Operation& operation) {
    return *static_cast<Pending*>(operation.lane_scratch.get());
  }
  /// NTSTATUS: errors and warnings are negative.
  bool succeeded() const { return static_cast<LONG>(overlapped.Internal) >= 0; }
};
static_assert(offsetof(Pending, overlapped) == 0);
static_assert(sizeof(Pending) <= Scratch::kSize);

/// Bytes that were moved, where `told` is what was said of it. Beside an error that may be
/// anything: a cancelled write of a file has come back with more than it had. Beside a warning it
/// is right.
inline DWORD bytes_moved(const OVERLAPPED& ended, DWORD told) {
  constexpr ULONG_PTR kError = 3;
  const ULONG_PTR severity = ended.Internal >> 30 & 3;
  return severity == kError ? 0 : told;
}

/// Whether a packet follows a call of the file interface that ended so. A message longer than the
/// buffer is a warning, not an error.
bool leaves_packet(DWORD error);

/// One of the accepts that an accepting operation has with the kernel.
struct Accepting {
  Pending pending;
  union {
    SOCKET socket = INVALID_SOCKET;  ///< becomes the connection
    HANDLE instance;                 ///< of a named pipe: likewise
  };
  bool busy = false;  ///< with the kernel
  /// Both addresses, 16 bytes longer than the longest of them each (AcceptEx).
  std::uint8_t addresses[2 * (28 + 16)] = {};

  static Accepting* of(Pending* pending) { return reinterpret_cast<Accepting*>(pending); }
};
static_assert(offsetof(Accepting, pending) == 0);

}  // namespace cp::driver::iocp
