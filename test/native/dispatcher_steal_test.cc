// The dispatcher alone: what one thread has not begun and another one takes (rules D5 to D7).
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- work conservation -------------------------------------------------------------------------

TEST_CASE("D5 the surplus of a batch is left to threads that wait") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() + c.take_or_park() == 0);
  post_apart(dispatcher, 30);
  CHECK(c.take() == 10);
  CHECK(b.take() == 10);
  CHECK(a.take() == 10);
}

TEST_CASE("D5 an idle thread steals what a running batch has not begun, from its end, in order") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 9);
  REQUIRE(a.take() == 9);
  REQUIRE(a.claim(0));
  REQUIRE(b.take() == 4);
  CHECK(b.values() == Values{6, 7, 8, 9});
  for (std::size_t i = 0; i < 9; ++i) CHECK((a.slot_state(i) == kSlotStolen) == (i >= 5));
  CHECK_FALSE(a.claim(5));
  CHECK(a.claim(1));
  CHECK(dispatcher.steals() == 4);
}

TEST_CASE("D5 packets of one key are stolen together or not at all") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (const int value : {11, 21, 12, 22, 13, 23}) {
    REQUIRE(post(dispatcher, posted(static_cast<std::uint32_t>(value / 10), value)));
  }
  REQUIRE(a.take() == 6);
  REQUIRE(a.claim(0));
  REQUIRE(b.take() == 3);
  CHECK(b.values() == Values{21, 22, 23});
  CHECK(b.claim(0));
  FakeThread c(dispatcher);
  CHECK(c.take() == 0);
  CHECK(a.claim(2));
}

TEST_CASE("D8 a key that is in use is not stolen, whichever of its packets was begun") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 3; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(1));
  CHECK(b.take() == 0);
  CHECK(a.claim(0));
  CHECK(a.claim(2));
}

TEST_CASE("D5 Q2 what a busy thread does not begin is taken back, and takes up room again") {
  for (const bool serialize : {true, false}) {
    Dispatcher dispatcher({3, 8, serialize});
    FakeThread a(dispatcher), b(dispatcher);
    for (int i = 1; i <= 6; ++i) REQUIRE(post(dispatcher, posted(i < 3 ? 1 : 10u + i, i)));
    REQUIRE(a.take() == 6);
    REQUIRE(a.claim(0));
    CHECK(dispatcher.unbegun(a) == 5);
    dispatcher.take_back(a);
    // With serialized keys the second packet has the key that the thread is in the middle of.
    CHECK(dispatcher.unbegun(a) == (serialize ? 1 : 0));
    CHECK(drain(b) == (serialize ? Values{3, 4, 5, 6} : Values{2, 3, 4, 5, 6}));
    a.done(0);
    CHECK(drain(a) == (serialize ? Values{2} : Values{}));
    REQUIRE(a.take_or_park() + b.take_or_park() == 0);
    CHECK(dispatcher.room() == 8);
  }
}

TEST_CASE("D5 without serialized keys any packet that has not begun can be stolen") {
  Dispatcher dispatcher({2, 65536, false});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 5; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 5);
  REQUIRE(a.claim(0));
  REQUIRE(b.take() == 2);
  CHECK(b.values() == Values{4, 5});
}

TEST_CASE("D5 a thief takes about half, also of keys with several packets") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 0; i < 40; ++i)
    REQUIRE(post(dispatcher, posted(static_cast<std::uint32_t>(i % 4), i)));
  REQUIRE(a.take() == 40);
  CHECK(b.take() == 20);
}

TEST_CASE("D5 a packet for one thread alone is not stolen") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (std::uint32_t i = 1; i <= 3; ++i) push(dispatcher, for_one(completed(i, i, i), a));
  push(dispatcher, awaited(a, 9));
  REQUIRE(a.take() == 4);
  CHECK(b.take() == 0);
}

TEST_CASE("D5 when a running thread leaves, one that waits comes for the rest of a batch") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  post_apart(dispatcher, 1);
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  post_apart(dispatcher, 9, 2);
  REQUIRE(a.take() == 8);
  REQUIRE(c.take_or_park() == 0);
  b.done(0);
  b.leave(false);
  CHECK(c.wakes() == 1);
  CHECK(c.take() == 4);
}

TEST_CASE("D5 when a running thread blocks, one that waits comes for the rest of a batch") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  post_apart(dispatcher, 1);
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  post_apart(dispatcher, 9, 2);
  REQUIRE(a.take() == 8);
  REQUIRE(c.take_or_park() == 0);
  b.begin_blocking();
  CHECK(c.wakes() == 1);
  CHECK(c.take() == 4);
}

