// The one interface between the port and the kernel. A Driver belongs to a port, a Lane to one
// thread of it. Three implementations read alike: each is a folder with a driver, a lane, and what
// the lane does with each operation. choose.h says which of them a port gets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "driver/operation.h"
#include "system/clock.h"

namespace cp::driver {

/// Nanoseconds on the monotonic clock; kNever waits without end.
using Deadline = std::int64_t;
inline constexpr Deadline kNever = INT64_MAX;
inline Deadline now() { return system::now(); }
/// The same clock, as JavaScript has it.
inline double milliseconds() { return static_cast<double>(now()) / 1e6; }
/// How long to wait for `deadline`, as `epoll_wait` and Windows' waits take it, and -1 (INFINITE)
/// for kNever. Rounded up: waking early would mean going round once more.
inline std::int32_t milliseconds_until(Deadline deadline) {
  if (deadline == kNever) return -1;
  const Deadline left = deadline - now();
  if (left <= 0) return 0;
  return static_cast<std::int32_t>(std::min<Deadline>((left - 1) / 1'000'000 + 1, INT32_MAX));
}

/// A failed operation does not throw: 0 or more is a result, below 0 an errno, negated.
using Result = std::int64_t;

/// No errno says it: a handle that Windows does not let complete through a port.
inline constexpr Result kNotOverlapped = -20008;

/// Larger chunks of the pool are not registered with the kernel: registering pins every page, and
/// memory whose pages may be given back to the system must not be registered at all, or the kernel
/// would go on using the old ones.
inline constexpr std::size_t kLargestRegistered = 16u << 20;

/// Where a lane finds memory for receives that brought none. Called by the lane's own thread;
/// implementations are thread-safe because every lane of a port shares one source.
class BufferSource {
 public:
  virtual ~BufferSource() = default;
  /// Takes a free buffer; false when there is none.
  virtual bool take(Buffer& out) = 0;
  /// Gives back a buffer that was taken and never handed to the port in a completion.
  virtual void give_back(const Buffer& buffer) = 0;
  /// How many buffers a lane that holds `held` of them in advance may hold at most now. Lanes that
  /// keep buffers with the kernel (io_uring) must not starve the others.
  virtual std::uint32_t allowance(std::uint32_t held) = 0;
  /// Whether `take` would succeed now.
  virtual bool available() const = 0;
  /// Bytes of every buffer.
  virtual std::uint32_t buffer_size() const = 0;
  /// Chunk `index` of the pool for registration with the kernel; false when there is none such.
  virtual bool chunk(std::uint32_t index, Slice& out) const = 0;
};

/// One thread's own view of the kernel: a ring, an epoll set, a share of an IOCP. Every member
/// but `wake` is called by the thread that made the lane, its owner; or, while the owner is busy
/// elsewhere, by another one on an errand: between `begin_errand` and `end_errand`, and nothing but
/// `pending`, `submit`, `cancel`, `reap`, `refill` and `flush`. The caller sees to it that only one
/// thread at a time does so, the owner's `wait` excepted, during which there are no errands.
class Lane {
 public:
  virtual ~Lane() = default;

  /// Takes over `operation` until its final completion. Never blocks for I/O, never completes
  /// re-entrantly (contract O1). May hold the request back until `reap` or `wait`. At most one
  /// kReceive (or kAccept, or stream kRead) and one kSend (or kSendFile, kConnect, or stream
  /// kWrite) is submitted per descriptor at a time, across all lanes: the port queues the others
  /// (O7).
  virtual void submit(Operation* operation) = 0;

  /// Asks for an early end of an operation that was submitted to this lane and has not reported its
  /// final completion; it still reports one: -ECANCELED or its natural result (O4).
  virtual void cancel(Operation* operation) = 0;

  /// Starts what is queued and collects up to `out.size()` completions without waiting.
  virtual std::size_t reap(std::span<Completion> out) = 0;

  /// Starts what is queued and sleeps until there is something to reap, `wake` was called since the
  /// last return, or `deadline` has passed. May return early.
  virtual void wait(Deadline deadline) = 0;

  /// Starts what was submitted since the last `reap` or `wait`.
  virtual void flush() {}

  /// Another thread does the owner's work from here on, as far as that is possible without the
  /// owner. An owner that sleeps on its notifier goes on doing so: what it was told stays told.
  virtual void begin_errand() {}
  virtual void end_errand() {}

  /// Whether `reap` would find something. Costs a system call at most.
  virtual bool pending() const = 0;

  /// Whether `wait` would return at once, as far as can be told without a system call; false where
  /// that tells nothing.
  virtual bool has_news() const { return false; }

  /// Ends a `wait` of the owner, now or the next one, and makes `notifier()` readable. Any thread.
  virtual void wake() = 0;

  /// A descriptor an event loop can watch for readability, -1 where there is none: a thread of the
  /// host's then calls `watch_notifier`.
  virtual int notifier() const = 0;

  /// Before the owner returns to its event loop: from now on the notifier tells of completions and
  /// of `deadline`. False when there is already something to reap: reap again instead.
  virtual bool sleep_on_notifier(Deadline deadline) = 0;

  /// After the notifier became readable: clears it.
  virtual void clear_notifier() = 0;

