// The dispatcher alone, one step at a time. What several threads do to it at once is in
// stress_test.cc.
#include "port/dispatcher.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "support/consumer.h"
#include "support/verdict.h"

namespace doctest {
template <>
struct StringMaker<std::vector<double>> {
  static String convert(const std::vector<double>& values) {
    std::string text = "[";
    for (const double value : values) text += " " + std::to_string(static_cast<int>(value));
    return (text + " ]").c_str();
  }
};
}  // namespace doctest

namespace {

using namespace cp;
using namespace cp::test;
using Values = std::vector<double>;

Values sequence(int first, int last) {
  Values values(static_cast<std::size_t>(last - first + 1));
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// Packets with the values from `first` to `last`, each under a key of its own.
void post_apart(Dispatcher& dispatcher, int last, int first = 1) {
  for (int i = first; i <= last; ++i) {
    REQUIRE(post(dispatcher, posted(1000 + static_cast<std::uint32_t>(i), i)));
  }
}

Values drain(FakeThread& thread, std::size_t max = kBatchLimit) {
  Values all;
  while (thread.take(max) > 0) {
    for (std::size_t i = 0; i < thread.batch_size; ++i) {
      if (!thread.claim(i)) continue;
      all.push_back(thread.slots[i].result);
      thread.done(i);
    }
  }
  return all;
}

Values sorted(Values values) {
  std::sort(values.begin(), values.end());
  return values;
}

// ---- order ------------------------------------------------------------------------------------

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

// ---- the limit --------------------------------------------------------------------------------

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

// ---- work conservation ------------------------------------------------------------------------

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
      for (std::size_t i = 0; i < thread->batch_size; ++i) {
        if (thread->batch[i].awaited() || !thread->claim(i)) continue;
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

// ---- keys -------------------------------------------------------------------------------------

TEST_CASE("D8 two threads never hold packets of one key") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1, 2)));
  CHECK(b.take_or_park() == 0);
  a.done(0);
  CHECK(b.take_or_park() == 0);
  REQUIRE(a.take() == 1);
  CHECK(a.values() == Values{2});
}

TEST_CASE("D8 can be turned off") {
  Dispatcher dispatcher({2, 65536, false});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1, 2)));
  CHECK(b.take() == 1);
}

TEST_CASE("D8 what waited for a key goes to a thread that waits when the key is free") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 1);
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1001, 2)));
  REQUIRE(post(dispatcher, posted(1001, 3)));
  REQUIRE(b.take_or_park() == 0);
  a.done(0);
  a.leave(false);
  CHECK(b.wakes() > 0);
  CHECK(drain(b) == Values{2, 3});
}

TEST_CASE("D7 what a thread did not begin stays before what waited for its key") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 3; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  for (int i = 4; i <= 5; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(b.take_or_park() == 0);
  SUBCASE("in its next batch") { a.done(0); }
  SUBCASE("while it blocks") {
    a.begin_blocking();
    CHECK(b.take_or_park() == 0);
    a.end_blocking();
    a.done(0);
  }
  CHECK(drain(a) == Values{2, 3, 4, 5});
}

TEST_CASE("D7 a new packet does not overtake one of its key that is still in the queue") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1, 2)));
  REQUIRE(post(dispatcher, posted(2, 3)));
  REQUIRE(post(dispatcher, posted(1, 4)));
  REQUIRE(b.take(1) == 1);
  REQUIRE(b.claim(0));
  REQUIRE(post(dispatcher, posted(1, 5)));
  a.done(0);
  CHECK(drain(a) == Values{2, 4, 5});
}

TEST_CASE("D7 two keys given back at once keep their orders") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (const int value : {11, 21, 12, 22}) {
    REQUIRE(post(dispatcher, posted(static_cast<std::uint32_t>(value / 10), value)));
  }
  REQUIRE(a.take() == 4);
  for (const int value : {13, 23}) {
    REQUIRE(post(dispatcher, posted(static_cast<std::uint32_t>(value / 10), value)));
  }
  REQUIRE(a.claim(0));
  a.begin_blocking();
  REQUIRE(b.take() == 3);
  CHECK(b.values() == Values{21, 22, 23});
  REQUIRE(b.claim(0));
  a.done(0);
  CHECK(drain(a) == Values{12, 13});
}

// ---- affine packets ---------------------------------------------------------------------------

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

// ---- keys beyond a batch ----------------------------------------------------------------------

