#include "driver/windows/file.h"

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "driver/errno.h"
#include "driver/windows/error.h"

namespace cp::driver {
namespace {

HANDLE handle_of(Descriptor descriptor) { return reinterpret_cast<HANDLE>(descriptor); }

bool is_console(HANDLE handle) {
  DWORD mode = 0;
  return ::GetConsoleMode(handle, &mode) != 0;
}

/// Of this process and moment.
std::wstring unused_name() {
  static std::atomic<std::uint32_t> count{0};
  LARGE_INTEGER ticks;
  ::QueryPerformanceCounter(&ticks);
  return L"completion-port-" + std::to_wstring(::GetCurrentProcessId()) + L'-' +
         std::to_wstring(ticks.QuadPart) + L'-' + std::to_wstring(++count);
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

std::wstring wide(const char* path) {
  const int bytes = static_cast<int>(std::strlen(path));
  const int units = ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, bytes, nullptr, 0);
  std::wstring out(static_cast<std::size_t>(std::max(units, 0)), L'\0');
  if (units > 0)
    ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, bytes, out.data(), units);
  return out;
}

Result make_temporary_file(const char* directory) {
  constexpr DWORD kAccess = GENERIC_READ | GENERIC_WRITE | DELETE;
  constexpr DWORD kAttributes =
      FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_OVERLAPPED | FILE_FLAG_DELETE_ON_CLOSE;
  const std::wstring folder = wide(directory);
  if (folder.empty()) return -ENOENT;
  for (;;) {
    const std::wstring path = folder + L'\\' + unused_name();
    HANDLE handle =
        ::CreateFileW(path.c_str(), kAccess, 0, nullptr, CREATE_NEW, kAttributes, nullptr);
    if (handle != INVALID_HANDLE_VALUE) return reinterpret_cast<Descriptor>(handle);
    const DWORD error = ::GetLastError();
    // Another process of the same number, on another machine of a shared folder.
    if (error != ERROR_FILE_EXISTS) return from_windows(error);
  }
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
