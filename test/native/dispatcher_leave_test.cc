// The dispatcher alone: threads that leave, and handles that are handed off.
#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

#include "support/dispatcher.h"
#include "support/verdict.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- leaving -----------------------------------------------------------------------------------

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

// ---- hand-off ----------------------------------------------------------------------------------

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
  const KeyCells cells(2);
  std::vector<std::uint32_t> keys;
  for (std::uint32_t key = 1; keys.size() < count; ++key) {
    if (cells.share_lock(key, 1)) keys.push_back(key);
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

}  // namespace
