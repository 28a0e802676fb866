// Messages of bytes: who holds their memory, from the call that posts one to the last look at it.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::uint32_t kSlot = 256;  // as lib/thread/posts.ts cuts the block for small messages

/// A thread that posts as lib/thread/posts.ts does.
class Poster {
 public:
  explicit Poster(Port& port) : ring_(new PostRing), member(port, ring_.get()) {}

  bool post(std::uint32_t key, const std::string& text) {
    Place place;
    const std::uint32_t own = lay(text, place);
    if (own == kRefused || member.thread->reserve(1) == 0) return false;
    write(key, PostRing::kHasBytes | own | static_cast<std::uint32_t>(text.size()), place);
    return true;
  }
  bool publish(const std::vector<std::uint32_t>& keys, const std::string& text) {
    Packet message;
    message.kind = PacketKind::kMessage;
    Place place;
    const std::uint32_t own = lay(text, place);
    if (own == kRefused) return false;
    message.chunk = place.chunk;
    message.offset = place.offset;
    message.result = static_cast<double>(text.size());
    return member.thread->publish(message, own != 0, keys.data(),
                                  static_cast<std::uint32_t>(keys.size()), &member.thread->port());
  }
  void write(std::uint32_t key, std::uint32_t bytes, Place place) {
    member.thread->posts().write(key, bytes, place);
    if (member.thread->port().dispatcher().tell_idle()) member.thread->accept_posts();
  }

  static constexpr std::uint32_t kRefused = 1;
  std::uint32_t lay(const std::string& text, Place& place) {
    std::uint32_t own = 0;
    if (text.size() > kSlot) {
      if (!member.thread->allocate(text.size(), place)) return kRefused;
      own = PostRing::kOwnBlock;
    } else {
      if (taken_ == Thread::kMessageBlock) {
        if (!member.thread->next_message_block(block_)) return kRefused;
        taken_ = 0;
      }
      place = {block_.chunk, block_.offset + taken_};
      taken_ += kSlot;
    }
    std::memcpy(Chunk::find(place.chunk)->base() + place.offset, text.data(), text.size());
    return own;
  }

 private:
  std::unique_ptr<PostRing> ring_;
  Place block_;
  std::uint32_t taken_ = Thread::kMessageBlock;

 public:
  Member member;
};

std::string text_of(const Packet& packet) {
  if (!packet.shares()) return "";
  const std::uint8_t* at = Chunk::find(packet.chunk)->base() + packet.offset;
  return {reinterpret_cast<const char*>(at), static_cast<std::size_t>(packet.result)};
}

Place place_of(const Packet& packet) { return {packet.chunk, packet.offset}; }

const std::string kLarge(100'000, 'x');

// ---- the pool -----------------------------------------------------------------------------------

TEST_CASE("Q3 a shared block is free with the last hold, and no thread releases it alone") {
  BufferPool* pool = BufferPool::make({4096, 1, 1u << 20});
  constexpr std::uint32_t kOwner = 4'000'000'002;
  Place place;
  REQUIRE(pool->allocate(4096, kOwner, place));
  CHECK_FALSE(BufferPool::hold(place, 1));            // not shared yet
  CHECK_FALSE(BufferPool::share(place, kOwner - 1));  // somebody else's
  REQUIRE(BufferPool::share(place, kOwner));
  CHECK_FALSE(BufferPool::share(place, kOwner));
  CHECK(BufferPool::held_once(place));
  REQUIRE(BufferPool::hold({place.chunk, place.offset + 100}, 50, 2));
  CHECK_FALSE(BufferPool::hold({place.chunk, place.offset + 100}, 4096));  // beyond its end
  CHECK_FALSE(BufferPool::release(place));
  BufferPool::assign(place, 3);
  BufferPool::release_all_of(kOwner);
  BufferPool::release_all_of(3);  // as many as hold it
  BufferPool::let_go(place, 2);
  REQUIRE(BufferPool::held_once(place));
  REQUIRE(BufferPool::use(place, 10) != nullptr);
  CHECK_FALSE(BufferPool::held_once(place));
  BufferPool::let_go(place);
  CHECK(pool->allocated_bytes() == 4096);  // the operation keeps it
  CHECK(BufferPool::use(place, 10) == nullptr);
  CHECK_FALSE(BufferPool::hold(place, 1));
  BufferPool::unuse(place);
  CHECK(pool->allocated_bytes() == 0);
  pool->close();
  pool->let_go();
}

// ---- one message --------------------------------------------------------------------------------

PORT_TEST("Q3 bytes arrive as they were posted, and their memory comes back with the batch") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member taker(*port);
  for (const std::string& text : {std::string("hello"), std::string(256, 'y'), kLarge}) {
    REQUIRE(poster.post(7, text));
    const Packet packet = taker.next();
    CHECK(packet.kind == PacketKind::kMessage);
    CHECK(packet.key == 7);
    CHECK(text_of(packet) == text);
  }
  REQUIRE(poster.post(7, ""));
  const Packet empty = taker.next();
  CHECK(empty.kind == PacketKind::kMessage);
  CHECK(empty.result == 0);
  CHECK_FALSE(empty.shares());
  CHECK(taker.next(0).kind == PacketKind::kNone);
  CHECK(port->pool().allocated_bytes() == 0);  // the poster's own block does not count
}

