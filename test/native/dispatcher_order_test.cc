// The dispatcher alone, one step at a time: in which order packets leave, and whom they wake. What
// several threads do to it at once is in stress_test.cc.
#include <doctest/doctest.h>

#include <algorithm>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- order -------------------------------------------------------------------------------------

TEST_CASE("D1 packets leave in the order they were queued") {
  for (const bool serialize : {true, false}) {
    for (const std::size_t max : {1, 2, 7, 256}) {
      Dispatcher dispatcher({1, 65536, serialize});
      FakeThread thread(dispatcher);
      for (int i = 1; i <= 1000; ++i) {
        const auto key = static_cast<std::uint32_t>(i * 7 % 13);
        if (i % 2 == 0) {
          REQUIRE(post(dispatcher, posted(key, i)));
        } else {
          push(dispatcher, completed(key, key, i));
        }
      }
      CHECK(drain(thread, max) == sequence(1, 1000));
    }
  }
}

TEST_CASE("D1 packets of keys that others hold are passed over, the rest keeps its order") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  for (int i = 2; i <= 9; ++i) REQUIRE(post(dispatcher, posted(i % 2 ? 1 : 100u + i, i)));
  CHECK(drain(b) == Values{2, 4, 6, 8});
  a.done(0);
  CHECK(drain(a) == Values{3, 5, 7, 9});
}

TEST_CASE("D1 what threads give back is taken before what came later, by key") {
  for (const bool first_comes_first : {true, false}) {
    Dispatcher dispatcher({3, 65536, true});
    FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
    post_apart(dispatcher, 9);
    REQUIRE(a.take(3) == 3);
    REQUIRE(b.take(3) == 3);
    REQUIRE(a.claim(0));
    REQUIRE(b.claim(0));
    (first_comes_first ? a : b).begin_blocking();
    (first_comes_first ? b : a).begin_blocking();
    CHECK(sorted(drain(c)) == Values{2, 3, 5, 6, 7, 8, 9});
  }
}

TEST_CASE("D1 what waited for its key is taken in order when the key is free") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(2, 2)));
  REQUIRE(post(dispatcher, posted(1, 3)));
  REQUIRE(post(dispatcher, posted(3, 4)));
  REQUIRE(post(dispatcher, posted(1, 5)));
  REQUIRE(b.take() == 2);
  REQUIRE(post(dispatcher, posted(4, 6)));
  b.begin_blocking();
  a.done(0);
  const Values got = drain(a);
  CHECK(sorted(got) == Values{2, 3, 4, 5, 6});
  CHECK(std::find(got.begin(), got.end(), 3) < std::find(got.begin(), got.end(), 5));
}

TEST_CASE("D2 waiting threads are woken last in, first out") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() + c.take_or_park() == 0);
  REQUIRE(post(dispatcher, posted(1, 1)));
  CHECK(a.wakes() == 0);
  CHECK(b.wakes() == 0);
  CHECK(c.wakes() == 1);
  REQUIRE(post(dispatcher, posted(2, 2)));
  REQUIRE(post(dispatcher, posted(3, 3)));
  CHECK(b.wakes() == 0);  // the one that comes sends for the next
  REQUIRE(c.take() == 1);
  CHECK(a.wakes() == 0);
  CHECK(b.wakes() == 1);
  REQUIRE(b.take() == 1);
  CHECK(a.wakes() == 1);
  CHECK(b.wakes() == 1);
  CHECK(c.wakes() == 1);
}

TEST_CASE("D2 who queues several packets may tell of them at the end") {
  constexpr auto kLater = Dispatcher::Tell::kLater;
  Dispatcher dispatcher({1, 65536, true});
  FakeThread waits(dispatcher), comes(dispatcher);
  REQUIRE(waits.take_or_park() == 0);
  for (std::uint32_t i = 1; i <= 3; ++i) {
    REQUIRE(dispatcher.push(completed(i, 70 + i, i), nullptr, kLater));
  }
  CHECK(dispatcher.wake_ups() == 0);
  SUBCASE("one thread is woken for all of them") {
    dispatcher.tell();
    CHECK(waits.wakes() == 1);
    CHECK(waits.take() == 3);
  }
  SUBCASE("a thread that comes before takes them, and nobody is woken in vain") {
    CHECK(comes.take_or_park() == 3);
    dispatcher.tell();
    CHECK(waits.wakes() == 0);
  }
}

