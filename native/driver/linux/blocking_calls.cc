#include "driver/blocking/blocking_calls.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <limits>
#include <span>

#include "driver/linux/file.h"
#include "driver/linux/send_file.h"
#include "driver/linux/socket.h"
#include "driver/linux/status.h"
#include "system/linux/calls.h"

namespace cp::driver {
namespace {

int fd_of(const Operation& operation) { return static_cast<int>(operation.descriptor); }

/// Calls until it was not a signal that ended the call.
template <typename Call>
Result retried(Call call) {
  for (;;) {
    const Result result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

/// O_NONBLOCK lets a lane wait for the readiness of what has no positions. It was set for opening
/// every character device, lest a serial line without a carrier hold the thread; those that do have
/// positions lose it again.
Result settle_kind(int fd, Operation& operation) {
  const Result mode = mode_of(fd);
  if (mode < 0) return mode;
  operation.file_kind = file_kind_of(fd, static_cast<mode_t>(mode));
  if (!S_ISCHR(mode) || operation.file_kind == FileKind::kStream) return 0;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  return ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0 ? 0 : -errno;
}

Result open_path(Operation& operation) {
  int flags = open_flags(operation.flags);
  struct statx status;
  const bool exists = status_of(AT_FDCWD, operation.path, 0, STATX_TYPE, status) == 0;
  const bool fifo = exists && S_ISFIFO(status.stx_mode);
  // Opening a FIFO blocks until there is a peer. With O_NONBLOCK the reading end opens at once, and
  // the writing end fails with ENXIO until there is a reader (fifo(7)).
  if (fifo || (exists && S_ISCHR(status.stx_mode))) flags |= O_NONBLOCK;

  const Result fd =
      retried([&] { return ::open(operation.path, flags, static_cast<mode_t>(operation.mode)); });
  if (fd == -ENXIO && fifo) return kTryLater;
  if (fd < 0) return fd;
  const Result settled = settle_kind(static_cast<int>(fd), operation);
  if (settled >= 0) return fd;
  ::close(static_cast<int>(fd));
  return settled;
}

Result close_descriptor(const Operation& operation) {
  // Linux gives the number back even when a signal interrupts: a second close could hit a stranger.
  if (::close(fd_of(operation)) == 0 || errno == EINTR) return 0;
  return -errno;
}

/// What of the slices one call takes; the port continues short transfers.
int slice_count(const Operation& operation) {
  return static_cast<int>(std::min<std::uint32_t>(operation.slice_count, IOV_MAX));
}

const struct iovec* slices(const Operation& operation) {
  return reinterpret_cast<const struct iovec*>(operation.slices);
}

Result transfer_at(const Operation& operation) {
  const int fd = fd_of(operation);
  const int count = slice_count(operation);
  return retried([&] {
    return operation.code == Opcode::kRead
               ? ::preadv(fd, slices(operation), count, operation.offset)
               : ::pwritev(fd, slices(operation), count, operation.offset);
  });
}

/// For streams that do not know RWF_NOWAIT: asks whether the transfer would block, and moves only
/// as much as then surely does not.
Result poll_and_transfer(const Operation& operation) {
  const bool reading = operation.code == Opcode::kRead;
  struct pollfd ready = {fd_of(operation), static_cast<short>(reading ? POLLIN : POLLOUT), 0};
  const Result polled = retried([&] { return ::poll(&ready, 1, 0); });
  if (polled < 0) return polled;
  if (polled == 0) return kTryLater;
  Result moved = 0;
  if (reading) {
    moved = retried([&] { return ::readv(ready.fd, slices(operation), slice_count(operation)); });
  } else {
    // A pipe is writable when PIPE_BUF bytes fit; a longer write could block half-way.
    const std::span all(operation.slices, operation.slice_count);
    const auto slice = std::ranges::find_if(all, [](const Slice& it) { return it.length > 0; });
    if (slice == all.end()) return 0;
    const std::size_t length = std::min<std::size_t>(slice->length, PIPE_BUF);
    moved = retried([&] { return ::write(ready.fd, slice->base, length); });
  }
  return moved == -EAGAIN ? kTryLater : moved;
}

/// A blocking descriptor of the process, such as its standard input: a plain read would hold the
/// thread for ever, and could not be cancelled.
Result transfer_stream(const Operation& operation) {
  const int fd = fd_of(operation);
  const int count = slice_count(operation);
  const Result moved = retried([&] {
    return operation.code == Opcode::kRead
               ? call_preadv2(fd, slices(operation), count, -1, RWF_NOWAIT)
               : call_pwritev2(fd, slices(operation), count, -1, RWF_NOWAIT);
  });
  if (moved == -EAGAIN) return kTryLater;
  // Pipes know the flag since Linux 6.5, some terminals never.
  if (moved != -EOPNOTSUPP && moved != -EINVAL && moved != -ENOSYS) return moved;
  return poll_and_transfer(operation);
}

struct timespec time_of(std::int64_t microseconds) {
  constexpr std::int64_t kSecond = 1'000'000;
  const std::int64_t rest = microseconds % kSecond;  // below 0 before 1970
  struct timespec time = {};
  time.tv_sec = static_cast<time_t>(microseconds / kSecond - (rest < 0 ? 1 : 0));
  time.tv_nsec = static_cast<long>((rest < 0 ? rest + kSecond : rest) * 1000);
  return time;
}

Result set_times(const Operation& operation) {
  const struct timespec times[] = {time_of(operation.offset),
                                   time_of(static_cast<std::int64_t>(operation.length))};
  return retried([&] { return ::futimens(fd_of(operation), times); });
}

/// What is further than 292 years from 1970 is as far as that.
std::int64_t nanoseconds(const struct statx_timestamp& time) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / kSecond - 1;
  return std::clamp(std::int64_t{time.tv_sec}, -kMost, kMost) * kSecond + time.tv_nsec;
}

Result file_status(const Operation& operation) {
  assert(operation.status != nullptr);
  FileStatus& out = *operation.status;
  struct statx from;
  Result result;
  do {
    result = status_of(fd_of(operation), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, from);
  } while (result == -EINTR);
  if (result < 0) return result;
  out.size = from.stx_size;
  out.blocks = from.stx_blocks;
  out.inode = from.stx_ino;
  out.device = makedev(from.stx_dev_major, from.stx_dev_minor);
  out.links = from.stx_nlink;
  out.mode = from.stx_mode;
  out.uid = from.stx_uid;
  out.gid = from.stx_gid;
  out.block_size = from.stx_blksize;
  out.accessed = nanoseconds(from.stx_atime);
  out.modified = nanoseconds(from.stx_mtime);
  out.changed = nanoseconds(from.stx_ctime);
  // Not every file system remembers the birth.
  const bool born = (from.stx_mask & STATX_BTIME) != 0;
  out.created = born ? nanoseconds(from.stx_btime) : out.changed;
  return 0;
}

}  // namespace

Result run_blocking(Operation& operation) {
  const int fd = fd_of(operation);
  switch (operation.code) {
    case Opcode::kOpen:
      return open_path(operation);
    case Opcode::kClose:
      return close_descriptor(operation);
    case Opcode::kRead:
    case Opcode::kWrite:
      return operation.stream ? transfer_stream(operation) : transfer_at(operation);
    case Opcode::kSync:
      return retried([&] { return ::fsync(fd); });
    case Opcode::kDataSync:
      return retried([&] { return ::fdatasync(fd); });
    case Opcode::kTruncate:
      return retried([&] { return ::ftruncate(fd, operation.offset); });
    case Opcode::kAllocate:
      return retried([&] {
        return ::fallocate(fd, 0, operation.offset, static_cast<off_t>(operation.length));
      });
    case Opcode::kSetMode:
      return retried([&] { return ::fchmod(fd, static_cast<mode_t>(operation.offset)); });
    case Opcode::kSetOwner:
      return retried([&] {
        return ::fchown(fd, static_cast<uid_t>(operation.offset),
                        static_cast<gid_t>(operation.length));
      });
    case Opcode::kSetTimes:
      return set_times(operation);
    case Opcode::kStat:
      return file_status(operation);
    case Opcode::kSendFile: {
      const Result sent = send_part(operation);
      return sent == -EAGAIN ? kNotWritable : sent;
    }
    case Opcode::kAccept:
    case Opcode::kConnect:
    case Opcode::kReceive:
    case Opcode::kSend:
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
    case Opcode::kShutdown:
      break;
  }
  assert(!"not an operation that blocks");
  return -EINVAL;
}

}  // namespace cp::driver
