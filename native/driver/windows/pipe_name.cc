#include "driver/windows/pipe_name.h"

#include <algorithm>
#include <cwchar>
#include <cwctype>
#include <string_view>

#include "driver/errno.h"
#include "driver/windows/file.h"

namespace cp::driver {
namespace {

constexpr std::size_t kPrefix = 9;  // \\.\pipe\ or \\?\pipe\ .
/// Of the whole name (CreateNamedPipeW).
constexpr std::size_t kLongest = 256;

/// Whether no component of a name is . or .. and, where Windows `changes` names, none is one that
/// it would shorten: empty, or with a dot or a space at its end.
bool keeps_its_place(std::wstring_view name, bool changes) {
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find_first_of(L"\\/", at), name.size());
    const std::wstring_view component = name.substr(at, end - at);
    if (component == L"." || component == L"..") return false;
    const bool shortened =
        component.empty() || component.back() == L'.' || component.back() == L' ';
    if (changes && shortened) return false;
    at = end + 1;
  }
  return true;
}

bool has_prefix(const std::wstring& path) {
  return _wcsnicmp(path.c_str(), L"\\\\.\\pipe\\", kPrefix) == 0 ||
         _wcsnicmp(path.c_str(), L"\\\\?\\pipe\\", kPrefix) == 0;
}

/// Takes the next component of a path, without case.
std::wstring take_component(std::wstring_view& path) {
  path.remove_prefix(std::min(path.find_first_not_of(L'\\'), path.size()));
  const std::size_t end = std::min(path.find(L'\\'), path.size());
  std::wstring component(path.substr(0, end));
  path.remove_prefix(end);
  for (wchar_t& each : component) each = static_cast<wchar_t>(std::towlower(each));
  return component;
}

}  // namespace

bool leads_to_pipe(std::wstring path) {
  std::replace(path.begin(), path.end(), L'/', L'\\');
  std::wstring_view rest = path;
  if (!rest.starts_with(L"\\\\")) return false;
  take_component(rest);  // a host, or . or ?
  std::wstring where = take_component(rest);
  if (where == L"unc") {
    take_component(rest);
    where = take_component(rest);
  }
  return where == L"pipe";
}

/// Backslashes are of the name: pipes have no folders. Behind the prefix with `.` Windows takes
/// slashes for backslashes, as is done here, and of some names makes others, or leaves the file
/// system of pipes (\\.\pipe\..\C:\file): those are refused. What is returned has the other prefix,
/// and Windows takes it as it is.
Result pipe_name(const std::string& path, std::wstring& out) {
  if (path.find('\0') != std::string::npos) return -EINVAL;
  out = wide(path.c_str());
  const auto prefix = out.begin() + static_cast<std::ptrdiff_t>(std::min(out.size(), kPrefix));
  std::replace(out.begin(), prefix, L'/', L'\\');
  if (!has_prefix(out) || out.size() == kPrefix) return -EINVAL;
  const bool changes = out[2] == L'.';
  if (changes) std::replace(prefix, out.end(), L'/', L'\\');
  if (!keeps_its_place(std::wstring_view(out).substr(kPrefix), changes)) return -EINVAL;
  out[2] = L'?';
  return out.size() > kLongest ? -ENAMETOOLONG : 0;
}

}  // namespace cp::driver
