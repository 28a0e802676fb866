// How a lane on io_uring begins each operation, and what its completion means. An operation ends in
// one of four ways: it is with the kernel, on the blocking pool, finished at once, or runnable (a
// file whose next part this thread sends).
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <new>

#include "driver/blocking/blocking_calls.h"
#include "driver/linux/file.h"
#include "driver/linux/passing.h"
#include "driver/linux/send_file.h"
#include "driver/linux/socket.h"
#include "driver/uring/uring_lane.h"
#include "driver/uring/user_data.h"

namespace cp::driver::uring {
namespace {

/// One read or write moves at most this many bytes: MAX_RW_COUNT, read(2).
constexpr std::size_t kMaxTransfer = 0x7ffff000;

int fd_of(const Operation* operation) { return static_cast<int>(operation->descriptor); }

std::uint32_t clipped(std::size_t length) {
  return static_cast<std::uint32_t>(std::min(length, kMaxTransfer));
}

}  // namespace

void UringLane::start(Operation* operation) {
  switch (operation->code) {
    case Opcode::kAccept:  // the listener may come from a port on epoll
      calls_.add();
      set_blocking(fd_of(operation), true);
      return give_to_kernel(operation);
    case Opcode::kConnect:
      return connect(operation);
    case Opcode::kSend:
      if (is_empty_message(*operation)) return finish(operation, 0);
      return give_to_kernel(operation);
    case Opcode::kReceive:
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
      return give_to_kernel(operation);
    case Opcode::kSendFile:
      return make_runnable(operation);
    case Opcode::kShutdown:
      return shut_down(operation);
    case Opcode::kClose:
      return give_to_kernel(operation);
    case Opcode::kRead:
      // A FIFO nobody has written to yet reads as ended; polling waits for its first writer.
      if (operation->stream && operation->pollable) return wait_ready(operation);
      return give_to_kernel(operation);
    case Opcode::kOpen:
      // With these OPENAT always goes to a kernel thread, of which there are few, and which a FIFO
      // without a reader keeps.
      if ((operation->flags & (kOpenCreate | kOpenTruncate)) != 0) return hand_to_pool(operation);
      return give_to_kernel(operation);
    case Opcode::kWrite:
    case Opcode::kSync:
    case Opcode::kDataSync:
    case Opcode::kAllocate:
      return give_to_kernel(operation);
    case Opcode::kTruncate:  // FTRUNCATE is newer than what we ask for (6.9)
    case Opcode::kSetMode:   // these three the ring does not know
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:  // STATX would always go to a kernel thread
      return hand_to_pool(operation);
  }
}

// ---- entries of the ring ----------------------------------------------------------------------

void UringLane::give_to_kernel(Operation* operation) {
  operation->lane_state = kWithKernel;
  Sqe& entry = *sqe();
  entry.fd = fd_of(operation);
  entry.user_data = user_data(operation);
  fill(entry, *operation);
}

void UringLane::fill(Sqe& entry, Operation& operation) {
  switch (operation.code) {
    case Opcode::kAccept:
      return fill_accept(entry, operation);
    case Opcode::kConnect:
      return fill_connect(entry, operation);
    case Opcode::kReceive:
      return fill_receive(entry, operation);
    case Opcode::kSend:
      return fill_send(entry, operation);
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
      return fill_passing(entry, operation);
    case Opcode::kClose:
      entry.opcode = kOpClose;
      return;
    case Opcode::kRead:
    case Opcode::kWrite:
      return fill_transfer(entry, operation);
    case Opcode::kOpen:
      return fill_open(entry, operation);
    case Opcode::kSync:
      entry.opcode = kOpFsync;
      return;
    case Opcode::kDataSync:
      entry.opcode = kOpFsync;
      entry.op_flags = kFsyncDatasync;
      return;
    case Opcode::kAllocate:
      entry.opcode = kOpFallocate;
      entry.offset = static_cast<std::uint64_t>(operation.offset);
      entry.address = operation.length;
      return;
    case Opcode::kSendFile:
    case Opcode::kShutdown:
    case Opcode::kTruncate:
    case Opcode::kSetMode:
    case Opcode::kSetOwner:
    case Opcode::kSetTimes:
    case Opcode::kStat:
      break;
  }
  assert(!"not an operation of the ring's");
  entry.opcode = kOpNop;
}

void UringLane::fill_open(Sqe& entry, Operation& operation) {
  entry.opcode = kOpOpenat;
  entry.fd = AT_FDCWD;
  entry.address = address_of(operation.path);
  entry.length = operation.mode;
  entry.op_flags = static_cast<std::uint32_t>(open_flags(operation.flags));
}

void UringLane::fill_transfer(Sqe& entry, Operation& operation) {
  const bool reads = operation.code == Opcode::kRead;
  // -1: the descriptor has no positions. With one, that offset would race with other operations.
  entry.offset = operation.stream ? ~0ull : static_cast<std::uint64_t>(operation.offset);
  if (operation.slice_count != 1) {
    entry.opcode = reads ? kOpReadv : kOpWritev;
    entry.address = address_of(operation.slices);
    entry.length = operation.slice_count;
    return;
  }
  entry.opcode = reads ? kOpRead : kOpWrite;
  entry.address = address_of(operation.slices->base);
  entry.length = clipped(operation.slices->length);
  if (!(operation.flags & kOpenDirect)) return;
  const int index = registered_.index_of(operation.chunk);
  if (index < 0) return;
  entry.opcode = reads ? kOpReadFixed : kOpWriteFixed;
  entry.buffer = static_cast<std::uint16_t>(index);
}

void UringLane::fill_accept(Sqe& entry, Operation& operation) {
  entry.opcode = kOpAccept;
  entry.op_flags = SOCK_CLOEXEC;  // not SOCK_NONBLOCK: io_uring would answer EAGAIN instead of wait
  if (operation.multishot) entry.ioprio = kAcceptMultishot;
}

void UringLane::fill_connect(Sqe& entry, Operation& operation) {
  entry.opcode = kOpConnect;
  entry.fd = static_cast<std::int32_t>(operation.lane_descriptor);
  entry.address = address_of(operation.target->peer.bytes);
  entry.offset = operation.target->peer.length;
}

void UringLane::fill_receive(Sqe& entry, Operation& operation) {
  entry.opcode = kOpRecv;
  if (operation.likely_empty) entry.ioprio |= kReceivePollFirst;
  if (operation.messages) entry.op_flags = MSG_TRUNC;  // the result is the message's length
  if (operation.slice_count > 0) {
    entry.address = address_of(operation.slices->base);
    entry.length = clipped(operation.slices->length);
    return;
  }
  provided_.expect_receive();
  entry.flags = kSqeBufferSelect;
  entry.buffer = ProvidedBuffers::kGroup;
  // A message that is too long ends the operation, which the kernel would go on with. So does any
  // piece of a greedy peer's: see heed_length.
  const bool one = operation.messages || operation.long_in_a_row == kGreedy;
  if (operation.multishot && !one) entry.ioprio |= kReceiveMultishot;
}

/// MSG_WAITALL makes the kernel continue a short send by itself (5.19).
void UringLane::fill_send(Sqe& entry, Operation& operation) {
  entry.op_flags = MSG_NOSIGNAL | MSG_WAITALL | (operation.more_follows ? MSG_MORE : 0);
  if (operation.slice_count == 1) {
    entry.opcode = kOpSend;
    entry.address = address_of(operation.slices->base);
    entry.length = clipped(operation.slices->length);
    return;
  }
  static_assert(sizeof(msghdr) <= Scratch::kSize);
  auto* header = new (operation.lane_scratch.make()) msghdr{};
  header->msg_iov = reinterpret_cast<iovec*>(operation.slices);
  header->msg_iovlen = std::min<std::size_t>(operation.slice_count, 1024);  // IOV_MAX
  entry.opcode = kOpSendmsg;
  entry.address = address_of(header);
  entry.length = 1;
}

/// Without MSG_WAITALL: before 6.5 the kernel sent the descriptors again with the rest.
void UringLane::fill_passing(Sqe& entry, Operation& operation) {
  const bool sends = operation.code == Opcode::kSendHandles;
  const int of_messages = operation.messages ? MSG_TRUNC : 0;
  entry.opcode = sends ? kOpSendmsg : kOpRecvmsg;
  entry.op_flags =
      static_cast<std::uint32_t>(sends ? MSG_NOSIGNAL : MSG_CMSG_CLOEXEC | of_messages);
  entry.address = address_of(passing_header(operation));
  entry.length = 1;
}

// ---- sockets ----------------------------------------------------------------------------------

void UringLane::connect(Operation* operation) {
  calls_.add();
  const Result socket = open_for_connect(*operation->target, true);
  if (socket < 0) return finish(operation, socket);
  operation->lane_descriptor = static_cast<Descriptor>(socket);
  give_to_kernel(operation);
}

/// Never blocks; SHUTDOWN would go to a kernel thread.
void UringLane::shut_down(Operation* operation) {
  calls_.add();
  const int result = shutdown(fd_of(operation), static_cast<int>(operation->flags));
  finish(operation, result < 0 ? -errno : 0);
}

// ---- receives that bring much -----------------------------------------------------------------

/// Once at a multishot receive, the kernel fills 33 buffers before it looks at another socket, and
/// before 6.8 as many as there are: a megabyte of one connection, which the messages of all others
/// wait for. That of a peer which sends faster than is received is called back, begun again for a
/// single piece (`ended_unasked`), and ends with each, as long as it is so.
void UringLane::heed_length(Operation& operation, const Completion& received) {
  const std::uint8_t before = operation.long_in_a_row;
  const auto bytes = static_cast<std::size_t>(std::max<Result>(received.result, 0));
  operation.long_in_a_row = long_in_a_row_after(before, bytes, received.more_data);
  const bool found_out = before < kGreedy && operation.long_in_a_row == kGreedy;
  if (found_out && operation.lane_state == kWithKernel) cancel_in_ring(&operation);
}

// ---- files to sockets -------------------------------------------------------------------------

/// After the ring's own operations were begun. A part of each: who has more to send comes again.
void UringLane::send_files() {
  for (std::size_t i = runnable_.size(); i > 0; --i) send_file(runnable_.pop_front());
}

void UringLane::send_file(Operation* operation) {
  calls_.add();
  if (!next_part_is_cached(*operation)) return hand_to_pool(operation);
  calls_.add();
  const Result sent = send_part(*operation);
  if (sent == -EAGAIN) return wait_ready(operation);
  finish(operation, sent);
}

void UringLane::sent_by_pool(Operation* operation, Result result) {
  if (result != kNotWritable) return finish(operation, result);
  if (operation->lane_state == kLeavingPool) return finish(operation, -ECANCELED);
  wait_ready(operation);
}

// ---- what the ring does not finish by itself --------------------------------------------------

/// Whether there is no completion to tell of yet.
bool UringLane::goes_on(Operation& operation, Result result) {
  return try_elsewhere(operation, result) || ended_unasked(operation, result);
}

/// A poll of the ring tells of a peer that has ended its side, though nobody asks: the kernel adds
/// EPOLLRDHUP (IO_POLL_UNMASK). It would do so at once, again and again, until that peer reads.
static bool tells_of_peer_alone(Result events) {
  return events > 0 && (events & (POLLOUT | POLLERR | POLLHUP)) == 0;
}

/// A poll is followed by what it was for. The pool takes what is not to be waited for here: a
/// duplicate of a non-blocking descriptor, and the writing end of a FIFO without a reader (OPENAT
/// tries with O_NONBLOCK first, and ENXIO is its answer).
bool UringLane::try_elsewhere(Operation& operation, Result result) {
  if (operation.lane_state == kWaiting && (result >= 0 || result == -ETIME)) {
    if (operation.code == Opcode::kSendFile) {
      tells_of_peer_alone(result) ? wait_a_while(&operation) : make_runnable(&operation);
    } else {
      give_to_kernel(&operation);
    }
    return true;
  }
  if (operation.lane_state != kWithKernel) return false;
  const bool transfer = operation.code == Opcode::kRead || operation.code == Opcode::kWrite;
  const bool not_ready = transfer && operation.stream && result == -EAGAIN;
  const bool no_reader = operation.code == Opcode::kOpen && result == -ENXIO;
  if (!not_ready && !no_reader) return false;
  hand_to_pool(&operation);
  return true;
}

/// What a thread on an errand had submitted, and that thread has exited; or the lane called it back
/// (heed_length).
bool UringLane::ended_unasked(Operation& operation, Result result) {
  if (result != -ECANCELED) return false;
  if (operation.lane_state == kWaiting) {
    wait_ready(&operation);
  } else if (operation.lane_state == kWithKernel) {
    give_to_kernel(&operation);
  } else {
    return false;
  }
  return true;
}

void UringLane::opened(Operation& operation, Completion& out) {
  if (operation.code == Opcode::kReceiveHandles && out.result >= 0) take_passed(operation);
  if (operation.code == Opcode::kConnect) {
    const int fd = static_cast<int>(operation.lane_descriptor);
    if (out.result >= 0) {
      out.result = fd;
    } else {
      calls_.add();
      close(fd);
    }
    operation.lane_descriptor = kNoDescriptor;
  }
  if (operation.code == Opcode::kOpen && out.result >= 0) {
    calls_.add();
    const int fd = static_cast<int>(out.result);
    const Result mode = mode_of(fd);
    if (mode >= 0) operation.file_kind = file_kind_of(fd, static_cast<mode_t>(mode));
  }
}

// ---- where an operation is --------------------------------------------------------------------

void UringLane::make_runnable(Operation* operation) {
  operation->lane_state = kRunnable;
  runnable_.push_back(operation);
}

/// Until its descriptor can be read, or, of what sends a file, written.
void UringLane::wait_ready(Operation* operation) {
  operation->lane_state = kWaiting;
  Sqe& entry = *sqe();
  entry.opcode = kOpPollAdd;
  entry.fd = fd_of(operation);
  entry.op_flags = operation->code == Opcode::kSendFile ? POLLOUT : POLLIN;
  entry.user_data = user_data(operation);
}

/// Then it is tried again, whether its descriptor is ready or not.
void UringLane::wait_a_while(Operation* operation) {
  static constexpr Timespec kWhile = {0, 5'000'000};
  operation->lane_state = kWaiting;
  Sqe& entry = *sqe();
  entry.opcode = kOpTimeout;
  entry.fd = -1;
  entry.address = address_of(&kWhile);
  entry.length = 1;
  entry.user_data = user_data(operation);
}

void UringLane::hand_to_pool(Operation* operation) {
  operation->lane_state = kOnPool;
  pool_.submit(operation, from_pool_);
}

void UringLane::finish(Operation* operation, Result result) {
  operation->lane_state = kDone;
  ready_.push(completion_of(operation, result));
}

}  // namespace cp::driver::uring
