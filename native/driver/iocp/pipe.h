// Named pipes, which take the place of UNIX sockets on Windows.
//
// A connection and a listener are objects of ours, since Windows keeps neither what a send that was
// cancelled has left behind, nor the name that the next instance is made of. The Descriptor of one
// is its address, marked by a bit that no handle of the kernel's has: those, sockets among them,
// are multiples of four. Whoever has the descriptor owns the object, and closing it destroys it.
//
// A pipe has no half of it that could be closed: `kShutdown` sees to it that nothing more is sent,
// and the peer sees the end when the handle is closed. What was written before stays in the pipe
// for the peer to read, so closing does not wait for it (FlushFileBuffers would).
#pragma once

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>

#include "driver/driver.h"
#include "driver/iocp/kernel_port.h"

namespace cp::driver::iocp {

/// What is written at a time, and the room that a pipe has in each direction: of a call that waits
/// for room, nobody learns how much of it has gone when it is cancelled.
inline constexpr DWORD kPipePart = 64 * 1024;
/// Instances that an accept of many keeps for clients to come, as libuv has it.
inline constexpr std::size_t kInstancesAtOnce = 4;

struct Pipe {
  explicit Pipe(bool is_listener) : listens(is_listener) {}
  virtual ~Pipe() = default;
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  const bool listens;
};

struct PipeConnection final : Pipe {
  explicit PipeConnection(HANDLE opened) : Pipe(false), handle(opened) {}
  /// Of a server's end that resets, or whose stream is cut off, the client is disconnected: it is
  /// told ECONNRESET, and what it has not received yet is gone. Of a client's end the server can't
  /// be told: it receives an end.
  ~PipeConnection() override;

  /// The first refusal stays.
  void refuse(std::int32_t error) {
    std::int32_t none = 0;
    refusal.compare_exchange_strong(none, error);
  }

  const HANDLE handle;
  /// This side has ended, or a part of a cancelled send may have gone: -EPIPE, -ECONNABORTED. Set
  /// by the lane that has the sending direction, or by whoever ends both, and read by the next lane
  /// that sends: the port queues sends, and its handle's mutex lies between the two.
  std::atomic<std::int32_t> refusal{0};
  /// Closing it is a reset.
  std::atomic<bool> resets{false};
  /// Bytes received and sent: see traffic.
  std::atomic<std::int64_t> moved{0};
};

/// Its instances belong to the one accept that is under way, or to nobody: the port begins an
/// accept when the one before is over, with the handle's mutex between them.
struct PipeListener final : Pipe {
  PipeListener() : Pipe(true) {}
  ~PipeListener() override;

  /// An instance that a client can open, bound to the kernel port; or a negative errno.
  Result make_instance(KernelPort& port, bool first);

  std::wstring name;
  DWORD receive_buffer = kPipePart, send_buffer = kPipePart;
  /// Of no accept. A client may have opened one all the same, which ConnectNamedPipe then tells.
  /// There is one at least while no accept is under way: else the name would be anybody's.
  std::deque<HANDLE> waiting;
  /// Connected when the accept had one already.
  std::deque<HANDLE> connected;
};

inline bool is_pipe(Descriptor descriptor) { return (descriptor & 3) == 2; }
inline Descriptor descriptor_of(Pipe* pipe) { return reinterpret_cast<Descriptor>(pipe) | 2; }
inline Pipe* pipe_of(Descriptor descriptor) {
  return reinterpret_cast<Pipe*>(descriptor & ~Descriptor{3});
}
inline PipeConnection& connection_of(Descriptor descriptor) {
  return *static_cast<PipeConnection*>(pipe_of(descriptor));
}
inline PipeListener& listener_of(Descriptor descriptor) {
  return *static_cast<PipeListener*>(pipe_of(descriptor));
}

/// The handle that the kernel knows a connection by.
inline HANDLE kernel_handle(Descriptor descriptor) {
  return is_pipe(descriptor) ? connection_of(descriptor).handle
                             : reinterpret_cast<HANDLE>(descriptor);
}

/// The first instance: -EADDRINUSE where somebody has the name.
Result open_pipe_listener(KernelPort& port, const ListenOptions& options);

/// A connection of a handle, which is closed where there is no memory for one.
Result make_pipe_connection(HANDLE handle);

/// Bytes that are there, without waiting: their number, 0 at the end, -EAGAIN for none. No other
/// read is under way.
Result read_now(PipeConnection& pipe, void* base, ULONG length);

/// What reading and writing fail with. Reading has come to the end (0) where the peer has closed; a
/// server that has thrown the client out (DisconnectNamedPipe) has thrown away what was on the way,
/// as a reset does.
Result read_error(DWORD error);
Result write_error(DWORD error);
/// Of an operation that the kernel is done with.
DWORD error_of(HANDLE handle, OVERLAPPED& overlapped);

Result set_pipe_option(SocketOption option);
/// Of a connection or a listener that is open.
Result set_pipe_option(Descriptor descriptor, SocketOption option, int value);
Result pipe_option(Descriptor descriptor, SocketOption option);
/// It has none: the name is the handle's.
void pipe_address(SocketAddress& out);

/// Nothing is sent any more, and whatever waits ends. The peer sees the end when it is closed.
void end_pipe(Descriptor descriptor);

}  // namespace cp::driver::iocp
