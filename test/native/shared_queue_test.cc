#include "port/shared_queue.h"

#include <doctest/doctest.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

/// A thread that hears of what it waits for when it looks.
class User final : public QueueUser {
 public:
  std::deque<std::uint32_t> told() {
    std::lock_guard lock(mutex_);
    return std::move(told_);
  }
  std::atomic<bool> deaf = false;

 private:
  bool tell(std::uint32_t ticket) override {
    if (deaf) return false;
    std::lock_guard lock(mutex_);
    told_.push_back(ticket);
    return true;
  }
  std::mutex mutex_;
  std::deque<std::uint32_t> told_;
};

using Tickets = std::deque<std::uint32_t>;
using Queue = std::shared_ptr<SharedQueue>;

QueueOutcome put(const Queue& queue, User& user, double number, std::uint32_t ticket = 0) {
  SharedItem item;
  item.number = number;
  return queue->put(user, ticket, item, ticket != 0);
}

/// The number, or minus what became of it.
double take(const Queue& queue, User& user, std::uint32_t ticket = 0) {
  SharedItem item;
  const QueueOutcome outcome = queue->take(user, ticket, ticket != 0, item);
  return outcome == QueueOutcome::kDone ? item.number : -static_cast<double>(outcome);
}

double hear(const Queue& queue, User& user, std::uint32_t ticket) {
  SharedItem item;
  const QueueOutcome outcome = queue->hear(user, ticket, item);
  return outcome == QueueOutcome::kDone ? item.number : -static_cast<double>(outcome);
}

constexpr double kWaits = -1, kNotNow = -2, kClosed = -3, kFailed = -4, kGone = -5;

TEST_CASE("a shared queue holds as many as its capacity, and gives them in the order of the puts") {
  const Queue queue = SharedQueue::make(2);
  User one, two;
  CHECK(put(queue, one, 10) == QueueOutcome::kDone);
  CHECK(put(queue, two, 11) == QueueOutcome::kDone);
  CHECK(put(queue, one, 99) == QueueOutcome::kNotNow);
  CHECK(put(queue, one, 12, 1) == QueueOutcome::kWaits);
  CHECK(put(queue, two, 13, 1) == QueueOutcome::kWaits);
  CHECK(one.told().empty());
  CHECK(take(queue, two) == 10);
  CHECK(one.told() == Tickets{1});
  CHECK(queue->shown()->size == 2);
  CHECK(hear(queue, one, 1) == 0);
  CHECK(hear(queue, one, 1) == kGone);
  CHECK(take(queue, two) == 11);
  CHECK(take(queue, two) == 12);
  CHECK(take(queue, two) == 13);
  CHECK(take(queue, two) == kNotNow);
  CHECK(hear(queue, two, 1) == 0);
}

TEST_CASE("what a take was told of and does not hear goes back to its place") {
  const Queue queue = SharedQueue::make(4);
  User one, two;
  auto dies = std::make_unique<User>();
  CHECK(take(queue, *dies, 1) == kWaits);
  CHECK(take(queue, one, 1) == kWaits);
  CHECK(take(queue, *dies, 2) == kWaits);
  for (int i = 0; i < 4; ++i) CHECK(put(queue, two, 10 + i) == QueueOutcome::kDone);
  CHECK(put(queue, two, 99) == QueueOutcome::kNotNow);
  CHECK(dies->told() == Tickets{1, 2});
  queue->leave(one, 1);
  queue->leave(*dies);
  dies.reset();
  for (int i = 0; i < 4; ++i) CHECK(take(queue, two) == 10 + i);
  // And on to the next that waits; one that can't be told is passed over.
  CHECK(take(queue, one, 2) == kWaits);
  one.deaf = true;
  CHECK(take(queue, two, 3) == kWaits);
  CHECK(put(queue, two, 20) == QueueOutcome::kDone);
  CHECK(two.told() == Tickets{3});
  CHECK(hear(queue, two, 3) == 20);
  queue->leave(one);
}

TEST_CASE("a put that leaves has put nothing, unless it is in the queue by then") {
  const Queue queue = SharedQueue::make(1);
  User one, two;
  CHECK(put(queue, one, 10) == QueueOutcome::kDone);
  CHECK(put(queue, one, 11, 1) == QueueOutcome::kWaits);
  CHECK(put(queue, two, 12, 1) == QueueOutcome::kWaits);
  CHECK(queue->leave(one, 1) == QueueOutcome::kGone);
  CHECK(take(queue, one) == 10);
  CHECK(queue->leave(two, 1) == QueueOutcome::kDone);
  CHECK(queue->leave(two, 1) == QueueOutcome::kGone);
  CHECK(take(queue, one) == 12);
}

TEST_CASE("a shared queue that is closed gives what is in it, and ends with the last of it") {
  const Queue queue = SharedQueue::make(1);
  User one, two;
  CHECK(put(queue, one, 10) == QueueOutcome::kDone);
  CHECK(put(queue, one, 11, 1) == QueueOutcome::kWaits);
  queue->close();
  CHECK(put(queue, two, 12) == QueueOutcome::kClosed);
  CHECK(take(queue, two) == 10);
  CHECK(take(queue, two) == 11);
  CHECK(take(queue, two, 1) == kClosed);
  CHECK(hear(queue, one, 1) == 0);

  // Nobody is told of the end while something may come back.
  const Queue other = SharedQueue::make(1);
  CHECK(take(other, one, 1) == kWaits);
  CHECK(take(other, two, 1) == kWaits);
  CHECK(put(other, one, 10) == QueueOutcome::kDone);
  other->close();
  CHECK(two.told().empty());
  other->leave(one, 1);
  CHECK(two.told() == Tickets{1});
  CHECK(hear(other, two, 1) == 10);
}

