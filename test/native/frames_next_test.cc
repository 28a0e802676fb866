// The native stage and the next one: places, answers, connections that come from there.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "support/documents.h"

namespace {

using namespace cp;
using namespace cp::stage;
using namespace cp::test;

// ---- the next stage ----------------------------------------------------------------------------

PORT_TEST("documents wait for a place in the next stage, and go there in the order they came") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 8;
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.queue = 2; });
  std::vector<Peer> peers;
  std::vector<Arrival> here;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    // More follows each: it is left where it is.
    peers.back().write(framed("document " + std::to_string(i)) + framed("more"));
    if (i < 2) here.push_back(it.take());
    const std::size_t waiting = i < 2 ? 0 : i - 1;
    CHECK(eventually([&] { return it.frames->stats().waiting == waiting; }));
  }
  CHECK(it.frames->stats().queued == 2);
  CHECK(it.take(kNotWithin).key == 0);
  // Each closes, so that no second document comes in between.
  for (std::size_t i = 0; i < kClients; ++i) {
    REQUIRE(i < here.size());
    CHECK(here[i].text == "document " + std::to_string(i));
    it.close(*it.member, here[i]);
    if (here.size() < kClients) here.push_back(it.take());
  }
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("a short document waits behind few long ones, however many connections have one") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 8;
  struct Case {
    std::size_t length, ahead;
  };
  // As many as fit; one that alone is more than that goes when there is none before it.
  constexpr std::size_t kMost = Admission::kAhead;
  for (const auto [length, ahead] : {Case{2 * kMost, 1}, {kMost * 3 / 4, 1}, {kMost / 2, 2}}) {
    FramesPipeline it(D::name, [](FramesSetup& setup) { setup.next.concurrency = 1; });
    const std::string text = text_of(length);
    std::vector<Peer> peers;
    for (std::size_t i = 0; i < kClients; ++i) {
      peers.push_back(it.connect());
      peers.back().write(framed(text));
    }
    CHECK(eventually([&] { return it.frames->stats().waiting == kClients - ahead; }));
    CHECK(it.frames->stats().queued == ahead);
    peers.push_back(it.connect());
    peers.back().write(framed("short"));
    CHECK(eventually([&] { return it.frames->stats().queued == ahead + 1; }));
    std::vector<Arrival> here;
    for (std::size_t i = 0; i < ahead; ++i) {
      here.push_back(it.take());
      REQUIRE(here.back().text == text);
    }
    here.push_back(it.take());
    REQUIRE(here.back().text == "short");
    CHECK(it.take(kNotWithin).key == 0);
    // Begun, not answered: a handler that awaits something keeps no other document out.
    for (std::size_t begun = 0; here.size() < kClients + 1; ++begun) {
      it.begin(here[begun < ahead ? begun : begun + 1]);
      here.push_back(it.take());
      REQUIRE(here.back().text == text);
    }
    CHECK(it.frames->stats().waiting == 0);
    for (const Arrival& one : here) CHECK(it.answer(one, "k") == 0);
    for (Peer& peer : peers) CHECK(peer.read(1) == "k");
  }
}

PORT_TEST("a long document that does not fit yet is passed by no other that would") {
  NEEDS_DRIVER();
  PortHold port = make_port(D::name, PortOptions());
  Member member(*port);
  {
    const auto admission = std::make_shared<Admission>(*port, 100, 1, 0);
    Admission::Turn turns[4];
    turns[3].due = 10 * Admission::kAhead;
    const auto come = [&](std::uint32_t key, std::uint64_t bytes) {
      return admission->take_place(key, bytes, turns[key]);
    };
    std::unique_ptr<Lease> first = come(0, Admission::kAhead / 2);
    std::unique_ptr<Lease> second = come(1, Admission::kAhead / 2);
    REQUIRE((first != nullptr && second != nullptr));
    CHECK(come(2, Admission::kAhead) == nullptr);
    CHECK(come(3, Admission::kAhead / 2) == nullptr);
    first->begun();
    CHECK(member.next(kNotWithin).kind == PacketKind::kNone);
    CHECK(admission->waiting() == 2);
    second->begun();
    CHECK(member.next().key == 2);
    CHECK(admission->waiting() == 1);
    admission->granted(2)->begun();
    CHECK(member.next().key == 3);
    admission->granted(3);
  }
  member.leave(false);
  port->close();
}