TEST_CASE("D2 the thread that waited last runs again and again") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread cold(dispatcher), warm(dispatcher);
  REQUIRE(cold.take_or_park() + warm.take_or_park() == 0);
  for (int i = 0; i < 50; ++i) {
    REQUIRE(post(dispatcher, posted(1, i)));
    REQUIRE(warm.take_or_park() == 1);
    REQUIRE(warm.claim(0));
    warm.done(0);
    REQUIRE(warm.take_or_park() == 0);
  }
  CHECK(cold.wakes() == 0);
  CHECK(warm.wakes() == 50);
}

TEST_CASE("D2 a thread blocked in get comes before one in its event loop") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  REQUIRE(a.take_or_park(256, false) + b.take_or_park(256, true) + c.take_or_park(256, true) == 0);
  REQUIRE(post(dispatcher, posted(1, 1)));
  CHECK(a.wakes() == 1);
  REQUIRE(a.take() == 1);
  REQUIRE(post(dispatcher, posted(2, 2)));
  CHECK(c.wakes() == 1);
  CHECK(b.wakes() == 0);
}

TEST_CASE("D2 a packet that a thread was woken for is not for others that wait, unless it leaves") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() == 0);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(b.wakes() == 1);
  CHECK(!dispatcher.worth_taking(a));
  CHECK(dispatcher.worth_taking(b));
  dispatcher.leave_waiting(b);
  CHECK(a.wakes() == 1);
  CHECK(a.take_or_park() == 1);
}

// ---- the limit ---------------------------------------------------------------------------------

TEST_CASE("D3 never more than concurrency threads run") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher), c(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() + c.take_or_park() == 0);
  post_apart(dispatcher, 30);
  CHECK(c.wakes() == 1);
  REQUIRE(c.take_or_park(4) > 0);
  CHECK(b.wakes() == 1);
  REQUIRE(b.take_or_park(4) > 0);
  CHECK(a.wakes() == 0);
  CHECK(dispatcher.running() == 2);
  CHECK(a.take_or_park(4) == 0);
  CHECK(dispatcher.running() == 2);
  CHECK(c.take_or_park(4) > 0);
  CHECK(a.take_or_park(4) == 0);
  CHECK(dispatcher.running() == 2);
}

TEST_CASE("D3 a thread that leaves makes room for one that waits") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 3);
  REQUIRE(a.take(1) == 1);
  REQUIRE(a.claim(0));
  REQUIRE(b.take_or_park(1) == 0);
  a.done(0);
  CHECK(a.leave(false).empty());
  CHECK(b.wakes() == 1);
  CHECK(drain(b, 1) == Values{2, 3});
}

TEST_CASE("D3 answers a thread awaits reach it beyond the limit") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 2);
  REQUIRE(a.take(1) == 1);
  REQUIRE(b.take_or_park(1) == 0);
  push(dispatcher, awaited(b, 7));
  CHECK(b.wakes() == 1);
  REQUIRE(b.take(1) == 1);
  CHECK(b.slots[0].token == 7);
}

TEST_CASE("D4 while a thread blocks another runs in its place") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 3);
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  REQUIRE(b.take_or_park() == 0);
  a.begin_blocking();
  CHECK(b.wakes() == 1);
  REQUIRE(b.take_or_park() == 2);
  CHECK(b.values() == Values{2, 3});
  CHECK_FALSE(a.claim(1));
  CHECK_FALSE(a.claim(2));
  CHECK(dispatcher.running() == 1);
}