PORT_TEST("Q3 the block for small messages is used again when its messages are over") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member taker(*port);
  Place first, second;
  REQUIRE(poster.member.thread->next_message_block(first));
  for (int i = 0; i < 64; ++i) REQUIRE(poster.post(1, "text " + std::to_string(i)));
  for (int i = 0; i < 64; ++i) CHECK(text_of(taker.next()) == "text " + std::to_string(i));
  CHECK(taker.next(0).kind == PacketKind::kNone);
  REQUIRE(poster.member.thread->next_message_block(second));
  CHECK(BufferPool::same_block(first, second));
}

PORT_TEST("Q3 a message holds its bytes when its thread takes the next block, or ends") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member taker(*port);
  for (const bool died : {false, true}) {
    {
      Poster poster(*port);
      for (int i = 0; i < 160; ++i) REQUIRE(poster.post(1, "text " + std::to_string(i)));
      REQUIRE(poster.post(1, kLarge));
      poster.member.leave(died);
    }
    // What is allocated now is what the messages need.
    CHECK(port->pool().allocated_bytes() == 3 * Thread::kMessageBlock + 131072);
    for (int i = 0; i < 160; ++i) CHECK(text_of(taker.next()) == "text " + std::to_string(i));
    CHECK(text_of(taker.next()) == kLarge);
    CHECK(taker.next(0).kind == PacketKind::kNone);
    CHECK(port->pool().allocated_bytes() == 0);
  }
}

PORT_TEST("Q3 what a thread was at when it died is let go, what it had not begun goes on") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member heir(*port);
  {
    Member dies(*port);
    for (const std::string text : {"first", "second"}) REQUIRE(poster.post(5, text + kLarge));
    REQUIRE(text_of(dies.next()) == "first" + kLarge);
    dies.leave(true);
  }
  CHECK(port->pool().allocated_bytes() == 131072);
  CHECK(heir.next().kind == PacketKind::kAbandoned);
  CHECK(text_of(heir.next()) == "second" + kLarge);
  CHECK(heir.next(0).kind == PacketKind::kNone);
  CHECK(port->pool().allocated_bytes() == 0);
}

PORT_TEST("Q3 bytes that were retained stay beyond the batch, until they are released or the end") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member other(*port);
  {
    Member taker(*port);
    for (int i = 0; i < 2; ++i) REQUIRE(poster.post(5, std::to_string(i) + kLarge));
    const Packet first = taker.next();
    REQUIRE(taker.thread->retain(place_of(first)));
    const Packet second = taker.next();
    REQUIRE(taker.thread->retain(place_of(second)));
    CHECK(taker.next(0).kind == PacketKind::kNone);
    CHECK(text_of(first) == "0" + kLarge);
    CHECK(port->pool().allocated_bytes() == 2 * 131072);
    CHECK(taker.thread->let_go(place_of(first)));
    CHECK_FALSE(taker.thread->let_go(place_of(first)));
    CHECK_FALSE(taker.thread->retain(place_of(first)));
    CHECK(port->pool().allocated_bytes() == 131072);
    taker.leave(true);
  }
  CHECK(port->pool().allocated_bytes() == 0);
}

