// Errors of accepting, and what they say of the listener.
#pragma once

#include "driver/driver.h"
#include "driver/errno.h"

namespace cp::driver {

/// What accept(2) says to treat like EAGAIN, and what Windows tells in its place: the trouble was
/// that one connection's, or the network's on its way, and the next one may succeed.
constexpr bool concerns_one_connection(Result error) {
  switch (-error) {
    case ECONNABORTED:
    case ECONNRESET:
    case ENOTCONN:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

/// Out of descriptors or memory (accept(2)): the connection stays in the backlog.
constexpr bool exhausted(Result error) {
  return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

/// When an accept is tried again after that, nanoseconds.
inline constexpr std::int64_t kPauseAfterExhaustion = 100'000'000;

}  // namespace cp::driver