TEST_CASE("D8 a key that is kept beyond its batch stays its thread's until it is let go") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 2; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(post(dispatcher, posted(2, 3)));
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  a.keep(0);
  // The second packet of the key was not begun: it waits with the key, also for its own thread.
  CHECK(drain(a) == Values{3});
  CHECK(b.take() == 0);
  REQUIRE(post(dispatcher, posted(1, 4)));
  CHECK(a.take() == 0);
  CHECK(a.let_go(1));
  CHECK_FALSE(a.let_go(1));
  CHECK(drain(b) == Values{2, 4});
}

TEST_CASE("D8 a key that is let go of before its batch ends is free with the batch") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.keep(0);
  REQUIRE(post(dispatcher, posted(1, 2)));
  CHECK(a.let_go(1));
  CHECK(b.take() == 0);
  CHECK(a.take(0) == 0);
  CHECK(drain(b) == Values{2});
}

TEST_CASE("D8 letting go of a key that is not kept changes nothing") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  CHECK_FALSE(a.let_go(1));
  REQUIRE(a.claim(0));
  CHECK_FALSE(a.let_go(1));
  CHECK_FALSE(b.let_go(1));
  REQUIRE(post(dispatcher, posted(1, 2)));
  CHECK(b.take() == 0);
}

TEST_CASE("D5 letting go of a key sends a waiting thread for what waited with it") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.keep(0);
  REQUIRE(a.take_or_park() == 0);
  REQUIRE(b.take_or_park() == 0);
  REQUIRE(post(dispatcher, posted(1, 2)));
  const std::uint64_t before = b.wakes();
  REQUIRE(b.take_or_park() == 0);
  REQUIRE(a.let_go(1));
  CHECK(b.wakes() > before);
  CHECK(drain(b) == Values{2});
}

TEST_CASE("T1 a key that a dead thread kept is abandoned, once, before what waited for it") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(1, 71, 1));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.keep(0);
  bool same_batch = false;
  SUBCASE("in the batch at hand") { same_batch = true; }
  SUBCASE("from an earlier batch") {}
  if (!same_batch) REQUIRE(a.take(0) == 0);
  REQUIRE(post(dispatcher, posted(1, 2)));
  a.leave(true);
  REQUIRE(b.take() == 2);
  CHECK(b.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(b.slots[0].handle == 71);
  CHECK(b.slots[1].result == 2);
}

TEST_CASE("T1 a key that a thread keeps is abandoned, too, when it leaves of its own will") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.keep(0);
  SUBCASE("after its batch") { REQUIRE(a.take(0) == 0); }
  SUBCASE("in its batch") {}
  REQUIRE(post(dispatcher, posted(1, 2)));
  a.leave(false);
  REQUIRE(b.take() == 2);
  CHECK(b.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(b.slots[0].key == 1);
  CHECK(b.slots[1].result == 2);
}

TEST_CASE("T1 a thread that leaves of its own will abandons no key it has dealt with") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(post(dispatcher, posted(2, 2)));
  REQUIRE(a.take() == 2);
  REQUIRE(a.claim(0));
  a.done(0);
  REQUIRE(a.claim(1));
  REQUIRE(post(dispatcher, posted(1, 3)));
  a.leave(false);
  CHECK(drain(b) == Values{3});
}

// ---- pinned keys ------------------------------------------------------------------------------

TEST_CASE("D8 packets of a pinned key go to its thread alone, in order with those queued before") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  for (int i = 2; i <= 3; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(post(dispatcher, posted(2, 4)));
  a.pin(1, 0);
  REQUIRE(post(dispatcher, posted(1, 5)));
  REQUIRE(a.take(0) == 0);
  CHECK(drain(b) == Values{4});
  CHECK(drain(a) == Values{2, 3, 5});
  a.pin(1, 0, false);
  REQUIRE(post(dispatcher, posted(1, 6)));
  CHECK(drain(b) == Values{6});
}

TEST_CASE("D8 a pinned key cannot be stolen") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.pin(1, 0);
  for (int i = 2; i <= 9; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 8);
  CHECK(b.take() == 0);
}

TEST_CASE("T1 keys pinned to a thread that leaves are abandoned to the others") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  a.pin(1, 77);
  bool died = false;
  SUBCASE("dead in the middle of it") { died = true; }
  SUBCASE("of its own will") { a.done(0); }
  REQUIRE(post(dispatcher, posted(1, 2)));
  a.leave(died);
  REQUIRE(b.take() == 2);
  CHECK(b.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(b.slots[0].key == 1);
  CHECK(b.slots[1].result == 2);
}