PORT_TEST("a connection that is gone waits for no place and no turn any more") {
  NEEDS_DRIVER();
  for (const bool by_turn : {true, false}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.next.concurrency = 1;
      if (!by_turn) setup.frames.queue = 1;
    });
    const std::string text = by_turn ? text_of(Admission::kAhead) : "short";
    std::vector<Peer> peers;
    Arrival first;
    for (unsigned waiting = 0; waiting < 4; ++waiting) {
      peers.push_back(it.connect());
      peers.back().write(framed(text));
      if (waiting == 0) first = it.take();
      CHECK(eventually([&] { return it.frames->stats().waiting == waiting; }));
    }
    REQUIRE(first.text == text);
    for (const HandleId id : it.port->handles()) {
      if (Port::look_up(id).kind == HandleKind::kSocket) it.close_there(id);
    }
    for (std::size_t i = 1; i < peers.size(); ++i) CHECK(read_to_end(peers[i]) == "");
    CHECK(eventually([&] { return it.records->live() == 1; }));
    CHECK(it.frames->stats().waiting == 0);
    CHECK(it.frames->stats().queued == 1);
    CHECK(it.answer(first, "k") == 0);
    CHECK(peers[0].read(1) == "k");
  }
}

PORT_TEST("who waited behind a connection that is gone alone is told") {
  NEEDS_DRIVER();
  PortHold port = make_port(D::name, PortOptions());
  Member member(*port);
  {
    const auto admission = std::make_shared<Admission>(*port, 100, 1, 0);
    Admission::Turn turns[3];
    const std::unique_ptr<Lease> first = admission->take_place(0, Admission::kAhead / 2, turns[0]);
    REQUIRE(first != nullptr);
    CHECK(admission->take_place(1, Admission::kAhead, turns[1]) == nullptr);
    // Due later: it had a long one before.
    turns[2].due = 10 * Admission::kAhead;
    CHECK(admission->take_place(2, Admission::kAhead / 2, turns[2]) == nullptr);
    CHECK(member.next(kNotWithin).kind == PacketKind::kNone);
    admission->leave(turns[1]);
    CHECK(member.next().key == 2);
    CHECK(admission->waiting() == 0);
    // It has been told already: the place is its own, and goes with the notice.
    admission->leave(turns[2]);
    CHECK(admission->taken() == 2);
    admission->granted(2);
    CHECK(admission->taken() == 1);
  }
  member.leave(false);
  port->close();
}

PORT_TEST("a long document that is never begun keeps its turn until it is answered, or closed") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.next.concurrency = 1; });
  const std::string text = text_of(Admission::kAhead);
  std::vector<Peer> peers;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(it.connect());
    peers.back().write(framed(text));
    CHECK(eventually([&] { return it.frames->stats().waiting == static_cast<unsigned>(i); }));
  }
  const Arrival first = it.take();
  CHECK(it.answer(first, "k") == 0);
  for (int i = 0; i < 3; ++i) {
    const Arrival next = it.take();
    REQUIRE(next.text == text);
    it.close(*it.member, next);
  }
  CHECK(eventually([&] { return it.frames->stats().queued == 0; }));
}

/// The keys that are told of a place, one turn after the other, each begun before the next.
/// `again`: what a connection does that was told.
template <typename Again>
std::vector<std::uint32_t> turns(Admission& admission, Member& member, std::unique_ptr<Lease> begun,
                                 std::uint32_t last, const Again& again) {
  std::vector<std::uint32_t> keys;
  while (keys.empty() || keys.back() != last) {
    begun->begun();
    const Packet packet = member.next();
    REQUIRE(packet.kind == PacketKind::kNotice);
    keys.push_back(packet.key);
    begun = admission.granted(packet.key);
    REQUIRE(keys.size() < 100);
    if (packet.key != last) again();
  }
  return keys;
}

