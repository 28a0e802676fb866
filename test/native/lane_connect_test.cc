// Connections on a lane of each driver.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "support/lane.h"

namespace {

using namespace cp::test;

LANE_TEST("a connection is made, accepted, used and closed") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  Operation accept = on(listener.handle, Opcode::kAccept);
  lane.submit(accept);
  lane.expect_silence();

  ConnectTarget target;
  target.peer = listener.address;
  Operation connect = on({}, Opcode::kConnect);
  connect.target = &target;
  lane.submit(connect);
  const Handle client = handle(lane.next(connect).result);
  const Handle server = handle(lane.next(accept).result);
  REQUIRE(client.fd >= 0);
  REQUIRE(server.fd >= 0);
  SocketAddress local, remote;
  CHECK(lane.driver->address(client.fd, false, local) == 0);
  CHECK(lane.driver->address(server.fd, true, remote) == 0);
  CHECK(std::memcmp(local.bytes, remote.bytes, local.length) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kNoDelay, 1) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kKeepAlive, 30) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kKeepAlive, 0) == 0);

  std::string hello = "hello, ", world = "world";
  std::vector<Slice> out{slice(hello), slice(world)};
  Operation receive = receiving(server);
  lane.submit(receive);
  Operation send = moving(client, Opcode::kSend, out);
  CHECK(lane.run(send) == 12);
  const Completion got = lane.next(receive);
  CHECK(got.result == 12);
  Bytes bytes;
  append(lane.buffers, got, bytes);
  CHECK(std::string(bytes.begin(), bytes.end()) == "hello, world");
  close_all(lane, {client, server, listener.handle});
}

LANE_TEST("one multishot accept takes every connection, however small the batches") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  Operation accept = on(listener.handle, Opcode::kAccept);
  accept.multishot = true;
  lane.submit(accept);
  std::vector<Socket> peers;
  for (int i = 0; i < 50; ++i) peers.push_back(socket_to(listener.address));
  for (int i = 0; i < 50; ++i) {
    lane.poll(1);
    const Completion completion = lane.next(accept);
    REQUIRE(completion.result >= 0);
    CHECK(completion.more);
    lane.driver->discard(completion.result);
  }
  CHECK(lane.cancel(accept) == -ECANCELED);
  for (const Socket peer : peers) shut(peer);
  close_all(lane, {listener.handle});
}

LANE_TEST("any address is one of this machine's, and one of IPv4 can be written as of IPv6") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  for (const SocketAddress& peer : {unspecified(listener.address), mapped(listener.address)}) {
    Operation accept = on(listener.handle, Opcode::kAccept);
    lane.submit(accept);
    ConnectTarget target;
    target.peer = peer;
    Operation connect = on({}, Opcode::kConnect);
    connect.target = &target;
    const Result client = lane.run(connect);
    if (client == -EAFNOSUPPORT || client == -EADDRNOTAVAIL) {
      MESSAGE("there is no IPv6 here: ", client);
      CHECK(lane.cancel(accept) == -ECANCELED);
      continue;
    }
    REQUIRE(client >= 0);
    close_all(lane, {handle(client), handle(lane.next(accept).result)});
  }
  close_all(lane, {listener.handle});
}

LANE_TEST("a refused connection says so") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  close_all(lane, {listener.handle});
  ConnectTarget target;
  target.peer = listener.address;
  Operation connect = on({}, Opcode::kConnect);
  connect.target = &target;
  const std::size_t before = open_descriptors();
  CHECK(lane.run(connect) == -ECONNREFUSED);
  CHECK(lane.run(connect) == -ECONNREFUSED);
  CHECK(open_descriptors() == before);
}

LANE_TEST("O4: what waits can be cancelled, and completes once") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  for (const bool multishot : {false, true}) {
    Operation accept = on(listener.handle, Opcode::kAccept);
    accept.multishot = multishot;
    lane.submit(accept);
    CHECK(lane.cancel(accept) == -ECANCELED);  // before it was started
    lane.submit(accept);
    lane.expect_silence();
    CHECK(lane.cancel(accept) == -ECANCELED);
  }
  const Pair pair = connected(*lane.driver);
  for (const bool multishot : {false, true}) {
    Operation receive = receiving(pair.ours, multishot);
    lane.submit(receive);
    lane.expect_silence();
    CHECK(lane.cancel(receive) == -ECANCELED);
  }
  lane.expect_silence();
  shut(pair.peer);
  close_all(lane, {pair.ours, listener.handle});
}

LANE_TEST("a connection that is never answered can be cancelled") {
  LANE(lane);
  // Connections beyond the backlog get no answer.
  const Listener listener = listen(*lane.driver, 0);
  ConnectTarget target;
  target.peer = listener.address;
  const std::size_t before = open_descriptors();
  std::vector<Operation> connects(4, on({}, Opcode::kConnect));
  for (auto& connect : connects) {
    connect.target = &target;
    lane.submit(connect);
  }
  for (int i = 0; i < 20; ++i) {
    lane.lane->wait(now() + kMillisecond);
    lane.poll();
  }
  int cancelled = 0;
  for (auto& connect : connects) {
    lane.lane->cancel(&connect);
    const Result result = lane.next(connect).result;
    if (result == -ECANCELED) ++cancelled;
    if (result >= 0) lane.driver->discard(result);
  }
  CHECK(cancelled >= 2);
  CHECK(open_descriptors() == before);
  close_all(lane, {listener.handle});
}

}  // namespace