// ---- exactly once -----------------------------------------------------------------------------

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
    for (std::size_t i = 0; i < thread.batch_size; ++i) {
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

// ---- posting ----------------------------------------------------------------------------------

TEST_CASE("Q2 posting is bounded, completions are not") {
  Dispatcher dispatcher({1, 4, true});
  FakeThread thread(dispatcher);
  post_apart(dispatcher, 4);
  CHECK_FALSE(post(dispatcher, posted(1, 5)));
  for (int i = 5; i <= 8; ++i) push(dispatcher, completed(1, 1, i));
  REQUIRE(thread.take(1) == 1);
  CHECK(post(dispatcher, posted(1, 9)));
  CHECK_FALSE(post(dispatcher, posted(1, 10)));
  CHECK(drain(thread) == Values{1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("Q2 room that a thread has set aside counts, until it gives it back") {
  Dispatcher dispatcher({1, 80, true});
  RingWriter writer(dispatcher);
  REQUIRE(writer.post(1, 0));
  CHECK(writer.room() == 9);  // an eighth of the queue, and one of it is used
  int others = 0;
  while (others < 100 && post(dispatcher, posted(2, others))) ++others;
  CHECK(others == 70);
  writer.end_turn();
  while (others < 100 && post(dispatcher, posted(2, others))) ++others;
  CHECK(others == 79);
  CHECK_FALSE(writer.post(1, 1));
}

TEST_CASE("Q2 who waits for room is not told before a quarter of the queue is free") {
  Dispatcher dispatcher({1, 80, true});
  FakeThread thread(dispatcher);
  FakeThread producer(dispatcher);
  post_apart(dispatcher, 80);
  Packet drained = awaited(producer, 1);
  drained.kind = PacketKind::kRoom;
  dispatcher.notify_when_drained(drained);
  REQUIRE(thread.take(19) == 19);
  for (std::size_t i = 0; i < 19; ++i) REQUIRE(thread.claim(i));  // else they go back
  CHECK(producer.take(0) == 0);
  REQUIRE(thread.take(1) == 1);
  CHECK(producer.take(0) == 1);
}

TEST_CASE("T1 what a thread had posted before it died is delivered, in order") {
  Dispatcher dispatcher({1, 800, true});
  FakeThread thread(dispatcher);
  RingWriter writer(dispatcher);
  for (int i = 1; i <= 3; ++i) REQUIRE(writer.post(1, i));
  writer.leave(true);
  CHECK(drain(thread) == Values{1, 2, 3});
  int room = 0;
  while (room < 1000 && dispatcher.post(posted(1, 0), nullptr)) ++room;
  CHECK(room == 800);
}

TEST_CASE("D5 a message in a ring reaches a thread that waits, or is about to") {
  Dispatcher dispatcher({1, 800, true});
  FakeThread thread(dispatcher);
  RingWriter writer(dispatcher);
  REQUIRE(thread.take_or_park() == 0);
  REQUIRE(writer.post(1, 1));
  CHECK(thread.state == Consumer::State::kWoken);
  REQUIRE(thread.take() == 1);
  thread.claim(0);
  thread.done(0);
  REQUIRE(thread.take() == 0);
  REQUIRE(writer.post(1, 2));  // nobody waits: it stays in the ring
  dispatcher.park(thread, false, true);
  CHECK(thread.state == Consumer::State::kWoken);
  CHECK(thread.take() == 1);
}

// ---- looking before sleeping ------------------------------------------------------------------

std::uint32_t idle(Dispatcher& dispatcher) { return std::atomic_ref(dispatcher.idle()).load(); }

TEST_CASE("D5 a message in a ring reaches a thread that spins without a wake-up") {
  Dispatcher dispatcher({2, 800, true});
  FakeThread thread(dispatcher);
  RingWriter writer(dispatcher);
  thread.park_spinning();
  CHECK(idle(dispatcher) == kIdleSpins);
  CHECK(dispatcher.waiting() == 1);
  REQUIRE(writer.post(1, 1));
  CHECK(dispatcher.told());
  REQUIRE(writer.post(1, 2));
  CHECK(thread.stop_spinning());
  CHECK(thread.take() == 2);
  CHECK(thread.values() == Values{1, 2});
  CHECK(thread.wakes() == 0);
  CHECK(dispatcher.wake_ups() == 0);
  CHECK(idle(dispatcher) == kIdleNobody);
}

TEST_CASE("D5 a message that is queued at once reaches a thread that spins without a wake-up") {
  Dispatcher dispatcher({2, 800, true});
  FakeThread thread(dispatcher);
  thread.park_spinning();
  REQUIRE(post(dispatcher, posted(1, 1)));
  CHECK(thread.state == Consumer::State::kWoken);
  CHECK(thread.spin == Consumer::kSpinEnded);
  CHECK(idle(dispatcher) == kIdleNobody);
  CHECK(thread.stop_spinning());
  CHECK(thread.take() == 1);
  CHECK(thread.wakes() == 0);
}

TEST_CASE("D5 a message that comes while a thread gives up spinning is not lost") {
  Dispatcher dispatcher({2, 800, true});
  FakeThread thread(dispatcher);
  RingWriter writer(dispatcher);
  thread.park_spinning();
  SUBCASE("before it comes to the dispatcher") {
    thread.spin.exchange(Consumer::kSpinNot);
    REQUIRE(writer.post(1, 1));
    CHECK(thread.stop_spinning());
    CHECK(thread.wakes() == 0);
  }
  SUBCASE("after that it is woken") {
    CHECK(!thread.stop_spinning());
    CHECK(idle(dispatcher) == kIdleAsleep);
    REQUIRE(writer.post(1, 1));
    CHECK(thread.wakes() == 1);
  }
  SUBCASE("queued at once, in between, it is woken") {
    thread.spin.exchange(Consumer::kSpinNot);
    REQUIRE(post(dispatcher, posted(1, 1)));
    CHECK(thread.wakes() == 1);
    CHECK(thread.stop_spinning());
  }
  CHECK(thread.take() == 1);
}

TEST_CASE("D5 what another thread gathers for one that spins sends for it all the same") {
  Dispatcher dispatcher({2, 800, true});
  FakeThread thread(dispatcher), other(dispatcher);
  RingWriter writer(dispatcher);
  thread.park_spinning();
  REQUIRE(writer.post(1, 1));
  dispatcher.accept_posts();
  CHECK(thread.state == Consumer::State::kWoken);
  CHECK(thread.wakes() == 0);
  REQUIRE(other.take() == 1);
  other.claim(0);
  CHECK(!dispatcher.told());
  CHECK(thread.stop_spinning());
  CHECK(thread.take_or_park() == 0);
}

TEST_CASE("D2 the thread that waits last spins in place of the one before") {
  Dispatcher dispatcher({3, 800, true});
  FakeThread first(dispatcher), second(dispatcher), third(dispatcher);
  RingWriter writer(dispatcher);
  first.park_spinning();
  second.park_spinning();
  CHECK(first.spin == Consumer::kSpinEnded);
  CHECK(second.spin == Consumer::kSpinGoesOn);
  CHECK(!first.stop_spinning());
  CHECK(idle(dispatcher) == kIdleSpins);
  SUBCASE("and is told") {
    REQUIRE(writer.post(1, 1));
    CHECK(second.stop_spinning());
    CHECK(second.take() == 1);
  }
  SUBCASE("until one comes that sleeps at once") {
    REQUIRE(third.take_or_park() == 0);
    CHECK(second.spin == Consumer::kSpinEnded);
    CHECK(idle(dispatcher) == kIdleAsleep);
    REQUIRE(writer.post(1, 1));
    CHECK(third.wakes() == 1);
    CHECK(second.wakes() + first.wakes() == 0);
    CHECK(third.take() == 1);
  }
  SUBCASE("also when one goes to its event loop") {
    REQUIRE(third.take_or_park(kBatchLimit, true) == 0);
    CHECK(second.spin == Consumer::kSpinGoesOn);
    REQUIRE(writer.post(1, 1));
    CHECK(second.stop_spinning());
    CHECK(third.wakes() == 0);
  }
}

TEST_CASE(
    "D5 a thread that spins takes its share of several messages, others are sent for the rest") {
  Dispatcher dispatcher({3, 800, true});
  FakeThread sleeps(dispatcher), spins(dispatcher);
  RingWriter writer(dispatcher);
  REQUIRE(sleeps.take_or_park() == 0);
  spins.park_spinning();
  for (std::uint32_t key = 0; key < 6; ++key) REQUIRE(writer.post(key, key));
  CHECK(sleeps.wakes() == 0);
  CHECK(spins.stop_spinning());
  CHECK(spins.take() == 3);
  CHECK(sleeps.wakes() == 1);
  CHECK(sleeps.take() == 3);
}

TEST_CASE("D3 a thread that spins is told of nothing while the limit is reached") {
  Dispatcher dispatcher({1, 800, true});
  FakeThread runs(dispatcher), spins(dispatcher);
  RingWriter writer(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(runs.take() == 1);
  spins.park_spinning();
  CHECK(idle(dispatcher) == kIdleNobody);
  REQUIRE(writer.post(2, 2));
  CHECK(!dispatcher.told());
  CHECK(!spins.stop_spinning());
  runs.claim(0);
  runs.leave(false);
  CHECK(spins.wakes() == 1);
  CHECK(spins.take() == 1);
}

TEST_CASE("D10 closing reaches a thread that spins") {
  Dispatcher dispatcher({1, 800, true});
  FakeThread thread(dispatcher);
  thread.park_spinning();
  dispatcher.close();
  CHECK(thread.spin == Consumer::kSpinEnded);
  CHECK(thread.stop_spinning());
}

TEST_CASE("looking goes on while it pays, and gets seldom while it does not") {
  SpinHistory history;
  int looks = 0;
  for (int i = 0; i < 100'000; ++i) {
    if (!history.worth_it()) continue;
    history.tell(false);
    ++looks;
  }
  CHECK(looks < 1000);
  CHECK(looks > 500);
  for (int paid = 0; paid < 10;) {
    if (!history.worth_it()) continue;
    history.tell(true);
    ++paid;
  }
  for (int i = 0; i < 100; ++i) {
    REQUIRE(history.worth_it());
    history.tell(true);
  }
}

TEST_CASE("Q2 a ring that claims more than there was room for fills no queue") {
  Dispatcher dispatcher({1, 16, true});
  FakeThread thread(dispatcher);
  FakeThread liar(dispatcher);
  PostRing ring{};
  liar.ring = &ring;
  for (int i = 0; i < 5000; ++i) liar.write_post(1, i);
  CHECK(thread.take() == 0);
  CHECK(dispatcher.queued() == 0);
}

TEST_CASE("Q2 what a thread gives back counts as queued again") {
  Dispatcher dispatcher({1, 4, true});
  FakeThread thread(dispatcher);
  post_apart(dispatcher, 4);
  REQUIRE(thread.take() == 4);
  REQUIRE(thread.claim(0));
  thread.begin_blocking();
  CHECK(post(dispatcher, posted(1, 5)));
  CHECK_FALSE(post(dispatcher, posted(1, 6)));
  thread.end_blocking();
  thread.done(0);
  CHECK(drain(thread) == Values{2, 3, 4, 5});
}

TEST_CASE("Q2 posts that wait for their key take up room") {
  Dispatcher dispatcher({2, 2, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1, 2)));
  REQUIRE(post(dispatcher, posted(1, 3)));
  REQUIRE(b.take() == 0);
  CHECK_FALSE(post(dispatcher, posted(2, 4)));
}

TEST_CASE("Q2 who waits for room is told once, when there is some") {
  Dispatcher dispatcher({1, 2, true});
  FakeThread thread(dispatcher), waiter(dispatcher);
  Packet notice = awaited(waiter, 77);
  notice.kind = PacketKind::kRoom;
  const auto ask = [&] { dispatcher.notify_when_drained(notice); };
  ask();
  REQUIRE(waiter.take() == 1);
  CHECK(waiter.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kRoom));
  post_apart(dispatcher, 2);
  ask();
  REQUIRE(waiter.take_or_park(0) == 0);
  REQUIRE(thread.take(1) == 1);
  CHECK(waiter.wakes() == 1);
  REQUIRE(waiter.take(0) == 1);
  CHECK(waiter.slots[0].token == 77);
  CHECK(waiter.take(0) == 0);
}

// ---- leaving ----------------------------------------------------------------------------------

TEST_CASE("T1 what a dead thread had not begun goes back in order, only the claimed is abandoned") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (std::uint32_t i = 1; i <= 5; ++i) push(dispatcher, completed(i, 70 + i, i));
  REQUIRE(a.take() == 5);
  push(dispatcher, completed(6, 76, 6));
  REQUIRE(a.claim(0));
  a.done(0);
  REQUIRE(a.claim(1));
  CHECK(a.leave(true).empty());
  REQUIRE(b.take() == 5);
  CHECK(b.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(b.slots[0].key == 2);
  CHECK(b.slots[0].handle == 72);
  for (std::uint32_t i = 1; i < 5; ++i) CHECK(b.slots[i].result == i + 2);
}

TEST_CASE("T1 a thread that leaves between packets abandons nothing") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  post_apart(dispatcher, 3);
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  SUBCASE("done, then dead") {
    a.done(0);
    a.leave(true);
  }
  SUBCASE("claimed, but leaving of its own will") { a.leave(false); }
  CHECK(drain(b) == Values{2, 3});
}

TEST_CASE("T1 the abandoned notice comes before anything else of its key") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  for (int i = 1; i <= 3; ++i) REQUIRE(post(dispatcher, posted(1, i)));
  REQUIRE(a.take() == 3);
  REQUIRE(a.claim(0));
  REQUIRE(post(dispatcher, posted(1, 4)));
  REQUIRE(b.take() == 0);
  a.leave(true);
  REQUIRE(b.take() == 4);
  CHECK(b.slots[0].kind == static_cast<std::uint8_t>(PacketKind::kAbandoned));
  CHECK(b.values() == Values{0, 2, 3, 4});
}

TEST_CASE("T1 answers only the thread that left could take are handed to the caller") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, awaited(a, 1));
  REQUIRE(a.take() == 1);
  push(dispatcher, awaited(a, 2));
  const std::vector<Packet> orphans = a.leave(true);
  REQUIRE(orphans.size() == 2);
  CHECK(orphans[0].token == 1);
  CHECK(orphans[1].token == 2);
  CHECK(b.take() == 0);
  CHECK(dispatcher.consumers() == 1);
}

