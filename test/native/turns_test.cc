#include "port/turns.h"

#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

/// A thread that hears of its turns when it looks.
class Taker final : public TurnTaker {
 public:
  std::deque<std::uint32_t> heard() {
    std::lock_guard lock(mutex_);
    return std::move(heard_);
  }
  std::atomic<bool> deaf = false;

 private:
  bool grant(std::uint32_t ticket) override {
    if (deaf) return false;
    std::lock_guard lock(mutex_);
    heard_.push_back(ticket);
    return true;
  }
  std::mutex mutex_;
  std::deque<std::uint32_t> heard_;
};

using Tickets = std::deque<std::uint32_t>;

TEST_CASE("the turn goes round in the order of asking") {
  Turns turns;
  Taker one, two;
  CHECK(turns.ask(one, 1));
  CHECK_FALSE(turns.ask(two, 1));
  CHECK_FALSE(turns.ask(one, 2));
  CHECK(one.heard().empty());
  turns.leave(one, 1);
  CHECK(two.heard() == Tickets{1});
  CHECK(one.heard().empty());
  turns.leave(two, 1);
  CHECK(one.heard() == Tickets{2});
  turns.leave(one, 2);
  CHECK(turns.ask(two, 2));
  turns.leave(two, 2);
}

TEST_CASE("who leaves the line is passed over, and gives back what it was told of") {
  Turns turns;
  Taker one, two;
  CHECK(turns.ask(one, 1));
  for (std::uint32_t ticket = 1; ticket <= 3; ++ticket) CHECK_FALSE(turns.ask(two, ticket));
  turns.leave(two, 1);
  turns.leave(two, 1);
  turns.leave(two, 77);
  CHECK(two.heard().empty());
  turns.leave(one, 1);
  turns.leave(two, 2);  // told, and given back before it has looked
  CHECK(two.heard() == Tickets{2, 3});
  turns.leave(two);
  CHECK(turns.ask(one, 2));
  turns.leave(one);
}

TEST_CASE("a thread that ends leaves the turn and its places to the others") {
  Turns turns;
  Taker first, last;
  auto dies = std::make_unique<Taker>();
  CHECK(turns.ask(*dies, 1));
  CHECK_FALSE(turns.ask(first, 1));
  CHECK_FALSE(turns.ask(*dies, 2));
  CHECK_FALSE(turns.ask(last, 1));
  turns.leave(*dies);
  dies.reset();
  CHECK(first.heard() == Tickets{1});
  turns.leave(first, 1);
  CHECK(last.heard() == Tickets{1});
  turns.leave(last);
  // One that can't be told any more is passed over with all it has.
  CHECK(turns.ask(first, 2));
  first.deaf = true;
  CHECK_FALSE(turns.ask(first, 3));
  CHECK_FALSE(turns.ask(first, 4));
  CHECK_FALSE(turns.ask(last, 2));
  turns.leave(first, 2);
  CHECK(last.heard() == Tickets{2});
  turns.leave(last);
}

/// What one thread of the storm does until it has had its share, or is to end.
struct Storm {
  Turns turns;
  Verdict verdict;
  std::atomic<int> inside = 0;
  std::atomic<std::uint64_t> had = 0;

  void enter() {
    verdict.expect(inside.fetch_add(1) == 0, "two had the turn");
    had.fetch_add(1);
    inside.fetch_sub(1);
  }

  /// True: it has ended in the middle, without giving anything back by itself.
  bool run(Random random, int share) {
    Taker taker;
    std::set<std::uint32_t> waits;
    std::uint32_t last = 0;
    while (share > 0 || !waits.empty()) {
      if (random.one_in(400)) {
        turns.leave(taker);
        return true;
      }
      if (share > 0 && waits.size() < 4) {
        --share;
        if (turns.ask(taker, ++last)) {
          enter();
          turns.leave(taker, last);
        } else {
          waits.insert(last);
        }
      }
      if (!waits.empty() && random.one_in(10)) {
        turns.leave(taker, *waits.begin());
        waits.erase(waits.begin());
      }
      for (const std::uint32_t ticket : taker.heard()) {
        if (waits.erase(ticket) == 0) continue;  // given back before it was heard
        enter();
        turns.leave(taker, ticket);
      }
      std::this_thread::yield();
    }
    return false;
  }
};

TEST_CASE("threads ask, give up and end at random: one turn at a time, and none is lost") {
  const std::uint64_t first = seed("turns");
  Storm storm;
  std::atomic<int> ended = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (std::uint64_t life = 0; life < 40; ++life) {
        if (storm.run(Random(first + i * 1000 + life), 200)) ended.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(storm.verdict.first() == "");
  CHECK(storm.had.load() > 0);
  CHECK(ended.load() > 0);
  Taker after;
  CHECK(storm.turns.ask(after, 1));
  storm.turns.leave(after);
}

}  // namespace
