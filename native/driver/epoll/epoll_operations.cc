// How a lane on epoll begins each operation, and tries it again. An attempt ends in one of four
// ways: finished, waiting for readiness, on the blocking pool, or runnable again (a multishot whose
// turn is over).
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "driver/accept_errors.h"
#include "driver/blocking/blocking_calls.h"
#include "driver/epoll/epoll_lane.h"
#include "driver/linux/passing.h"
#include "driver/linux/send_file.h"
#include "driver/linux/socket.h"
#include "driver/receive_once.h"
#include "system/linux/calls.h"

namespace cp::driver::epoll {
namespace {

/// Completions of one multishot in a row, before the others get their turn.
constexpr int kTurn = 16;

int fd_of(const Operation* operation) { return static_cast<int>(operation->descriptor); }

template <typename Call>
Result retried(Count& calls, Call call) {
  for (;;) {
    calls.add();
    const Result result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

struct iovec* slices(const Operation* operation) {
  return reinterpret_cast<struct iovec*>(operation->slices);
}

std::size_t slice_count(const Operation* operation) {
  return std::min<std::size_t>(operation->slice_count, IOV_MAX);
}

/// Which readiness the operation waits for.
Direction direction_of(const Operation& operation) {
  switch (operation.code) {
    case Opcode::kConnect:
    case Opcode::kSend:
    case Opcode::kSendFile:
    case Opcode::kSendHandles:
    case Opcode::kWrite:
      return Direction::kOut;
    case Opcode::kAccept:
    case Opcode::kReceive:
    case Opcode::kReceiveHandles:
    case Opcode::kRead:
    case Opcode::kShutdown:
    case Opcode::kClose:
    case Opcode::kOpen:
    case Opcode::kSync:
    case Opcode::kDataSync:
    case Opcode::kTruncate:
    case Opcode::kAllocate:
    case Opcode::kSetMode:
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:
      break;
  }
  return Direction::kIn;
}

/// What it waits for the readiness of.
int awaited_fd(const Operation& operation) {
  const bool connecting = operation.code == Opcode::kConnect;
  return static_cast<int>(connecting ? operation.lane_descriptor : operation.descriptor);
}

bool is_long(const Operation& operation) {
  if (operation.code == Opcode::kReceive) return operation.long_in_a_row > 0;
  // A write of a file is only handed to the pool here.
  const bool writes = operation.code == Opcode::kWrite && operation.stream;
  const bool sends = operation.code == Opcode::kSend || writes;
  std::size_t total = 0;
  for (std::size_t i = 0; sends && total < kLongTransfer && i < operation.slice_count; ++i) {
    total += operation.slices[i].length;
  }
  return total >= kLongTransfer || operation.code == Opcode::kSendFile;
}

}  // namespace

void EpollLane::start(Operation* operation, Batch& out) {
  switch (operation->code) {
    case Opcode::kAccept:
      return accept(operation, out);
    case Opcode::kConnect:
      return connect(operation, out);
    case Opcode::kReceive:
      return receive(operation, out);
    case Opcode::kSend:
      return send(operation, out);
    case Opcode::kSendFile:
      return send_file(operation, out);
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
      return pass(operation, out);
    case Opcode::kShutdown:
      return shut_down(operation, out);
    case Opcode::kClose:
      // Closing a file can wait for a disk or a server; a socket or pipe has none.
      if (operation->stream || operation->pollable) return close_now(operation, out);
      return hand_to_pool(operation);
    case Opcode::kRead:
    case Opcode::kWrite:
      if (operation->stream && operation->pollable) return transfer(operation, out);
      if (read_cached(operation, out)) return;
      return hand_to_pool(operation);
    case Opcode::kOpen:
    case Opcode::kSync:
    case Opcode::kDataSync:
    case Opcode::kTruncate:
    case Opcode::kAllocate:
    case Opcode::kSetMode:
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:
      return hand_to_pool(operation);
  }
}

void EpollLane::accept(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  if (readiness_.must_wait(fd, operation->descriptor_id, Direction::kIn)) {
    return wait_ready(operation, Direction::kIn);
  }
  // The listener may come from a port on io_uring, or be with one at the same time.
  calls_.add();
  set_blocking(fd, false);
  for (int turn = 0; turn < kTurn && !out.full(); ++turn) {
    const Result peer = retried(
        calls_, [&] { return ::accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
    if (peer >= 0 && operation->multishot) {
      Completion completion = completion_of(operation, peer);
      completion.more = true;
      out.push(completion);
      continue;
    }
    if (peer == -EAGAIN) {
      readiness_.exhausted(fd, operation->descriptor_id, Direction::kIn);
      return wait_ready(operation, Direction::kIn);
    }
    if (concerns_one_connection(peer)) continue;
    return finish(operation, peer, out);
  }
  make_runnable(operation);
}

/// The second connect(2), after the socket became writable, tells how the first one went: 0 when it
/// is connected, EALREADY when the event meant nothing, else the error.
void EpollLane::connect(Operation* operation, Batch& out) {
  Result result = 0;
  if (operation->lane_descriptor == kNoDescriptor) result = begin_connect(operation);
  if (result == 0) {
    const SocketAddress& peer = operation->target->peer;
    const auto* address = reinterpret_cast<const struct sockaddr*>(peer.bytes);
    const int fd = static_cast<int>(operation->lane_descriptor);
    result = retried(calls_, [&] { return ::connect(fd, address, peer.length); });
  }
  if (result == -EINPROGRESS || result == -EALREADY) {
    return wait_ready(operation, Direction::kOut);
  }
  if (result < 0 && result != -EISCONN) {
    drop_connection(operation);
    return finish(operation, result, out);
  }
  finish(operation, operation->lane_descriptor, out);
}

Result EpollLane::begin_connect(Operation* operation) {
  calls_.add();
  const Result socket = open_for_connect(*operation->target, false);
  if (socket < 0) return socket;
  operation->lane_descriptor = static_cast<Descriptor>(socket);
  readiness_.forget(static_cast<int>(socket));
  return 0;
}

void EpollLane::drop_connection(Operation* operation) {
  if (operation->lane_descriptor == kNoDescriptor) return;
  const int fd = static_cast<int>(operation->lane_descriptor);
  readiness_.forget(fd);
  calls_.add();
  ::close(fd);
  operation->lane_descriptor = kNoDescriptor;
}

void EpollLane::receive(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  const std::uint64_t id = operation->descriptor_id;
  const bool unlikely = operation->likely_empty && !readiness_.in_set(fd, id);
  if (unlikely || readiness_.must_wait(fd, id, Direction::kIn)) {
    return wait_ready(operation, Direction::kIn);
  }
  // With memory of its own there is nothing a second receive could be put into.
  const bool multishot = operation->multishot && operation->slice_count == 0;
  const bool messages = operation->messages;
  const int flags = MSG_DONTWAIT | (messages ? MSG_TRUNC : 0);  // it tells a message's length
  std::size_t taken = 0;
  for (int turn = 0; turn < kTurn && taken < kTurnBytes && !out.full(); ++turn) {
    Completion completion = completion_of(operation, 0);
    std::size_t asked = 0;
    const Result received = receive_once(buffers_, *operation, completion, [&](const Slice& into) {
      asked = into.length;
      const Result got = retried(calls_, [&] { return ::recv(fd, into.base, asked, flags); });
      return is_cut(*operation, got, asked) ? -EMSGSIZE : got;
    });
    if (received == -EAGAIN) {
      readiness_.exhausted(fd, id, Direction::kIn);
      return wait_ready(operation, Direction::kIn);
    }
    if (received <= 0) return finish(operation, received, out);

    // A short message says nothing of what follows it.
    const bool filled = messages || static_cast<std::size_t>(received) == asked;
    const bool emptied = !filled && readiness_.read_short(fd, id);
    const auto bytes = static_cast<std::size_t>(received);
    taken += bytes;
    operation->long_in_a_row = long_in_a_row_after(operation->long_in_a_row, bytes, filled);
    count_if_long(bytes);
    completion.result = received;
    completion.more = multishot;
    completion.more_data = filled;
    if (!multishot) {
      operation->lane_state = kDone;
      --in_flight_;
    }
    out.push(completion);
    if (!multishot) return;
    if (emptied) return wait_ready(operation, Direction::kIn);
  }
  make_runnable(operation);
}

/// A short send is reported as such. It does not count as a full socket: an error may have cut it
/// short, and then no edge would follow.
void EpollLane::send(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  if (is_empty_message(*operation)) return finish(operation, 0, out);
  if (readiness_.must_wait(fd, operation->descriptor_id, Direction::kOut)) {
    return wait_ready(operation, Direction::kOut);
  }
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (operation->more_follows ? MSG_MORE : 0);
  struct msghdr message = {};
  message.msg_iov = slices(operation);
  message.msg_iovlen = slice_count(operation);
  // One slice is the rule, and send(2) has no vector to copy and check.
  const Result sent = retried(calls_, [&] {
    return message.msg_iovlen == 1
               ? ::send(fd, message.msg_iov->iov_base, message.msg_iov->iov_len, flags)
               : ::sendmsg(fd, &message, flags);
  });
  if (sent != -EAGAIN) return finish_transfer(operation, sent, out);
  readiness_.exhausted(fd, operation->descriptor_id, Direction::kOut);
  wait_ready(operation, Direction::kOut);
}

/// What was received says nothing of what is left: the kernel stops where descriptors are.
void EpollLane::pass(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  const bool sends = operation->code == Opcode::kSendHandles;
  const Direction direction = direction_of(*operation);
  if (readiness_.must_wait(fd, operation->descriptor_id, direction)) {
    return wait_ready(operation, direction);
  }
  struct msghdr* header = passing_header(*operation);
  const int of_messages = operation->messages ? MSG_TRUNC : 0;
  Result result = retried(calls_, [&] {
    return sends ? ::sendmsg(fd, header, MSG_NOSIGNAL | MSG_DONTWAIT)
                 : ::recvmsg(fd, header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | of_messages);
  });
  if (result == -EAGAIN) {
    readiness_.exhausted(fd, operation->descriptor_id, direction);
    return wait_ready(operation, direction);
  }
  if (!sends && result >= 0) take_passed(*operation);
  if (is_cut(*operation, result, operation->slices->length)) result = -EMSGSIZE;
  finish(operation, result, out);
}

void EpollLane::shut_down(Operation* operation, Batch& out) {
  const int how = static_cast<int>(operation->flags);
  finish(operation, retried(calls_, [&] { return ::shutdown(fd_of(operation), how); }), out);
}

// ---- files to sockets -------------------------------------------------------------------------

/// A part at a time, and what may have to wait for a disk is the pool's. While a thread of the pool
/// is at it the socket counts as exhausted, so that an edge that comes meanwhile is remembered.
void EpollLane::send_file(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  if (readiness_.must_wait(fd, operation->descriptor_id, Direction::kOut)) {
    return wait_ready(operation, Direction::kOut);
  }
  calls_.add();
  if (!next_part_is_cached(*operation)) {
    readiness_.exhausted(fd, operation->descriptor_id, Direction::kOut);
    return hand_to_pool(operation);
  }
  calls_.add();
  const Result sent = send_part(*operation);
  if (sent != -EAGAIN) return finish_transfer(operation, sent, out);
  readiness_.exhausted(fd, operation->descriptor_id, Direction::kOut);
  wait_ready(operation, Direction::kOut);
}

/// The socket was full when the pool came to it: there is an edge to come, or it has come already
/// and the operation is tried again.
void EpollLane::sent_by_pool(Operation* operation, Result result) {
  const int fd = fd_of(operation);
  const std::uint64_t id = operation->descriptor_id;
  if (result != kNotWritable) {
    readiness_.replenished(fd, id, Direction::kOut);
    return finish(operation, result);
  }
  if (operation->lane_state == kLeavingPool) return finish(operation, -ECANCELED);
  if (!readiness_.in_set(fd, id) || readiness_.must_wait(fd, id, Direction::kOut)) {
    return wait_ready(operation, Direction::kOut);
  }
  make_runnable(operation);
}

// ---- files and pipes --------------------------------------------------------------------------

/// A small read of what is in the page cache costs less than handing it to another thread
/// (RWF_NOWAIT, preadv2(2), 4.14). Large ones are better copied by the pool, beside this thread.
/// A short result may mean that the rest is not cached; the pool then tells whether it is the end.
/// With O_DIRECT nothing is cached, and the flag does not help: the call waits for the device.
bool EpollLane::read_cached(Operation* operation, Batch& out) {
  constexpr std::size_t kSmall = 64 * 1024;
  if (operation->code != Opcode::kRead || operation->stream) return false;
  if (operation->flags & kOpenDirect) return false;
  std::size_t wanted = 0;
  for (std::size_t i = 0; i < slice_count(operation); ++i) wanted += operation->slices[i].length;
  if (wanted > kSmall) return false;
  calls_.add();
  const ssize_t got =
      call_preadv2(fd_of(operation), slices(operation), static_cast<int>(slice_count(operation)),
                   static_cast<off_t>(operation->offset), RWF_NOWAIT);
  if (got < 0 || static_cast<std::size_t>(got) < wanted) return false;
  finish_transfer(operation, got, out);
  return true;
}

/// Reads and writes of pipes, FIFOs and terminals. A FIFO that never had a writer reads as if at
/// its end; only an event tells that the end is one, so reads wait for one first. Short reads prove
/// nothing here: a terminal gives one line at a time. A write to a pipe without reader raises
/// SIGPIPE beside EPIPE; Node ignores the signal for the process.
void EpollLane::transfer(Operation* operation, Batch& out) {
  const int fd = fd_of(operation);
  const std::uint64_t id = operation->descriptor_id;
  const bool reading = operation->code == Opcode::kRead;
  const Direction direction = direction_of(*operation);
  const bool unknown = reading && !readiness_.in_set(fd, id);
  if (unknown || readiness_.must_wait(fd, id, direction)) return wait_ready(operation, direction);

  const int count = static_cast<int>(slice_count(operation));
  const Result moved = retried(calls_, [&] {
    return reading ? ::readv(fd, slices(operation), count) : ::writev(fd, slices(operation), count);
  });
  if (moved != -EAGAIN) return finish_transfer(operation, moved, out);
  readiness_.exhausted(fd, id, direction);
  wait_ready(operation, direction);
}

/// Closing takes the descriptor out of this lane's set and out of every other one's.
void EpollLane::close_now(Operation* operation, Batch& out) {
  readiness_.forget(fd_of(operation));
  calls_.add();
  // The number is free again even when a signal interrupted.
  const bool closed = ::close(fd_of(operation)) == 0 || errno == EINTR;
  finish(operation, closed ? 0 : -errno, out);
}

// ---- where an operation is --------------------------------------------------------------------

void EpollLane::make_runnable(Operation* operation) {
  const bool long_one = is_long(*operation);
  operation->lane_state = long_one ? kRunnableLong : kRunnable;
  (long_one ? long_ : short_).push_back(operation);
}

void EpollLane::wait_ready(Operation* operation, Direction direction) {
  const int fd = awaited_fd(*operation);
  // Entering the set reports at once what is ready already.
  if (!readiness_.in_set(fd, operation->descriptor_id)) quiet_ = false;
  const Result result = readiness_.await(operation, fd, direction);
  if (result == 0) {
    operation->lane_state = kWaiting;
    return;
  }
  // A stream that epoll does not support has to be waited for by trying.
  if (result == -EPERM && operation->stream) return hand_to_pool(operation);
  if (operation->code == Opcode::kConnect) drop_connection(operation);
  finish(operation, result);
}

void EpollLane::stop_waiting(Operation* operation) {
  readiness_.abandon(operation, awaited_fd(*operation), direction_of(*operation));
}

void EpollLane::hand_to_pool(Operation* operation) {
  operation->lane_state = kOnPool;
  pool_for(*operation).submit(operation, from_pool_);
}

void EpollLane::finish(Operation* operation, Result result, Batch& out) {
  assert(!out.full());
  operation->lane_state = kDone;
  --in_flight_;
  out.push(completion_of(operation, result));
}

void EpollLane::finish_transfer(Operation* operation, Result result, Batch& out) {
  if (result > 0) count_if_long(static_cast<std::size_t>(result));
  finish(operation, result, out);
}

/// Where a completion can't be handed out.
void EpollLane::finish(Operation* operation, Result result) {
  operation->lane_state = kDone;
  ready_.push(completion_of(operation, result));
}

}  // namespace cp::driver::epoll
