// TCP sockets over IPv4.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <string>

namespace cp::bench {

sockaddr_in address_of(const std::string& host, std::uint32_t port);

/// A listening socket, non-blocking where asked for, and the port it got. Exits on failure.
int listen_at(const std::string& host, std::uint32_t& port, bool non_blocking);

/// A connected, blocking socket without Nagle's delay; -1 with errno.
int connect_to(const sockaddr_in& address);

/// Closing resets the connection, so that no local port waits for old packets (TIME_WAIT).
void reset_on_close(int socket);

void set_non_blocking(int socket);

}  // namespace cp::bench
