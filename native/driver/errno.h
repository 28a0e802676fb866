// Errors are Linux's numbers on every driver (operation.h). Windows' C library has the same names
// with other numbers, so there the names are given Linux's; code above the drivers includes this
// header instead of <cerrno>, and never reads `errno` itself.
#pragma once

#include <cerrno>

#ifdef _WIN32

// Headers that build an enumeration of the system's own numbers come first, or it would change from
// one file to the next.
#include <system_error>

#undef E2BIG
#undef EACCES
#undef EADDRINUSE
#undef EADDRNOTAVAIL
#undef EAFNOSUPPORT
#undef EAGAIN
#undef EALREADY
#undef EBADF
#undef EBUSY
#undef ECANCELED
#undef ECONNABORTED
#undef ECONNREFUSED
#undef ECONNRESET
#undef EDESTADDRREQ
#undef EEXIST
#undef EFAULT
#undef EFBIG
#undef EHOSTDOWN
#undef EHOSTUNREACH
#undef EINTR
#undef EINVAL
#undef EIO
#undef EISCONN
#undef EISDIR
#undef ELOOP
#undef EMFILE
#undef EMSGSIZE
#undef ENAMETOOLONG
#undef ENETDOWN
#undef ENETUNREACH
#undef ENFILE
#undef ENOBUFS
#undef ENODEV
#undef ENOENT
#undef ENOMEM
#undef ENONET
#undef ENOPROTOOPT
#undef ENOSPC
#undef ENOSYS
#undef ENOTCONN
#undef ENOTDIR
#undef ENOTEMPTY
#undef ENOTSOCK
#undef ENOTSUP
#undef ENXIO
#undef EOPNOTSUPP
#undef EPERM
#undef EPIPE
#undef EPROTO
#undef EPROTONOSUPPORT
#undef EROFS
#undef ESRCH
#undef ETIMEDOUT
#undef ETXTBSY
#undef EXDEV

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EINTR 4
#define EIO 5
#define ENXIO 6
#define E2BIG 7
#define EBADF 9
#define EAGAIN 11
#define ENOMEM 12
#define EACCES 13
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define EXDEV 18
#define ENODEV 19
#define ENOTDIR 20
#define EISDIR 21
#define EINVAL 22
#define ENFILE 23
#define EMFILE 24
#define ETXTBSY 26
#define EFBIG 27
#define ENOSPC 28
#define EROFS 30
#define EPIPE 32
#define ENAMETOOLONG 36
#define ENOSYS 38
#define ENOTEMPTY 39
#define ELOOP 40
#define ENONET 64
#define EPROTO 71
#define ENOTSOCK 88
#define EDESTADDRREQ 89
#define EMSGSIZE 90
#define ENOPROTOOPT 92
#define EPROTONOSUPPORT 93
#define ENOTSUP 95
#define EOPNOTSUPP 95
#define EAFNOSUPPORT 97
#define EADDRINUSE 98
#define EADDRNOTAVAIL 99
#define ENETDOWN 100
#define ENETUNREACH 101
#define ECONNABORTED 103
#define ECONNRESET 104
#define ENOBUFS 105
#define EISCONN 106
#define ENOTCONN 107
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTDOWN 112
#define EHOSTUNREACH 113
#define EALREADY 114
#define ECANCELED 125

#endif