TEST_CASE("D5 a thread that was woken for the rest of a batch and leaves passes that on") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher), d(dispatcher);
  post_apart(dispatcher, 1);
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  post_apart(dispatcher, 9, 2);
  REQUIRE(a.take() == 8);
  REQUIRE(a.claim(0));
  REQUIRE(c.take_or_park() + d.take_or_park() == 0);
  b.begin_blocking();
  REQUIRE(d.wakes() == 1);
  REQUIRE(c.wakes() == 0);
  SUBCASE("for good") { d.leave(false); }
  SUBCASE("because its time was over") { dispatcher.leave_waiting(d); }
  CHECK(c.wakes() == 1);
}

TEST_CASE("D6 a batch holds no more than asked for, stolen or not") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 100; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  CHECK(a.take(10) == 10);
  CHECK(a.take(100) == 100);
  CHECK(b.take(10) <= 10);
}

TEST_CASE("D7 a group that does not fit beside awaited answers is not lost") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 256; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 256);
  for (std::uint32_t i = 1; i <= 128; ++i) push(dispatcher, awaited(b, i));
  Values got;
  REQUIRE(b.take() > 0);
  for (FakeThread* thread : {&a, &b, &a}) {
    do {
      for (std::size_t i = 0; i < thread->batch().size(); ++i) {
        if (thread->batch()[i].awaited() || !thread->claim(i)) continue;
        got.push_back(thread->slots[i].result);
        thread->done(i);
      }
    } while (thread->take() > 0);
  }
  CHECK(got.size() == 256);
  std::sort(got.begin(), got.end());
  const bool each_once = got == sequence(1, 256);
  CHECK(each_once);
}

// ---- exactly once ------------------------------------------------------------------------------

/// One round of the race for a batch: the owner claims from its start while a thief steals.
class Race {
 public:
  static constexpr std::uint32_t kCount = 64;

  explicit Race(std::uint32_t keys)
      : dispatcher({2, kCount, true}), owner(dispatcher), thief(dispatcher) {
    for (std::uint32_t i = 0; i < kCount; ++i) post(dispatcher, posted(i % keys, i));
    owner.take();
  }

  void work(FakeThread& thread) {
    for (std::size_t i = 0; i < thread.batch().size(); ++i) {
      if (!thread.claim(i)) continue;
      ++claims[static_cast<std::size_t>(thread.slots[i].result)];
      thread.done(i);
    }
  }
  void steal() {
    if (thief.take() > 0) work(thief);
    thief.take(0);
  }

  Dispatcher dispatcher;
  FakeThread owner, thief;
  std::atomic<int> claims[kCount] = {};
};

void spin(std::uint32_t times) {
  for (std::atomic<std::uint32_t> i{0}; i.fetch_add(1) < times;) {
  }
}

TEST_CASE(
    "D7 Q2 a packet is its owner's or a thief's, never both, never neither, and counted once") {
  const std::uint64_t first = seed("owner and thief");
  Random random(first);
  Verdict verdict;
  std::atomic<Race*> race{nullptr};
  std::atomic<bool> over{false};
  std::thread thief([&] {
    Random delays(first + 1);
    while (!over.load()) {
      Race* now = race.load();
      if (now == nullptr) {
        std::this_thread::yield();
        continue;
      }
      spin(delays(200));
      now->steal();
      race.store(nullptr);
    }
  });
  // Where both threads share a processor with others, each round waits for its turn twice.
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (int round = 0; round < 10'000 && verdict.good(); ++round) {
    if (std::chrono::steady_clock::now() > enough) break;
    Race now(1 + random(3));
    race.store(&now);
    spin(random(200));
    now.work(now.owner);
    while (race.load() != nullptr) std::this_thread::yield();
    while (now.owner.take() > 0) now.work(now.owner);
    for (auto& count : now.claims) {
      verdict.expect(count == 1, "D7 a packet was claimed " + std::to_string(count) + " times");
    }
    std::uint32_t room = 0;
    while (room <= Race::kCount && post(now.dispatcher, posted(1, 0))) ++room;
    verdict.expect(room == Race::kCount, "Q2 the queue's room is " + std::to_string(room));
  }
  over.store(true);
  thief.join();
  CHECK(verdict.first() == "");
}

}  // namespace
