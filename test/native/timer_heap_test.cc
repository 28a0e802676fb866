#include "port/timer_heap.h"

#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

Request* stand_in(std::uintptr_t number) { return reinterpret_cast<Request*>(number * 64 + 64); }

TEST_CASE("O6 the heap of deadlines agrees with a multimap") {
  const std::uint64_t first = seed("timer heap");
  for (std::uint64_t round = 0; round < 60; ++round) {
    Random random(first + round);
    TimerHeap heap;
    std::multimap<std::int64_t, TimerNode*> model;
    const std::uint32_t span = 1 + random(500);
    const std::uint32_t eager = 30 + random(40);
    for (std::uint32_t step = 0; step < 4000; ++step) {
      if (random(100) < eager) {
        const std::int64_t deadline = random(span);
        TimerNode* node = heap.add(deadline, stand_in(step), nullptr, step);
        REQUIRE(node->generation == step);
        REQUIRE(node->request == stand_in(step));
        model.emplace(deadline, node);
      } else if (!model.empty()) {
        TimerNode* node = heap.top();
        if (random.one_in(2)) {
          auto any = model.begin();
          std::advance(any, random(static_cast<std::uint32_t>(model.size())));
          node = any->second;
        }
        auto found = model.lower_bound(node->deadline);
        while (found->second != node) ++found;
        model.erase(found);
        heap.remove(node);
        REQUIRE(node->request == nullptr);
      }
      REQUIRE(heap.empty() == model.empty());
      if (!model.empty()) REQUIRE(heap.top()->deadline == model.begin()->first);
    }
    while (!model.empty()) {
      REQUIRE(heap.top()->deadline == model.begin()->first);
      const auto [from, to] = model.equal_range(heap.top()->deadline);
      bool known = false;
      for (auto it = from; it != to; ++it) {
        if (it->second != heap.top()) continue;
        model.erase(it);
        known = true;
        break;
      }
      REQUIRE(known);
      heap.remove(heap.top());
    }
    CHECK(heap.empty());
  }
}

}  // namespace
