#include "driver/windows/error.h"

#include <winsock2.h>
// winsock2.h comes before windows.h, which would bring the sockets of 1993.
#include <windows.h>

#include "driver/errno.h"

// Missing from some headers.
#ifndef ERROR_ELEVATION_REQUIRED
#define ERROR_ELEVATION_REQUIRED 740
#endif

namespace cp::driver {
namespace {

/// Positive; 0: not an error of sockets.
int of_socket(unsigned long error) {
  switch (error) {
    case WSAEINTR:
      return EINTR;
    case WSAEBADF:
      return EBADF;
    case WSAEACCES:
      return EACCES;
    case WSAEFAULT:
      return EFAULT;
    case WSAEINVAL:
      return EINVAL;
    case WSAEMFILE:
      return EMFILE;
    case WSAEWOULDBLOCK:
      return EAGAIN;
    case WSAEALREADY:
      return EALREADY;
    case WSAENOTSOCK:
      return ENOTSOCK;
    case WSAEDESTADDRREQ:
      return EDESTADDRREQ;
    case WSAEMSGSIZE:
      return EMSGSIZE;
    case WSAEPROTONOSUPPORT:
      return EPROTONOSUPPORT;
    case WSAENOPROTOOPT:
    case WSAEOPNOTSUPP:
      return ENOTSUP;
    case WSAEAFNOSUPPORT:
      return EAFNOSUPPORT;
    case WSAEADDRINUSE:
      return EADDRINUSE;
    case WSAEADDRNOTAVAIL:
      return EADDRNOTAVAIL;
    case WSAENETDOWN:
      return ENETDOWN;
    case WSAENETUNREACH:
      return ENETUNREACH;
    case WSAENETRESET:
    case WSAECONNRESET:
      return ECONNRESET;
    case WSAECONNABORTED:
      return ECONNABORTED;
    case WSAENOBUFS:
      return ENOBUFS;
    case WSAEISCONN:
      return EISCONN;
    case WSAENOTCONN:
      return ENOTCONN;
    case WSAESHUTDOWN:
      return EPIPE;
    case WSAETIMEDOUT:
      return ETIMEDOUT;
    case WSAECONNREFUSED:
      return ECONNREFUSED;
    case WSAEHOSTUNREACH:
      return EHOSTUNREACH;
    default:
      return 0;
  }
}

/// What a socket's operation fails with when it is asked through the file interface.
int of_network(unsigned long error) {
  switch (error) {
    case ERROR_NETNAME_DELETED:  // how a reset ends a pending operation
      return ECONNRESET;
    case ERROR_CONNECTION_ABORTED:
      return ECONNABORTED;
    case ERROR_CONNECTION_REFUSED:
      return ECONNREFUSED;
    case ERROR_SEM_TIMEOUT:
      return ETIMEDOUT;
    case ERROR_NETWORK_UNREACHABLE:
      return ENETUNREACH;
    case ERROR_HOST_UNREACHABLE:
    case ERROR_PORT_UNREACHABLE:
      return EHOSTUNREACH;
    case ERROR_ADDRESS_ALREADY_ASSOCIATED:
      return EADDRINUSE;
    default:
      return 0;
  }
}

int of_file(unsigned long error) {
  switch (error) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_DRIVE:
    case ERROR_INVALID_NAME:
    case ERROR_BAD_PATHNAME:
    case ERROR_BAD_NETPATH:
    case ERROR_BAD_NET_NAME:
    case ERROR_DIRECTORY:
    case ERROR_INVALID_REPARSE_DATA:
    case ERROR_MOD_NOT_FOUND:
      return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_PRIVILEGE_NOT_HELD:
      return EPERM;
    case ERROR_NOACCESS:
    case ERROR_ELEVATION_REQUIRED:
    case ERROR_CANT_ACCESS_FILE:
      return EACCES;
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION:
    case ERROR_PIPE_BUSY:
      return EBUSY;
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS:
      return EEXIST;
    case ERROR_INVALID_FUNCTION:  // reading a directory
      return EISDIR;
    case ERROR_INVALID_HANDLE:
    case ERROR_INVALID_FLAGS:
      return EBADF;
    case ERROR_TOO_MANY_OPEN_FILES:
      return EMFILE;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL:
    case ERROR_EA_TABLE_FULL:
    case ERROR_END_OF_MEDIA:
      return ENOSPC;
    case ERROR_WRITE_PROTECT:
      return EROFS;
    case ERROR_BUFFER_OVERFLOW:
    case ERROR_FILENAME_EXCED_RANGE:
      return ENAMETOOLONG;
    case ERROR_NOT_SAME_DEVICE:
      return EXDEV;
    case ERROR_DIR_NOT_EMPTY:
      return ENOTEMPTY;
    case ERROR_CANT_RESOLVE_FILENAME:
      return ELOOP;
    case ERROR_BROKEN_PIPE:
    case ERROR_NO_DATA:
    case ERROR_BAD_PIPE:
    case ERROR_PIPE_NOT_CONNECTED:
      return EPIPE;
    default:
      return 0;
  }
}

int of_anything(unsigned long error) {
  switch (error) {
    case ERROR_OPERATION_ABORTED:
      return ECANCELED;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
    case ERROR_COMMITMENT_LIMIT:
      return ENOMEM;
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_WORKING_SET_QUOTA:  // the memory of the operation can't be locked
      return ENOMEM;
    case ERROR_NOT_SUPPORTED:
    case ERROR_CALL_NOT_IMPLEMENTED:
      return ENOTSUP;
    case ERROR_INVALID_PARAMETER:
    case ERROR_INSUFFICIENT_BUFFER:
    case ERROR_NEGATIVE_SEEK:
      return EINVAL;
    default:
      return EIO;
  }
}

}  // namespace

Result from_windows(unsigned long error) {
  if (const int found = of_socket(error)) return -found;
  if (const int found = of_network(error)) return -found;
  if (const int found = of_file(error)) return -found;
  return -of_anything(error);
}

Result last_error() { return from_windows(::GetLastError()); }

Result transfer_error(Result error, Opcode code) {
  if (error == -EPERM) return -EBADF;
  if (code == Opcode::kRead && error == -EPIPE) return 0;  // the last writer has gone
  return error;
}

}  // namespace cp::driver