PORT_TEST("long documents have turns by the bytes of each connection, and none waits for ever") {
  NEEDS_DRIVER();
  constexpr std::uint64_t kBytes = Admission::kAhead;  // one is as much as may be ahead
  constexpr std::uint32_t kLast = 2;
  for (const bool one_connection : {true, false}) {
    PortHold port = make_port(D::name, PortOptions());
    Member member(*port);
    {
      const auto admission = std::make_shared<Admission>(*port, 100, 1, 0);
      Admission::Turn turn[3];
      std::unique_ptr<Lease> begun = admission->take_place(1, kBytes, turn[0]);
      REQUIRE(begun != nullptr);
      CHECK(admission->take_place(kLast, 10 * kBytes, turn[1]) == nullptr);
      std::uint32_t key = kLast;
      const auto again = [&] {
        if (key == kLast || !one_connection) ++key;
        if (!one_connection) turn[2] = {};
        CHECK(admission->take_place(key, kBytes, turn[2]) == nullptr);
      };
      again();
      const std::size_t count = turns(*admission, member, std::move(begun), kLast, again).size();
      // A connection that sends one after another has its share; many of them have more, and yet
      // not all.
      CHECK(count == (one_connection ? 10u : 19u));
      // The lease of the last one has ended, unbegun, as that of a connection does which is gone:
      // its turn goes on to the one that is left.
      CHECK(member.next().key == key);
      CHECK(admission->waiting() == 0);
      admission->granted(key);
      CHECK(admission->taken() == 0);
    }
    member.leave(false);
    port->close();
  }
}

PORT_TEST("a connection that the next stage closes gives its place and memory back") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.queue = 1;
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
    });
    for (int i = 0; i < 5; ++i) {
      Peer peer = it.connect();
      peer.write(framed(text_of(10'000)) + framed(text_of(2000)));
      const Arrival arrival = it.take();
      CHECK(arrival.text == text_of(10'000));
      it.give_file(arrival.key, "never sent", 10);
      it.close(*it.member, arrival);
      CHECK(read_to_end(peer) == "");
      CHECK(eventually([&] { return it.empty(); }));
    }
  }
}

PORT_TEST("a connection may come back without an answer") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one") + framed("two"));
  const Arrival first = it.take();
  REQUIRE(first.key != 0);
  CHECK(it.hand_back(first.key) == 0);
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  CHECK(peer.read(1) == "k");
  CHECK(eventually([&] { return it.frames->stats().replies == 1; }));
}

PORT_TEST("a connection is closed when the next stage is not there any more") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  it.member->leave(false);
  Peer peer = it.connect();
  peer.write(framed("one"));
  CHECK(read_to_end(peer) == "");
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("an answer is memory, a part of a file, both, or nothing") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::string long_text = text_of(1'500'000, 7), short_text = text_of(100, 8);
  struct Case {
    const std::string memory, file;
    std::uint64_t offset;
  };
  const Case cases[] = {
      {short_text, "", 0},   {long_text, "", 0},         {"", short_text, 0},
      {"", long_text, 5000}, {short_text, long_text, 0}, {long_text, short_text, 5'000'000'000},
      {"", "", 0},           {short_text, short_text, 1}};
  for (const Case& one : cases) {
    std::thread writer([&] { peer.write(framed("document")); });
    const Arrival arrival = it.take();
    REQUIRE(arrival.key != 0);
    it.give_memory(*it.member, arrival.key, one.memory);
    if (!one.file.empty()) it.give_file(arrival.key, one.file, one.file.size(), one.offset);
    CHECK(it.hand_back(arrival.key) == 0);
    const std::string expected = one.memory + one.file;
    CHECK(peer.read(expected.size()) == expected);
    writer.join();
  }
  CHECK(eventually([&] { return it.frames->stats().replies == std::size(cases); }));
  CHECK(eventually([&] { return it.next->pool().allocated_bytes() == 0; }));
}

PORT_TEST("what the next stage has sent by itself is no part of the answer") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::string before = text_of(5000, 2), text = text_of(1 << 20), file = text_of(600'000, 3);
  for (const bool of_file : {false, true}) {
    peer.write(framed("document"));
    const Arrival arrival = it.take();
    REQUIRE(arrival.key != 0);
    it.member->send(arrival.handle, before);
    it.flush();
    if (of_file) it.give_file(arrival.key, file, file.size());
    CHECK(it.answer(arrival, text) == 0);
    CHECK(peer.read(before.size()) == before);
    CHECK(peer.read(text.size()) == text);
    if (of_file) CHECK(peer.read(file.size()) == file);
  }
  peer.write(framed("next"));
  const Arrival next = it.take();
  CHECK(next.text == "next");
  CHECK(it.answer(next, "k") == 0);
  CHECK(peer.read(1) == "k");
}

PORT_TEST("a file that is shorter than it was said to be ends the connection") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("document"));
  const Arrival arrival = it.take();
  it.give_file(arrival.key, "short", 100);
  CHECK(it.hand_back(arrival.key) == 0);
  CHECK(read_to_end(peer) == "short");
  CHECK(eventually([&] { return it.empty(); }));
}

