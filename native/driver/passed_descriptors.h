// Descriptors that go along with bytes from one process to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "driver/operation.h"

namespace cp::driver {

/// Owns those in it: what nobody takes out is closed. The kernel has references of its own to what
/// was sent, from the call that takes the bytes along to the receive that brings them, or to the
/// end of the socket that nobody reads from.
class PassedDescriptors {
 public:
  /// SCM_MAX_FD.
  static constexpr std::size_t kMost = 253;
  /// Bytes of a control message with so many, and of those that somebody has asked the system for
  /// on a socket that was taken over: the sender's credentials (SO_PASSCRED), its label.
  static constexpr std::size_t kRoom = 1040 + 240;

  PassedDescriptors() = default;
  PassedDescriptors(const PassedDescriptors&) = delete;
  PassedDescriptors& operator=(const PassedDescriptors&) = delete;
  ~PassedDescriptors() { close_all(); }

  void close_all();

  std::vector<Descriptor> numbers;
  /// More had come than this process may have open.
  bool cut = false;
  /// The kernel's format; stays where it is while an operation is under way.
  alignas(16) std::uint8_t control[kRoom] = {};
};

}  // namespace cp::driver
