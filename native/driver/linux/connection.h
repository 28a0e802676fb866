// What the kernel knows of a TCP connection and tells whenever it is asked.
#pragma once

#include <cstdint>

namespace cp::driver {

/// See Driver::ended_in_order.
bool connection_ended_in_order(int socket, std::uint64_t received);
/// See Driver::acknowledged.
std::int64_t bytes_acknowledged(int socket);
/// See traffic.
std::int64_t bytes_moved(int socket);

}  // namespace cp::driver
