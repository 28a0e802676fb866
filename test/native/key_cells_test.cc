#include "port/key_cells.h"

#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

TEST_CASE("D8 the cells of keys agree with a map, and stay where they are") {
  const std::uint64_t first = seed("key cells");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    INFO("CP_SEED=", first + round);
    KeyCells cells(1);
    std::map<std::uint32_t, Cell*> model;
    // Consecutive keys, keys that share a stripe, and any.
    const std::uint32_t stride = round % 3 == 0 ? 1 : round % 3 == 1 ? 1u << 26 : 2654435761u;
    const std::uint32_t span = 8 + random(round % 3 == 1 ? 60 : 3000);
    for (int step = 0; step < 6000; ++step) {
      const std::uint32_t key = random(span) * stride;
      const HeldStripe stripe(cells, key);
      Cell* found = stripe.find(key);
      REQUIRE((found != nullptr) == (model.count(key) == 1));
      if (found != nullptr) REQUIRE(found == model.at(key));
      if (random.one_in(2)) {
        Cell& cell = stripe.find_or_make(key);
        REQUIRE(cell.key == key);
        model[key] = &cell;
        ++cell.held;
      } else if (found != nullptr) {
        if (--found->held == 0) model.erase(key);
        stripe.give_up_if_superfluous(*found);
      }
    }
    std::size_t seen = 0;
    cells.for_each([&](const HeldStripe&, Cell& cell) {
      ++seen;
      CHECK(model.count(cell.key) == 1);
    });
    CHECK(seen == model.size());
  }
}

TEST_CASE("D8 a cell is given up when nothing is left to be known of its key") {
  KeyCells cells(2);
  const HeldStripe stripe(cells, 7);
  Cell& cell = stripe.find_or_make(7);
  const auto stays = [&] {
    stripe.give_up_if_superfluous(cell);
    return stripe.find(7) == &cell;
  };
  cell.queue.push_back(Packet{});
  CHECK(stays());
  cell.queue.pop_front();
  cell.entries = 1;
  CHECK(stays());
  cell.entries = 0;
  cell.held = 1;
  CHECK(stays());
  cell.held = 0;
  cell.pinned = reinterpret_cast<Consumer*>(8);
  CHECK(stays());
  cell.pinned = nullptr;
  CHECK(!stays());
  CHECK(stripe.find_or_make(7).queue.empty());
}

}  // namespace
