// Several threads on a port that share its buffers (rules M1 and M3).
#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

/// Connections of a port, and threads that receive on them until each has ended: what arrives is
/// compared with its stream's parts.
class Receivers {
 public:
  std::vector<Peer> peers;
  std::vector<std::atomic<std::size_t>> received;
  std::atomic<std::size_t> ended{0};

  Receivers(Port& port, Verdict& verdict, std::size_t connections, std::size_t threads)
      : received(connections), verdict_(verdict) {
    Member member(port);
    const HandleId listening = listener(member, true);
    for (std::size_t i = 0; i < connections; ++i) {
      Connection c = connection(port, member, listening);
      stream_of_[c.handle] = i;
      handles_.push_back(c.handle);
      peers.push_back(std::move(c.peer));
    }
    std::atomic<std::size_t> starting{0};
    for (std::size_t t = 0; t < threads; ++t) {
      running_.emplace_back([&, t, threads] {
        Member taker(port);
        for (std::size_t i = t; i < handles_.size(); i += threads) taker.receive(handles_[i]);
        ++starting;
        take(taker);
      });
    }
    REQUIRE(eventually([&] { return starting == threads; }));
  }

  void join() {
    for (auto& thread : running_) thread.join();
  }

 private:
  void take(Member& taker) {
    while (ended < handles_.size() && verdict_.good()) {
      const Packet packet = taker.next(20 * kMillisecond);
      if (packet.kind != PacketKind::kReceive) continue;
      if (!verdict_.expect(packet.error == 0, "error " + std::to_string(packet.error))) break;
      if (packet.result == 0) {
        ++ended;
        continue;
      }
      const std::size_t stream = stream_of_.at(packet.handle);
      const std::string bytes = contents(packet);
      verdict_.expect(bytes == part(stream, received[stream], bytes.size()), "M1 wrong bytes");
      received[stream] += bytes.size();
    }
  }

  Verdict& verdict_;
  std::vector<HandleId> handles_;
  std::map<HandleId, std::size_t> stream_of_;
  std::vector<std::thread> running_;
};

/// `threads` threads receive on `connections` with `buffers` buffers; what arrives is compared.
template <typename D>
void receive_with_few_buffers(std::uint32_t buffers, std::size_t threads, std::size_t connections) {
  constexpr std::size_t kBytes = 120'000;
  const PortHold port = make_port(D::name, options(8, buffers));
  Verdict verdict;
  Receivers receivers(*port, verdict, connections, threads);
  std::vector<std::thread> senders;
  for (std::size_t i = 0; i < connections; ++i) {
    senders.emplace_back([&, i] {
      for (std::size_t sent = 0; sent < kBytes; sent += 10'000) {
        verdict.expect(receivers.peers[i].write(part(i, sent, 10'000)), "the peer can't write");
      }
      receivers.peers[i].end_writing();
    });
  }
  for (auto& sender : senders) sender.join();
  CHECK(eventually([&] { return receivers.ended == connections || !verdict.good(); }));
  verdict.expect(receivers.ended == connections, "M1 a connection stands still");
  receivers.join();
  CHECK(verdict.first() == "");
  for (const std::size_t bytes : receivers.received) CHECK(bytes == kBytes);
}

/// What there is instead where a port number can't be shared by several listeners (Windows).
PORT_TEST("D7 several threads accept on one listener: each connection comes to one of them, once") {
  NEEDS_DRIVER();
  constexpr int kThreads = 4, kEach = 25;
  const PortHold port = make_port(D::name, options(kThreads));
  Member starter(*port);
  const HandleId listening = listener(starter, true);
  const driver::SocketAddress address = address_of(*port, listening);
  std::mutex mutex;
  std::set<HandleId> accepted;
  std::atomic<int> submitted{0}, packets{0}, failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      Member member(*port);
      for (int i = 0; i < kEach; ++i) member.accept(listening, false);
      ++submitted;
      for (;;) {
        const Packet packet = member.next(kPatience, 1);
        if (packet.kind != PacketKind::kAccept) return;
        std::lock_guard lock(mutex);
        ++packets;
        if (packet.error != 0 || !accepted.insert(packet.accepted).second) ++failed;
      }
    });
  }
  REQUIRE(eventually([&] { return submitted == kThreads; }));
  std::vector<Peer> peers;
  for (int i = 0; i < kThreads * kEach; ++i) peers.emplace_back(address);
  CHECK(eventually([&] { return packets == kThreads * kEach; }));
  CHECK(failed == 0);
  port->close();
  starter.leave(false);
  for (auto& thread : threads) thread.join();
}

PORT_TEST("M1 with hardly any buffers every byte arrives on every connection") {
  NEEDS_DRIVER();
  receive_with_few_buffers<D>(1, 1, 8);
  receive_with_few_buffers<D>(1, 3, 9);
  receive_with_few_buffers<D>(2, 2, 8);
  receive_with_few_buffers<D>(3, 4, 12);
}

PORT_TEST("M1 with hardly any buffers for many connections every byte arrives on every one") {
  NEEDS_DRIVER();
  receive_with_few_buffers<D>(2, 1, 80);
  receive_with_few_buffers<D>(3, 2, 100);
}

