#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <algorithm>
#include <cassert>
#include <string>

#include "driver/blocking/blocking_calls.h"
#include "driver/errno.h"
#include "driver/windows/error.h"
#include "driver/windows/file.h"
#include "driver/windows/pipe_name.h"

namespace cp::driver {
namespace {

// Bits of `mode`, which Windows' headers have under other names or not at all.
constexpr std::uint32_t kModeFolder = 0040000, kModeDevice = 0020000, kModeFifo = 0010000;
constexpr std::uint32_t kModeRegular = 0100000;
constexpr std::uint32_t kModeReadable = 0444, kModeWritable = 0222, kModeOwnerWrites = 0200;

constexpr DWORD kShare = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

HANDLE handle_of(const Operation& operation) {
  return reinterpret_cast<HANDLE>(operation.descriptor);
}

Result result_of(BOOL done) { return done ? 0 : last_error(); }

/// FILE_APPEND_DATA without FILE_WRITE_DATA makes every write go to the end, whatever its offset.
/// Windows refuses it of a file without buffering.
DWORD access_of(std::uint32_t flags) {
  DWORD access = 0;
  if (flags & kOpenRead) access |= FILE_GENERIC_READ;
  if (flags & kOpenWrite) access |= FILE_GENERIC_WRITE;
  if (flags & kOpenDirect) access &= ~static_cast<DWORD>(FILE_APPEND_DATA);
  if (flags & kOpenAppend)
    access = (access & ~static_cast<DWORD>(FILE_WRITE_DATA)) | FILE_APPEND_DATA;
  return access;
}

DWORD disposition_of(std::uint32_t flags) {
  if (!(flags & kOpenCreate)) return OPEN_EXISTING;
  if (flags & kOpenExclusive) return CREATE_NEW;
  return flags & kOpenTruncate ? CREATE_ALWAYS : OPEN_ALWAYS;
}

/// Of a file that is open: an open that fails empties none. By a handle of its own, since
/// TRUNCATE_EXISTING wants GENERIC_WRITE itself, with which a file is not opened to append, nor
/// without buffering.
Result truncate_existing(const std::wstring& path) {
  const HANDLE handle =
      ::CreateFileW(path.c_str(), GENERIC_WRITE, kShare, nullptr, TRUNCATE_EXISTING,
                    FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS, nullptr);
  if (handle == INVALID_HANDLE_VALUE) return last_error();
  ::CloseHandle(handle);
  return 0;
}

/// With backup semantics a folder can be opened, as Node.js does.
DWORD attributes_of(std::uint32_t flags, std::uint32_t mode) {
  DWORD attributes = FILE_FLAG_OVERLAPPED | FILE_FLAG_BACKUP_SEMANTICS;
  const bool read_only = (flags & kOpenCreate) && !(mode & kModeOwnerWrites);
  attributes |= read_only ? FILE_ATTRIBUTE_READONLY : FILE_ATTRIBUTE_NORMAL;
  if (flags & kOpenDirect) attributes |= FILE_FLAG_NO_BUFFERING;
  if (flags & kOpenSync) attributes |= FILE_FLAG_WRITE_THROUGH;
  return attributes;
}

Result open_path(const Operation& operation) {
  const std::wstring path = wide(operation.path);
  if (path.empty()) return -ENOENT;
  const std::uint32_t flags = operation.flags;
  const auto open = [&](DWORD guard) {
    const DWORD attributes = attributes_of(flags, operation.mode) | guard;
    return ::CreateFileW(path.c_str(), access_of(flags), kShare, nullptr, disposition_of(flags),
                         attributes, nullptr);
  };
  // A pipe's server must not act in this process's name. Of a file the first bit means another
  // thing (FILE_FLAG_OPEN_NO_RECALL). A pipe by a name that does not say so is opened again: until
  // it has read something its server can't do that.
  constexpr DWORD kGuard = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
  const bool guarded = leads_to_pipe(path);
  HANDLE handle = open(guarded ? kGuard : 0);
  if (handle != INVALID_HANDLE_VALUE && !guarded && ::GetFileType(handle) == FILE_TYPE_PIPE) {
    ::CloseHandle(handle);
    handle = open(kGuard);
  }
  if (handle != INVALID_HANDLE_VALUE) {
    const bool empties = (flags & kOpenTruncate) && !(flags & kOpenCreate);
    const bool of_file = ::GetFileType(handle) == FILE_TYPE_DISK;
    const Result emptied = empties && of_file ? truncate_existing(path) : 0;
    if (emptied == 0) return reinterpret_cast<Descriptor>(handle);
    ::CloseHandle(handle);
    return emptied;
  }
  const DWORD error = ::GetLastError();
  // What opening a folder to create or write it fails with.
  if (error == ERROR_FILE_EXISTS && (flags & kOpenCreate) && !(flags & kOpenExclusive)) {
    return -EISDIR;
  }
  return from_windows(error);
}

/// As long as libuv waits for a server that has no instance to spare.
constexpr Deadline kLongestWait = 30'000'000'000;

/// What a client needs: without FILE_CREATE_PIPE_INSTANCE, which is the same bit as
/// FILE_APPEND_DATA, and which a server need not give.
constexpr DWORD kPipeAccess =
    FILE_GENERIC_READ | (FILE_GENERIC_WRITE & ~DWORD{FILE_CREATE_PIPE_INSTANCE});

/// The name can be none of a file's, and what was opened is asked all the same: the file system of
/// pipes itself can be opened, too.
Result checked_pipe(HANDLE handle) {
  DWORD mode = PIPE_READMODE_BYTE | PIPE_WAIT;
  if (::GetFileType(handle) == FILE_TYPE_PIPE &&
      ::SetNamedPipeHandleState(handle, &mode, nullptr, nullptr)) {
    return reinterpret_cast<Descriptor>(handle);
  }
  ::CloseHandle(handle);
  return -ENOTSOCK;
}

/// A server with no instance to spare is asked again in a few milliseconds, rather than have
/// WaitNamedPipeW occupy a thread of the pool: that can't be called back. `offset`, of no other use
/// here, is when that is to end.
Result open_pipe(Operation& operation) {
  std::wstring name;
  const Result named = pipe_name(operation.target->path, name);
  if (named < 0) return named;
  constexpr DWORD kFlags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
  HANDLE handle =
      ::CreateFileW(name.c_str(), kPipeAccess, 0, nullptr, OPEN_EXISTING, kFlags, nullptr);
  if (handle != INVALID_HANDLE_VALUE) return checked_pipe(handle);
  const DWORD error = ::GetLastError();
  if (error == ERROR_ACCESS_DENIED) return -EACCES;
  if (error != ERROR_PIPE_BUSY) return from_windows(error);
  if (operation.offset == 0) operation.offset = now() + kLongestWait;
  return now() < operation.offset ? kTryLater : -ETIMEDOUT;
}

Result set_end(HANDLE handle, std::int64_t length) {
  FILE_END_OF_FILE_INFO end = {};
  end.EndOfFile.QuadPart = length;
  return result_of(::SetFileInformationByHandle(handle, FileEndOfFileInfo, &end, sizeof end));
}

/// Of a thread that waits for its own calls.
HANDLE own_event() {
  struct Event {
    HANDLE handle = ::CreateEventW(nullptr, TRUE, FALSE, nullptr);
    ~Event() {
      if (handle != nullptr) ::CloseHandle(handle);
    }
  };
  static thread_local const Event event;
  return event.handle;
}

/// Of the first slice that has bytes; the port continues short writes. The file is bound to the
/// kernel port, where the lowest bit of the event keeps the packet from
/// (GetQueuedCompletionStatus).
Result write(const Operation& operation) {
  HANDLE event = own_event();
  if (event == nullptr) return last_error();
  const Slice* first = operation.slices;
  const Slice* last = first + operation.slice_count - 1;
  while (first->length == 0 && first < last) ++first;
  const Slice& slice = *first;
  const DWORD length = static_cast<DWORD>(std::min<std::size_t>(slice.length, kMaxTransfer));
  OVERLAPPED overlapped = {};
  overlapped.Offset = static_cast<DWORD>(operation.offset);
  overlapped.OffsetHigh = static_cast<DWORD>(operation.offset >> 32);
  overlapped.hEvent = reinterpret_cast<HANDLE>(reinterpret_cast<std::uintptr_t>(event) | 1);
  DWORD written = 0;
  HANDLE file = handle_of(operation);
  if (!::WriteFile(file, slice.base, length, nullptr, &overlapped) &&
      ::GetLastError() != ERROR_IO_PENDING) {
    return transfer_error(last_error(), Opcode::kWrite);
  }
  const bool done = ::GetOverlappedResult(file, &overlapped, &written, TRUE);
  return done ? written : transfer_error(last_error(), Opcode::kWrite);
}

/// Less than the file has would cut it off. A sparse file has room allocated for less than that.
Result allocate(const Operation& operation) {
  HANDLE handle = handle_of(operation);
  FILE_STANDARD_INFO present;
  if (!::GetFileInformationByHandleEx(handle, FileStandardInfo, &present, sizeof present)) {
    return last_error();
  }
  const std::int64_t end = operation.offset + static_cast<std::int64_t>(operation.length);
  if (end > std::max(present.AllocationSize.QuadPart, present.EndOfFile.QuadPart)) {
    FILE_ALLOCATION_INFO wanted = {};
    wanted.AllocationSize.QuadPart = end;
    if (!::SetFileInformationByHandle(handle, FileAllocationInfo, &wanted, sizeof wanted)) {
      return last_error();
    }
  }
  // As fallocate does: the file is that long now.
  return end > present.EndOfFile.QuadPart ? set_end(handle, end) : 0;
}

/// A file that was opened for reading alone has no right to change what is known of it: another
/// handle may have, as it does on Linux.
Result set_basics(const Operation& operation, FILE_BASIC_INFO& basics) {
  HANDLE handle =
      ::ReOpenFile(handle_of(operation), FILE_WRITE_ATTRIBUTES, kShare, FILE_FLAG_BACKUP_SEMANTICS);
  if (handle == INVALID_HANDLE_VALUE) return last_error();
  const Result result =
      result_of(::SetFileInformationByHandle(handle, FileBasicInfo, &basics, sizeof basics));
  ::CloseHandle(handle);
  return result;
}

/// As Node.js: whether the owner may write is all there is.
Result set_mode(const Operation& operation) {
  FILE_BASIC_INFO basics;
  if (!::GetFileInformationByHandleEx(handle_of(operation), FileBasicInfo, &basics,
                                      sizeof basics)) {
    return last_error();
  }
  const bool writable = (operation.offset & kModeOwnerWrites) != 0;
  FILE_BASIC_INFO wanted = {};  // times of 0 stay as they are
  wanted.FileAttributes = writable ? basics.FileAttributes & ~DWORD{FILE_ATTRIBUTE_READONLY}
                                   : basics.FileAttributes | FILE_ATTRIBUTE_READONLY;
  // No attribute at all would be none to change.
  if (wanted.FileAttributes == 0) wanted.FileAttributes = FILE_ATTRIBUTE_NORMAL;
  return set_basics(operation, wanted);
}

Result set_times(const Operation& operation) {
  constexpr std::int64_t kMicrosecondsBefore1970 = 11'644'473'600'000'000;
  const auto units = [](std::int64_t microseconds) {
    constexpr std::int64_t kLast = INT64_MAX / 10 - kMicrosecondsBefore1970;
    LARGE_INTEGER time;  // 0 and -1 would mean to leave it as it is
    const std::int64_t of = std::clamp(microseconds, -kMicrosecondsBefore1970, kLast);
    time.QuadPart = std::max<std::int64_t>(1, (of + kMicrosecondsBefore1970) * 10);
    return time;
  };
  FILE_BASIC_INFO wanted = {};
  wanted.LastAccessTime = units(operation.offset);
  wanted.LastWriteTime = units(static_cast<std::int64_t>(operation.length));
  return set_basics(operation, wanted);
}

/// Nanoseconds since 1970 from units of 100 since 1601: a time that there is none of is the
/// earliest there can be.
std::int64_t nanoseconds(const LARGE_INTEGER& time) {
  constexpr std::int64_t kUnitsBefore1970 = 116'444'736'000'000'000;
  constexpr std::int64_t kMost = INT64_MAX / 100;
  return std::clamp<std::int64_t>(time.QuadPart - kUnitsBefore1970, -kMost, kMost) * 100;
}

std::uint32_t mode_of(FileKind kind, DWORD attributes) {
  const bool read_only = (attributes & FILE_ATTRIBUTE_READONLY) != 0;
  const std::uint32_t permissions = kModeReadable | (read_only ? 0 : kModeWritable);
  switch (kind) {
    case FileKind::kDirectory:
      return kModeFolder | permissions;
    case FileKind::kStream:
      return kModeFifo | permissions;
    case FileKind::kDevice:
      return kModeDevice | permissions;
    case FileKind::kRegular:
      break;
  }
  return kModeRegular | permissions;
}

/// A pipe or a device has neither times nor size.
Result status_of_other(FileKind kind, FileStatus& out) {
  out = {};
  out.links = 1;
  out.mode = mode_of(kind, 0);
  out.block_size = 4096;
  return 0;
}

Result file_status(const Operation& operation) {
  assert(operation.status != nullptr);
  FileStatus& out = *operation.status;
  HANDLE handle = handle_of(operation);
  FileKind kind = FileKind::kRegular;
  const Result known = file_kind_of(operation.descriptor, kind);
  if (known < 0) return known;
  if (kind == FileKind::kStream || kind == FileKind::kDevice) return status_of_other(kind, out);
  BY_HANDLE_FILE_INFORMATION identity;
  FILE_BASIC_INFO basic;
  FILE_STANDARD_INFO standard;
  if (!::GetFileInformationByHandle(handle, &identity) ||
      !::GetFileInformationByHandleEx(handle, FileBasicInfo, &basic, sizeof basic) ||
      !::GetFileInformationByHandleEx(handle, FileStandardInfo, &standard, sizeof standard)) {
    return last_error();
  }
  out.size = static_cast<std::uint64_t>(standard.EndOfFile.QuadPart);
  out.blocks = static_cast<std::uint64_t>(standard.AllocationSize.QuadPart) / 512;
  out.inode = static_cast<std::uint64_t>(identity.nFileIndexHigh) << 32 | identity.nFileIndexLow;
  out.device = identity.dwVolumeSerialNumber;
  out.links = identity.nNumberOfLinks;
  out.mode = mode_of(kind, basic.FileAttributes);
  out.uid = out.gid = 0;
  out.block_size = 4096;
  out.accessed = nanoseconds(basic.LastAccessTime);
  out.modified = nanoseconds(basic.LastWriteTime);
  out.changed = nanoseconds(basic.ChangeTime);
  out.created = nanoseconds(basic.CreationTime);
  return 0;
}

}  // namespace

/// kTryLater of a pipe that is to be opened alone: what else can wait here is the kernel port's.
Result run_blocking(Operation& operation) {
  switch (operation.code) {
    case Opcode::kOpen:
      return open_path(operation);
    case Opcode::kClose:
      return result_of(::CloseHandle(handle_of(operation)));
    case Opcode::kSync:
    case Opcode::kDataSync:
      return result_of(::FlushFileBuffers(handle_of(operation)));
    case Opcode::kTruncate:
      return set_end(handle_of(operation), operation.offset);
    case Opcode::kAllocate:
      return allocate(operation);
    case Opcode::kSetMode:
      return set_mode(operation);
    case Opcode::kSetOwner:
      return 0;
    case Opcode::kSetTimes:
      return set_times(operation);
    case Opcode::kStat:
      return file_status(operation);
    case Opcode::kConnect:
      return open_pipe(operation);
    case Opcode::kWrite:
      return write(operation);
    case Opcode::kRead:
    case Opcode::kAccept:
    case Opcode::kReceive:
    case Opcode::kSend:
    case Opcode::kSendFile:
    case Opcode::kSendHandles:
    case Opcode::kReceiveHandles:
    case Opcode::kShutdown:
      break;
  }
  assert(!"not an operation that blocks");
  return -EINVAL;
}

}  // namespace cp::driver
