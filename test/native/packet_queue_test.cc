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

TEST_CASE("D1 what is put back finds its place by its sequence") {
  const std::uint64_t first = seed("put back");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    PacketQueue queue;
    std::vector<Packet> out;
    std::deque<std::uint64_t> model;
    for (std::uint64_t sequence = 1; sequence <= 1000; ++sequence) {
      Packet packet;
      packet.sequence = sequence;
      queue.push_back(packet);
      model.push_back(sequence);
      while (random.one_in(3) && !queue.empty()) {
        out.push_back(queue.front());
        queue.pop_front();
        model.pop_front();
      }
      if (out.empty() || !random.one_in(6)) continue;
      const std::size_t i = random(static_cast<std::uint32_t>(out.size()));
      queue.put_back(out[i]);
      model.insert(std::lower_bound(model.begin(), model.end(), out[i].sequence), out[i].sequence);
      out.erase(out.begin() + static_cast<std::ptrdiff_t>(i));
    }
    REQUIRE(queue.size() == model.size());
    for (const std::uint64_t sequence : model) {
      REQUIRE(queue.front().sequence == sequence);
      queue.pop_front();
    }
  }
}

}  // namespace
