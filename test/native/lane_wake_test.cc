// How lanes of each driver wait and are woken.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "support/lane.h"

namespace {

using namespace cp::test;

/// Under Wine each goes through a server.
const int kWakes = under_wine() ? 1000 : 100'000;

LANE_TEST("a wake from another thread ends the wait, each of many times") {
  LANE(lane);
  std::atomic<int> asked{0}, answered{0};
  std::atomic<bool> failed{false};
  std::thread other([&] {
    for (int round = 1; round <= kWakes; ++round) {
      asked.store(round, std::memory_order_relaxed);
      lane.lane->wake();
      while (answered.load(std::memory_order_acquire) < round) {
        if (failed.load()) return;
        if (round % 64 == 0) std::this_thread::yield();
      }
    }
  });
  for (int round = 1; round <= kWakes; ++round) {
    const Deadline end = now() + kPatience;
    do {  // waits first: each round has a wake of its own, which no earlier wait can have used up
      lane.lane->wait(end);
      lane.poll();
    } while (asked.load(std::memory_order_relaxed) < round && now() < end);
    if (asked.load(std::memory_order_relaxed) < round) break;
    answered.store(round, std::memory_order_release);
  }
  failed.store(true);
  other.join();
  CHECK(answered.load() == kWakes);
}

LANE_TEST("wakes from many threads are neither lost nor owed") {
  LANE(lane);
  const int kThreads = 3, kEach = kWakes / 5;
  std::atomic<int> posted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        posted.fetch_add(1, std::memory_order_relaxed);
        lane.lane->wake();
      }
    });
  }
  const Deadline end = now() + kPatience;
  while (posted.load(std::memory_order_relaxed) < kThreads * kEach && now() < end) {
    lane.lane->wait(end);
    lane.poll();
  }
  CHECK(posted.load() == kThreads * kEach);
  for (auto& thread : threads) thread.join();
  lane.poll();
  lane.expect_silence();
}

LANE_TEST("a wake before the wait ends it too") {
  LANE(lane);
  lane.lane->wake();
  lane.lane->wait(kNever);
  CHECK_FALSE(lane.poll());
}

LANE_TEST("a wait ends with its deadline") {
  LANE(lane);
  const Deadline deadline = now() + 20 * kMillisecond;
  while (now() < deadline) lane.lane->wait(deadline);
  lane.lane->wait(deadline);
  lane.lane->wait(0);
  CHECK_FALSE(lane.poll());
}

LANE_TEST("a loop that only reaps gets on") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  const Deadline end = now() + kPatience;
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(lane.poll());
    put(pair.peer, "x");
    while (!lane.poll() && now() < end) continue;
    Bytes got;
    append(lane.buffers, lane.next(receive), got);
    CHECK(got.size() == 1);
  }
  CHECK(lane.cancel(receive) == -ECANCELED);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("what wait has started is handed out by reaps of one, in order, cancelled or not") {
  LANE(lane, 64, 16);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(200, 6);
  put(pair.peer, content.data(), content.size());
  REQUIRE(readable(pair.ours.fd, 60'000));
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.lane->wait(now() + kPatience);
  lane.lane->cancel(&receive);
  Bytes got;
  Completion completion;
  do {
    lane.poll(1);
    completion = lane.next(receive);
    append(lane.buffers, completion, got);
  } while (completion.more);
  lane.expect_silence();
  CHECK(std::memcmp(got.data(), content.data(), got.size()) == 0);
  shut(pair.peer);
  receive_all(lane, pair.ours, true, got);
  CHECK(got == content);
  close_all(lane, {pair.ours});
}

}  // namespace
