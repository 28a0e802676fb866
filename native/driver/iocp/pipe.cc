#include "driver/iocp/pipe.h"

#include <aclapi.h>

#include <cstring>
#include <memory>
#include <new>

#include "driver/errno.h"
#include "driver/iocp/pending.h"
#include "driver/windows/error.h"
#include "driver/windows/pipe_name.h"

namespace cp::driver::iocp {
namespace {

/// Of an OVERLAPPED whose event has its lowest bit set there is no packet. Nobody waits for the
/// event, so one does for all.
HANDLE without_packet() {
  static const HANDLE event = ::CreateEventW(nullptr, TRUE, FALSE, nullptr);
  return reinterpret_cast<HANDLE>(reinterpret_cast<std::uintptr_t>(event) | 1);
}

/// As libuv's uv_pipe_chmod, but for the right to make instances, with which everyone could take
/// clients in the server's place. Windows does not ask it of clients, though GENERIC_WRITE has it.
/// The list belongs to the pipe, so later instances have it as well.
Result give_access(HANDLE pipe, int modes) {
  constexpr DWORD kWrites = FILE_GENERIC_WRITE & ~DWORD{FILE_CREATE_PIPE_INSTANCE};
  alignas(SID) BYTE everyone[SECURITY_MAX_SID_SIZE];
  DWORD size = sizeof everyone;
  if (!::CreateWellKnownSid(WinWorldSid, nullptr, everyone, &size)) return last_error();
  EXPLICIT_ACCESS_W access = {};
  if (modes & kReadableAll)
    access.grfAccessPermissions |= FILE_GENERIC_READ | FILE_WRITE_ATTRIBUTES;
  if (modes & kWritableAll) access.grfAccessPermissions |= kWrites | FILE_READ_ATTRIBUTES;
  access.grfAccessMode = GRANT_ACCESS;
  access.grfInheritance = NO_INHERITANCE;
  access.Trustee.TrusteeForm = TRUSTEE_IS_SID;
  access.Trustee.TrusteeType = TRUSTEE_IS_WELL_KNOWN_GROUP;
  access.Trustee.ptstrName = reinterpret_cast<LPWSTR>(everyone);
  struct Freed {
    void operator()(void* memory) const { ::LocalFree(memory); }
  };
  PACL present = nullptr;
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  DWORD error = ::GetSecurityInfo(pipe, SE_KERNEL_OBJECT, DACL_SECURITY_INFORMATION, nullptr,
                                  nullptr, &present, nullptr, &descriptor);
  const std::unique_ptr<void, Freed> holds_present(descriptor);
  PACL wanted = nullptr;
  if (error == ERROR_SUCCESS) error = ::SetEntriesInAclW(1, &access, present, &wanted);
  const std::unique_ptr<void, Freed> holds_wanted(wanted);
  if (error == ERROR_SUCCESS) {
    error = ::SetSecurityInfo(pipe, SE_KERNEL_OBJECT, DACL_SECURITY_INFORMATION, nullptr, nullptr,
                              wanted, nullptr);
  }
  return error == ERROR_SUCCESS ? 0 : from_windows(error);
}

/// What can't be is refused before the name is taken. Access is given when there is an instance.
Result heed(PipeListener& listener, const SocketSetting& setting, int& access) {
  switch (setting.option) {
    case SocketOption::kReceiveBuffer:
      listener.receive_buffer = static_cast<DWORD>(setting.value);
      return 0;
    case SocketOption::kSendBuffer:
      listener.send_buffer = static_cast<DWORD>(setting.value);
      return 0;
    case SocketOption::kPipeAccess:
      access = setting.value;
      return 0;
    case SocketOption::kNoDelay:
    case SocketOption::kKeepAlive:
    case SocketOption::kLinger:
    case SocketOption::kKeepAliveInterval:
    case SocketOption::kKeepAliveCount:
    case SocketOption::kUserTimeout:
    case SocketOption::kTypeOfService:
    case SocketOption::kDeferAccept:
    case SocketOption::kFastOpen:
    case SocketOption::kFastOpenConnect:
      return set_pipe_option(setting.option);
  }
  return -EINVAL;
}

/// As libuv: that somebody has the name Windows says as that one may not.
Result listen_error(Result error) {
  return error == -EPERM || error == -EEXIST || error == -EBUSY ? -EADDRINUSE : error;
}

}  // namespace

PipeListener::~PipeListener() {
  for (HANDLE instance : waiting) ::CloseHandle(instance);
  for (HANDLE instance : connected) ::CloseHandle(instance);
}

/// A client's handle can't disconnect: that fails, and changes nothing.
PipeConnection::~PipeConnection() {
  if (resets || refusal == -ECONNABORTED) ::DisconnectNamedPipe(handle);
  ::CloseHandle(handle);
}

/// Of clients of this machine alone, as UNIX sockets are. The first can set who may connect.
Result PipeListener::make_instance(KernelPort& port, bool first) {
  const DWORD open = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED |
                     (first ? FILE_FLAG_FIRST_PIPE_INSTANCE | WRITE_DAC : 0);
  constexpr DWORD kMode =
      PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS;
  HANDLE made = ::CreateNamedPipeW(name.c_str(), open, kMode, PIPE_UNLIMITED_INSTANCES, send_buffer,
                                   receive_buffer, 0, nullptr);
  if (made == INVALID_HANDLE_VALUE) return last_error();
  const Result bound = port.associate(reinterpret_cast<Descriptor>(made));
  if (bound == 0) return reinterpret_cast<Descriptor>(made);
  ::CloseHandle(made);
  return bound;
}

Result open_pipe_listener(KernelPort& port, const ListenOptions& options) {
  if (options.messages || options.reuse_port) return -ENOTSUP;
  auto listener = std::make_unique<PipeListener>();
  Result result = pipe_name(options.path, listener->name);
  int access = 0;
  for (const SocketSetting& setting : options.settings) {
    if (result == 0) result = heed(*listener, setting, access);
  }
  if (result < 0) return result;
  const Result made = listener->make_instance(port, true);
  if (made < 0) return listen_error(made);
  HANDLE first = reinterpret_cast<HANDLE>(static_cast<Descriptor>(made));
  listener->waiting.push_back(first);
  if (access != 0) result = give_access(first, access);
  return result < 0 ? result : descriptor_of(listener.release());
}

Result make_pipe_connection(HANDLE handle) {
  auto* pipe = new (std::nothrow) PipeConnection(handle);
  if (pipe != nullptr) return descriptor_of(pipe);
  ::CloseHandle(handle);
  return -ENOMEM;
}

/// What PeekNamedPipe has seen nobody else takes, so the read is over when it returns. Should it
/// wait all the same, it is called back: the memory is the caller's.
Result read_now(PipeConnection& pipe, void* base, ULONG length) {
  DWORD there = 0;
  if (!::PeekNamedPipe(pipe.handle, nullptr, 0, nullptr, &there, nullptr)) {
    return read_error(::GetLastError());
  }
  if (there == 0) return -EAGAIN;
  OVERLAPPED overlapped = {};
  overlapped.hEvent = without_packet();
  const BOOL done = ::ReadFile(pipe.handle, base, length, nullptr, &overlapped);
  const DWORD error = done ? NO_ERROR : ::GetLastError();
  if (error == ERROR_IO_PENDING) {
    ::CancelIoEx(pipe.handle, &overlapped);
    while (!HasOverlappedIoCompleted(&overlapped)) ::SwitchToThread();
  } else if (error != NO_ERROR && error != ERROR_MORE_DATA) {
    return read_error(error);
  }
  const Result bytes = bytes_moved(overlapped, static_cast<DWORD>(overlapped.InternalHigh));
  pipe.moved.fetch_add(bytes, std::memory_order_relaxed);
  return bytes > 0 ? bytes : -EAGAIN;
}

Result read_error(DWORD error) {
  switch (error) {
    case ERROR_BROKEN_PIPE:
      return 0;
    case ERROR_PIPE_NOT_CONNECTED:
      return -ECONNRESET;
    default:
      return from_windows(error);
  }
}

Result write_error(DWORD error) { return from_windows(error); }

DWORD error_of(HANDLE handle, OVERLAPPED& overlapped) {
  DWORD bytes = 0;
  return ::GetOverlappedResult(handle, &overlapped, &bytes, FALSE) ? NO_ERROR : ::GetLastError();
}

/// As with a UNIX socket, what is of TCP has no effect where Node.js calls it on any connection.
Result set_pipe_option(SocketOption option) {
  switch (option) {
    case SocketOption::kNoDelay:
    case SocketOption::kKeepAlive:
    case SocketOption::kLinger:
      return 0;
    case SocketOption::kReceiveBuffer:
    case SocketOption::kSendBuffer:
    case SocketOption::kKeepAliveInterval:
    case SocketOption::kKeepAliveCount:
    case SocketOption::kUserTimeout:
    case SocketOption::kTypeOfService:
    case SocketOption::kDeferAccept:
    case SocketOption::kFastOpen:
    case SocketOption::kFastOpenConnect:
    case SocketOption::kPipeAccess:
      return -ENOTSUP;
  }
  return -EINVAL;
}

Result set_pipe_option(Descriptor descriptor, SocketOption option, int value) {
  const bool connection = !pipe_of(descriptor)->listens;
  if (connection && option == SocketOption::kLinger) connection_of(descriptor).resets = value != 0;
  return set_pipe_option(option);
}

Result pipe_option(Descriptor descriptor, SocketOption option) {
  const bool receives = option == SocketOption::kReceiveBuffer;
  if (!receives && option != SocketOption::kSendBuffer) return -ENOTSUP;
  if (pipe_of(descriptor)->listens) {
    const PipeListener& listener = listener_of(descriptor);
    return receives ? listener.receive_buffer : listener.send_buffer;
  }
  DWORD kind = 0, out = 0, in = 0;
  HANDLE handle = connection_of(descriptor).handle;
  if (!::GetNamedPipeInfo(handle, &kind, &out, &in, nullptr)) return last_error();
  // Both sizes are told as the server sees them.
  const bool server = (kind & PIPE_SERVER_END) != 0;
  return receives == server ? in : out;
}

void pipe_address(SocketAddress& out) {
  out = {};
  const ADDRESS_FAMILY family = AF_UNIX;
  std::memcpy(out.bytes + offsetof(sockaddr, sa_family), &family, sizeof family);
  out.length = sizeof family;
}

void end_pipe(Descriptor descriptor) {
  PipeConnection& pipe = connection_of(descriptor);
  pipe.refuse(-EPIPE);
  ::CancelIoEx(pipe.handle, nullptr);
}

}  // namespace cp::driver::iocp
