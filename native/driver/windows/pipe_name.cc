#include "driver/windows/pipe_name.h"

#include <algorithm>
#include <cwchar>

#include "driver/errno.h"
#include "driver/windows/file.h"

namespace cp::driver {
namespace {

constexpr std::size_t kPrefix = 9;  // \\.\pipe\ or \\?\pipe\ .
/// Of the whole name (CreateNamedPipeW).
constexpr std::size_t kLongest = 256;

}  // namespace

bool names_pipe(const std::wstring& path) {
  return _wcsnicmp(path.c_str(), L"\\\\.\\pipe\\", kPrefix) == 0 ||
         _wcsnicmp(path.c_str(), L"\\\\?\\pipe\\", kPrefix) == 0;
}

/// Slashes of the prefix Windows takes for backslashes behind `.` alone. A name has no backslash:
/// of one that has, Windows would look for a folder.
Result pipe_name(const std::string& path, std::wstring& out) {
  if (path.find('\0') != std::string::npos) return -EINVAL;
  out = wide(path.c_str());
  const auto prefix = out.begin() + static_cast<std::ptrdiff_t>(std::min(out.size(), kPrefix));
  std::replace(out.begin(), prefix, L'/', L'\\');
  if (!names_pipe(out) || out.size() == kPrefix) return -EINVAL;
  return out.size() > kLongest ? -ENAMETOOLONG : 0;
}

}  // namespace cp::driver