TEST_CASE("D4 a thread that comes back from blocking exceeds the limit until the next batch") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 3);
  REQUIRE(a.take(1) == 1);
  REQUIRE(a.claim(0));
  a.begin_blocking();
  REQUIRE(b.take(1) == 1);
  a.end_blocking();
  CHECK(dispatcher.running() == 2);
  CHECK(a.take_or_park() == 0);
  CHECK(dispatcher.running() == 1);
  CHECK(b.take_or_park(1) == 1);
  CHECK(dispatcher.running() == 1);
}

TEST_CASE("D4 the key of the packet a thread blocks in stays its own") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 3; ++i) REQUIRE(post(dispatcher, posted(5, i)));
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  a.begin_blocking();
  CHECK(b.take_or_park() == 0);
  a.end_blocking();
  a.done(0);
  CHECK(drain(a) == Values{2, 3});
}

// ---- affine packets ----------------------------------------------------------------------------

TEST_CASE("D7 packets for one thread alone reach it, in order, and no other") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() == 0);
  for (std::uint32_t i = 1; i <= 4; ++i) push(dispatcher, for_one(completed(i % 2, i % 2, i), a));
  CHECK(a.wakes() > 0);
  CHECK(b.wakes() == 0);
  CHECK(b.take() == 0);
  CHECK(drain(a) == Values{1, 2, 3, 4});
}

TEST_CASE("D1 A3 packets for one thread alone do not overtake older ones that any may take") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(9, 9, 1));
  push(dispatcher, for_one(completed(9, 9, 2), a));
  push(dispatcher, completed(8, 8, 3));
  push(dispatcher, for_one(completed(7, 7, 4), a));
  SUBCASE("when it takes all") {
    REQUIRE(a.take() == 4);
    CHECK(a.values() == Values{1, 2, 3, 4});
  }
  SUBCASE("when it leaves some to a thread that waits") {
    push(dispatcher, completed(6, 6, 5));
    dispatcher.park(b, false, true);
    // Two of the three that any may take: what is its own and newer than the third stays, too.
    REQUIRE(a.take() == 4);
    CHECK(a.values() == Values{1, 2, 3, 4});
    REQUIRE(b.take() == 1);
    CHECK(b.values() == Values{5});
  }
  SUBCASE("when another thread has taken the older one") {
    REQUIRE(b.take(1) == 1);
    REQUIRE(b.claim(0));
    CHECK(drain(a) == Values{3, 4});
    b.done(0);
    REQUIRE(b.take() == 0);
    CHECK(drain(a) == Values{2});
  }
}

TEST_CASE("T1 that a key was abandoned is told before packets of it for one thread alone") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(9, 9, 1));
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  push(dispatcher, for_one(completed(9, 9, 2), a));
  b.leave(true);
  REQUIRE(a.take() == 2);
  CHECK(a.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(a.slots[1].result == 2);
}

TEST_CASE("D3 packets for one thread alone wait for a place, and the thread is then woken") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 1);
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  b.done(0);
  REQUIRE(a.take_or_park() == 0);
  push(dispatcher, for_one(completed(1, 1, 5), a));
  CHECK(a.take_or_park() == 0);
  const std::uint64_t before = a.wakes();
  CHECK(b.take_or_park() == 0);
  CHECK(a.wakes() == before + 1);
  REQUIRE(a.take() == 1);
  CHECK(a.values() == Values{5});
}

TEST_CASE("T1 packets for a thread that left go to the others, in order") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (std::uint32_t i = 1; i <= 4; ++i) push(dispatcher, for_one(completed(9, 9, i), a));
  REQUIRE(a.take(2) == 2);
  REQUIRE(b.take_or_park() == 0);
  a.leave(true);
  CHECK(b.wakes() == 1);
  CHECK(drain(b) == Values{1, 2, 3, 4});
}

TEST_CASE("T1 packets for a thread that left while another held their key are not lost") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(9, 9, 1));
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  push(dispatcher, for_one(completed(9, 9, 2), a));
  REQUIRE(a.take() == 0);
  a.leave(true);
  b.done(0);
  CHECK(drain(b) == Values{2});
}

}  // namespace
