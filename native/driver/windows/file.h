// Files on Windows, with calls that do not block.
#pragma once

#include <cstddef>
#include <string>

#include "driver/driver.h"

namespace cp::driver {

/// A transfer's length is a DWORD. Less, so that it stays a multiple of any sector.
inline constexpr std::size_t kMaxTransfer = 0x7ffff000;

/// What an open handle is; a negative errno when Windows can't tell.
Result file_kind_of(Descriptor handle, FileKind& kind);

/// UTF-16 of a path; empty when it is not UTF-8.
std::wstring wide(const char* path);

/// A file in `directory`, open for overlapped reading and writing, that nobody else can open and
/// that goes with its last handle. Or a negative errno.
Result make_temporary_file(const char* directory);

Result duplicate_handle(Descriptor handle, FileKind& kind);

/// A socket or any other handle: CloseHandle alone would leave Winsock's record of a socket behind.
/// 0 or a negative errno.
Result close_anything(Descriptor descriptor);

}  // namespace cp::driver
