// Addresses that stand for others, on every system.
#ifdef _WIN32
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <netinet/in.h>
#include <sys/socket.h>
#endif

#include <cstring>

#include "system.h"

namespace cp::test {

driver::SocketAddress unspecified(const driver::SocketAddress& address) {
  sockaddr_in known;
  std::memcpy(&known, address.bytes, sizeof known);
  known.sin_addr.s_addr = htonl(INADDR_ANY);
  driver::SocketAddress out = address;
  std::memcpy(out.bytes, &known, sizeof known);
  return out;
}

driver::SocketAddress mapped(const driver::SocketAddress& address) {
  sockaddr_in known;
  std::memcpy(&known, address.bytes, sizeof known);
  sockaddr_in6 made = {};
  made.sin6_family = AF_INET6;
  made.sin6_port = known.sin_port;
  made.sin6_addr.s6_addr[10] = made.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(made.sin6_addr.s6_addr + 12, &known.sin_addr, 4);
  driver::SocketAddress out;
  std::memcpy(out.bytes, &made, sizeof made);
  out.length = sizeof made;
  return out;
}

}  // namespace cp::test
