// Handles that several threads use, and that go from port to port.
#include <doctest/doctest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- sharing handles ---------------------------------------------------------------------------

PORT_TEST("D9 O7 handles roam between threads, with several requests queued in each direction") {
  NEEDS_DRIVER();
  constexpr std::size_t kConnections = 6, kBytes = 300'000;
  constexpr int kThreads = 4;
  const PortHold port = make_port(D::name, options(kThreads));
  Verdict verdict;
  struct Stream {
    std::size_t received = 0, submitted = 0;
    int reading = 0;
  };
  std::vector<Stream> streams(kConnections);
  std::map<HandleId, std::size_t> stream_of;
  std::vector<Peer> peers;
  std::atomic<std::size_t> ended{0}, attached{0};
  std::vector<std::thread> threads;
  Member member(*port);
  const HandleId listening = listener(member, true);
  std::vector<HandleId> handles;
  for (std::size_t i = 0; i < kConnections; ++i) {
    Connection c = connection(*port, member, listening);
    stream_of[c.handle] = i;
    handles.push_back(c.handle);
    peers.push_back(std::move(c.peer));
  }
  // Whoever has a packet of a connection holds its key: what it touches of the stream is its own.
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      Member taker(*port);
      ++attached;
      while (ended < kConnections && verdict.good()) {
        const Packet packet = taker.next(20 * kMillisecond);
        if (packet.kind == PacketKind::kNone || packet.kind == PacketKind::kPosted) continue;
        if (!verdict.expect(packet.error == 0, "error " + std::to_string(packet.error))) break;
        if (packet.kind != PacketKind::kReceive) continue;
        const std::size_t index = stream_of.at(packet.handle);
        Stream& stream = streams[index];
        --stream.reading;
        if (packet.result == 0) {
          if (stream.reading == 0) ++ended;
          continue;
        }
        const std::string bytes = contents(packet);
        verdict.expect(bytes == part(index, stream.received, bytes.size()), "D9 out of order");
        stream.received += bytes.size();
        for (; stream.reading < 3; ++stream.reading) taker.receive(packet.handle, false);
        // An echo in two requests, which may not change places.
        taker.send(packet.handle, bytes.substr(0, bytes.size() / 2 + 1));
        if (bytes.size() > 1) taker.send(packet.handle, bytes.substr(bytes.size() / 2 + 1));
      }
    });
  }
  REQUIRE(eventually([&] { return attached == kThreads; }));
  for (std::size_t i = 0; i < kConnections; ++i) {
    streams[i].reading = 1;
    member.receive(handles[i], false);
  }
  std::vector<std::thread> ends;
  for (std::size_t i = 0; i < kConnections; ++i) {
    ends.emplace_back([&, i] {
      std::thread writer([&] {
        for (std::size_t sent = 0; sent < kBytes; sent += 5000) {
          verdict.expect(peers[i].write(part(i, sent, 5000)), "the peer can't write");
        }
      });
      const std::string echo = peers[i].read(kBytes);
      verdict.expect(echo == part(i, 0, kBytes), "O7 the echo is wrong");
      writer.join();
      peers[i].end_writing();
    });
  }
  // This one carries out its share, too: it takes nothing, but its lane has operations.
  while (ended < kConnections && verdict.good())
    member.thread->get(0, driver::now() + kMillisecond);
  for (auto& end : ends) end.join();
  for (auto& thread : threads) thread.join();
  CHECK(verdict.first() == "");
  for (const Stream& stream : streams) CHECK(stream.received == kBytes);
}

