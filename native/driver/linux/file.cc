#include "driver/linux/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "driver/linux/status.h"

namespace cp::driver {

Result mode_of(int fd) {
  struct statx status;
  const Result result = status_of(fd, "", AT_EMPTY_PATH, STATX_TYPE, status);
  return result < 0 ? result : status.stx_mode;
}

FileKind file_kind_of(int fd, mode_t mode) {
  if (S_ISREG(mode)) return FileKind::kRegular;
  if (S_ISDIR(mode)) return FileKind::kDirectory;
  if (S_ISBLK(mode)) return FileKind::kDevice;
  // /dev/zero can be told to seek, a terminal can't.
  if (S_ISCHR(mode) && ::lseek(fd, 0, SEEK_CUR) >= 0) return FileKind::kDevice;
  return FileKind::kStream;
}

Result duplicate_descriptor(int fd, FileKind& kind) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return -errno;
  const Result mode = mode_of(copy);
  if (mode < 0) {
    ::close(copy);
    return mode;
  }
  kind = file_kind_of(copy, static_cast<mode_t>(mode));
  return copy;
}

int open_flags(std::uint32_t flags) {
  int out = O_CLOEXEC | O_NOCTTY;
  const bool writes = (flags & kOpenWrite) != 0;
  out |= !writes ? O_RDONLY : (flags & kOpenRead) != 0 ? O_RDWR : O_WRONLY;
  if (flags & kOpenAppend) out |= O_APPEND;
  if (flags & kOpenCreate) out |= O_CREAT;
  if (flags & kOpenTruncate) out |= O_TRUNC;
  if (flags & kOpenExclusive) out |= O_EXCL;
  if (flags & kOpenDirect) out |= O_DIRECT;
  if (flags & kOpenSync) out |= O_SYNC;
  return out;
}

Result size_of_file(Descriptor file) {
  struct stat status {};
  if (::fstat(static_cast<int>(file), &status) != 0) return -errno;
  return S_ISREG(status.st_mode) ? status.st_size : -EINVAL;
}

std::uint32_t open_flags_of(Descriptor file) {
  const int flags = ::fcntl(static_cast<int>(file), F_GETFL);
  if (flags < 0) return 0;
  return ((flags & O_APPEND) != 0 ? kOpenAppend : 0u) |
         ((flags & O_DIRECT) != 0 ? kOpenDirect : 0u);
}

}  // namespace cp::driver