PORT_TEST("Q3 a send of a message's bytes has them until its end") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member taker(*port);
  Connection c = connection(*port, taker, listener(taker, true));
  REQUIRE(poster.post(9, "to the peer"));
  Packet packet = taker.next();
  while (packet.kind != PacketKind::kMessage) packet = taker.next();
  Request* made = request(PacketKind::kSend);
  std::uint8_t* base = BufferPool::use(place_of(packet), 11);
  REQUIRE(base != nullptr);
  made->memory.add({base, 11}, place_of(packet));
  made->total = 11;
  taker.thread->submit(made, c.handle);
  taker.next(0);  // the batch ends, the send begins
  CHECK(c.peer.read(11) == "to the peer");
  poster.member.leave(false);
  while (taker.next(0).kind != PacketKind::kNone) {
  }
}

PORT_TEST("Q3 a ring with bytes that are not there brings a message without any") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member taker(*port);
  Place block;
  REQUIRE(poster.member.thread->next_message_block(block));
  const std::uint32_t has = PostRing::kHasBytes, own = has | PostRing::kOwnBlock;
  const std::vector<std::pair<std::uint32_t, Place>> wrong = {
      {has | 10, {0xfffffff0, 0}},
      {own | 10, {0xfffffff0, 0}},
      {has | 10, {block.chunk, 0xfffffff0}},
      {own | 10, block},                                   // shared already
      {has | 20000, block},                                // beyond its end
      {has | 10, {port->pool().receive_chunk().id(), 0}},  // a receive buffer
      {has | PostRing::kLength, {block.chunk, block.offset + 16000}},
  };
  for (const auto& [bytes, place] : wrong) {
    REQUIRE(poster.member.thread->reserve(1) > 0);
    poster.write(1, bytes, place);
    const Packet packet = taker.next();
    CHECK(packet.kind == PacketKind::kMessage);
    CHECK_FALSE(packet.shares());
    CHECK(packet.result == 0);
  }
}

// ---- many keys ----------------------------------------------------------------------------------

PORT_TEST("Q4 a message for many keys is in memory once, until the last is done with it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  std::vector<std::uint32_t> keys;
  for (std::uint32_t i = 0; i < 1000; ++i) keys.push_back(100 + i);
  for (const std::string& text : {std::string("small"), kLarge}) {
    REQUIRE(poster.publish(keys, text));
    CHECK(port->pool().allocated_bytes() == (text.size() > kSlot ? 131072 : 0));
    Member taker(*port);
    std::set<std::uint32_t> told;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const Packet packet = taker.next();
      told.insert(packet.key);
      REQUIRE(text_of(packet) == text);
    }
    CHECK(told == std::set<std::uint32_t>(keys.begin(), keys.end()));
    CHECK(taker.next(0).kind == PacketKind::kNone);
    CHECK(port->pool().allocated_bytes() == 0);
  }
}

PORT_TEST("Q4 a message for more keys than the queue has room for goes to none of them") {
  NEEDS_DRIVER();
  PortOptions made = options();
  made.queue_limit = 100;
  const PortHold port = make_port(D::name, made);
  Poster poster(*port);
  Member taker(*port);
  const std::vector<std::uint32_t> keys(60, 1);
  REQUIRE(poster.publish(keys, kLarge));
  CHECK_FALSE(poster.publish(keys, kLarge));
  CHECK(port->pool().allocated_bytes() == 131072);
  CHECK(port->dispatcher().queued() == 60);
  for (int i = 0; i < 60; ++i) REQUIRE(taker.next().kind == PacketKind::kMessage);
  CHECK(taker.next(0).kind == PacketKind::kNone);
  CHECK(port->pool().allocated_bytes() == 0);
  CHECK(poster.publish(keys, "again"));
}

PORT_TEST("Q4 what was posted one by one comes before what is published behind it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Poster poster(*port);
  Member taker(*port);
  REQUIRE(poster.post(1, "first"));
  REQUIRE(poster.publish({1, 2, 1}, "second"));
  REQUIRE(poster.post(1, "third"));
  std::vector<std::string> seen;
  for (int i = 0; i < 5; ++i) {
    const Packet packet = taker.next();
    if (packet.key == 1) seen.push_back(text_of(packet));
  }
  CHECK(seen == std::vector<std::string>{"first", "second", "second", "third"});
}

// ---- the end ------------------------------------------------------------------------------------