PORT_TEST("answers from files wait for memory, too") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.port.buffers.memory_limit = 400'000;
    setup.frames.max = 262'144;
  });
  Peer first = it.connect(), second = it.connect();
  const std::string text = text_of(250'000);
  second.write(framed("document"));
  const Arrival to = it.take();
  first.write(framed(text));
  const Arrival holder = it.take();
  CHECK(holder.text == text);
  it.give_file(to.key, text, text.size());
  CHECK(it.hand_back(to.key) == 0);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.answer(holder, "k") == 0);
  CHECK(second.read(text.size()) == text);
  CHECK(first.read(1) == "k");
}

PORT_TEST("a client that does not read its answer is closed after a while") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.stall_timeout = 200; });
  for (const bool file : {false, true}) {
    Peer peer = it.connect();
    peer.write(framed("document"));
    const Arrival arrival = it.take();
    const std::string text = text_of(30'000'000);
    if (file) {
      it.give_file(arrival.key, text, text.size());
      CHECK(it.hand_back(arrival.key) == 0);
    } else {
      CHECK(it.answer(arrival, text) == 0);
    }
    CHECK(eventually([&] { return it.empty(); }));
  }
  CHECK(it.frames->stats().timed_out == 2);
}

#ifndef _WIN32  // which does not tell how far an answer is
PORT_TEST("an answer that moves is not given up, however long a part of it takes") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.stall_timeout = 2500; });
  Peer peer = it.connect();
  peer.write(framed("document"));
  const Arrival arrival = it.take();
  const std::string text = text_of(30'000'000);
  CHECK(it.answer(arrival, text) == 0);
  // The system takes more of it from the stage when a third of its buffer is free, which is later.
  std::string read;
  for (int i = 0; i < 160; ++i) {
    read += peer.read(8192);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  read += peer.read(text.size() - read.size());
  CHECK(read == text);
  CHECK(it.frames->stats().timed_out == 0);
}
#endif

PORT_TEST("an answer that closes comes whole, also where farewells have no time") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.farewell_timeout = 0; });
  Peer peer = it.connect();
  peer.write(framed("document"));
  const Arrival arrival = it.take();
  const std::string text = text_of(2'000'000);
  it.give_memory(*it.member, arrival.key, text);
  it.records->cargo(arrival.key)->reply.closes = true;
  CHECK(it.hand_back(arrival.key) == 0);
  // Part of it is still in the stage's system: had that been closed at once, what comes now would
  // reset it.
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(peer.write(std::string(1000, 'x')));
  CHECK(read_to_end(peer) == text);
  CHECK(peer.ended);
  peer.shut();
  CHECK(eventually([&] { return it.empty(); }));
}

// ---- connections of another stage --------------------------------------------------------------

/// A connection that the next stage has accepted itself.
struct Foreign {
  Peer peer;
  std::uint32_t key;
  HandleId handle;
};
Foreign accept_at_next(FramesPipeline& it) {
  it.next->set_key_source(it.records);
  const HandleId id = listener(*it.member, true, FramesStage::kListener);
  Connection made = connection(*it.next, *it.member, id);
  it.member->close(id);
  stage::RecordHeader& header = it.header(made.key);
  header.stage = kNextStage;
  return {std::move(made.peer), made.key, made.handle};
}

