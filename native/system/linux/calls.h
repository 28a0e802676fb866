// System calls by their numbers: musl has had functions for them only since 1.2.5, and a binary
// that names one does not load on Alpine 3.19 and older. scripts/check-binary.mjs looks for the
// names.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace cp {

/// statx(2).
inline int call_statx(int directory, const char* path, int flags, unsigned mask,
                      struct statx& out) {
  return static_cast<int>(::syscall(SYS_statx, directory, path, flags, mask, &out));
}

/// preadv2(2). The kernel takes the offset in two halves; where its words have 64 bits, the first
/// is all of it.
inline ssize_t call_preadv2(int fd, const struct iovec* into, int count, off_t offset, int flags) {
  static_assert(sizeof(long) == 8);
  return ::syscall(SYS_preadv2, fd, into, count, offset, 0L, flags);
}

/// pwritev2(2), likewise.
inline ssize_t call_pwritev2(int fd, const struct iovec* from, int count, off_t offset, int flags) {
  static_assert(sizeof(long) == 8);
  return ::syscall(SYS_pwritev2, fd, from, count, offset, 0L, flags);
}

}  // namespace cp