PORT_TEST("T2 a port that ends lets go of messages in the queue and in the rings") {
  NEEDS_DRIVER();
  const std::size_t pools = BufferPool::count();
  {
    const PortHold port = make_port(D::name, options());
    Poster poster(*port);
    REQUIRE(poster.publish({1, 2, 3}, kLarge));
    for (int i = 0; i < 20; ++i) REQUIRE(poster.post(4, "in the ring"));
    REQUIRE(poster.post(4, kLarge));
    port->close();
    poster.member.leave(false);
    CHECK(port->pool().allocated_bytes() == 0);
  }
  CHECK(BufferPool::count() == pools);
}

PORT_TEST("Q4 a message outlives the port it was published from, with the thread that has it") {
  NEEDS_DRIVER();
  const std::size_t pools = BufferPool::count();
  {
    const PortHold there = make_port(D::name, options());
    Member taker(*there);
    {
      const PortHold here = make_port(D::name, options());
      Poster poster(*here);
      Place place;
      REQUIRE(poster.lay(kLarge, place) == PostRing::kOwnBlock);
      Packet message;
      message.kind = PacketKind::kMessage;
      message.chunk = place.chunk;
      message.offset = place.offset;
      message.result = static_cast<double>(kLarge.size());
      const std::array<std::uint32_t, 2> keys = {1, 2};
      REQUIRE(poster.member.thread->publish(message, true, keys.data(), 2, &*there));
      poster.member.leave(false);
    }
    CHECK(BufferPool::count() == pools + 2);
    CHECK(text_of(taker.next()) == kLarge);
    CHECK(text_of(taker.next()) == kLarge);
    CHECK(taker.next(0).kind == PacketKind::kNone);
    CHECK(BufferPool::count() == pools + 1);
  }
  CHECK(BufferPool::count() == pools);
}

// ---- all at once --------------------------------------------------------------------------------

/// Each message says whom it is for and is full of that, so that memory which was let go too early
/// is seen.
bool is_whole(const Packet& packet, char mark) {
  for (const char c : text_of(packet)) {
    if (c != mark) return false;
  }
  return true;
}

PORT_TEST("Q3 threads post, publish, take, steal, retain and die: each message whole, none left") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(4));
  Member stays(*port);  // or the port ends with the last of the others
  Verdict verdict;
  std::atomic<int> producing{2};
  std::atomic<std::uint64_t> posted{0}, taken{0};
  const auto produce = [&](std::uint32_t seed) {
    for (int life = 0; life < 6; ++life) {
      Poster poster(*port);
      for (std::uint32_t i = 0; i < 300; ++i) {
        const std::uint32_t key = (i * 7 + seed) % 20;
        const char mark = static_cast<char>('a' + i % 26);
        const std::size_t sizes[] = {1, 64, 256, 257, 5000};
        const std::string text(sizes[i % 5], mark);
        if (i % 10 == 0) {
          if (poster.publish({key, key + 1, key + 2}, text)) posted += 3;
        } else if (poster.post(key, text)) {
          ++posted;
        }
      }
      poster.member.leave(life % 2 == 1);
    }
    --producing;
  };
  const auto take = [&](bool dies) {
    while (producing > 0 || taken < posted) {
      Member member(*port);
      for (int i = 0; i < 200; ++i) {
        const Packet packet = member.next(1'000'000);
        if (packet.kind == PacketKind::kNone) break;
        if (packet.kind != PacketKind::kMessage) continue;
        ++taken;
        const std::string text = text_of(packet);
        verdict.expect(!text.empty() && is_whole(packet, text[0]), "a message is not whole");
        if (i % 3 == 0) verdict.expect(member.thread->retain(place_of(packet)), "not retained");
        if (i % 6 == 0) verdict.expect(member.thread->let_go(place_of(packet)), "not let go");
      }
      member.leave(dies);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < 2; ++i) threads.emplace_back(produce, i);
  for (int i = 0; i < 3; ++i) threads.emplace_back(take, i == 0);
  for (std::thread& thread : threads) thread.join();
  CHECK_MESSAGE(verdict.good(), verdict.first());
  CHECK(taken == posted);
  CHECK(port->dispatcher().queued() == 0);
  CHECK(port->pool().allocated_bytes() == 0);
}

}  // namespace