void stash(FramesPipeline& it, std::uint32_t key, const std::string& bytes) {
  Piece piece;
  REQUIRE(it.member->thread->allocate(bytes.size(), piece.place));
  BufferPool::assign(piece.place, 0);
  std::memcpy(Chunk::find(piece.place.chunk)->base() + piece.place.offset, bytes.data(),
              bytes.size());
  piece.length = static_cast<std::uint32_t>(bytes.size());
  it.records->cargo(key)->stash.push_back(piece);
  it.header(key).stashed += piece.length;
}

PORT_TEST("a connection that another stage has accepted brings what it had received") {
  NEEDS_DRIVER();
  for (const bool spool : {false, true}) {
    FramesPipeline it(D::name, [&](FramesSetup& setup) {
      setup.frames.spool_to_file = spool;
      setup.frames.in_memory = 100;
    });
    {
      Foreign one = accept_at_next(it);
      const std::string stream = framed("one") + framed(text_of(9000)) + framed("three");
      for (std::size_t at = 0; at < 8000; at += 1000) stash(it, one.key, stream.substr(at, 1000));
      CHECK(it.hand_back(one.key) == 0);
      one.peer.write(stream.substr(8000));
      for (const std::string& text : {std::string("one"), text_of(9000), std::string("three")}) {
        const Arrival arrival = it.take();
        CHECK(arrival.text == text);
        CHECK(it.answer(arrival, "k") == 0);
      }
      CHECK(one.peer.read(3) == "kkk");
      CHECK(it.header(one.key).stashed == 0);
    }
    CHECK(eventually([&] { return it.records->live() == 0; }));
  }
}

PORT_TEST("a receive that another stage had begun keeps its place in the stream") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Foreign one = accept_at_next(it);
  const std::string big = text_of(50'000, 3);
  const std::string stream = framed("one") + framed("two") + framed(big);
  stash(it, one.key, stream.substr(0, 9));
  it.member->receive(one.handle, false);
  it.flush();
  CHECK(it.hand_back(one.key) == 0);
  const Arrival first = it.take();
  CHECK(first.text == "one");
  // It answers while a document is at the next stage, or an answer goes out.
  CHECK(it.answer(first, "k") == 0);
  std::thread writer([&] { one.peer.write(stream.substr(9)); });
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  const Arrival third = it.take();
  CHECK(third.text == big);
  CHECK(it.answer(third, "k") == 0);
  CHECK(one.peer.read(3) == "kkk");
  writer.join();
}

PORT_TEST("what another stage's receive brings comes behind what it had left") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.queue = 1; });
  Peer holder = it.connect();
  holder.write(framed("holder"));
  const Arrival held = it.take();
  Foreign one = accept_at_next(it);
  const std::string stream = framed("one") + framed("two") + framed("three");
  stash(it, one.key, stream.substr(0, 10));
  it.member->receive(one.handle, false);
  it.flush();
  CHECK(it.hand_back(one.key) == 0);
  // Its first document waits for a place, and a piece of the next lies in the stash.
  CHECK(eventually([&] { return it.frames->stats().waiting == 1; }));
  one.peer.write(stream.substr(10));
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.answer(held, "k") == 0);
  for (const char* text : {"one", "two", "three"}) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, "k") == 0);
  }
  CHECK(one.peer.read(3) == "kkk");
}

/// The connection that is there when there is one.
std::uint32_t only_key(FramesPipeline& it) {
  std::uint32_t key = 0;
  CHECK(eventually([&] {
    it.records->for_each([&](const RecordHeader& header) { key = header.name; });
    return key != 0;
  }));
  return key;
}

/// Told once more of a hand-off to the frames stage.
void repeat_notice(FramesPipeline& it, std::uint32_t key) {
  Packet notice;
  notice.kind = PacketKind::kHandOff;
  notice.key = key;
  notice.handle = it.header(key).handle;
  it.port->dispatcher().push(notice, nullptr);
}

