// The bound on messages alone (rule Q2).
#include "port/room.h"

#include <doctest/doctest.h>

namespace {

using namespace cp;

Packet request(std::uint32_t token) {
  Packet packet;
  packet.kind = PacketKind::kRoom;
  packet.token = token;
  return packet;
}

TEST_CASE("Q2 no thread sets the last of the room aside") {
  Room room(64);
  std::int32_t credit = 0;
  CHECK(room.set_aside(64, credit) == 8);
  CHECK(room.set_aside(3, credit) == 3);
  CHECK(room.free() == 53);
  credit = 5;  // its own comes first
  CHECK(room.set_aside(64, credit) == 5);
  CHECK(credit == 0);
  CHECK(room.free() == 53);
}

TEST_CASE("Q2 messages that are not bounded take room that is not there") {
  Room room(1);
  CHECK(room.take_one(true));
  CHECK_FALSE(room.take_one(true));
  CHECK(room.take_one(false));
  CHECK(room.free() == -1);
  std::int32_t credit = 0;
  CHECK(room.set_aside(1, credit) == 0);
  room.give_back(2);
  CHECK(room.free() == 1);
}

TEST_CASE("Q2 who waits for room is told when a quarter is free, and nobody keeps any till then") {
  Room room(1024);
  for (int i = 0; i < 1024; ++i) REQUIRE(room.take_one(true));
  std::int32_t credit = 8;
  CHECK_FALSE(room.settle(credit, false));
  CHECK(credit == 8);  // a 128th of the limit is its own
  CHECK_FALSE(room.ask(request(1)));
  CHECK_FALSE(room.ask(request(2)));
  credit = 255;
  CHECK(room.settle(credit, false));
  CHECK(credit == 0);
  CHECK(room.answered().empty());
  credit = 1;
  CHECK(room.settle(credit, false));
  const std::vector<Packet> answered = room.answered();
  REQUIRE(answered.size() == 2);
  CHECK(answered[0].token == 1);
  CHECK(answered[1].token == 2);
  CHECK(room.ask(request(3)));  // at once
  credit = 8;
  CHECK_FALSE(room.settle(credit, false));
  CHECK(credit == 8);
  CHECK_FALSE(room.settle(credit, true));  // it goes to sleep
  CHECK(credit == 0);
  CHECK(room.free() == 264);
}

}  // namespace
