#include "port/key_table.h"

#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

TEST_CASE("D8 the table of keys agrees with a map") {
  const std::uint64_t first = seed("key table");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    KeyTable table;
    std::map<std::uint32_t, std::uint32_t> model;
    // Consecutive keys, keys that fall on one slot, and any.
    const std::uint32_t stride = round % 3 == 0 ? 1 : round % 3 == 1 ? 1u << 26 : 2654435761u;
    const std::uint32_t span = 8 + random(300);
    for (int step = 0; step < 4000; ++step) {
      const std::uint32_t key = random(span) * stride;
      if (random.one_in(2)) {
        KeyTable::Entry& entry = table.find_or_insert(key);
        REQUIRE(entry.key == key);
        REQUIRE(entry.held == model[key]);
        entry.held = ++model[key];
      } else if (KeyTable::Entry* entry = table.find(key)) {
        REQUIRE(model.at(key) == entry->held);
        table.erase(entry);
        model.erase(key);
      } else {
        REQUIRE(model.count(key) == 0);
      }
      REQUIRE(table.size() == model.size());
    }
    for (const auto& [key, held] : model) {
      REQUIRE(table.find(key) != nullptr);
      CHECK(table.find(key)->held == held);
    }
    std::size_t seen = 0;
    table.for_each([&](KeyTable::Entry& entry) {
      ++seen;
      CHECK(model.count(entry.key) == 1);
    });
    CHECK(seen == model.size());
  }
}

TEST_CASE("D8 what waits for a key stays with it while the table grows and shrinks") {
  KeyTable table;
  const auto waits = [](std::uint32_t key) {
    Packet packet;
    packet.key = key;
    return packet;
  };
  for (std::uint32_t key = 0; key < 500; ++key) {
    KeyTable::Entry& entry = table.find_or_insert(key);
    entry.pending = std::make_unique<PacketQueue>();
    entry.pending->push_back(waits(key));
  }
  for (std::uint32_t key = 0; key < 500; key += 2) table.erase(table.find(key));
  for (std::uint32_t key = 0; key < 500; ++key) {
    KeyTable::Entry* entry = table.find(key);
    REQUIRE((entry != nullptr) == (key % 2 == 1));
    if (entry == nullptr) continue;
    REQUIRE(entry->pending != nullptr);
    CHECK(entry->pending->front().key == key);
  }
  KeyTable::Entry& again = table.find_or_insert(0);
  CHECK(again.pending == nullptr);
  CHECK(again.holder == nullptr);
  CHECK(again.held == 0);
}

}  // namespace