PORT_TEST("a notice of a hand-off for a connection that is not away is ignored") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one") + framed("two") + framed("three"));
  const Arrival first = it.take();
  repeat_notice(it, first.key);  // while it is elsewhere
  const std::string long_answer = text_of(6'000'000);
  CHECK(it.answer(first, long_answer) == 0);
  // While the answer goes out.
  const auto answering = static_cast<std::uint8_t>(FrameState::kAnswering);
  CHECK(eventually([&] { return std::atomic_ref(it.header(first.key).state) == answering; }));
  for (int i = 0; i < 3; ++i) repeat_notice(it, first.key);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(peer.read(long_answer.size()) == long_answer);
  for (const char* text : {"two", "three"}) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == text);
    CHECK(it.answer(arrival, text) == 0);
    repeat_notice(it, first.key);
  }
  CHECK(peer.read(8) == "twothree");
  peer.end_writing();
  CHECK(read_to_end(peer) == "");
  CHECK(it.frames->stats().replies == 3);
}

PORT_TEST("a connection that comes for the first time is begun where another one has ended") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.records = 1; });
  for (int i = 0; i < 3; ++i) {
    {
      Peer peer = it.connect();
      peer.write(framed("one"));
      const Arrival arrival = it.take();
      CHECK(arrival.text == "one");
      it.close(*it.member, arrival);
    }
    Foreign other = accept_at_next(it);
    CHECK(it.hand_back(other.key) == 0);
    other.peer.write(framed("other"));
    const Arrival arrival = it.take();
    CHECK(arrival.text == "other");
    it.close(*it.member, arrival);
  }
}

/// What the next stage is told of a visit.
std::vector<double> take_messages(FramesPipeline& it, const Arrival& arrival) {
  REQUIRE(arrival.key != 0);
  std::deque<Packet>& messages = it.records->cargo(arrival.key)->messages;
  std::vector<double> taken;
  for (const Packet& message : messages) taken.push_back(message.result);
  messages.clear();
  return taken;
}
bool has_document(FramesPipeline& it, const Arrival& arrival) {
  return (it.header(arrival.key).flags & kRecordHasDocument) != 0;
}

PORT_TEST("messages to a connection that rests reach the next stage (rule Q2)") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::uint32_t key = only_key(it);
  constexpr int kRounds = 20, kMessages = 5;
  std::vector<double> posted, told;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kMessages; ++i) {
      posted.push_back(round * kMessages + i);
      it.port->post(key, posted.back());
    }
    // As lib/stage/run/runner.ts does: one that comes when the connection is gone follows it.
    while (told.size() < posted.size()) {
      const Packet packet = it.member->next();
      REQUIRE(packet.kind != PacketKind::kNone);
      CHECK(packet.key == key);
      const bool here = it.header(key).port == it.next->id();
      if (packet.kind == PacketKind::kPosted) {
        if (here) told.push_back(packet.result);
        if (!here) it.port->post(key, packet.result, false);
      }
      if (packet.kind != PacketKind::kHandOff || !here) continue;
      const Arrival arrival = it.arrival(key);
      CHECK(!has_document(it, arrival));
      for (const double message : take_messages(it, arrival)) told.push_back(message);
      CHECK(it.hand_back(key) == 0);
    }
  }
  std::sort(told.begin(), told.end());
  CHECK(told == posted);
  // The client's bytes have kept their order, and its receives have not become more.
  peer.write(framed("one"));
  const Arrival arrival = it.take();
  CHECK(arrival.text == "one");
  CHECK(arrival.number == 1);
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
  CHECK(eventually([&] { return Port::look_up(it.header(key).handle).in_flight == 1; }));
}