  /// Where there is no descriptor, the notifier itself: sleeps until the owner has gone to its
  /// event loop (`sleep_on_notifier`) and there is something for it; once for each time it goes.
  /// False after `stop_watching`. Called by one thread, which has left before the lane is
  /// destroyed.
  virtual bool watch_notifier() { return false; }
  /// Any thread.
  virtual void stop_watching() {}

  /// More buffers may be free now: top up what the kernel holds (io_uring's provided ring).
  /// Returns whether a receive that failed with -ENOBUFS is worth another attempt.
  virtual bool refill() = 0;

  /// System calls this lane has made. Read by any thread.
  virtual std::uint64_t system_calls() const = 0;
};

/// What a socket is that somebody else has open.
struct SocketKind {
  bool listens = false;
  bool messages = false;  ///< keeps the borders of messages: SOCK_SEQPACKET
};

struct ListenOptions {
  SocketAddress address;
  int backlog = 511;
  bool reuse_port = false;
  bool ipv6_only = false;
  bool messages = false;  ///< SOCK_SEQPACKET: not on Windows
  bool no_delay = true;   ///< inherited by the connections
  /// Set before it listens, and inherited by the connections as far as they concern them.
  std::vector<SocketSetting> settings;
  /// The file that `address` makes, where it makes one; of a named pipe, which has no address, its
  /// name.
  std::string path;
};

class Driver {
 public:
  virtual ~Driver() = default;

  virtual const char* name() const = 0;

  /// Makes the calling thread's lane. Null with `error` set to a negative errno on failure.
  virtual std::unique_ptr<Lane> make_lane(BufferSource& buffers, Result& error) = 0;

  /// Tells the kernel's port about a descriptor (IOCP); nothing to do on Linux.
  virtual Result associate(Descriptor descriptor) = 0;

  // None of the following blocks.

  /// socket, bind, listen. The descriptor, or a negative errno.
  virtual Result listen(const ListenOptions& options) = 0;
  virtual Result set_option(Descriptor socket, SocketOption option, int value) = 0;
  /// What the system says of it; never negative but for an error.
  virtual Result option(Descriptor socket, SocketOption option) = 0;
  virtual Result address(Descriptor socket, bool peer, SocketAddress& out) = 0;
  /// Whether a connection of which nothing more can be received was ended by its peer, in order,
  /// after `received` bytes. False: it was reset, or given up, which the kernel tells only the
  /// first call that meets it, of whichever kind: who comes later sees what looks like an orderly
  /// end, or ENOTCONN (rule O8). TCP_INFO | Windows tells all of them.
  virtual bool ended_in_order(Descriptor socket, std::uint64_t received) = 0;
  /// Bytes of what was sent that the peer has acknowledged: whether anything moves. -1: not known.
  /// TCP_INFO | not known.
  virtual std::int64_t acknowledged(Descriptor socket) = 0;
  /// Ends both directions of a connection at once, whatever uses it: the peer sees its end although
  /// the thread whose operation is still in flight may be busy.
  virtual void shut_down(Descriptor socket) = 0;
  /// Closes a descriptor that no operation uses, at once: for results nobody is left to take.
  virtual void discard(Descriptor descriptor) = 0;
  /// Another descriptor of a connected or listening socket that somebody else has open,
  /// non-blocking from now on. -ENOTSOCK, -EAFNOSUPPORT, -ENOTSUP for datagrams, -EINVAL for
  /// others. Not on Windows.
  virtual Result duplicate_socket(Descriptor socket, SocketKind& kind) = 0;
  /// Makes a connection its own that the acceptor has accepted. 0 or a negative errno.
  virtual Result own_connection(Descriptor connection) = 0;
  /// Whether a socket can go on without the driver once its operations are over.
  virtual bool lets_go() const = 0;
  /// Removes the file of a socket that listened there.
  virtual void remove_socket_file(const std::string& path) = 0;
  /// Makes a file in `directory` that has no name, or loses it with its last descriptor, and is
  /// open for reading and writing. The one call here that asks a file system. O_TMPFILE |
  /// FILE_FLAG_DELETE_ON_CLOSE.
  virtual Result temporary_file(const char* directory) = 0;
  /// Duplicates a descriptor of the process and tells what it is.
  virtual Result duplicate(Descriptor descriptor, FileKind& kind) = 0;
  /// The same for a file that a driver has opened: Windows would refuse to bind it again.
  virtual Result duplicate_own(Descriptor file, FileKind& kind) = 0;
};

/// Closes a file that no operation uses and no driver knows of, at once.
void close_file(Descriptor file);
/// Bytes of a connection that the peer's system has confirmed; negative where this one does not
/// tell.
std::int64_t acknowledged_bytes(Descriptor socket);
/// Changes whenever bytes of a connection have come or gone, as far as the system can tell:
/// confirmed ones on Linux, sent ones on Windows. Negative where it does not tell.
std::int64_t traffic(Descriptor socket);
/// Bytes that a connection has for its reader now, without waiting: their number, 0 at its end, or
/// a negative errno. -EAGAIN, too, where this system leaves that to a lane. No receive is under
/// way.
Result receive_now(Descriptor socket, const Slice& into);
/// Bytes of a regular file, -EINVAL for anything else. Does not wait for a disk.
Result size_of_file(Descriptor file);
/// Of a file that is open: kOpenAppend, kOpenDirect; none where the system does not tell.
std::uint32_t open_flags_of(Descriptor file);

}  // namespace cp::driver