PORT_TEST("O4 O5 what one thread started another cancels and closes") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(4));
  Member member(*port);
  const HandleId listening = listener(member, true);
  Random random(seed("cross cancel"));
  std::atomic<HandleId> target{0};
  std::atomic<bool> over{false};
  std::thread other([&] {
    Member canceller(*port);
    while (!over) {
      HandleId handle = target.load();
      if (handle != 0) {
        canceller.thread->cancel_handle(handle);
        if (target.compare_exchange_strong(handle, 0)) {
          canceller.close(handle);
        }
      }
      canceller.thread->get(0, 0);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 60; ++i) {
    Connection c = connection(*port, member, listening);
    member.receive(c.handle);
    for (std::uint32_t n = random(4); n-- > 0;) member.send(c.handle, std::string(400'000, 'x'));
    for (std::uint32_t n = random(3); n-- > 0;) member.receive(c.handle, false);
    target = c.handle;
    Packet packet;
    int after_close = 0;
    do {
      packet = member.next();
      REQUIRE(packet.kind != PacketKind::kNone);
      after_close += packet.error == 0 && packet.kind != PacketKind::kClose ? 0 : 1;
      if (packet.chunk != driver::kNoChunk) contents(packet);
    } while (packet.kind != PacketKind::kClose);
    CHECK(packet.handle == c.handle);
    CHECK(after_close >= 1);
    while (c.peer.read(1 << 20).size() == 1 << 20) {
    }
    CHECK(c.peer.ended);
  }
  over = true;
  other.join();
}

// ---- hand-off ----------------------------------------------------------------------------------

PORT_TEST("A3 a thread of the port that a handle has left neither closes nor cancels it") {
  NEEDS_DRIVER();
  const PortHold one = make_port(D::name, options());
  const PortHold two = make_port(D::name, options());
  Member before(*one);
  Member now(*two);
  Connection c = connection(*one, before, listener(before, true));
  REQUIRE(one->hand_off(c.handle, *two, 7) == 0);
  CHECK(now.next().kind == PacketKind::kHandOff);
  now.receive(c.handle);
  now.thread->flush();
  before.thread->cancel_handle(c.handle);
  before.close(c.handle);
  before.close(c.handle, 5);
  const Packet refused = before.next();
  CHECK(refused.kind == PacketKind::kClose);
  CHECK(refused.token == 5);
  CHECK(refused.error == kErrorHandleClosed);
  CHECK(before.next(60 * kMillisecond).kind == PacketKind::kNone);
  CHECK(c.peer.write("x"));
  const Packet received = now.next();
  CHECK(received.kind == PacketKind::kReceive);
  CHECK(received.error == 0);
  CHECK(contents(received) == "x");
}

PORT_TEST("A3 hand-off under traffic: the notice first, the bytes in order, nothing left behind") {
  NEEDS_DRIVER();
  constexpr std::size_t kBytes = 400'000;
  const std::uint64_t number = seed("hand-off");
  INFO("CP_SEED=", number);
  Random random(number);
  for (int round = 0; round < 6; ++round) {
    const PortHold ports[2] = {make_port(D::name, options(2, 16)),
                               make_port(D::name, options(2, 16))};
    Verdict verdict;
    std::atomic<int> at{0}, moves{0};
    std::atomic<std::size_t> received{0};
    std::atomic<bool> over{false}, moving{false};
    std::atomic<HandleId> handle{0};
    std::mutex starting;
    std::condition_variable started;
    std::string got;  // whoever has a packet of the handle holds its key, on whichever port
    std::vector<std::thread> threads;
    Member member(*ports[0]);
    Member elsewhere(*ports[1]);
    const HandleId listening = listener(member, true, 9);
    Connection c = connection(*ports[0], member, listening);
    const int hops = 1 + static_cast<int>(random(3));
    // One thread a port: what it holds of the handle when it hands it off is over by then.
    const auto serve = [&](Member& self, int index, const Packet& packet, bool& welcomed) {
      if (packet.kind == PacketKind::kHandOff) {
        verdict.expect(!welcomed, "A3 two notices");
        verdict.expect(packet.key == 100u + static_cast<std::uint32_t>(moves.load()), "A3 key");
        welcomed = true;
        return;
      }
      if (packet.kind != PacketKind::kReceive || packet.handle != c.handle) return;
      verdict.expect(welcomed, "A3 a packet where the handle is not");
      verdict.expect(packet.error == 0, "A3 error " + std::to_string(packet.error));
      got += contents(packet);
      received = got.size();
      if (packet.result == 0) over = true;
      const bool due = received > kBytes / 5 * static_cast<std::size_t>(moves + 1);
      if (over || !due || moves == hops) return;
      ++moves;
      welcomed = false;
      const std::int32_t error = ports[index]->hand_off(c.handle, *ports[1 - index],
                                                        100u + static_cast<std::uint32_t>(moves));
      verdict.expect(error == 0, "A3 hand_off " + std::to_string(error));
    };
    std::thread writer([&] {
      for (std::size_t sent = 0; sent < kBytes; sent += 2000) {
        if (!c.peer.write(part(3, sent, 2000))) break;
      }
      c.peer.end_writing();
    });
    std::thread second([&] {
      Member self(*ports[1]);
      bool welcomed = false;
      while (!over && verdict.good()) serve(self, 1, self.next(kMillisecond), welcomed);
    });
    member.receive(c.handle);
    bool welcomed = true;
    const auto end = driver::now() + kPatience;
    while (!over && verdict.good() && driver::now() < end) {
      serve(member, 0, member.next(kMillisecond), welcomed);
    }
    verdict.expect(over, "A3 the stream stands still at " + std::to_string(received.load()));
    over = true;
    second.join();
    if (!verdict.good()) member.close(c.handle);
    if (!verdict.good()) c.peer.end_writing();
    writer.join();
    CHECK(verdict.first() == "");
    const bool same = got == part(3, 0, kBytes);
    CHECK(same);
    CHECK(moves == hops);
  }
}

PORT_TEST("A3 operations in flight complete on the new port, whose threads are woken for it") {
  NEEDS_DRIVER();
  const PortHold from = make_port(D::name, options(2));
  const PortHold to = make_port(D::name, options(2));
  Member member(*from);
  const HandleId listening = listener(member, true);
  Connection c = connection(*from, member, listening);
  member.receive(c.handle);
  REQUIRE(member.next(kMillisecond).kind == PacketKind::kNone);
  Verdict verdict;
  std::atomic<int> seen{0};
  std::thread other([&] {
    Member taker(*to);
    ++seen;
    const Packet first = taker.next();
    verdict.expect(first.kind == PacketKind::kHandOff, "the notice is not the first packet");
    verdict.expect(first.key == 55 && first.handle == c.handle, "the notice is wrong");
    ++seen;
    const Packet second = taker.next();
    verdict.expect(second.kind == PacketKind::kReceive, "no packet of the operation in flight");
    verdict.expect(second.key == 55, "the old key");
    verdict.expect(contents(second) == "later", "the wrong bytes");
    ++seen;
    taker.close(c.handle);
    Packet packet;
    do {
      packet = taker.next();
    } while (packet.kind == PacketKind::kReceive);
    verdict.expect(packet.kind == PacketKind::kClose, "no close");
    ++seen;
  });
  REQUIRE(eventually([&] { return seen == 1 && to->stats().waiting == 1; }));
  CHECK(from->hand_off(c.handle, *to, 55) == 0);
  CHECK(from->hand_off(c.handle, *to, 56) == kErrorNotSupported);
  REQUIRE(eventually([&] { return seen == 2; }));
  REQUIRE(eventually([&] { return to->stats().waiting == 1; }));
  REQUIRE(c.peer.write("later"));
  while (seen < 4 && verdict.good()) {
    CHECK(member.next(kMillisecond).kind == PacketKind::kNone);
  }
  other.join();
  CHECK(verdict.first() == "");
  c.peer.read(1);
  CHECK(c.peer.ended);
}

PORT_TEST("T2 a port that ends closes handles whose operations another port's thread carries out") {
  NEEDS_DRIVER();
  const std::size_t handles = open_handles(), ports = Port::count();
  for (int round = 0; round < 10; ++round) {
    const PortHold from = make_port(D::name, options(2));
    const PortHold to = make_port(D::name, options(2));
    Member member(*from);
    const HandleId listening = listener(member, true);
    Connection c = connection(*from, member, listening);
    member.receive(c.handle);
    REQUIRE(member.next(kMillisecond).kind == PacketKind::kNone);
    {
      Member taker(*to);
      REQUIRE(from->hand_off(c.handle, *to, 55) == 0);
      REQUIRE(taker.next().kind == PacketKind::kHandOff);
      if (round % 2 == 0) taker.close(c.handle);
    }
    CHECK(!Port::find(to->id()));
    CHECK(member.next(5 * kMillisecond).kind == PacketKind::kNone);
    member.close(listening);
    CHECK(member.next().kind == PacketKind::kClose);
    c.peer.read(1);
    CHECK(c.peer.ended);
  }
  CHECK(open_handles() == handles);
  CHECK(Port::count() == ports);
}

PORT_TEST("T2 a port may end while a close of its handle is under way on another port's thread") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("end and close");
  INFO("CP_SEED=", number);
  Random random(number);
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  const PortHold from = make_port(D::name, options(2));
  {
    Member member(*from);
    const HandleId listening = listener(member, true);
    for (int round = 0; round < 200; ++round) {
      const PortHold to = make_port(D::name, options(2, 1));
      Connection c = connection(*from, member, listening);
      member.receive(c.handle);
      REQUIRE(member.next(0).kind == PacketKind::kNone);
      std::atomic<bool> over{false};
      const std::uint32_t delay = random(3000);
      std::thread other([&] {
        Member taker(*to);
        from->hand_off(c.handle, *to, 55);
        taker.close(c.handle);
        for (std::atomic<std::uint32_t> spin{0}; spin.fetch_add(1) < delay;) {
        }
        taker.leave(false);
        over = true;
      });
      while (!over) member.next(kMillisecond / 10);
      other.join();
      member.next(0);
      c.peer.read(1);
      REQUIRE(c.peer.ended);
    }
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

}  // namespace