TEST_CASE("T1 a thread that leaves after it was woken passes the wake-up on") {
  Dispatcher dispatcher({1, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(a.take_or_park() + b.take_or_park() == 0);
  post_apart(dispatcher, 1);
  REQUIRE(b.wakes() == 1);
  REQUIRE(a.wakes() == 0);
  b.leave(true);
  CHECK(a.wakes() == 1);
  CHECK(drain(a) == Values{1});
}

TEST_CASE("D10 closing wakes every thread and nothing is taken any more") {
  Dispatcher dispatcher({2, 65536, true});
  std::vector<std::unique_ptr<FakeThread>> threads;
  for (int i = 0; i < 5; ++i) threads.push_back(std::make_unique<FakeThread>(dispatcher));
  std::vector<std::thread> running;
  std::atomic<int> ended{0};
  for (auto& thread : threads) {
    running.emplace_back([&] {
      while (thread->get(8) > 0) {
      }
      ++ended;
    });
  }
  post_apart(dispatcher, 100);
  dispatcher.close();
  CHECK(eventually([&] { return ended == 5; }));
  for (auto& thread : running) thread.join();
  CHECK_FALSE(post(dispatcher, posted(1, 1)));
  push(dispatcher, completed(1, 10, 1));
  CHECK(threads[0]->take() == 0);
}

// ---- hand-off ---------------------------------------------------------------------------------

TEST_CASE("A3 all packets of a handle that no thread has begun are taken out, in order") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(1, 10, 1));
  push(dispatcher, completed(2, 20, 2));
  push(dispatcher, completed(1, 10, 3));
  REQUIRE(a.take() == 3);
  push(dispatcher, completed(1, 10, 4));
  push(dispatcher, completed(3, 30, 5));
  REQUIRE(b.take(1) == 1);
  push(dispatcher, completed(1, 10, 6));
  push(dispatcher, completed(2, 20, 7));
  Packet answer = awaited(a, 1);
  answer.handle = 10;
  push(dispatcher, answer);
  REQUIRE(a.claim(0));
  std::vector<Packet> out;
  dispatcher.extract_handle(10, 1, out);
  REQUIRE(out.size() == 3);
  CHECK(out[0].result == 3);
  CHECK(out[1].result == 4);
  CHECK(out[2].result == 6);
  CHECK_FALSE(a.claim(2));
  a.done(0);
  CHECK(a.claim(1));
  a.done(1);
  REQUIRE(a.take() == 2);
  CHECK(a.slots[0].token == 1);
  CHECK(a.slots[1].result == 7);
}

