// Threads that leave a port, or die, with work under way (rule T1).
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

// ---- leaving -----------------------------------------------------------------------------------

PORT_TEST("T1 the bytes of packets a thread had not begun reach the others") {
  NEEDS_DRIVER();
  constexpr int kConnections = 16;
  const PortHold port = make_port(D::name, options(2, 8));
  Member member(*port);
  const HandleId listening = listener(member, true);
  std::vector<Connection> connections;
  for (int i = 0; i < kConnections; ++i)
    connections.push_back(connection(*port, member, listening));
  Connection busy = connection(*port, member, listening);
  {
    Member doomed(*port);
    for (Connection& c : connections) {
      doomed.receive(c.handle);
      REQUIRE(c.peer.write("for " + std::to_string(c.handle)));
    }
    std::size_t taken = 0;
    for (int i = 0; i < 200 && taken < 2; ++i) {
      const std::int64_t count = doomed.thread->get(256, driver::now() + kMillisecond);
      taken = count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    REQUIRE(taken >= 2);
    doomed.leave(true);
  }
  // New bytes would overwrite buffers that were let go too early.
  std::map<HandleId, std::string> got;
  std::string noise;
  member.receive(busy.handle);
  REQUIRE(busy.peer.write(std::string(50'000, '!')));
  while (got.size() < kConnections || noise.size() < 50'000) {
    const Packet packet = member.next();
    REQUIRE(packet.kind != PacketKind::kNone);
    if (packet.kind != PacketKind::kReceive) continue;
    if (packet.error != 0) {
      CHECK(packet.error == -ECANCELED);
      member.receive(packet.handle);
      continue;
    }
    const std::string bytes = contents(packet);
    (packet.handle == busy.handle ? noise : got[packet.handle]) += bytes;
  }
  for (Connection& c : connections) CHECK(got[c.handle] == "for " + std::to_string(c.handle));
  CHECK(noise == std::string(50'000, '!'));
}

PORT_TEST("T1 operations of one thread go on when another leaves that carried them out") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2));
  Member member(*port);
  const HandleId listening = listener(member, true);
  for (int round = 0; round < 20; ++round) {
    Connection c = connection(*port, member, listening);
    std::atomic<int> step{0};
    std::thread other([&] {
      Member doomed(*port);
      doomed.send(c.handle, std::string(3'000'000, 'a'));
      step = 1;
      while (step == 1) doomed.thread->get(0, driver::now() + kMillisecond);
      // The first send is through now and the second was started in its place.
      for (int i = 0; i < round; ++i) doomed.thread->get(0, driver::now() + kMillisecond / 4);
      doomed.leave(true);
    });
    REQUIRE(eventually([&] { return step == 1; }));
    member.send(c.handle, std::string(3'000'000, 'b'), 50);
    step = 2;
    const std::string got = c.peer.read(3'000'000);
    std::int32_t error = 1;
    std::thread reader([&] {
      while (c.peer.read(1 << 20).size() == 1 << 20) {
      }
    });
    while (error == 1) {
      const Packet packet = member.next();
      if (packet.kind == PacketKind::kNone) break;
      if (packet.token == 50) error = packet.error;
    }
    CHECK(error == 0);
    other.join();
    member.close(c.handle);
    while (member.next().kind != PacketKind::kClose) {
    }
    reader.join();
  }
}

/// An echo server whose threads come and go while clients check every byte.
template <typename D>
void come_and_go(std::uint64_t number, std::size_t connections, std::size_t bytes) {
  const std::size_t descriptors = open_descriptors(), handles_before = open_handles();
  {
    const PortHold port = make_port(D::name, options(3, 16));
    Verdict verdict;
    std::vector<Peer> peers;
    std::atomic<std::size_t> finished{0};
    struct Stream {
      std::size_t received = 0;
      bool reading = false;
      std::string unsent;
      bool sending = false;
    };
    std::map<HandleId, Stream> streams;  // each is touched by the holder of its key alone
    std::vector<HandleId> handles;
    Member stayer(*port);
    const HandleId listening = listener(stayer, true);
    for (std::size_t i = 0; i < connections; ++i) {
      Connection c = connection(*port, stayer, listening);
      handles.push_back(c.handle);
      streams[c.handle];
      peers.push_back(std::move(c.peer));
    }
    const auto pump = [&](Member& member, const Packet& packet) {
      Stream& stream = streams.at(packet.handle);
      const bool retry = packet.error == -ECANCELED;
      if (packet.kind == PacketKind::kReceive) {
        verdict.expect(packet.error == 0 || retry, "receive " + std::to_string(packet.error));
        if (packet.result > 0) {
          const std::string got = contents(packet);
          stream.received += got.size();
          stream.unsent += got;
        }
        const bool at_end = packet.error == 0 && packet.result == 0;
        if ((packet.flags & kPacketMore) == 0 && !at_end) member.receive(packet.handle);
      } else if (packet.kind == PacketKind::kSend) {
        verdict.expect(packet.error == 0 || retry, "send " + std::to_string(packet.error));
        stream.unsent.erase(0, static_cast<std::size_t>(packet.result));
        stream.sending = false;
      }
      if (!stream.sending && !stream.unsent.empty()) {
        stream.sending = true;
        member.send(packet.handle, stream.unsent.substr(0, 20'000));
      }
    };
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> lives{0};
    for (std::uint32_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        Random random(number + t);
        while (finished < connections && verdict.good()) {
          Member member(*port);
          ++lives;
          const std::uint32_t span = 1 + random(60);
          for (std::uint32_t i = 0; i < span && finished < connections; ++i) {
            const Packet packet = member.next(kMillisecond);
            const bool ours =
                packet.kind == PacketKind::kReceive || packet.kind == PacketKind::kSend;
            if (ours) pump(member, packet);
          }
          // Between packets, so nothing is abandoned; the batch is left as it is.
          const Packet last = random.one_in(2) ? member.next(0) : Packet{};
          if (last.kind == PacketKind::kReceive || last.kind == PacketKind::kSend)
            pump(member, last);
          member.leave(false);
        }
      });
    }
    for (const HandleId handle : handles) stayer.receive(handle);
    std::vector<std::thread> ends;
    for (std::size_t i = 0; i < connections; ++i) {
      ends.emplace_back([&, i] {
        std::thread writer([&] {
          for (std::size_t sent = 0; sent < bytes; sent += 4000) {
            if (!peers[i].write(part(i, sent, std::min<std::size_t>(4000, bytes - sent)))) break;
          }
        });
        const std::string echo = peers[i].read(bytes);
        verdict.expect(echo.size() == bytes, "T1 bytes are missing");
        verdict.expect(echo == part(i, 0, echo.size()), "T1 wrong bytes");
        writer.join();
        ++finished;
      });
    }
    while (finished < connections && verdict.good()) {
      const Packet packet = stayer.next(kMillisecond);
      const bool ours = packet.kind == PacketKind::kReceive || packet.kind == PacketKind::kSend;
      if (ours) pump(stayer, packet);
    }
    for (Peer& peer : peers) {
      if (!verdict.good()) peer.end_writing();
    }
    for (auto& thread : threads) thread.join();
    stayer.leave(false);
    for (auto& end : ends) end.join();
    CHECK(verdict.first() == "");
    CHECK(lives > 0);
    CHECK(port->stats().threads == 0);
  }
  CHECK(open_handles() == handles_before);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

PORT_TEST("T1 threads come and go with operations in flight, and no byte is lost") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("come and go");
  INFO("CP_SEED=", number);
  come_and_go<D>(number, 6, 500'000);
}

PORT_TEST("T1 threads that die in the middle of anything leave nothing behind") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("die");
  INFO("CP_SEED=", number);
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  const PortHold port = make_port(D::name, options(4, 8));
  {
    Member stayer(*port);
    const HandleId listening = listener(stayer, true);
    stayer.accept(listening);
    const driver::SocketAddress address = address_of(*port, listening);
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (std::uint32_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        Random random(number + t);
        for (int life = 0; life < 15; ++life) {
          Member member(*port);
          Thread::Association association;
          association.token = 1;
          const std::int64_t mine = member.thread->connect({address, {}, {}}, association);
          association.token = 2;
          const std::string readable = readable_file();
          member.thread->open(readable.c_str(), driver::kOpenRead, 0, association);
          association.keyed = true;
          const std::int64_t timing = member.thread->timer(association);
          member.timer(static_cast<HandleId>(timing), random(3), random.one_in(2) ? 1 : 0);
          for (std::uint32_t i = random(12); i-- > 0;) {
            const Packet packet = member.next(kMillisecond, 1 + random(20));
            if (packet.kind == PacketKind::kAccept && packet.error == 0) {
              member.receive(packet.accepted);
              member.send(packet.accepted, std::string(1 + random(200'000), 'y'));
            } else if (packet.kind == PacketKind::kConnect && packet.error == 0) {
              member.receive(static_cast<HandleId>(mine), true, 3);
              member.send(static_cast<HandleId>(mine), std::string(1 + random(9000), 'x'), 4);
            } else if (packet.kind == PacketKind::kReceive && random.one_in(2)) {
              contents(packet);
            } else if (packet.kind == PacketKind::kReceive && random.one_in(4)) {
              member.close(packet.handle);
            }
          }
          member.leave(true);
        }
      });
    }
    std::thread ender([&] {
      for (auto& thread : threads) thread.join();
      over = true;
    });
    int accepts = 0;
    while (!over) {
      const Packet packet = stayer.next(kMillisecond);
      if (packet.kind == PacketKind::kAccept && packet.error == 0) ++accepts;
      if (packet.kind == PacketKind::kReceive) contents(packet);
    }
    ender.join();
    stayer.leave(true);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

// ---- sends of threads that die -----------------------------------------------------------------

/// A stream that several threads of two ports send, one after another: whoever has the packet that
/// says so, a message, the notice of a hand-off or that the key was abandoned, sends the next part.
struct Relay {
  HandleId handle = 0;
  std::uint32_t key = 0;
  std::size_t index = 0, sent = 0;  ///< written by whoever holds the key
  std::atomic<bool> closing{false}, closed{false};
};

class RelayRace {
 public:
  static constexpr std::size_t kBytes = 1'500'000;

  RelayRace(Port& first, Port& second, std::uint64_t number)
      : ports_{&first, &second}, number_(number) {}

  Relay& add(const Connection& c) {
    auto relay = std::make_unique<Relay>();
    relay->handle = c.handle;
    relay->key = c.key;
    relay->index = relays_.size();
    relays_.push_back(std::move(relay));
    return *relays_.back();
  }

  /// Takes packets of one port, and dies in the middle of some; a stayer does not.
  void run(std::size_t port, std::uint32_t index, bool stays) {
    Random random(number_ * 100 + index);
    const std::atomic<bool>& end = stays ? deserted : over;
    while (!end) {
      Member member(*ports_[port]);
      if (stays) ++stayers;
      while (!end && take(member, port, random, stays)) {
      }
    }
  }

  std::vector<std::unique_ptr<Relay>>& relays() { return relays_; }
  std::atomic<bool> over{false};
  std::atomic<bool> deserted{false};  ///< those that come and go have gone
  std::atomic<std::uint32_t> deaths{0}, moves{0}, stayers{0};
  Verdict verdict;

 private:
  /// False when the thread is to leave.
  bool take(Member& member, std::size_t port, Random& random, bool stays) {
    const Packet packet = member.next(kMillisecond, 1 + random(8));
    if (packet.kind == PacketKind::kNone) return true;
    const auto found = std::find_if(relays_.begin(), relays_.end(),
                                    [&](const auto& relay) { return relay->key == packet.key; });
    if (found == relays_.end()) return true;
    Relay& relay = **found;
    switch (packet.kind) {
      case PacketKind::kClose:
        verdict.expect(!relay.closed.exchange(true), "O5 two ends");
        return true;
      case PacketKind::kSend:
        verdict.expect(relay.closing, "T1 a send failed: " + std::to_string(packet.error));
        return true;
      default:
        return relay.closing || send_on(member, port, relay, random, stays);
    }
  }

  bool send_on(Member& member, std::size_t port, Relay& relay, Random& random, bool stays) {
    for (std::uint32_t parts = random(4); parts > 0 && relay.sent < kBytes; --parts) {
      const std::size_t most = random.one_in(3) ? 200'000 : 3000;
      send(member, relay, std::min(kBytes - relay.sent, 1 + std::size_t{random(most)}));
    }
    if (relay.index % 4 == 3 && random.one_in(40)) {
      relay.closing = true;
      member.close(relay.handle);
      return stays || !random.one_in(2);
    }
    const bool dies = !stays && random.one_in(12);
    if (random.one_in(3)) {
      ++moves;
      const std::uint32_t key = relay.key;  // from here on it is another thread's
      const std::int32_t error = ports_[port]->hand_off(relay.handle, *ports_[1 - port], key);
      verdict.expect(error == 0, "A3 hand_off " + std::to_string(error));
      if (dies) member.leave(false);
    } else if (dies) {
      ++deaths;
      member.leave(true);  // its notice goes to whoever sends on
    } else {
      verdict.expect(ports_[port]->post(relay.key, 0), "Q2 a message");
    }
    return !dies;
  }

  void send(Member& member, Relay& relay, std::size_t length) {
    Request* made = request(PacketKind::kSend);
    made->quiet = true;
    const std::string bytes = part(relay.index, relay.sent, length);
    member.allocate(bytes.data(), bytes.size(), *made);
    relay.sent += length;
    member.thread->submit(made, relay.handle);
  }

  Port* const ports_[2];
  const std::uint64_t number_;
  std::vector<std::unique_ptr<Relay>> relays_;
};

/// The other end of one: a prefix when it is closed midway, all of it otherwise.
void read_relay(Peer& peer, const Relay& relay, Verdict& verdict, std::uint64_t number) {
  Random random(number);
  std::size_t got = 0;
  while (got < RelayRace::kBytes && verdict.good()) {
    const std::size_t wanted = std::min<std::size_t>(1 + random(60'000), RelayRace::kBytes - got);
    const std::string bytes = peer.read(wanted);
    if (!verdict.expect(bytes == part(relay.index, got, bytes.size()), "T1 wrong bytes")) return;
    got += bytes.size();
    if (bytes.size() < wanted) break;
    if (random.one_in(8)) std::this_thread::sleep_for(std::chrono::microseconds(random(2000)));
  }
  verdict.expect(got == RelayRace::kBytes || relay.closing,
                 "T1 the stream ends at " + std::to_string(got));
}

PORT_TEST(
    "T1 O7 sends of threads that die reach the peer whole, in order, also across a hand-off") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("relay");
  INFO("CP_SEED=", number);
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  const PortHold ports[2] = {make_port(D::name, options(3)), make_port(D::name, options(3))};
  {
    RelayRace race(*ports[0], *ports[1], number);
    Member member(*ports[0]);
    const HandleId listening = listener(member, true);
    std::vector<Peer> peers;
    for (int i = 0; i < 8; ++i) {
      Connection c = connection(*ports[0], member, listening);
      race.add(c);
      peers.push_back(std::move(c.peer));
    }
    for (const auto& relay : race.relays()) REQUIRE(ports[0]->post(relay->key, 0));
    constexpr std::uint32_t kStayers = 2;
    std::vector<std::thread> threads, readers;
    std::atomic<std::size_t> read{0};
    // A port ends with its last thread; and whoever takes no packets, as this thread, is not to be
    // left with what the others had begun.
    for (std::uint32_t t = 0; t < 6; ++t) {
      threads.emplace_back([&, t] { race.run(t % 2, t, t < kStayers); });
      if (t < kStayers) REQUIRE(eventually([&] { return race.stayers == t + 1; }));
    }
    member.leave(false);
    for (std::size_t i = 0; i < peers.size(); ++i) {
      readers.emplace_back([&, i] {
        read_relay(peers[i], *race.relays()[i], race.verdict, number + i);
        ++read;
      });
    }
    eventually([&] { return read == peers.size() || !race.verdict.good(); });
    CHECK(race.verdict.first() == "");
    CHECK(read == peers.size());
    {
      // Where each of them is by now.
      Member closers[] = {Member(*ports[0]), Member(*ports[1])};
      for (const auto& relay : race.relays()) {
        if (relay->closing.exchange(true)) continue;
        for (Member& closer : closers) closer.close(relay->handle);
      }
    }
    const auto is_closed = [](const auto& relay) { return relay->closed.load(); };
    CHECK(eventually(
        [&] { return std::all_of(race.relays().begin(), race.relays().end(), is_closed); }));
    race.over = true;
    for (std::uint32_t t = kStayers; t < threads.size(); ++t) threads[t].join();
    race.deserted = true;
    for (std::uint32_t t = 0; t < kStayers; ++t) threads[t].join();
    for (auto& reader : readers) reader.join();
    CHECK(race.moves > 0);
    MESSAGE(race.deaths.load(), " deaths, ", race.moves.load(), " moves");
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

/// A port that its thread, `first`, leaves alone, with more sends on the connection `c` than its
/// peer takes at once. `elsewhere` is a thread of another port.
struct Deserted {
  static constexpr std::size_t kParts = 20, kPart = 300'000;

  explicit Deserted(const char* driver)
      : port(make_port(driver, options(2))),
        other(make_port(driver, options(2))),
        elsewhere(*other),
        first(*port),
        c(connection(*port, first, listener(first, true))) {
    REQUIRE(port->enter());
  }

  template <typename Last>
  void desert(Last last) {
    for (std::size_t i = 0; i < kParts; ++i) {
      Request* made = request(PacketKind::kSend);
      made->quiet = true;
      made->timeout = i == 0 ? 0 : 60'000;
      const std::string bytes = part(1, i * kPart, kPart);
      first.allocate(bytes.data(), bytes.size(), *made);
      first.thread->submit(made, c.handle);
    }
    last();
    first.leave(true);
  }
  bool whole() { return c.peer.read(kParts * kPart) == part(1, 0, kParts * kPart); }

  const PortHold port;
  const PortHold other;
  Member elsewhere;
  Member first;
  Connection c;
};

PORT_TEST("T1 O7 sends that a port's last thread leaves behind wait for the next thread") {
  NEEDS_DRIVER();
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  {
    Deserted it(D::name);
    it.desert([] {});
    std::thread next([&] {
      Member member(*it.port);
      const Packet abandoned = member.next();  // it died with the notice of the connection
      CHECK(abandoned.kind == PacketKind::kAbandoned);
      // Behind all of those.
      member.send(it.c.handle, "the end", 7);
      const Packet sent = member.next();
      CHECK(sent.token == 7);
      CHECK(sent.error == 0);
    });
    CHECK(it.whole());
    CHECK(it.c.peer.read(7) == "the end");
    next.join();
    it.port->leave();
  }
  CHECK(open_handles() == handles);
  CHECK(open_descriptors() == descriptors);
}

PORT_TEST("T1 A3 sends that a port's last thread leaves behind go on where the handle is sent") {
  NEEDS_DRIVER();
  Deserted it(D::name);
  it.desert([] {});
  REQUIRE(it.port->hand_off(it.c.handle, *it.other, 5) == 0);
  std::atomic<bool> read{false};
  std::thread reader([&] {
    CHECK(it.whole());
    read = true;
  });
  while (!read) it.elsewhere.next(kMillisecond);
  reader.join();
  it.port->leave();
}

PORT_TEST(
    "T1 T2 sends that a port's last thread leaves behind end with the port, awaited ones too") {
  NEEDS_DRIVER();
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  {
    Deserted it(D::name);
    it.desert([&] { it.elsewhere.send(it.c.handle, "behind all of those", 9, 60'000); });
    CHECK(Port::look_up(it.c.handle).in_flight > 1);
    it.port->leave();
    const Packet answer = it.elsewhere.next();
    CHECK(answer.token == 9);
    CHECK(answer.error == -ECANCELED);
    CHECK(eventually([&] { return Port::look_up(it.c.handle).id == 0; }));
    const std::string got = it.c.peer.read(Deserted::kParts * Deserted::kPart);
    CHECK(got.size() < Deserted::kParts * Deserted::kPart);
    CHECK(got == part(1, 0, got.size()));
    CHECK(it.port->pool().allocated_bytes() == 0);
  }
  CHECK(open_handles() == handles);
  CHECK(open_descriptors() == descriptors);
}

PORT_TEST(
    "T1 T2 sends behind another port's end with the port, also when that port's thread dies") {
  NEEDS_DRIVER();
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  {
    Deserted it(D::name);
    it.elsewhere.send(it.c.handle, std::string(Deserted::kParts * Deserted::kPart, 'x'));
    it.desert([] {});
    it.port->leave();
    it.elsewhere.leave(true);
    CHECK(Port::look_up(it.c.handle).id == 0);
    CHECK(it.port->pool().allocated_bytes() == 0);
  }
  CHECK(open_handles() == handles);
  CHECK(open_descriptors() == descriptors);
}

PORT_TEST("T1 T2 an answer that is awaited comes also when the chain before it ends with a port") {
  NEEDS_DRIVER();
  Deserted it(D::name);
  it.desert([&] {
    Request* head = request(PacketKind::kSend);
    it.elsewhere.allocate("behind all of those", 19, *head);
    head->chain = request(PacketKind::kShutdown, 9);
    it.elsewhere.thread->submit(head, it.c.handle);
  });
  it.port->leave();
  const Packet answer = it.elsewhere.next();
  CHECK(answer.token == 9);
  CHECK(answer.error == -ECANCELED);
  CHECK(eventually([&] { return Port::look_up(it.c.handle).id == 0; }));
  CHECK(it.port->pool().allocated_bytes() == 0);
}

PORT_TEST("T1 A3 sends behind one that a port's last thread awaited go on on the handle's port") {
  NEEDS_DRIVER();
  constexpr std::size_t kPart = 6'000'000;
  const PortHold from = make_port(D::name, options(2));
  const PortHold to = make_port(D::name, options(2));
  Member first(*from);
  Member second(*to);
  Connection c = connection(*from, first, listener(first, true));
  first.send(c.handle, part(1, 0, kPart), 3);
  REQUIRE(from->hand_off(c.handle, *to, 55) == 0);
  second.send(c.handle, part(1, kPart, kPart));
  SUBCASE("that stays") { first.leave(true); }
  SUBCASE("whose thread comes later") {
    REQUIRE(to->enter());
    second.leave(true);
    first.leave(true);
  }
  std::atomic<bool> read{false};
  std::thread reader([&] {
    CHECK(c.peer.read(2 * kPart) == part(1, 0, 2 * kPart));
    read = true;
  });
  if (second.attached()) {
    while (!read) second.next(kMillisecond);
  } else {
    Member next(*to);
    while (!read) next.next(kMillisecond);
    to->leave();
  }
  reader.join();
}

PORT_TEST("T1 what was opened for a thread that died with the answer untouched is closed") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2));
  Member stayer(*port);
  const HandleId listening = listener(stayer, true);
  { Member second(*port); }  // with it comes the watchman, who has descriptors, too
  const std::size_t handles = open_handles(), descriptors = open_descriptors();
  for (const bool connects : {true, false}) {
    CAPTURE(connects);
    Member member(*port);
    Thread::Association association;
    association.keyed = true;
    association.token = 1;
    const std::int64_t opened =
        connects ? member.thread->connect({address_of(*port, listening), {}, {}}, association)
                 : member.thread->open(readable_file(), driver::kOpenRead, 0, association);
    REQUIRE(opened > 0);
    REQUIRE(member.refill());
    member.leave(true);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

PORT_TEST(
    "O5 a descriptor is given back to who awaits the close, and closed with nobody to take it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  if (!port->driver().lets_go()) return;
  Member member(*port);
  const HandleId listening = listener(member, true);
  const auto let_go = [](Member& by, HandleId handle, std::uint32_t token, bool quiet = false) {
    Request* close = request(PacketKind::kClose, token);
    close->keeps = true;
    close->quiet = quiet;
    by.thread->submit(close, handle);
  };
  const std::size_t descriptors = open_descriptors();

  Connection given = connection(*port, member, listening);
  let_go(member, given.handle, 1);
  const Packet packet = member.next();
  REQUIRE(packet.result > 0);
  CHECK(open_descriptors() == descriptors + 2);
  port->driver().discard(static_cast<driver::Descriptor>(packet.result) - 1);
  CHECK(given.peer.read(1) == "");
  CHECK(given.peer.ended);

  // Nobody awaits it.
  Connection closed = connection(*port, member, listening);
  let_go(member, closed.handle, 0);
  CHECK(member.next().result == 0);
  CHECK(closed.peer.read(1) == "");
  CHECK(closed.peer.ended);

  // Its success is not told, so nobody would get it.
  Connection quiet = connection(*port, member, listening);
  let_go(member, quiet.handle, 2, true);
  CHECK(member.next(0).kind == PacketKind::kNone);
  CHECK(quiet.peer.read(1) == "");
  CHECK(quiet.peer.ended);

  // Who awaits it dies: with the answer on its way, and with it in hand.
  for (const bool in_hand : {false, true}) {
    CAPTURE(in_hand);
    Connection c = connection(*port, member, listening);
    Member doomed(*port);
    let_go(doomed, c.handle, 1);
    if (in_hand) REQUIRE(doomed.refill());
    doomed.leave(true);
    CHECK(c.peer.read(1) == "");
    CHECK(c.peer.ended);
  }
}

}  // namespace