PORT_TEST("M1 receiving pauses without a buffer, does not spin, and goes on when there is one") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2, 2));
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  member.receive(c.handle);
  REQUIRE(c.peer.write(part(0, 0, 100'000)));
  std::vector<Packet> held;
  std::string got;
  for (;;) {
    const Packet packet = member.next(100 * kMillisecond);
    if (packet.kind == PacketKind::kNone) break;
    REQUIRE(packet.error == 0);
    held.push_back(packet);
  }
  REQUIRE(!held.empty());
  CHECK(port->stats().free_buffers == 0);
  const std::uint64_t calls = member.thread->system_calls();
  CHECK(member.next(400 * kMillisecond).kind == PacketKind::kNone);
  CHECK(member.thread->system_calls() - calls < 100);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (const Packet& packet : held) got += contents(packet);
  });
  const Packet next = member.next();
  other.join();
  REQUIRE(next.kind == PacketKind::kReceive);
  got += contents(next);
  while (got.size() < 100'000) {
    const Packet packet = member.next();
    REQUIRE(packet.kind == PacketKind::kReceive);
    got += contents(packet);
  }
  CHECK(got == part(0, 0, 100'000));
}

PORT_TEST("M1 a receive that waits for a buffer can be cancelled and closed") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2, 1));
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  member.receive(c.handle);
  REQUIRE(c.peer.write(part(0, 0, 100'000)));
  std::vector<Packet> held;
  for (Packet packet; (packet = member.next(50 * kMillisecond)).kind != PacketKind::kNone;) {
    held.push_back(packet);
  }
  SUBCASE("here") { member.thread->cancel_handle(c.handle); }
  SUBCASE("by another thread") {
    std::thread other([&] {
      Member canceller(*port);
      canceller.thread->cancel_handle(c.handle);
    });
    other.join();
  }
  SUBCASE("by a close") {}
  member.close(c.handle);
  Packet packet;
  do {
    packet = member.next();
    REQUIRE(packet.kind != PacketKind::kNone);
    if (packet.chunk != driver::kNoChunk) held.push_back(packet);
  } while (packet.kind != PacketKind::kClose);
  for (const Packet& each : held) contents(each);
  CHECK(eventually([&] { return port->stats().free_buffers >= 1 || D::name[0] == 'i'; }));
}

PORT_TEST("M3 a connection that is open and idle holds no buffer") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2, 4));
  Member member(*port);
  const HandleId listening = listener(member, true);
  const std::uint64_t before = port->stats().free_buffers;
  std::vector<Connection> connections;
  for (int i = 0; i < 30; ++i) {
    connections.push_back(connection(*port, member, listening));
    member.receive(connections.back().handle);
  }
  // A lane that has begun to receive lends some buffers for a while.
  CHECK(eventually([&] {
    CHECK(member.next(kMillisecond).kind == PacketKind::kNone);
    return port->stats().free_buffers == before;
  }));
  for (Connection& c : connections) {
    REQUIRE(c.peer.write("x"));
    CHECK(contents(member.next()) == "x");
  }
}

/// Threads that receive with few buffers, and clients that pause for longer than a lane waits
/// before it rests, each when it likes; and once all together, until every buffer is free.
PORT_TEST("M1 M3 lanes rest while nothing comes, and no byte waits for a buffer that is free") {
  NEEDS_DRIVER();
  constexpr std::size_t kConnections = 12;
  constexpr std::uint32_t kThreads = 4, kBuffers = 24, kPieces = 24;
  const PortHold port = make_port(D::name, options(8, kBuffers));
  Verdict verdict;
  Random random(seed("lanes that rest"));
  std::vector<std::size_t> sent(kConnections);
  Receivers receivers(*port, verdict, kConnections, kThreads);
  const auto all_came = [&] {
    for (std::size_t i = 0; i < kConnections; ++i) {
      if (receivers.received[i] != sent[i]) return false;
    }
    return true;
  };
  for (std::uint32_t round = 0; round < 2; ++round) {
    std::vector<std::thread> senders;
    for (std::size_t i = 0; i < kConnections; ++i) {
      senders.emplace_back([&, i, dice = Random(random(0xffffffff))]() mutable {
        for (std::uint32_t piece = 0; piece < kPieces; ++piece) {
          const std::size_t length = 1 + dice(dice.one_in(4) ? 60'000 : 100);
          verdict.expect(receivers.peers[i].write(part(i, sent[i], length)),
                         "the peer can't write");
          sent[i] += length;
          const auto pause = dice.one_in(6) ? 200 + dice(400) : dice(4);
          std::this_thread::sleep_for(std::chrono::milliseconds(pause));
        }
      });
    }
    for (auto& sender : senders) sender.join();
    CHECK(eventually([&] { return all_came() || !verdict.good(); }));
    verdict.expect(all_came(), "M1 a connection stands still");
    CHECK(eventually([&] { return port->stats().free_buffers >= kBuffers; }));
  }
  for (Peer& peer : receivers.peers) peer.end_writing();
  CHECK(eventually([&] { return receivers.ended == kConnections || !verdict.good(); }));
  verdict.expect(receivers.ended == kConnections, "M1 an end is missing");
  receivers.join();
  CHECK(verdict.first() == "");
}

}  // namespace