TEST_CASE("A3 packets are taken out of a batch that was stolen from, in order") {
  for (const bool thief_attached_last : {true, false}) {
    Dispatcher dispatcher({2, 65536, false});
    FakeThread first(dispatcher), second(dispatcher);
    FakeThread& victim = thief_attached_last ? first : second;
    FakeThread& thief = thief_attached_last ? second : first;
    for (int i = 1; i <= 6; ++i) push(dispatcher, completed(1, 10, i));
    REQUIRE(victim.take() == 6);
    REQUIRE(victim.claim(0));
    REQUIRE(thief.take() == 3);
    std::vector<Packet> out;
    dispatcher.extract_handle(10, 1, out);
    Values values;
    for (const Packet& packet : out) values.push_back(packet.result);
    CHECK(values == Values{2, 3, 4, 5, 6});
    CHECK_FALSE(victim.claim(1));
    CHECK_FALSE(thief.claim(0));
  }
}

TEST_CASE("A3 packets that wait for their key come before those for one thread alone") {
  Dispatcher dispatcher({3, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  push(dispatcher, completed(1, 10, 1));
  REQUIRE(b.take() == 1);
  REQUIRE(b.claim(0));
  push(dispatcher, for_one(completed(1, 10, 2), a));
  REQUIRE(a.take() == 0);
  b.done(0);
  std::vector<Packet> out;
  dispatcher.push(for_one(completed(1, 10, 3), a), nullptr);
  dispatcher.extract_handle(10, 1, out);
  REQUIRE(out.size() == 2);
  CHECK(out[0].result == 2);
  CHECK(out[1].result == 3);
}

/// So many keys that lie in one stripe of the key cells, which keeps some of its cells for the next
/// keys and frees the others.
std::vector<std::uint32_t> keys_of_one_stripe(std::size_t count) {
  KeyCells cells(2);
  std::vector<std::uint32_t> keys;
  for (std::uint32_t key = 1; keys.size() < count; ++key) {
    if (&cells.stripe(key) == &cells.stripe(1)) keys.push_back(key);
  }
  return keys;
}

TEST_CASE("A3 the last packet of a key is taken out of a batch, where many keys share a lock") {
  for (const bool serialize : {true, false}) {
    Dispatcher dispatcher({2, 65536, serialize});
    FakeThread a(dispatcher);
    const std::vector<std::uint32_t> keys = keys_of_one_stripe(40);
    for (const std::uint32_t key : keys) push(dispatcher, completed(key, 7000 + key, key));
    REQUIRE(a.take() == keys.size());
    for (const std::uint32_t key : keys) {
      std::vector<Packet> out;
      dispatcher.extract_handle(7000 + key, key, out);
      REQUIRE(out.size() == 1);
      CHECK(out[0].result == key);
    }
    CHECK(dispatcher.queued() == 0);
  }
}

// ---- any schedule -----------------------------------------------------------------------------

/// Random steps of several threads, one after the other, against what the rules say.
class Model {
 public:
  Model(std::uint64_t seed, std::uint32_t concurrency)
      : random_(seed), dispatcher_({concurrency, kQueueLimit, true}) {
    for (int i = 0; i < 4; ++i) join();
  }

  std::string run(int steps) {
    for (int i = 0; i < steps && verdict_.good(); ++i) step();
    finish();
    return verdict_.first();
  }

 private:
  static constexpr std::uint32_t kQueueLimit = 24;
  static constexpr std::uint32_t kKeys = 5;
  static constexpr std::uint32_t kLeast = 4;  ///< any `take` has room for as many

  enum class Phase { kIdle, kParked, kRunning, kBlocking };
  struct Member {
    std::unique_ptr<FakeThread> thread;
    Phase phase = Phase::kIdle;
    std::size_t next = 0;
    int claimed = -1;
    bool beyond = false;  ///< came back from blocking
  };

  void join() { members_.push_back({std::make_unique<FakeThread>(dispatcher_)}); }

  void step() {
    if (random_.one_in(3)) {
      post_one();
    } else {
      move(members_[random_(static_cast<std::uint32_t>(members_.size()))]);
    }
    check();
  }

  void post_one() {
    const std::uint32_t key = random_(kKeys);
    if (post(dispatcher_, posted(key, sent_[key]))) ++sent_[key];
  }

  void move(Member& member) {
    const bool woken = member.thread->state == Consumer::State::kWoken;
    switch (member.phase) {
      case Phase::kIdle:
        return take(member);
      case Phase::kParked:
        return woken || random_.one_in(6) ? take(member) : void();
      case Phase::kBlocking:
        member.thread->end_blocking();
        member.beyond = true;
        member.phase = Phase::kRunning;
        return;
      case Phase::kRunning:
        return work(member);
    }
  }

  void take(Member& member) {
    finish_packet(member);
    member.next = 0;
    member.beyond = false;
    const std::size_t count = member.thread->take_or_park(kLeast + random_(8));
    member.phase = count > 0 ? Phase::kRunning : Phase::kParked;
  }

  void work(Member& member) {
    finish_packet(member);
    if (random_.one_in(12)) {
      member.thread->begin_blocking();
      member.phase = Phase::kBlocking;
      return;
    }
    if (random_.one_in(25)) return leave(member);
    if (random_.one_in(10)) return take(member);
    while (member.next < member.thread->batch_size && !member.thread->claim(member.next)) {
      ++member.next;
    }
    if (member.next == member.thread->batch_size) return take(member);
    begin_packet(member);
    if (random_.one_in(12)) {
      member.thread->begin_blocking();
      member.phase = Phase::kBlocking;
    } else if (random_.one_in(25)) {
      leave(member);
    }
  }

  void begin_packet(Member& member) {
    const PacketSlot& slot = member.thread->slots[member.next];
    member.claimed = static_cast<int>(member.next++);
    if (slot.kind == static_cast<std::uint8_t>(PacketKind::kAbandoned)) {
      verdict_.expect(abandoned_[slot.key]-- > 0, "T1 an abandoned notice out of nothing");
      return;
    }
    const bool in_order = slot.result == got_[slot.key];
    verdict_.expect(in_order, "D7 key " + std::to_string(slot.key) + ": " +
                                  std::to_string(slot.result) + " instead of " +
                                  std::to_string(got_[slot.key]));
    got_[slot.key] = slot.result + 1;
    for (const Member& other : members_) {
      if (&other == &member || other.claimed < 0) continue;
      const auto at = static_cast<std::size_t>(other.claimed);
      verdict_.expect(other.thread->slots[at].key != slot.key, "D8 two threads hold one key");
    }
  }

  void finish_packet(Member& member) {
    if (member.claimed >= 0) member.thread->done(static_cast<std::size_t>(member.claimed));
    member.claimed = -1;
  }

  void leave(Member& member) {
    const bool died = random_.one_in(2);
    if (died && member.claimed >= 0) {
      ++abandoned_[member.thread->slots[member.claimed].key];
    }
    member.thread->leave(died);
    gone_.push_back(std::move(member.thread));
    member = {std::make_unique<FakeThread>(dispatcher_)};
  }

  /// Whether another thread could take something out of this batch.
  bool has_surplus(const Member& member) {
    struct Group {
      std::uint32_t size = 0;
      bool untouched = true;
    };
    std::map<std::uint32_t, Group> groups;
    FakeThread& thread = *member.thread;
    for (std::size_t i = 0; i < thread.batch_size; ++i) {
      const std::uint32_t state = thread.slot_state(i);
      if (state == kSlotStolen) continue;
      Group& group = groups[thread.slots[i].key];
      ++group.size;
      group.untouched = group.untouched && state == kSlotReady;
    }
    const auto open = std::count_if(groups.begin(), groups.end(), [](const auto& it) {
      return it.second.untouched && it.second.size <= kLeast;
    });
    return open > (member.claimed < 0 ? 1 : 0);  // between packets it is about to begin one
  }

  void check() {
    std::uint32_t running = 0, beyond = 0, woken = 0, parked = 0;
    bool surplus = false;
    for (const Member& member : members_) {
      running += member.phase == Phase::kRunning;
      beyond += member.phase == Phase::kRunning && member.beyond;
      woken += member.thread->state == Consumer::State::kWoken;
      parked += member.thread->state == Consumer::State::kWaiting;
      surplus = surplus || (member.phase == Phase::kRunning && has_surplus(member));
    }
    const std::uint32_t limit = dispatcher_.options().concurrency;
    verdict_.expect(running == dispatcher_.running(), "D3 the count of running threads is wrong");
    verdict_.expect(running - beyond <= limit, "D3 more threads run than may");
    verdict_.expect(parked == dispatcher_.waiting(), "D2 the stack of waiting threads is wrong");
    if (parked == 0 || running + woken >= limit) return;
    verdict_.expect(woken > 0 || dispatcher_.ready() == 0, "D5 a packet waits, a thread waits");
    verdict_.expect(!surplus || woken > 0, "D5 a packet waits in a batch, a thread waits");
  }

  void finish() {
    for (Member& member : members_) {
      if (member.phase == Phase::kBlocking) member.thread->end_blocking();
      finish_packet(member);
    }
    for (int round = 0; round < 100 && verdict_.good(); ++round) {
      for (Member& member : members_) {
        member.thread->take();
        for (member.next = 0; member.next < member.thread->batch_size;) {
          if (member.thread->claim(member.next)) {
            begin_packet(member);
            finish_packet(member);
          } else {
            ++member.next;
          }
        }
      }
    }
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      verdict_.expect(sent_[key] == got_[key], "D7 a packet was lost");
      verdict_.expect(abandoned_[key] == 0, "T1 an abandoned notice was lost");
    }
    std::uint32_t room = 0;
    while (room <= kQueueLimit && post(dispatcher_, posted(1, 0))) ++room;
    verdict_.expect(room == kQueueLimit, "Q2 the queue's room is " + std::to_string(room));
  }

  Random random_;
  Dispatcher dispatcher_;
  Verdict verdict_;
  std::vector<Member> members_;
  std::vector<std::unique_ptr<FakeThread>> gone_;
  double sent_[kKeys] = {}, got_[kKeys] = {};
  int abandoned_[kKeys] = {};
};

TEST_CASE("D3 D5 D7 D8 T1 Q2 hold in any schedule") {
  const std::uint64_t first = seed("any schedule");
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::string wrong = Model(first + i, 1 + i % 4).run(400);
    INFO("CP_SEED=", first + i, " concurrency ", 1 + i % 4);
    REQUIRE(wrong == "");
  }
}

}  // namespace
