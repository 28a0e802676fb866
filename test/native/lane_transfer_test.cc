// Receiving and sending on a lane of each driver.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/lane.h"

namespace {

using namespace cp::test;

LANE_TEST("D9: a multishot receive yields the stream byte for byte, and O8: tells how it ended") {
  for (std::uint32_t seed = 1; seed <= 12; ++seed) {
    LANE(lane, 8, 1000);
    const bool resets = seed % 3 == 0;
    const bool multishot = seed % 4 != 0;
    const Pair pair = connected(*lane.driver);
    const Bytes content = random_bytes(300'000, seed);
    std::thread sender([&] {
      std::mt19937 random(seed);
      for (std::size_t at = 0; at < content.size();) {
        const std::size_t size = std::min<std::size_t>(1 + random() % 5000, content.size() - at);
        put(pair.peer, content.data() + at, size);
        at += size;
        if (random() % 4 == 0) std::this_thread::yield();
      }
      resets ? reset(pair.peer) : static_cast<void>(shut(pair.peer));
    });
    Bytes got;
    const Result end = receive_all(lane, pair.ours, multishot, got);
    sender.join();
    if (!resets || !under_wine()) CHECK(end == (resets ? -ECONNRESET : 0));
    // A reset throws away what was still under way.
    REQUIRE(got.size() <= content.size());
    if (!resets) CHECK(got.size() == content.size());
    CHECK(std::memcmp(got.data(), content.data(), got.size()) == 0);
    close_all(lane, {pair.ours});
  }
}

LANE_TEST("a receive into memory of one's own takes no buffer") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Bytes back(5);
  std::vector<Slice> in{slice(back)};
  Operation receive = moving(pair.ours, Opcode::kReceive, in);
  lane.submit(receive);
  lane.expect_silence();
  put(pair.peer, "12345678");
  Completion first = lane.next(receive);
  CHECK(first.result == 5);
  CHECK(first.buffer.data == nullptr);
  CHECK(std::memcmp(back.data(), "12345", 5) == 0);
  CHECK(lane.run(receive) == 3);
  CHECK(std::memcmp(back.data(), "678", 3) == 0);
  shut(pair.peer);
  CHECK(lane.run(receive) == 0);
  close_all(lane, {pair.ours});
}

LANE_TEST("M1: a receive without a free buffer fails with ENOBUFS, loses nothing, and can retry") {
  LANE(lane, 4, 100);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(1500, 3);
  put(pair.peer, content.data(), content.size());
  for (const bool multishot : {true, false}) {
    Bytes got;
    std::vector<Completion> held;
    Operation receive = receiving(pair.ours, multishot);
    Completion last;
    do {
      lane.submit(receive);
      do {
        last = lane.next(receive);
        if (last.result > 0) held.push_back(last);
      } while (last.more);
    } while (last.result > 0);
    CHECK(last.result == -ENOBUFS);
    CHECK(last.buffer.data == nullptr);
    CHECK(held.size() == 4);
    for (const Completion& it : held) append(lane.buffers, it, got);
    CHECK(lane.lane->refill());
    const std::size_t start = multishot ? 0 : 400;
    REQUIRE(got.size() == 400);
    CHECK(std::memcmp(got.data(), content.data() + start, 400) == 0);
  }
  shut(pair.peer);
  Bytes rest;
  CHECK(receive_all(lane, pair.ours, true, rest) == 0);
  REQUIRE(rest.size() == 700);
  CHECK(std::memcmp(rest.data(), content.data() + 800, 700) == 0);
  close_all(lane, {pair.ours});
}

LANE_TEST("O8: a reset is ECONNRESET, not an orderly end") {
  LANE(lane);
  for (const bool multishot : {false, true}) {
    const Pair waiting = connected(*lane.driver);
    Operation receive = receiving(waiting.ours, multishot);
    lane.submit(receive);
    lane.expect_silence();
    reset(waiting.peer);
    CHECK(lane.next(receive).result == -ECONNRESET);

    const Pair late = connected(*lane.driver);
    reset(late.peer);
    Operation after = receiving(late.ours, multishot);
    const Result told = lane.run(after);
    if (!under_wine()) CHECK(told == -ECONNRESET);
    close_all(lane, {waiting.ours, late.ours});
  }
}

LANE_TEST("O8: a half-closed connection ends with 0 and still sends") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.expect_silence();
  put(pair.peer, "last words");
  end_writing(pair.peer);
  Bytes got;
  Completion completion;
  while ((completion = lane.next(receive)).more) append(lane.buffers, completion, got);
  CHECK(completion.result == 0);
  CHECK(got.size() == 10);

