// How a lane on an I/O completion port begins each operation, and what its packet means. A call
// ends in one of three ways: it succeeded at once, it is with the kernel, or it failed. Which of
// them leave a packet differs: see `give_to_kernel` and each caller.
#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "driver/accept_errors.h"
#include "driver/errno.h"
#include "driver/iocp/iocp_lane.h"
#include "driver/iocp/pipe.h"
#include "driver/iocp/socket.h"
#include "driver/receive_once.h"
#include "driver/source_file.h"
#include "driver/windows/error.h"
#include "driver/windows/file.h"

namespace cp::driver::iocp {
namespace {

/// Completions of one multishot in a row, before the others get their turn.
constexpr int kTurn = 16;
/// Accepts that a multishot keeps with the kernel: so many connections can arrive between two looks
/// of the lane without waiting in the backlog for a socket to be made.
constexpr std::size_t kAcceptsAtOnce = 8;
/// Slices that one send hands over; the port continues short sends.
constexpr std::size_t kSlicesAtOnce = 64;
/// What is read of a file before it is sent: the memory each operation that sends a file takes.
constexpr std::uint64_t kFilePart = 64 * 1024;

HANDLE handle_of(const Operation* operation) {
  return reinterpret_cast<HANDLE>(operation->descriptor);
}

SOCKET socket_of(const Operation* operation) { return iocp::socket_of(operation->descriptor); }

ULONG clipped(std::size_t length) { return static_cast<ULONG>(std::min(length, kMaxTransfer)); }

void start_at(OVERLAPPED& overlapped, std::uint64_t offset) {
  overlapped.Offset = static_cast<DWORD>(offset);
  overlapped.OffsetHigh = static_cast<DWORD>(offset >> 32);
}

/// Some resets Windows tells as aborted connections (rule O8). ENOBUFS is the lane's word for a
/// pool without a free buffer, which a receive waits for: the system's memory is another's to free.
Result receive_error(Result error) {
  if (error == -ECONNABORTED) return -ECONNRESET;
  return error == -ENOBUFS ? -ENOMEM : error;
}

/// Writing what the cache takes, and whatever makes a file longer: Windows fills with zeros what
/// was skipped, gigabytes perhaps. (What lies below the end and was never written it fills, too,
/// and does not tell of: a file without buffering that `truncate` has lengthened.)
bool is_carried_out_in_the_call(const Operation& operation) {
  if (operation.code != Opcode::kWrite || operation.stream) return false;
  // A device may never take it: that is the kernel's to wait for, and to call back.
  if (::GetFileType(handle_of(&operation)) != FILE_TYPE_DISK) return false;
  if ((operation.flags & kOpenDirect) == 0) return true;
  std::uint64_t end = static_cast<std::uint64_t>(operation.offset);
  for (std::uint32_t i = 0; i < operation.slice_count; ++i) end += operation.slices[i].length;
  LARGE_INTEGER size;
  return !::GetFileSizeEx(handle_of(&operation), &size) ||
         end > static_cast<std::uint64_t>(size.QuadPart);
}

/// Wine sends a packet when a character device is at its end (NUL always is), though the call has
/// already said so. Windows does not: what fails at once is over.
bool under_wine() {
  static const bool found =
      ::GetProcAddress(::GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != nullptr;
  return found;
}

}  // namespace

bool leaves_packet(DWORD error) {
  switch (error) {
    case NO_ERROR:
    case ERROR_IO_PENDING:
    case ERROR_MORE_DATA:
      return true;
    case ERROR_HANDLE_EOF:
      return under_wine();
    default:
      return false;
  }
}

void IocpLane::start(Operation* operation) {
  switch (operation->code) {
    case Opcode::kAccept:
      return accept(operation);
    case Opcode::kConnect:
      return connect(operation);
    case Opcode::kReceive:
      if (operation->likely_empty) return wait_readable(operation);
      return receive(operation);
    case Opcode::kSend:
      return send(operation);
    case Opcode::kSendFile:
      return send_file(operation);
    case Opcode::kSendHandles:  // the library does not ask for them there
    case Opcode::kReceiveHandles:
      return finish(operation, -ENOTSUP);
    case Opcode::kShutdown:
      return shut_down(operation);
    case Opcode::kClose:
      return close(operation);
    case Opcode::kRead:
    case Opcode::kWrite:
      return transfer(operation);
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

void IocpLane::arrived(const Arrival& arrival) {
  assert(with_kernel_ > 0);
  --with_kernel_;
  Operation* operation = arrival.pending->operation;
  const bool succeeded = arrival.pending->succeeded();
  switch (operation->code) {
    case Opcode::kAccept:
      return accepted(*Accepting::of(arrival.pending));
    case Opcode::kConnect:
      return connected(operation, succeeded);
    case Opcode::kReceive:
      return received(operation, succeeded, arrival.bytes);
    case Opcode::kSend:
      return sent(operation, succeeded, arrival.bytes);
    case Opcode::kSendFile:
      return arrival.pending->sending ? part_sent(operation, succeeded, arrival.bytes)
                                      : part_read(operation, succeeded, arrival.bytes);
    case Opcode::kRead:
    case Opcode::kWrite:
      return transferred(operation, succeeded, arrival.bytes);
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
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
  assert(!"not an operation of the kernel's");
}

// ---- accepting --------------------------------------------------------------------------------

void IocpLane::accept(Operation* operation) {
  if (is_pipe(operation->descriptor)) return accept_clients(operation);
  auto acceptor = std::make_unique<Acceptor>();
  acceptor->operation = operation;
  acceptor->family = family_of(socket_of(operation));
  const std::size_t wanted = operation->multishot ? kAcceptsAtOnce : 1;
  for (std::size_t i = 0; i < wanted; ++i) {
    acceptor->accepts.push_back(std::make_unique<Accepting>());
  }
  operation->lane_state = kWithKernel;
  acceptors_.push_back(std::move(acceptor));
  accept_more(*acceptors_.back());
}

/// Keeps as many with the kernel as there are to be. For lack of sockets fewer will do; the
/// operation fails when it has none left.
void IocpLane::accept_more(Acceptor& acceptor) {
  int turn = 0;
  for (std::size_t i = 0; i < acceptor.accepts.size() && !acceptor.ending; ++i) {
    Accepting& accepting = *acceptor.accepts[i];
    if (accepting.busy) continue;
    const Result begun = accept_one(acceptor, accepting);
    if (begun == 0) continue;
    if (concerns_one_connection(begun) && ++turn < kTurn) {
      --i;
      continue;
    }
    if (acceptor.busy > 0) break;
    acceptor.ending = true;
    acceptor.end = begun;
  }
  if (acceptor.ending && acceptor.busy == 0) end_accept(acceptor);
}

/// A packet follows in any case: it is the listener's, which is not told to skip it.
Result IocpLane::accept_one(Acceptor& acceptor, Accepting& accepting) {
  const SOCKET listener = socket_of(acceptor.operation);
  const Result made = make_socket(acceptor.family);
  if (made < 0) return made;
  accepting.socket = socket_of(static_cast<Descriptor>(made));
  accepting.pending = {};
  accepting.pending.inbox = &inbox_;
  accepting.pending.operation = acceptor.operation;
  constexpr DWORD kAddressRoom = sizeof accepting.addresses / 2;
  DWORD bytes = 0;
  calls_.add();
  const LPFN_ACCEPTEX begin = accept_ex(listener);
  const bool done =
      begin != nullptr && begin(listener, accepting.socket, accepting.addresses, 0, kAddressRoom,
                                kAddressRoom, &bytes, &accepting.pending.overlapped);
  const DWORD error = begin == nullptr ? WSAEOPNOTSUPP : ::WSAGetLastError();
  if (!done && error != WSA_IO_PENDING) {
    ::closesocket(accepting.socket);
    accepting.socket = INVALID_SOCKET;
    return from_windows(error);
  }
  accepting.busy = true;
  ++acceptor.busy;
  ++with_kernel_;
  return 0;
}

void IocpLane::accepted(Accepting& accepting) {
  Operation* operation = accepting.pending.operation;
  Acceptor& acceptor = acceptor_of(operation);
  if (acceptor.pipe != nullptr) return client_came(accepting);
  const SOCKET listener = socket_of(operation);
  accepting.busy = false;
  --acceptor.busy;
  Result result = 0;
  if (accepting.pending.succeeded()) {
    result = adopt_accepted(port_, accepting.socket, listener);
  } else {
    DWORD bytes = 0, flags = 0;
    ::WSAGetOverlappedResult(listener, &accepting.pending.overlapped, &bytes, FALSE, &flags);
    result = last_error();
  }
  const SOCKET socket = std::exchange(accepting.socket, INVALID_SOCKET);
  if (result < 0) ::closesocket(socket);

  if (result == 0 && !operation->multishot) {
    acceptor.ending = true;
    acceptor.end = descriptor_of(socket);
  } else if (result == 0) {
    Completion completion = completion_of(operation, descriptor_of(socket));
    completion.more = true;
    ready_.push(completion);
  } else if (!acceptor.ending && !concerns_one_connection(result)) {
    // The first reason counts; the others are called back.
    cancel_accept(operation);
    acceptor.end = result;
  }
  accept_more(acceptor);
}

/// A connection that is accepted meanwhile is delivered all the same (rule O4).
void IocpLane::cancel_accept(Operation* operation) {
  Acceptor& acceptor = acceptor_of(operation);
  if (acceptor.ending) return;
  acceptor.ending = true;
  acceptor.end = -ECANCELED;
  for (const auto& accepting : acceptor.accepts) {
    if (!accepting->busy) continue;
    HANDLE on = acceptor.pipe != nullptr ? accepting->instance : handle_of(operation);
    calls_.add();
    ::CancelIoEx(on, &accepting->pending.overlapped);
  }
}

void IocpLane::end_accept(Acceptor& acceptor) {
  const auto same = [&](const auto& it) { return it.get() == &acceptor; };
  const auto it = std::find_if(acceptors_.begin(), acceptors_.end(), same);
  const std::unique_ptr<Acceptor> ended = std::move(*it);
  acceptors_.erase(it);
  if (ended->pipe != nullptr) keep_instance(*ended->pipe);
  finish(ended->operation, ended->end);
}

IocpLane::Acceptor& IocpLane::acceptor_of(const Operation* operation) {
  const auto of = [&](const auto& it) { return it->operation == operation; };
  return **std::find_if(acceptors_.begin(), acceptors_.end(), of);
}

// ---- connecting -------------------------------------------------------------------------------

void IocpLane::connect(Operation* operation) {
  if (!operation->target->path.empty()) return connect_to_pipe(operation);
  const Result made = make_socket(family_of(operation->target->peer));
  if (made < 0) return finish(operation, made);
  operation->lane_descriptor = static_cast<Descriptor>(made);
  bool done = false;
  const Result begun = begin_connect(operation, done);
  if (begun < 0) {
    ::closesocket(socket_of(operation->lane_descriptor));
    return finish(operation, begun);
  }
  if (done && skips_on_success()) return connected(operation, true);
  give_to_kernel(operation);
}

Result IocpLane::begin_connect(Operation* operation, bool& done) {
  const SOCKET socket = socket_of(operation->lane_descriptor);
  Result ready = prepare_connection(port_, socket);
  if (ready == 0) ready = set_all(socket, operation->target->settings);
  if (ready == 0) ready = bind_for_connect(socket, *operation->target);
  if (ready < 0) return ready;
  const LPFN_CONNECTEX begin = connect_ex(socket);
  if (begin == nullptr) return -ENOTSUP;
  const SocketAddress peer = reachable(operation->target->peer);
  refuse_at_once(socket, peer);
  const auto* address = reinterpret_cast<const sockaddr*>(peer.bytes);
  const auto length = static_cast<int>(peer.length);
  OVERLAPPED* overlapped = &begin_pending(operation).overlapped;
  calls_.add();
  done = begin(socket, address, length, nullptr, 0, nullptr, overlapped);
  return done || ::WSAGetLastError() == WSA_IO_PENDING ? 0 : last_error();
}

/// Without the update the socket knows neither its peer nor how to shut down.
void IocpLane::connected(Operation* operation, bool succeeded) {
  const SOCKET socket = socket_of(operation->lane_descriptor);
  Result result = 0;
  if (!succeeded) {
    result = failure_of(operation);
  } else if (::setsockopt(socket, SOL_SOCKET, SO_UPDATE_CONNECT_CONTEXT, nullptr, 0) != 0) {
    result = last_error();
  }
  if (result < 0) ::closesocket(socket);
  finish(operation, result < 0 ? result : operation->lane_descriptor);
}

// ---- receiving --------------------------------------------------------------------------------

/// Takes what is there. With memory of its own there is nothing a second receive could be put into.
void IocpLane::receive(Operation* operation) {
  const bool multishot = operation->multishot && operation->slice_count == 0;
  const bool pipe = is_pipe(operation->descriptor);
  std::size_t taken = 0;
  for (int turn = 0; turn < kTurn && taken < kTurnBytes; ++turn) {
    Completion completion = completion_of(operation, 0);
    ULONG asked = 0;
    const Result got = receive_once(buffers_, *operation, completion, [&](const Slice& into) {
      asked = clipped(into.length);
      calls_.add();
      if (pipe) return read_now(connection_of(operation->descriptor), into.base, asked);
      const int moved =
          ::recv(socket_of(operation), static_cast<char*>(into.base), static_cast<int>(asked), 0);
      return moved >= 0 ? Result{moved} : receive_error(last_error());
    });
    if (got == -EAGAIN) return wait_readable(operation);
    if (got <= 0) return finish(operation, got);

    taken += static_cast<std::size_t>(got);
    completion.result = got;
    completion.more = multishot;
    completion.more_data = static_cast<ULONG>(got) == asked;
    if (!multishot) operation->lane_state = kDone;
    ready_.push(completion);
    if (!multishot) return;
    if (!completion.more_data) return wait_readable(operation);
  }
  make_runnable(operation);
}

/// Without memory of its own it asks for nothing: a receive of no bytes completes when there are
/// some, and while the connection is idle no buffer is held, nor any page locked.
void IocpLane::wait_readable(Operation* operation) {
  if (is_pipe(operation->descriptor)) return wait_for_bytes(operation);
  WSABUF buffer = {0, nullptr};
  if (operation->slice_count > 0) {
    buffer = {clipped(operation->slices[0].length), static_cast<char*>(operation->slices[0].base)};
  }
  DWORD bytes = 0;
  DWORD flags = 0;
  OVERLAPPED* overlapped = &begin_pending(operation).overlapped;
  calls_.add();
  const bool done =
      ::WSARecv(socket_of(operation), &buffer, 1, &bytes, &flags, overlapped, nullptr) == 0;
  if (!done && ::WSAGetLastError() != WSA_IO_PENDING) {
    return finish(operation, receive_error(last_error()));
  }
  if (done && skips_on_success()) return received(operation, true, bytes);
  give_to_kernel(operation);
}

void IocpLane::received(Operation* operation, bool succeeded, DWORD bytes) {
  if (is_pipe(operation->descriptor)) return bytes_came(operation, succeeded, bytes);
  if (!succeeded) return finish(operation, receive_error(failure_of(operation)));
  if (operation->slice_count == 0) {
    // A cancel that came too late to stop the wait: the bytes stay where they are (rule O4).
    if (Pending::in(*operation).cancelled) return finish(operation, -ECANCELED);
    return make_runnable(operation);
  }
  Completion completion = completion_of(operation, bytes);
  completion.more_data = bytes > 0 && bytes == clipped(operation->slices[0].length);
  operation->lane_state = kDone;
  ready_.push(completion);
}

// ---- sending ----------------------------------------------------------------------------------

/// Windows copies the array of buffers before the call returns; their memory it uses till the end.
/// It refuses an array of none: where nothing is to be sent there is an empty one.
void IocpLane::send(Operation* operation) {
  if (is_pipe(operation->descriptor)) return send_to_pipe(operation);
  std::array<WSABUF, kSlicesAtOnce> buffers;
  buffers[0] = {0, nullptr};
  DWORD count = 0;
  std::size_t room = kMaxTransfer;
  for (; count < operation->slice_count && count < buffers.size() && room > 0; ++count) {
    const Slice& slice = operation->slices[count];
    const ULONG length = clipped(std::min(slice.length, room));
    buffers[count] = {length, static_cast<char*>(slice.base)};
    room -= length;
  }
  DWORD bytes = 0;
  OVERLAPPED* overlapped = &begin_pending(operation).overlapped;
  calls_.add();
  const bool done = ::WSASend(socket_of(operation), buffers.data(), std::max<DWORD>(count, 1),
                              &bytes, 0, overlapped, nullptr) == 0;
  if (!done && ::WSAGetLastError() != WSA_IO_PENDING) return finish(operation, last_error());
  if (done && skips_on_success()) return sent(operation, true, bytes);
  give_to_kernel(operation);
}

/// One that was cancelled may have sent a part.
void IocpLane::sent(Operation* operation, bool succeeded, DWORD bytes) {
  if (is_pipe(operation->descriptor)) return wrote_to_pipe(operation, succeeded, bytes);
  finish(operation, succeeded || bytes > 0 ? bytes : failure_of(operation));
}

/// Of a pipe the peer hears nothing of it: see pipe.h.
void IocpLane::shut_down(Operation* operation) {
  if (is_pipe(operation->descriptor)) {
    connection_of(operation->descriptor).refuse(-EPIPE);
    return finish(operation, 0);
  }
  calls_.add();
  const int how = static_cast<int>(operation->flags);
  finish(operation, ::shutdown(socket_of(operation), how) == 0 ? 0 : last_error());
}

// ---- files to sockets -------------------------------------------------------------------------

/// A part is read, and then sent as any send is. TransmitFile would spare the copy, but does not
/// tell how far it came when it is cancelled: another thread could not go on with the rest (rule
/// T1), and what follows would follow a gap.
void IocpLane::send_file(Operation* operation) {
  if (operation->length == 0) return finish(operation, 0);
  if (is_pipe(operation->descriptor)) {
    const std::int32_t refusal = connection_of(operation->descriptor).refusal;
    if (refusal != 0) return finish(operation, refusal);
  }
  const auto length = static_cast<DWORD>(std::min<std::uint64_t>(operation->length, kFilePart));
  Pending& state = begin_pending(operation);
  state.part = new (std::nothrow) std::uint8_t[length];
  if (state.part == nullptr) return finish(operation, -ENOMEM);
  start_at(state.overlapped, static_cast<std::uint64_t>(operation->offset));
  HANDLE file = reinterpret_cast<HANDLE>(operation->file->descriptor);
  calls_.add();
  const bool done = ::ReadFile(file, state.part, length, nullptr, &state.overlapped);
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (leaves_packet(error)) return give_to_kernel(operation);
  finish_part(operation, error == ERROR_HANDLE_EOF
                             ? 0
                             : transfer_error(from_windows(error), Opcode::kSendFile));
}

/// Nothing of what was read has been sent when the operation was cancelled meanwhile.
void IocpLane::part_read(Operation* operation, bool succeeded, DWORD bytes) {
  Pending& state = Pending::in(*operation);
  if (!succeeded || bytes == 0) {
    DWORD moved = 0;
    HANDLE file = reinterpret_cast<HANDLE>(operation->file->descriptor);
    const bool read = ::GetOverlappedResult(file, &state.overlapped, &moved, FALSE);
    const DWORD error = read ? NO_ERROR : ::GetLastError();
    const bool at_end = read || error == ERROR_HANDLE_EOF;
    const Result failed = transfer_error(from_windows(error), Opcode::kSendFile);
    return finish_part(operation, at_end ? 0 : failed);
  }
  if (state.cancelled) return finish_part(operation, -ECANCELED);
  state.overlapped = {};
  state.sending = true;
  if (is_pipe(operation->descriptor)) return write_to_pipe(operation, state.part, bytes);
  WSABUF buffer = {bytes, reinterpret_cast<char*>(state.part)};
  DWORD sent = 0;
  calls_.add();
  const bool done =
      ::WSASend(socket_of(operation), &buffer, 1, &sent, 0, &state.overlapped, nullptr) == 0;
  if (!done && ::WSAGetLastError() != WSA_IO_PENDING) return finish_part(operation, last_error());
  if (done && skips_on_success()) return part_sent(operation, true, sent);
  give_to_kernel(operation);
}

void IocpLane::part_sent(Operation* operation, bool succeeded, DWORD bytes) {
  if (is_pipe(operation->descriptor)) return wrote_to_pipe(operation, succeeded, bytes);
  finish_part(operation, succeeded || bytes > 0 ? bytes : failure_of(operation));
}

/// No call of the kernel's has the part any more.
void IocpLane::finish_part(Operation* operation, Result result) {
  delete[] std::exchange(Pending::in(*operation).part, nullptr);
  finish(operation, result);
}

// ---- files and pipes --------------------------------------------------------------------------

void IocpLane::transfer(Operation* operation) {
  if (operation->slice_count == 0) return finish(operation, 0);
  if (is_carried_out_in_the_call(*operation)) return hand_to_pool(operation);
  begin_pending(operation);
  transfer_slice(operation);
}

/// One slice a call: reading into several is for whole pages of unbuffered files only. A packet
/// follows success, too: files are not told to skip it, because some file systems can't.
void IocpLane::transfer_slice(Operation* operation) {
  Pending& state = Pending::in(*operation);
  const Slice& slice = operation->slices[state.slices_done];
  const auto at = static_cast<std::uint64_t>(operation->offset) + state.done;
  state.overlapped = {};
  if (!operation->stream) start_at(state.overlapped, at);
  const DWORD length = clipped(slice.length);
  HANDLE handle = handle_of(operation);
  calls_.add();
  const BOOL done = operation->code == Opcode::kRead
                        ? ::ReadFile(handle, slice.base, length, nullptr, &state.overlapped)
                        : ::WriteFile(handle, slice.base, length, nullptr, &state.overlapped);
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (leaves_packet(error)) return give_to_kernel(operation);
  if (error == ERROR_HANDLE_EOF) return finish(operation, static_cast<Result>(state.done));
  const Result failed = transfer_error(from_windows(error), operation->code);
  finish(operation, state.done > 0 ? static_cast<Result>(state.done) : failed);
}

/// Reading goes on with the next slice while each is filled; a short write is continued by the
/// port. A message longer than the buffer (ERROR_MORE_DATA, a warning) leaves the rest in the pipe.
void IocpLane::transferred(Operation* operation, bool succeeded, DWORD bytes) {
  Pending& state = Pending::in(*operation);
  bytes = bytes_moved(state.overlapped, bytes);
  state.done += bytes;
  if (!succeeded && bytes == 0) {
    DWORD moved = 0;
    ::GetOverlappedResult(handle_of(operation), &state.overlapped, &moved, FALSE);
    const DWORD error = ::GetLastError();
    const bool at_end = error == ERROR_HANDLE_EOF || state.done > 0;
    if (at_end) return finish(operation, static_cast<Result>(state.done));
    return finish(operation, transfer_error(from_windows(error), operation->code));
  }
  const bool filled = bytes == operation->slices[state.slices_done].length;
  const bool more = succeeded && filled && !state.cancelled && operation->code == Opcode::kRead &&
                    !operation->stream && state.slices_done + 1 < operation->slice_count;
  if (!more) return finish(operation, static_cast<Result>(state.done));
  ++state.slices_done;
  transfer_slice(operation);
}

/// Closing a file can wait for a disk or a server; a socket or pipe has none.
void IocpLane::close(Operation* operation) {
  if (!operation->stream) return hand_to_pool(operation);
  calls_.add();
  if (is_pipe(operation->descriptor)) {
    delete pipe_of(operation->descriptor);
    return finish(operation, 0);
  }
  finish(operation, close_anything(operation->descriptor));
}

/// Binds what the pool has opened to the kernel port. A console, for one, can't be.
Result IocpLane::take_over(Operation* operation, Descriptor opened) {
  Result result = file_kind_of(opened, operation->file_kind);
  if (result == 0) result = port_.associate(opened);
  if (result == 0) return opened;
  close_anything(opened);
  return result;
}

// ---- where an operation is --------------------------------------------------------------------

Pending& IocpLane::begin_pending(Operation* operation) {
  auto* made = new (operation->lane_scratch.make()) Pending;
  made->inbox = &inbox_;
  made->operation = operation;
  return *made;
}

/// The kernel owes a packet: the call said so, or it succeeded where success is not skipped.
void IocpLane::give_to_kernel(Operation* operation) {
  operation->lane_state = kWithKernel;
  ++with_kernel_;
}

/// CancelIoEx finds nothing (ERROR_NOT_FOUND) when the operation has just completed: its packet is
/// on the way then, and tells.
void IocpLane::call_back(Operation* operation) {
  if (operation->code == Opcode::kAccept) return cancel_accept(operation);
  Pending& pending = Pending::in(*operation);
  const bool connecting = operation->code == Opcode::kConnect;
  const bool reading = operation->code == Opcode::kSendFile && !pending.sending;
  const Descriptor on = connecting ? operation->lane_descriptor
                        : reading  ? operation->file->descriptor
                                   : operation->descriptor;
  pending.cancelled = true;
  calls_.add();
  ::CancelIoEx(kernel_handle(on), &pending.overlapped);
}

/// Asked of Winsock, which knows what the status of the packet is called in its own terms.
Result IocpLane::failure_of(const Operation* operation) const {
  const bool connecting = operation->code == Opcode::kConnect;
  const Descriptor on = connecting ? operation->lane_descriptor : operation->descriptor;
  auto& overlapped = Pending::in(const_cast<Operation&>(*operation)).overlapped;
  DWORD bytes = 0, flags = 0;
  ::WSAGetOverlappedResult(socket_of(on), &overlapped, &bytes, FALSE, &flags);
  const Result error = last_error();
  return error < 0 ? error : -EIO;
}

void IocpLane::make_runnable(Operation* operation) {
  operation->lane_state = kRunnable;
  runnable_.push_back(operation);
}

void IocpLane::hand_to_pool(Operation* operation) {
  operation->lane_state = kOnPool;
  pool_.submit(operation, from_pool_);
}

void IocpLane::finish(Operation* operation, Result result) {
  operation->lane_state = kDone;
  ready_.push(completion_of(operation, result));
}

}  // namespace cp::driver::iocp