PORT_TEST("messages wait while a document comes or an answer goes, and come before the next") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  const std::uint32_t key = only_key(it);
  peer.write(framed("one").substr(0, 5));
  const auto receiving = static_cast<std::uint8_t>(FrameState::kReceiving);
  CHECK(eventually([&] { return std::atomic_ref(it.header(key).state) == receiving; }));
  it.port->post(key, 1);
  CHECK(it.take(kNotWithin).key == 0);
  peer.write(framed("one").substr(5) + framed("two"));
  const Arrival first = it.take();
  CHECK(first.text == "one");
  CHECK(take_messages(it, first) == std::vector<double>{1});
  const std::string answer = text_of(6'000'000);
  CHECK(it.answer(first, answer) == 0);
  const auto answering = static_cast<std::uint8_t>(FrameState::kAnswering);
  CHECK(eventually([&] { return std::atomic_ref(it.header(key).state) == answering; }));
  it.port->post(key, 2);
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(peer.read(answer.size()) == answer);
  const Arrival visit = it.take();
  CHECK(!has_document(it, visit));
  CHECK(take_messages(it, visit) == std::vector<double>{2});
  CHECK(it.hand_back(key) == 0);
  const Arrival second = it.take();
  CHECK(second.text == "two");
  CHECK(it.answer(second, "k") == 0);
  CHECK(peer.read(1) == "k");
}

PORT_TEST("a message to a connection that is elsewhere follows it") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  peer.write(framed("one"));
  const Arrival arrival = it.take();
  it.port->post(arrival.key, 5);
  const Packet packet = it.member->next();
  CHECK(packet.kind == PacketKind::kPosted);
  CHECK(packet.key == arrival.key);
  CHECK(packet.result == 5);
  CHECK(it.answer(arrival, "k") == 0);
  CHECK(peer.read(1) == "k");
}

PORT_TEST("a receive that the next stage has begun is the only one when the connection is back") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer peer = it.connect();
  for (int i = 0; i < 20; ++i) {
    peer.write(framed("text"));
    const Arrival arrival = it.take();
    CHECK(arrival.text == "text");
    stage::RecordHeader& header = it.header(arrival.key);
    if ((header.flags & kRecordReceiving) == 0) {
      header.flags = static_cast<std::uint8_t>(header.flags | kRecordReceiving);
      it.member->receive(arrival.handle, false);
      it.flush();
    }
    CHECK(it.answer(arrival, "k") == 0);
    CHECK(peer.read(1) == "k");
    CHECK(eventually([&] { return Port::look_up(arrival.handle).in_flight == 1; }));
  }
}

PORT_TEST("bytes left over do not keep the buffers that others are received into") {
  NEEDS_DRIVER();
  constexpr std::size_t kClients = 64;
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.port.buffers.buffer_count = 16; });
  std::vector<Peer> peers;
  for (std::size_t i = 0; i < kClients; ++i) {
    peers.push_back(it.connect());
    peers.back().write(framed("x") + framed("y").substr(0, 3));
  }
  std::vector<Arrival> arrivals;
  for (std::size_t i = 0; i < kClients; ++i) {
    arrivals.push_back(it.take());
    REQUIRE(arrivals.back().text == "x");
  }
  for (const Arrival& arrival : arrivals) CHECK(it.answer(arrival, "k") == 0);
  for (Peer& peer : peers) {
    CHECK(peer.read(1) == "k");
    peer.write(framed("y").substr(3));
  }
  for (std::size_t i = 0; i < kClients; ++i) {
    const Arrival arrival = it.take();
    CHECK(arrival.text == "y");
    CHECK(it.answer(arrival, "k") == 0);
  }
}

PORT_TEST("what was left over goes into a file like everything else") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) {
    setup.frames.spool_to_file = true;
    setup.frames.in_memory = 10;
  });
  Peer peer = it.connect();
  const std::string text = text_of(9000);
  peer.write(framed("x") + framed(text).substr(0, 500));
  const Arrival first = it.take();
  CHECK(it.answer(first, "k") == 0);
  CHECK(peer.read(1) == "k");
  peer.write(framed(text).substr(500));
  const Arrival second = it.take();
  CHECK(second.text == text);
  CHECK(second.in_file);
  CHECK(it.answer(second, "k") == 0);
}