  std::string answer = "answer";
  std::vector<Slice> out{slice(answer)};
  Operation send = moving(pair.ours, Opcode::kSend, out);
  CHECK(lane.run(send) == 6);
  Operation shutdown = on(pair.ours, Opcode::kShutdown);
  shutdown.flags = 1;  // SHUT_WR, SD_SEND
  CHECK(lane.run(shutdown) == 0);
  char back[16];
  std::ptrdiff_t taken = 0;
  for (std::ptrdiff_t got = 1; got > 0 && taken < 6; taken += got) {
    got = take(pair.peer, back + taken, sizeof back - static_cast<std::size_t>(taken));
  }
  CHECK(taken == 6);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a send waits for a slow reader, while the same socket receives") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  Bytes content = random_bytes(4'000'000, 4), back(content.size());
  std::atomic<bool> go{false};
  std::thread reader([&] {
    while (!go.load()) std::this_thread::yield();
    std::size_t at = 0;
    while (at < back.size()) {
      const std::ptrdiff_t got = take(pair.peer, back.data() + at, back.size() - at);
      if (got <= 0) break;
      at += static_cast<std::size_t>(got);
      put(pair.peer, "k");
    }
    end_writing(pair.peer);
  });
  std::vector<Slice> out(1);
  Operation send = moving(pair.ours, Opcode::kSend, out);
  for (std::size_t sent = 0; sent < content.size();) {
    out[0] = {content.data() + sent, content.size() - sent};
    lane.submit(send);
    // The reader starts when the socket has long been full.
    for (int i = 0; i < 20 && !go.load(); ++i) {
      lane.lane->wait(now() + kMillisecond);
      lane.poll();
    }
    if (!lane.has(send)) go.store(true);
    const Result count = lane.next(send).result;
    REQUIRE(count > 0);
    sent += static_cast<std::size_t>(count);
  }
  Bytes acknowledged;
  Completion completion;
  do {
    completion = lane.next(receive);
    append(lane.buffers, completion, acknowledged);
    if (completion.result != -ENOBUFS) continue;
    CHECK(lane.lane->refill());
    lane.submit(receive);
  } while (completion.more || completion.result == -ENOBUFS);
  CHECK(completion.result == 0);
  reader.join();
  CHECK(back == content);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a send of nothing is done") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  std::vector<Slice> none;
  Operation send = moving(pair.ours, Opcode::kSend, none);
  CHECK(lane.run(send) == 0);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a send that waits can be cancelled") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Bytes content(1'000'000);
  std::vector<Slice> out{slice(content)};
  std::deque<Operation> sends;
  // Until one of them has to wait.
  for (;;) {
    Operation& send = sends.emplace_back(moving(pair.ours, Opcode::kSend, out));
    lane.submit(send);
    bool completed = false;
    for (int i = 0; i < 20 && !completed; ++i) {
      lane.lane->wait(now() + kMillisecond);
      completed = lane.poll();
    }
    if (!completed) break;
    CHECK(lane.next(send).result > 0);
  }
  const Result result = lane.cancel(sends.back());
  CHECK((result == -ECANCELED || result > 0));
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("O4: bytes that arrived before a cancel are not lost") {
  LANE(lane, 64, 64);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(20'000, 5);
  std::mt19937 random(5);
  Bytes got;
  for (std::size_t at = 0; at < content.size(); at += 100) {
    Operation receive = receiving(pair.ours, random() % 2 == 0);
    lane.submit(receive);
    if (random() % 2 == 0) lane.lane->wait(now());
    put(pair.peer, content.data() + at, 100);
    if (random() % 2 == 0) lane.lane->wait(now() + kMillisecond);
    lane.lane->cancel(&receive);
    Completion completion;
    do {
      completion = lane.next(receive);
      append(lane.buffers, completion, got);
    } while (completion.more);
    CHECK((completion.result == -ECANCELED || completion.result > 0));
    lane.lane->refill();
  }
  end_writing(pair.peer);
  CHECK(receive_all(lane, pair.ours, true, got) == 0);
  CHECK(got == content);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

}  // namespace
