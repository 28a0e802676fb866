// Sockets that go from lane to lane.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "support/lane.h"

namespace {

using namespace cp::test;

LANE_TEST("a lane that lost a socket to another one, and its events, can have it back") {
  LANE(first);
  Harness<D> second(&first);
  const Pair pair = connected(*first.driver);
  for (int round = 0; round < 5; ++round) {
    for (Harness<D>* lane : {&first, &second}) {
      for (int i = 0; i < 20; ++i) {
        Operation receive = receiving(pair.ours);
        lane->submit(receive);
        lane->poll();
        put(pair.peer, "x");
        Bytes got;
        append(lane->buffers, lane->next(receive), got);
        CHECK(got.size() == 1);
        first.poll();
        second.poll();
      }
    }
  }
  shut(pair.peer);
  Operation receive = receiving(pair.ours);
  CHECK(first.run(receive) == 0);
  close_all(second, {pair.ours});
}

LANE_TEST("one socket roams between the lanes of two threads") {
  if (!Harness<D>::available()) return;
  TestBuffers buffers(16, 512);
  Result error = 0;
  std::string reason;
  const std::unique_ptr<Driver> driver = make(D::name, error, reason);
  const Pair pair = connected(*driver);
  const Bytes content = random_bytes(400'000, 7);
  Bytes got;
  std::atomic<int> turn{0};
  std::atomic<bool> done{false};
  const auto owner = [&](int self) {
    Result failure = 0;
    const std::unique_ptr<Lane> lane = driver->make_lane(buffers, failure);
    std::mt19937 random(static_cast<std::uint32_t>(self));
    const Deadline end = now() + kPatience;
    while (!done.load() && now() < end) {
      Completion out[4];
      if (turn.load(std::memory_order_acquire) != self) {
        lane->wait(now() + kMillisecond);
        lane->reap(out);
        continue;
      }
      Operation receive = receiving(pair.ours, random() % 2 == 0);
      lane->submit(&receive);
      bool more = true, ended = false;
      for (int packets = 0; more && now() < end;) {
        const std::size_t count = lane->reap(out);
        for (std::size_t i = 0; i < count; ++i) {
          append(buffers, out[i], got);
          more = out[i].more;
          ended = out[i].result == 0;
          if (++packets == 5 && more) lane->cancel(&receive);
        }
        if (count == 0) lane->wait(end);
      }
      lane->refill();
      if (ended) done.store(true);
      turn.store(random() % 2 == 0 ? self : 1 - self, std::memory_order_release);
    }
  };
  std::thread sender([&] {
    std::mt19937 random(7);
    for (std::size_t at = 0; at < content.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 3000, content.size() - at);
      put(pair.peer, content.data() + at, size);
      at += size;
      if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    end_writing(pair.peer);
  });
  std::thread one(owner, 0), two(owner, 1);
  one.join();
  two.join();
  if (!done.load()) end_both(pair.peer);
  sender.join();
  reset(pair.peer);
  CHECK(done.load());
  CHECK(got == content);
  driver->discard(pair.ours.fd);
}

}  // namespace
