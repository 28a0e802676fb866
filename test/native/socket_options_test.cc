// Options of sockets, as the system has them afterwards.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "driver/linux/socket.h"

namespace {

using namespace cp::driver;

int option_of(int socket, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  REQUIRE(::getsockopt(socket, level, name, &value, &length) == 0);
  return value;
}

}  // namespace

TEST_CASE("keepalive tells of a dead peer ten seconds after the first probe") {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(socket >= 0);
  CHECK(set_socket_option(socket, SocketOption::kKeepAlive, 40) == 0);
  CHECK(option_of(socket, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option_of(socket, IPPROTO_TCP, TCP_KEEPIDLE) == 40);
  CHECK(option_of(socket, IPPROTO_TCP, TCP_KEEPINTVL) == 1);
  CHECK(option_of(socket, IPPROTO_TCP, TCP_KEEPCNT) == 10);
  CHECK(set_socket_option(socket, SocketOption::kKeepAlive, 0) == 0);
  CHECK(option_of(socket, SOL_SOCKET, SO_KEEPALIVE) == 0);
  ::close(socket);
}

TEST_CASE("keepalive that is refused is not switched on") {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(socket >= 0);
  CHECK(set_socket_option(socket, SocketOption::kKeepAlive, 40'000) == -EINVAL);
  CHECK(option_of(socket, SOL_SOCKET, SO_KEEPALIVE) == 0);
  ::close(socket);
}
