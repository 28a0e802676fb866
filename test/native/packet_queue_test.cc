#include "port/packet_queue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "port/open_queue.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

Packet numbered(std::uint32_t number) {
  Packet packet;
  packet.key = number;
  return packet;
}

/// What a place in a batch holds from the last time.
Packet posted_before() {
  Packet packet;
  packet.kind = PacketKind::kAccept;
  packet.handle = packet.accepted = packet.tag = packet.token = 7;
  packet.chunk = 1;
  packet.error = -1;
  packet.target = reinterpret_cast<Consumer*>(8);
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

/// Messages and completions in turn; some that were taken come back, in any order.
TEST_CASE("D1 the queue that any thread may take from keeps the order of the port") {
  const std::uint64_t first = seed("open queue");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    INFO("CP_SEED=", first + round);
    OpenQueue queue;
    std::map<std::uint64_t, Packet> model;
    std::vector<Packet> taken;
    for (std::uint32_t step = 1; step <= 4000; ++step) {
      const std::uint32_t dice = random(10);
      if (dice < 5) {
        Packet packet;
        packet.kind = random.one_in(3) ? PacketKind::kReceive : PacketKind::kPosted;
        packet.handle = packet.kind == PacketKind::kReceive ? 1 + random(3) : 0;
        packet.sequence = step;
        packet.key = random(1000);
        packet.result = random(1000);
        packet.queued_at = random(1000);
        model[step] = packet;
        queue.push_back(packet);
      } else if (dice < 9) {
        if (queue.empty()) continue;
        REQUIRE(queue.front_sequence() == model.begin()->first);
        Packet& packet = taken.emplace_back(posted_before());
        queue.pop_front(packet);
        const Packet& wanted = model.begin()->second;
        REQUIRE(packet.kind == wanted.kind);
        REQUIRE(packet.key == wanted.key);
        REQUIRE(packet.handle == wanted.handle);
        REQUIRE(packet.result == wanted.result);
        REQUIRE(packet.sequence == wanted.sequence);
        REQUIRE(packet.queued_at == wanted.queued_at);
        REQUIRE(packet.chunk == Packet{}.chunk);
        REQUIRE(packet.target == nullptr);
        model.erase(model.begin());
        if (taken.size() > 20) taken.erase(taken.begin(), taken.begin() + random(20));
      } else if (random.one_in(2)) {
        for (; !taken.empty(); taken.pop_back()) {
          model[taken.back().sequence] = taken.back();
          queue.put_back(taken.back());
        }
      } else {
        const HandleId handle = 1 + random(3);
        std::vector<Packet> out;
        queue.extract_handle(handle, out);
        std::size_t count = 0;
        for (const auto& [number, packet] : model) {
          if (packet.handle == handle) REQUIRE(out.at(count++).sequence == number);
        }
        REQUIRE(count == out.size());
        std::erase_if(model, [&](const auto& it) { return it.second.handle == handle; });
      }
      REQUIRE(queue.size() == model.size());
    }
    std::vector<Packet> rest;
    queue.drain(rest);
    CHECK(queue.empty());
    REQUIRE(rest.size() == model.size());
    for (const Packet& packet : rest) {
      REQUIRE(packet.sequence == model.begin()->first);
      model.erase(model.begin());
    }
  }
}

}  // namespace
