// Options of sockets, as the system has them afterwards.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

namespace {

struct Case {
  SocketOption option;
  int value, level, name, expected;
};

void set_and_read(int family, const Case& one) {
  const int socket = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(socket >= 0);
  CHECK(set_socket_option(socket, one.option, one.value) == 0);
  CHECK(option_of(socket, one.level, one.name) == one.expected);
  CHECK(socket_option(socket, one.option) == one.expected);
  ::close(socket);
}

}  // namespace

TEST_CASE("each option is what the system says of it afterwards") {
  constexpr int kTcp = IPPROTO_TCP;
  set_and_read(AF_INET, {SocketOption::kNoDelay, 1, kTcp, TCP_NODELAY, 1});
  set_and_read(AF_INET, {SocketOption::kKeepAliveInterval, 7, kTcp, TCP_KEEPINTVL, 7});
  set_and_read(AF_INET, {SocketOption::kKeepAliveCount, 3, kTcp, TCP_KEEPCNT, 3});
  set_and_read(AF_INET, {SocketOption::kUserTimeout, 1234, kTcp, TCP_USER_TIMEOUT, 1234});
  set_and_read(AF_INET, {SocketOption::kTypeOfService, 0x10, IPPROTO_IP, IP_TOS, 0x10});
  set_and_read(AF_INET6, {SocketOption::kTypeOfService, 0x10, IPPROTO_IPV6, IPV6_TCLASS, 0x10});
  // The kernel doubles both.
  set_and_read(AF_INET, {SocketOption::kReceiveBuffer, 8192, SOL_SOCKET, SO_RCVBUF, 16384});
  set_and_read(AF_UNIX, {SocketOption::kSendBuffer, 8192, SOL_SOCKET, SO_SNDBUF, 16384});
  set_and_read(AF_INET, {SocketOption::kFastOpenConnect, 1, kTcp, 30, 1});
}

TEST_CASE("a listener has what it was told before it listens") {
  ListenOptions options;
  struct sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::memcpy(options.address.bytes, &any, sizeof any);
  options.address.length = sizeof any;
  options.settings = {{SocketOption::kDeferAccept, 2}, {SocketOption::kFastOpen, 16}};
  const Result made = open_listener(options);
  REQUIRE(made >= 0);
  const int socket = static_cast<int>(made);
  // The kernel counts retransmissions, and tells the time of as many.
  CHECK(option_of(socket, IPPROTO_TCP, TCP_DEFER_ACCEPT) >= 2);
  CHECK(option_of(socket, IPPROTO_TCP, TCP_FASTOPEN) == 16);
  ::close(socket);
}

TEST_CASE("a connection that is to be made is bound, and has its options, before it connects") {
  ConnectTarget target;
  struct sockaddr_in local = {};
  local.sin_family = AF_INET;
  std::memcpy(target.peer.bytes, &local, sizeof local);
  target.peer.length = sizeof local;
  local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 8);
  std::memcpy(target.local.bytes, &local, sizeof local);
  target.local.length = sizeof local;
  target.settings = {{SocketOption::kUserTimeout, 99}, {SocketOption::kLinger, 1}};
  const Result made = open_for_connect(target, true);
  REQUIRE(made >= 0);
  const int socket = static_cast<int>(made);
  CHECK(option_of(socket, IPPROTO_TCP, TCP_USER_TIMEOUT) == 99);
  CHECK(socket_option(socket, SocketOption::kLinger) == 1);
  SocketAddress bound;
  REQUIRE(socket_address(socket, false, bound) == 0);
  std::memcpy(&local, bound.bytes, sizeof local);
  CHECK(ntohl(local.sin_addr.s_addr) == INADDR_LOOPBACK + 8);
  ::close(socket);

  target.settings = {{SocketOption::kKeepAliveCount, 4000}};
  CHECK(open_for_connect(target, true) == -EINVAL);
}
