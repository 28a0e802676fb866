// Definitions that the headers of a newer glibc and GCC expect of their libraries. Hidden: they
// serve this addon only.
#include "addon/glibc_baseline.h"

#define CP_HIDDEN __attribute__((visibility("hidden")))

#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

// Until glibc 2.33 the stat functions were inline calls of these, which every version exports.
extern "C" {
int __fxstat(int version, int descriptor, void* status);
int __xstat(int version, const char* path, void* status);
int __lxstat(int version, const char* path, void* status);
int __fxstatat(int version, int folder, const char* path, void* status, int flags);

#if defined(__x86_64__)
#define CP_STAT_VERSION 1
#else
#define CP_STAT_VERSION 0
#endif

// Both names of each: with 64-bit file offsets the headers redirect the one to the other. The
// labels keep the system's declarations out of the way.
#define CP_STAT(label, function, parameters, ...)      \
  CP_HIDDEN int cp_##label parameters __asm__(#label); \
  CP_HIDDEN int cp_##label parameters { return function(CP_STAT_VERSION, __VA_ARGS__); }
CP_STAT(fstat, __fxstat, (int descriptor, void* status), descriptor, status)
CP_STAT(fstat64, __fxstat, (int descriptor, void* status), descriptor, status)
CP_STAT(stat, __xstat, (const char* path, void* status), path, status)
CP_STAT(stat64, __xstat, (const char* path, void* status), path, status)
CP_STAT(lstat, __lxstat, (const char* path, void* status), path, status)
CP_STAT(lstat64, __lxstat, (const char* path, void* status), path, status)
CP_STAT(fstatat, __fxstatat, (int folder, const char* path, void* status, int flags), folder, path,
        status, flags)
CP_STAT(fstatat64, __fxstatat, (int folder, const char* path, void* status, int flags), folder,
        path, status, flags)
}

#endif

#if defined(__GLIBC__) && defined(__GLIBCXX__)

#include <new>

// glibc 2.32. Zero, that is "more than one thread", is always right.
extern "C" {
CP_HIDDEN char __libc_single_threaded = 0;
}

// libstdc++ of GCC 11.
namespace std {
CP_HIDDEN void __throw_bad_array_new_length() { throw bad_array_new_length(); }
}  // namespace std

#endif
