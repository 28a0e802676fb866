#include "driver/iocp/windows_file.h"

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include "driver/errno.h"
#include "driver/iocp/windows_error.h"

namespace cp::driver {
namespace {

HANDLE handle_of(Descriptor descriptor) { return reinterpret_cast<HANDLE>(descriptor); }

bool is_console(HANDLE handle) {
  DWORD mode = 0;
  return ::GetConsoleMode(handle, &mode) != 0;
}

}  // namespace

Result file_kind_of(Descriptor descriptor, FileKind& kind) {
  HANDLE handle = handle_of(descriptor);
  ::SetLastError(NO_ERROR);
  switch (::GetFileType(handle)) {
    case FILE_TYPE_PIPE:
      kind = FileKind::kStream;
      return 0;
    case FILE_TYPE_CHAR:
      kind = is_console(handle) ? FileKind::kStream : FileKind::kDevice;
      return 0;
    case FILE_TYPE_UNKNOWN:
      if (::GetLastError() != NO_ERROR) return last_error();
      kind = FileKind::kDevice;
      return 0;
    default:
      break;
  }
  BY_HANDLE_FILE_INFORMATION information;
  // A volume or a disk (\\.\C:) has none.
  if (!::GetFileInformationByHandle(handle, &information)) {
    kind = FileKind::kDevice;
    return 0;
  }
  const bool folder = (information.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
  kind = folder ? FileKind::kDirectory : FileKind::kRegular;
  return 0;
}

Result duplicate_handle(Descriptor descriptor, FileKind& kind) {
  HANDLE own = ::GetCurrentProcess();
  HANDLE copy = nullptr;
  if (!::DuplicateHandle(own, handle_of(descriptor), own, &copy, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
    return last_error();
  }
  const auto made = reinterpret_cast<Descriptor>(copy);
  const Result known = file_kind_of(made, kind);
  if (known == 0) return made;
  ::CloseHandle(copy);
  return known;
}

Result close_anything(Descriptor descriptor) {
  if (::closesocket(static_cast<SOCKET>(descriptor)) == 0) return 0;
  if (::WSAGetLastError() != WSAENOTSOCK) return last_error();
  return ::CloseHandle(handle_of(descriptor)) ? 0 : last_error();
}

}  // namespace cp::driver
