// Files on Windows, with calls that do not block.
#pragma once

#include "driver/driver.h"

namespace cp::driver {

/// What an open handle is; a negative errno when Windows can't tell.
Result file_kind_of(Descriptor handle, FileKind& kind);

Result duplicate_handle(Descriptor handle, FileKind& kind);

/// A socket or any other handle: CloseHandle alone would leave Winsock's record of a socket behind.
/// 0 or a negative errno.
Result close_anything(Descriptor descriptor);

}  // namespace cp::driver
