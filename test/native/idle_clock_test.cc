// Connections on which nothing moves, while threads and ports come and go.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;

PORT_TEST(
    "O10 what is under way ends, and so does what is submitted later, and another time is kept") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  REQUIRE(Port::set_idle_timeout(listening, 40) == 0);
  const Connection c = connection(*port, member, listening);
  CHECK(Port::idle_timeout(c.handle) == 40);
  member.receive(c.handle);
  Packet packet = member.next();
  CHECK(packet.kind == PacketKind::kReceive);
  CHECK(packet.error == kErrorTimedOut);
  member.send(c.handle, "late");
  packet = member.next();
  CHECK(packet.kind == PacketKind::kSend);
  CHECK(packet.error == kErrorTimedOut);
  CHECK(Port::set_idle_timeout(c.handle, 50) == 0);
  CHECK(Port::idle_timeout(c.handle) == 50);
  member.close(c.handle);
  CHECK(member.next().kind == PacketKind::kClose);
  CHECK(Port::idle_timeout(c.handle) == kErrorHandleClosed);
  CHECK(Port::set_idle_timeout(c.handle, 50) == kErrorHandleClosed);
}

/// Receives from what is handed to the port, and closes it at the first answer.
void serve(Port& port, const std::atomic<bool>& over) {
  Member member(port);
  while (!over) {
    const Packet packet = member.next(kMillisecond);
    if (packet.kind == PacketKind::kHandOff) member.receive(packet.handle, false);
    if (packet.kind != PacketKind::kReceive) continue;
    contents(packet);
    member.close(packet.handle);
  }
}

PORT_TEST("O10 connections end at whichever port they are, and the clock with the last port") {
  NEEDS_DRIVER();
  constexpr int kRounds = 10;
  constexpr std::uint32_t kConnections = 24;
  Random random(seed("idle connections"));
  for (int round = 0; round < kRounds; ++round) {
    const PortHold port = make_port(D::name, options());
    const PortHold other = make_port(D::name, options());
    Member member(*port);
    const HandleId listening = listener(member, true);
    std::atomic<bool> over{false};
    std::thread first([&] { serve(*other, over); });
    std::thread second([&] { serve(*other, over); });
    while (other->threads() < 2) std::this_thread::yield();
    std::vector<Connection> all;
    for (std::uint32_t i = 0; i < kConnections; ++i) {
      all.push_back(connection(*port, member, listening));
      Connection& c = all.back();
      CHECK(Port::set_idle_timeout(c.handle, 1 + random(60)) == 0);
      if (random(2) == 0) CHECK(port->hand_off(c.handle, *other, c.key) == 0);
      if (random(4) == 0) c.peer.write("x");
    }
    CHECK(eventually([&] { return other->stats().handles == 0; }));
    over = true;
    first.join();
    second.join();
  }
}

}  // namespace