TEST_CASE("a shared queue that fails drops what is in it, and gives the memory back") {
  BufferPool::Options options;
  options.buffer_count = 1;
  BufferPool* const pool = BufferPool::make(options);
  REQUIRE(pool != nullptr);
  User one, two;
  const auto put_block = [&](const Queue& queue, std::uint32_t ticket) {
    SharedItem item;
    REQUIRE(pool->allocate(100, 1, item.place));
    item.length = 100;
    REQUIRE(BufferPool::use(item.place, 100) != nullptr);
    BufferPool::release(item.place);
    return queue->put(one, ticket, item, true);
  };
  {
    const Queue queue = SharedQueue::make(1);
    CHECK(take(queue, two, 1) == kWaits);
    CHECK(put_block(queue, 1) == QueueOutcome::kDone);  // on its way to the take
    CHECK(put_block(queue, 2) == QueueOutcome::kWaits);
    CHECK(put_block(queue, 3) == QueueOutcome::kWaits);
    queue->leave(one, 3);
    CHECK(pool->allocated_bytes() == 2 * 4096);
    queue->fail("why");
    CHECK(pool->allocated_bytes() == 0);
    CHECK(hear(queue, two, 1) == kFailed);
    CHECK(hear(queue, one, 2) == kFailed);
    CHECK(queue->failure() == "why");
    CHECK(take(queue, two, 4) == kFailed);
  }
  {
    const Queue queue = SharedQueue::make(3);
    CHECK(put_block(queue, 1) == QueueOutcome::kDone);
    CHECK(SharedQueue::find(queue->id()) == queue);
    CHECK(pool->allocated_bytes() == 4096);
  }
  CHECK(pool->allocated_bytes() == 0);
  CHECK(SharedQueue::count() == 0);
  pool->close();
  pool->let_go();
}

/// Threads that put, take, give up and end.
struct Storm {
  static constexpr std::uint32_t kCapacity = 3;
  const Queue queue = SharedQueue::make(kCapacity);
  Verdict verdict;
  std::mutex mutex;
  std::set<double> put_, taken;

  void note(std::set<double>& where, double number, const char* twice) {
    std::lock_guard lock(mutex);
    verdict.expect(where.insert(number).second, twice);
  }

  void run(Random random, double first, int share) {
    User user;
    std::map<std::uint32_t, double> puts;
    std::set<std::uint32_t> takes;
    std::uint32_t last = 0;
    for (; share > 0; --share) {
      verdict.expect(queue->shown()->size <= kCapacity, "too many");
      if (random.one_in(200)) break;
      if (random.one_in(2) && puts.size() < 2) {
        const double number = first + share;
        const QueueOutcome outcome = put(queue, user, number, ++last);
        if (outcome == QueueOutcome::kDone)
          note(put_, number, "put twice");
        else
          puts[last] = number;
      } else if (takes.size() < 2) {
        const double number = take(queue, user, ++last);
        if (number >= 0)
          note(taken, number, "taken twice");
        else
          takes.insert(last);
      }
      if (!takes.empty() && random.one_in(8)) {
        queue->leave(user, *takes.begin());
        takes.erase(takes.begin());
      }
      if (!puts.empty() && random.one_in(8)) {
        const auto one = puts.begin();
        if (queue->leave(user, one->first) == QueueOutcome::kDone) note(put_, one->second, "");
        puts.erase(one);
      }
      for (const std::uint32_t ticket : user.told()) hear_of(user, ticket, puts, takes);
      std::this_thread::yield();
    }
    // What it was told of and has not heard: of its puts some are in the queue.
    for (const auto& [ticket, number] : puts) {
      if (queue->leave(user, ticket) == QueueOutcome::kDone) note(put_, number, "put twice");
    }
    queue->leave(user);
  }

  void hear_of(User& user, std::uint32_t ticket, std::map<std::uint32_t, double>& puts,
               std::set<std::uint32_t>& takes) {
    const double number = hear(queue, user, ticket);
    if (const auto one = puts.find(ticket); one != puts.end()) {
      verdict.expect(number == 0, "a put was not done");
      note(put_, one->second, "put twice");
      puts.erase(one);
    } else if (takes.erase(ticket) > 0) {
      verdict.expect(number >= 0, "a take was told of nothing");
      note(taken, number, "taken twice");
    } else {
      verdict.expect(number == kGone, "what was given up was told");
    }
  }
};

TEST_CASE("threads put, take, give up and end at random: each item is taken once") {
  const std::uint64_t first = seed("shared queue");
  Storm storm;
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (std::uint64_t life = 0; life < 40; ++life) {
        const std::uint64_t own = i * 1000 + life;
        storm.run(Random(first + own), static_cast<double>(own) * 1000, 300);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  User after;
  for (double number = take(storm.queue, after); number >= 0; number = take(storm.queue, after)) {
    storm.note(storm.taken, number, "taken twice");
  }
  CHECK(storm.verdict.first() == "");
  CHECK(storm.taken == storm.put_);
  CHECK(storm.taken.size() > 100);
}

}  // namespace
