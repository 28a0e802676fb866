// What a lane on an I/O completion port does with named pipes where that differs from sockets. No
// call on a pipe is told to skip its packet on success, so what has succeeded at once is with the
// kernel, too, until the packet is there.
#include <algorithm>
#include <cassert>
#include <memory>
#include <utility>

#include "driver/errno.h"
#include "driver/iocp/iocp_lane.h"
#include "driver/iocp/pipe.h"
#include "driver/windows/error.h"

namespace cp::driver::iocp {
namespace {

DWORD part_of(std::size_t length) {
  return static_cast<DWORD>(std::min<std::size_t>(length, kPipePart));
}

}  // namespace

// ---- accepting --------------------------------------------------------------------------------

void IocpLane::accept_clients(Operation* operation) {
  auto acceptor = std::make_unique<Acceptor>();
  acceptor->operation = operation;
  acceptor->pipe = &listener_of(operation->descriptor);
  operation->lane_state = kWithKernel;
  acceptors_.push_back(std::move(acceptor));
  await_clients(*acceptors_.back());
}

/// Waits at each instance there is, since a client gets whichever Windows finds first, and keeps
/// several for clients to come where many are wanted.
void IocpLane::await_clients(Acceptor& acceptor) {
  PipeListener& listener = *acceptor.pipe;
  while (!acceptor.ending && !listener.connected.empty()) {
    HANDLE instance = listener.connected.front();
    listener.connected.pop_front();
    take_client(acceptor, instance);
  }
  const std::size_t wanted = acceptor.operation->multishot ? kInstancesAtOnce : 1;
  while (!acceptor.ending && (acceptor.busy < wanted || !listener.waiting.empty())) {
    const Result begun = await_client(acceptor);
    if (begun == 0) continue;
    if (acceptor.busy > 0) break;
    acceptor.ending = true;
    acceptor.end = begun;
  }
  if (acceptor.ending && acceptor.busy == 0) end_accept(acceptor);
}

/// A client may be there before it is asked for (ERROR_PIPE_CONNECTED), and may even have left
/// (ERROR_NO_DATA): what it has written is in the pipe all the same.
Result IocpLane::await_client(Acceptor& acceptor) {
  PipeListener& listener = *acceptor.pipe;
  HANDLE instance = nullptr;
  if (!listener.waiting.empty()) {
    instance = listener.waiting.front();
    listener.waiting.pop_front();
  } else {
    calls_.add();
    const Result made = listener.make_instance(port_, false);
    if (made < 0) return made;
    instance = reinterpret_cast<HANDLE>(static_cast<Descriptor>(made));
  }
  Accepting& accepting = idle_accepting(acceptor);
  accepting.pending = {};
  accepting.pending.inbox = &inbox_;
  accepting.pending.operation = acceptor.operation;
  calls_.add();
  const bool done = ::ConnectNamedPipe(instance, &accepting.pending.overlapped) != 0;
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (leaves_packet(error)) {
    accepting.instance = instance;
    accepting.busy = true;
    ++acceptor.busy;
    ++with_kernel_;
    return 0;
  }
  if (error == ERROR_PIPE_CONNECTED || error == ERROR_NO_DATA) {
    take_client(acceptor, instance);
    return 0;
  }
  ::CloseHandle(instance);
  return from_windows(error);
}

Accepting& IocpLane::idle_accepting(Acceptor& acceptor) {
  for (const auto& accepting : acceptor.accepts) {
    if (!accepting->busy) return *accepting;
  }
  acceptor.accepts.push_back(std::make_unique<Accepting>());
  return *acceptor.accepts.back();
}

/// The instance becomes a connection. An accept of one has what it wants then, and lets the others
/// wait for the next.
void IocpLane::take_client(Acceptor& acceptor, HANDLE instance) {
  Operation* operation = acceptor.operation;
  const Result made = make_pipe_connection(instance);
  if (operation->multishot && made >= 0) {
    Completion completion = completion_of(operation, made);
    completion.more = true;
    ready_.push(completion);
    return;
  }
  cancel_accept(operation);
  acceptor.end = made;
}

void IocpLane::client_came(Accepting& accepting) {
  Operation* operation = accepting.pending.operation;
  Acceptor& acceptor = acceptor_of(operation);
  PipeListener& listener = *acceptor.pipe;
  HANDLE instance = std::exchange(accepting.instance, INVALID_HANDLE_VALUE);
  accepting.busy = false;
  --acceptor.busy;
  const DWORD error =
      accepting.pending.succeeded() ? NO_ERROR : error_of(instance, accepting.pending.overlapped);
  const bool has_one = acceptor.ending && acceptor.end >= 0 && !operation->multishot;
  switch (error) {
    case NO_ERROR:
    case ERROR_PIPE_CONNECTED:
    case ERROR_NO_DATA:
      if (has_one) {
        listener.connected.push_back(instance);
      } else {
        take_client(acceptor, instance);  // also when it was cancelled meanwhile (rule O4)
      }
      break;
    case ERROR_OPERATION_ABORTED:
      listener.waiting.push_back(instance);
      break;
    default:
      ::CloseHandle(instance);
      if (acceptor.ending) break;
      cancel_accept(operation);
      acceptor.end = from_windows(error);
  }
  await_clients(acceptor);
}

/// Nobody else is to have the name between two accepts, and a client that comes meanwhile is to
/// find an instance. Without one, for lack of memory, the next accept makes it.
void IocpLane::keep_instance(PipeListener& listener) {
  if (!listener.waiting.empty() || !listener.connected.empty()) return;
  const Result made = listener.make_instance(port_, false);
  if (made < 0) return;
  listener.waiting.push_back(reinterpret_cast<HANDLE>(static_cast<Descriptor>(made)));
}

// ---- connecting -------------------------------------------------------------------------------

/// Opening one may wait for its server.
void IocpLane::connect_to_pipe(Operation* operation) {
  for (const SocketSetting& setting : operation->target->settings) {
    const Result result = set_pipe_option(setting.option);
    if (result < 0) return finish(operation, result);
  }
  hand_to_pool(operation);
}

/// What the pool has opened. Who wants a pipe of one direction opens it as a file.
Result IocpLane::take_over_pipe(Descriptor opened) {
  const Result bound = port_.associate(opened);
  if (bound == 0) return make_pipe_connection(reinterpret_cast<HANDLE>(opened));
  ::CloseHandle(reinterpret_cast<HANDLE>(opened));
  return bound;
}

// ---- receiving and sending --------------------------------------------------------------------

/// As wait_readable of a socket: a read of no bytes is over when there are some.
void IocpLane::wait_for_bytes(Operation* operation) {
  static char nothing;
  const bool own = operation->slice_count > 0;
  void* into = own ? operation->slices[0].base : &nothing;
  const DWORD length = own ? part_of(operation->slices[0].length) : 0;
  OVERLAPPED* overlapped = &begin_pending(operation).overlapped;
  HANDLE handle = connection_of(operation->descriptor).handle;
  calls_.add();
  const BOOL done = ::ReadFile(handle, into, length, nullptr, overlapped);
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (leaves_packet(error)) return give_to_kernel(operation);
  finish(operation, read_error(error));
}

/// A peer that writes nothing ends a wait, and that is not the end of what it sends.
void IocpLane::bytes_came(Operation* operation, bool succeeded, DWORD bytes) {
  PipeConnection& pipe = connection_of(operation->descriptor);
  Pending& pending = Pending::in(*operation);
  bytes = bytes_moved(pending.overlapped, bytes);
  if (!succeeded && bytes == 0) {
    const DWORD error = error_of(pipe.handle, pending.overlapped);
    if (error != ERROR_MORE_DATA) return finish(operation, read_error(error));
  }
  if (operation->slice_count == 0 || bytes == 0) {
    if (pending.cancelled) return end_wait(operation);
    if (operation->slice_count > 0) return wait_for_bytes(operation);
    return make_runnable(operation);
  }
  pipe.moved.fetch_add(bytes, std::memory_order_relaxed);
  Completion completion = completion_of(operation, bytes);
  completion.more_data = bytes == part_of(operation->slices[0].length);
  operation->lane_state = kDone;
  ready_.push(completion);
}

/// A cancel that came too late to stop the wait. A receive of one takes what has come, its natural
/// result (rule O4), so that who calls one back learns that the pipe is empty where it is
/// ECANCELED; of many, the bytes stay where they are. Where there was nothing, it is called back
/// once more.
void IocpLane::end_wait(Operation* operation) {
  if (operation->multishot) return finish(operation, -ECANCELED);
  receive(operation);
  if (operation->lane_state == kWithKernel) call_back(operation);
}

/// One slice a call, and not all of a long one: the port continues short sends.
void IocpLane::send_to_pipe(Operation* operation) {
  const Slice* first = operation->slices;
  const Slice* last = first + operation->slice_count;
  const Slice* slice = std::find_if(first, last, [](const Slice& it) { return it.length > 0; });
  PipeConnection& pipe = connection_of(operation->descriptor);
  if (const std::int32_t refusal = pipe.refusal) return finish(operation, refusal);
  if (slice == last) return finish(operation, 0);
  begin_pending(operation);
  write_to_pipe(operation, slice->base, part_of(slice->length));
}

/// Of an operation that has begun its `Pending`. While a part of a file was read the connection may
/// have ended.
void IocpLane::write_to_pipe(Operation* operation, const void* bytes, DWORD length) {
  PipeConnection& pipe = connection_of(operation->descriptor);
  if (const std::int32_t refusal = pipe.refusal) return written_to_pipe(operation, refusal);
  calls_.add();
  const BOOL done =
      ::WriteFile(pipe.handle, bytes, length, nullptr, &Pending::in(*operation).overlapped);
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (leaves_packet(error)) return give_to_kernel(operation);
  written_to_pipe(operation, write_error(error));
}

/// A write that waits for room goes a part at a time, and when it is cancelled nobody learns how
/// much has gone: what follows could follow a gap, or repeat what the peer has. So nothing follows.
void IocpLane::wrote_to_pipe(Operation* operation, bool succeeded, DWORD bytes) {
  PipeConnection& pipe = connection_of(operation->descriptor);
  bytes = bytes_moved(Pending::in(*operation).overlapped, bytes);
  pipe.moved.fetch_add(bytes, std::memory_order_relaxed);
  if (succeeded || bytes > 0) return written_to_pipe(operation, bytes);
  const Result failed = write_error(error_of(pipe.handle, Pending::in(*operation).overlapped));
  if (failed == -ECANCELED) pipe.refuse(-ECONNABORTED);
  written_to_pipe(operation, failed);
}

void IocpLane::written_to_pipe(Operation* operation, Result result) {
  if (operation->code == Opcode::kSendFile) return finish_part(operation, result);
  finish(operation, result);
}

}  // namespace cp::driver::iocp
