// Names of pipes, as node:net takes them: \\.\pipe\name and \\?\pipe\name.
#pragma once

#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// Whether a path is in the file system of pipes, of this machine or another one:
/// \\.\pipe\name, \\host\pipe\name, \\?\UNC\host\pipe\name. Links, folders on the way and names of
/// the kernel's own may lead there, too.
bool leads_to_pipe(std::wstring path);

/// The name as Windows takes it, without changing it: \\?\pipe\name. -EINVAL: it is none, or is
/// one that Windows would change; -ENAMETOOLONG.
Result pipe_name(const std::string& path, std::wstring& out);

}  // namespace cp::driver
