// The dispatcher alone: keys, which one thread at a time has (rule D8).
#include <doctest/doctest.h>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- keys --------------------------------------------------------------------------------------

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

// ---- keys beyond a batch -----------------------------------------------------------------------

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
  CHECK(a.release_key(1));
  CHECK_FALSE(a.release_key(1));
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
  CHECK(a.release_key(1));
  CHECK(b.take() == 0);
  CHECK(a.take(0) == 0);
  CHECK(drain(b) == Values{2});
}

TEST_CASE("D8 letting go of a key that is not kept changes nothing") {
  Dispatcher dispatcher({2, 65536, true});
  FakeThread a(dispatcher), b(dispatcher);
  REQUIRE(post(dispatcher, posted(1, 1)));
  REQUIRE(a.take() == 1);
  CHECK_FALSE(a.release_key(1));
  REQUIRE(a.claim(0));
  CHECK_FALSE(a.release_key(1));
  CHECK_FALSE(b.release_key(1));
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
  REQUIRE(a.release_key(1));
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

// ---- pinned keys -------------------------------------------------------------------------------

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

}  // namespace
