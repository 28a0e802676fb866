// The dispatcher alone: messages, the room for them, and threads that look before they sleep.
#include <doctest/doctest.h>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- posting -----------------------------------------------------------------------------------

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
  CHECK(thread.state() == Consumer::State::kWoken);
  REQUIRE(thread.take() == 1);
  thread.claim(0);
  thread.done(0);
  REQUIRE(thread.take() == 0);
  REQUIRE(writer.post(1, 2));  // nobody waits: it stays in the ring
  dispatcher.park(thread, false, true);
  CHECK(thread.state() == Consumer::State::kWoken);
  CHECK(thread.take() == 1);
}

// ---- looking before sleeping -------------------------------------------------------------------

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
  CHECK(thread.state() == Consumer::State::kWoken);
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
  CHECK(thread.state() == Consumer::State::kWoken);
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
  PostRing ring{};
  FakeThread liar(dispatcher, &ring);
  for (int i = 0; i < 5000; ++i) liar.posts().write(1, i);
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

}  // namespace
