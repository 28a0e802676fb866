// Blocking sockets of a test's own, for what stands at the other end of a lane's. posix.cc and
// windows.cc have them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "driver/driver.h"

namespace cp::test {

/// A descriptor, or a SOCKET.
using Socket = std::intptr_t;

/// Connected to `address`; below 0 when that failed.
Socket socket_to(const driver::SocketAddress& address);
/// All of it, or nothing more when the other side is gone.
void put(Socket socket, const void* data, std::size_t size);
inline void put(Socket socket, const std::string& text) { put(socket, text.data(), text.size()); }
/// What has come, at most `size` bytes: waits for some; 0 at the end, below 0 after a reset.
std::ptrdiff_t take(Socket socket, void* data, std::size_t size);
void put_urgent(Socket socket);
void end_writing(Socket socket);
void end_both(Socket socket);
void shut(Socket socket);
/// Closes so that the peer sees a reset.
void reset(Socket socket);
/// Waits until a socket, a descriptor on Linux, has something to read. False when the time is over.
bool readable(Socket socket, int milliseconds = 0);

}  // namespace cp::test
