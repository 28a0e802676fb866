// Waiting threads alone: who is called, and what the idle word says meanwhile (rules D2, D3, D5).
#include "port/waiters.h"

#include <doctest/doctest.h>

#include "port/members.h"
#include "port/running_threads.h"

namespace {

using namespace cp;

/// A waiting list names whom to wake, and wakes nobody.
class Sleeper final : public Consumer {
 public:
  void wake() override { FAIL("woken"); }
};

std::uint32_t word(Waiters& waiters) { return std::atomic_ref<std::uint32_t>(waiters.idle()); }

TEST_CASE("D2 the thread that came last is called first, and those in event loops last") {
  RunningThreads running(4);
  Waiters waiters(running);
  Sleeper first, looping, last;
  waiters.add(first, false, true, false);
  waiters.add(last, false, true, false);
  waiters.add(looping, true, true, false);
  for (Sleeper* expected : {&last, &first, &looping}) {
    CHECK(waiters.anybody());
    CHECK(waiters.call_next() == expected);
    CHECK(waiters.call_next() == nullptr);  // it is on its way, and calls the next
    CHECK_FALSE(waiters.anybody());
    waiters.take_off(*expected);
    CHECK_FALSE(waiters.anybody());
    waiters.end_search(*expected);
  }
  CHECK(word(waiters) == kIdleNobody);
  CHECK(waiters.count() == 0);
}

TEST_CASE("D2 one that waits for its own answers alone is not called") {
  RunningThreads running(4);
  Waiters waiters(running);
  Sleeper awaiting;
  waiters.add(awaiting, true, false, false);
  CHECK_FALSE(waiters.anybody());
  CHECK(waiters.call_next() == nullptr);
  CHECK_FALSE(waiters.has_own(awaiting));
  CHECK(Waiters::ends_sleep(awaiting));
  CHECK_FALSE(Waiters::ends_sleep(awaiting));  // it was woken already
}

TEST_CASE("D3 nobody is called while as many run as may") {
  RunningThreads running(1);
  Waiters waiters(running);
  Sleeper runs, waits;
  CHECK(running.take_place(runs) == RunningThreads::Place::kLast);
  waiters.add(waits, false, true, false);
  CHECK_FALSE(waiters.anybody());
  CHECK(waiters.call_next() == nullptr);
  CHECK(waiters.call_for_errand() == nullptr);
  CHECK(running.take_place(waits) == RunningThreads::Place::kNone);
  CHECK(running.give_back_place(runs));
  CHECK(waiters.place_is_free().empty());  // it has nothing of its own
  CHECK(waiters.anybody());
  CHECK(waiters.call_next() == &waits);
}

TEST_CASE("D6 the one that looks before it sleeps is told by the word") {
  RunningThreads running(4);
  Waiters waiters(running);
  Sleeper before, spins;
  waiters.add(before, false, true, true);
  CHECK(word(waiters) == kIdleSpins);
  waiters.add(spins, false, true, true);
  CHECK(before.spin == Consumer::kSpinEnded);  // one at a time looks
  CHECK_FALSE(waiters.stop_spinning(before));
  CHECK_FALSE(waiters.tell_idle());
  CHECK(waiters.told());
  CHECK(waiters.stop_spinning(spins));
  CHECK(spins.state() == Consumer::State::kWoken);  // it comes for what it was told of
  CHECK(word(waiters) == kIdleNobody);
  waiters.take_off(spins);
  waiters.end_search(spins);
  CHECK(word(waiters) == kIdleAsleep);
  CHECK(waiters.tell_idle());
}

TEST_CASE("D5 a thread that was called and does not come is not counted on") {
  RunningThreads running(4);
  Waiters waiters(running);
  Members members;
  Sleeper late, next;
  for (Sleeper* each : {&late, &next}) REQUIRE(members.add(*each));
  waiters.add(next, true, true, false);
  waiters.add(late, true, true, false);
  REQUIRE(waiters.call_next() == &late);
  Waiters::Relieved relieved = waiters.relieve(members, late.woken_at() + 9, 10);
  CHECK(relieved.expected);
  CHECK_FALSE(relieved.late);
  CHECK_FALSE(waiters.anybody());
  relieved = waiters.relieve(members, late.woken_at() + 10, 10);
  CHECK_FALSE(relieved.expected);
  CHECK(relieved.late);
  CHECK(waiters.call_next() == &next);
  waiters.take_off(late);  // it comes after all, and counts as one on its way
  waiters.take_off(next);
  waiters.end_search(next);
  waiters.add(next, true, true, false);
  CHECK_FALSE(waiters.anybody());
  waiters.end_search(late);
  CHECK(waiters.anybody());
}

}  // namespace
