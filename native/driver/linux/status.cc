#include "driver/linux/status.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "system/linux/calls.h"

namespace cp::driver {
namespace {

struct statx_timestamp time_of(const struct timespec& time) {
  struct statx_timestamp out = {};
  out.tv_sec = time.tv_sec;
  out.tv_nsec = static_cast<std::uint32_t>(time.tv_nsec);
  return out;
}

void convert(const struct stat& from, struct statx& out) {
  std::memset(&out, 0, sizeof out);
  out.stx_mask = STATX_BASIC_STATS;
  out.stx_mode = static_cast<std::uint16_t>(from.st_mode);
  out.stx_nlink = static_cast<std::uint32_t>(from.st_nlink);
  out.stx_uid = from.st_uid;
  out.stx_gid = from.st_gid;
  out.stx_ino = from.st_ino;
  out.stx_size = static_cast<std::uint64_t>(from.st_size);
  out.stx_blocks = static_cast<std::uint64_t>(from.st_blocks);
  out.stx_blksize = static_cast<std::uint32_t>(from.st_blksize);
  out.stx_dev_major = major(from.st_dev);
  out.stx_dev_minor = minor(from.st_dev);
  out.stx_atime = time_of(from.st_atim);
  out.stx_mtime = time_of(from.st_mtim);
  out.stx_ctime = time_of(from.st_ctim);
}

}  // namespace

Result status_of(int directory, const char* path, int flags, unsigned mask, struct statx& out) {
  if (call_statx(directory, path, flags, mask, out) == 0) return 0;
  if (errno != EPERM && errno != ENOSYS) return -errno;
  // Not by name: the symbol came with glibc 2.33. The kernel's structure is the library's on the
  // architectures of 64 bits.
  struct stat from;
  if (::syscall(SYS_newfstatat, directory, path, &from, flags) != 0) return -errno;
  convert(from, out);
  return 0;
}

}  // namespace cp::driver
