// Errors of accepting that say nothing of the listener.
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

}  // namespace cp::driver