PORT_TEST("a stage that ends closes connections between documents, and the others when answered") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  Peer idle = it.connect(), busy = it.connect(), away = it.connect(), stalls = it.connect();
  busy.write(framed("document").substr(0, 6));
  away.write(framed("away") + framed("not begun"));
  stalls.write(framed("stalls").substr(0, 6));
  const Arrival first = it.take();
  CHECK(first.text == "away");
  const auto receives = [&] {
    int count = 0;
    const auto receiving = static_cast<std::uint8_t>(FrameState::kReceiving);
    it.records->for_each(
        [&](RecordHeader& header) { count += std::atomic_ref(header.state) == receiving; });
    return count;
  };
  CHECK(eventually([&] { return receives() == 2; }));
  it.frames->end_connections();
  CHECK(read_to_end(idle) == "");
  CHECK(idle.ended);
  CHECK(it.answer(first, "answer") == 0);
  CHECK(read_to_end(away) == "answer");
  CHECK(away.ended);
  busy.write(framed("document").substr(6));
  const Arrival second = it.take();
  CHECK(second.text == "document");
  CHECK(it.answer(second, "answer") == 0);
  CHECK(read_to_end(busy) == "answer");
  // One that comes now is not received from.
  Peer late = it.connect();
  late.write(framed("late"));
  CHECK(read_to_end(late) == "");
  CHECK(it.take(kNotWithin).key == 0);
  CHECK(it.frames->stats().documents == 2);
}

// ---- documents together ------------------------------------------------------------------------

/// All that came with a packet.
std::vector<std::string> texts_of(FramesPipeline& it, const Arrival& arrival) {
  const Document& document = it.records->cargo(arrival.key)->document;
  if (document.parts.empty()) return {arrival.text};
  std::vector<std::string> texts;
  for (const Part& part : document.parts) {
    const std::uint8_t* base = BufferPool::use(document.place, 1);
    REQUIRE(base != nullptr);
    texts.emplace_back(reinterpret_cast<const char*>(base) + part.start, part.length);
    BufferPool::unuse(document.place);
  }
  return texts;
}

PORT_TEST("documents that come together are handed over together, whole and in order") {
  NEEDS_DRIVER();
  for (const Style& style : kStyles) {
    for (const std::size_t most : {2u, 7u, 1000u}) {
      FramesPipeline it(D::name, [&](FramesSetup& setup) {
        setup.frames.framing = framing_of(style.kind, style.delimiter);
        setup.frames.pipelined = static_cast<std::uint32_t>(most);
      });
      Peer peer = it.connect();
      std::vector<std::string> sent;
      std::string stream;
      for (std::size_t i = 0; i < 300; ++i) {
        sent.push_back(text_of(i * 7 % 200, static_cast<std::uint32_t>(i)));
        std::replace(sent.back().begin(), sent.back().end(), '\n', 'x');
        stream += style.frame(sent.back());
      }
      std::thread writer([&] { peer.write(stream); });
      std::size_t came = 0, packets = 0, longest = 0;
      while (came < sent.size()) {
        const Arrival arrival = it.take();
        REQUIRE(arrival.key != 0);
        const std::vector<std::string> texts = texts_of(it, arrival);
        ++packets;
        longest = std::max(longest, texts.size());
        for (const std::string& text : texts) CHECK(text == sent[came++]);
        CHECK(arrival.number == came);
        CHECK(it.answer(arrival, std::string(texts.size(), 'k')) == 0);
      }
      writer.join();
      CHECK(longest <= most);
      CHECK(packets < sent.size());
      CHECK(peer.read(sent.size()) == std::string(sent.size(), 'k'));
      CHECK(it.frames->stats().documents == sent.size());
    }
  }
}

PORT_TEST("deadlines follow a connection from stage to stage") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name, [](FramesSetup& setup) { setup.frames.idle_timeout = 50; });
  Foreign one = accept_at_next(it);
  CHECK(it.hand_back(one.key) == 0);
  CHECK(read_to_end(one.peer) == "");
  CHECK(eventually([&] { return it.records->live() == 0; }));
}

PORT_TEST("what has a key but no connection is not kept by the stage") {
  NEEDS_DRIVER();
  FramesPipeline it(D::name);
  const std::uint32_t task = it.records->create(it.next->id(), 0);
  it.next->hand_off_key(*it.port, task, it.header(task).port);
  CHECK(eventually([&] { return it.records->live() == 0; }));
}

}  // namespace
