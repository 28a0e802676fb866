#include "port/packet_queue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

Packet numbered(std::uint32_t number) {
  Packet packet;
  packet.key = number;
  return packet;
}

TEST_CASE("D1 the queue of packets agrees with a deque") {
  const std::uint64_t first = seed("packet queue");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    PacketQueue queue;
    std::deque<std::uint32_t> model;
    const std::uint32_t eager = 2 + random(4);
    for (std::uint32_t step = 0; step < 4000; ++step) {
      switch (random(8)) {
        case 0:
          queue.push_front(numbered(step));
          model.push_front(step);
          break;
        case 1: {
          if (!random.one_in(40)) break;
          const auto chosen = [&](std::uint32_t number) { return number % 3 == step % 3; };
          std::vector<Packet> out;
          queue.extract([&](const Packet& packet) { return chosen(packet.key); }, out);
          std::vector<std::uint32_t> taken;
          std::copy_if(model.begin(), model.end(), std::back_inserter(taken), chosen);
          std::erase_if(model, chosen);
          REQUIRE(out.size() == taken.size());
          for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(out[i].key == taken[i]);
          break;
        }
        default:
          if (random(6) < eager) {
            queue.push_back(numbered(step));
            model.push_back(step);
          } else if (!model.empty()) {
            REQUIRE(queue.front().key == model.front());
            queue.pop_front();
            model.pop_front();
          }
      }
      REQUIRE(queue.size() == model.size());
      REQUIRE(queue.empty() == model.empty());
      if (!model.empty()) REQUIRE(queue.front().key == model.front());
    }
    for (const std::uint32_t number : model) {
      REQUIRE(queue.front().key == number);
      queue.pop_front();
    }
    CHECK(queue.empty());
  }
}

TEST_CASE("D7 the queue of a key agrees with a deque") {
  const std::uint64_t first = seed("queue");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    INFO("CP_SEED=", first + round);
    KeyQueue queue;
    std::deque<Packet> model;
    for (std::uint32_t step = 1; step <= 4000; ++step) {
      Packet packet;
      packet.key = step;
      packet.handle = random(4);
      switch (random(10)) {
        case 0: {
          const std::uint32_t handle = random(4);
          std::vector<Packet> out;
          queue.extract([&](const Packet& p) { return p.handle == handle; }, out);
          std::size_t count = 0;
          for (const Packet& p : model) {
            if (p.handle == handle) REQUIRE(out.at(count++).key == p.key);
          }
          REQUIRE(count == out.size());
          std::erase_if(model, [&](const Packet& p) { return p.handle == handle; });
          break;
        }
        case 1:
          queue.push_front(packet);
          model.push_front(packet);
          break;
        case 2:
        case 3:
        case 4:
          queue.push_back(packet);
          model.push_back(packet);
          break;
        default:
          if (queue.empty()) break;
          queue.pop_front();
          model.pop_front();
          if (queue.empty() && random.one_in(2)) queue.shrink();
      }
      REQUIRE(queue.size() == model.size());
      REQUIRE(queue.empty() == model.empty());
      if (!model.empty()) REQUIRE(queue.front().key == model.front().key);
    }
  }
}

}  // namespace
