// Several threads on a port, and several ports: sharing, starving, handing off, leaving.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/member.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;

/// The n-th byte of a stream nobody else sends.
char byte_at(std::size_t stream, std::size_t n) {
  return static_cast<char>((n * 131 + n / 251 + stream * 17) & 0xff);
}
std::string part(std::size_t stream, std::size_t from, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) bytes[i] = byte_at(stream, from + i);
  return bytes;
}

// ---- what a port leaves behind ----------------------------------------------------------------

/// Bytes that are allocated now; 0 where that is not known.
std::size_t allocated_bytes() {
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
#else
  return 0;
#endif
}

/// Each with a message, and every eighth with a connection that is open when it ends.
void open_and_close_ports(const char* driver, int count) {
  for (int i = 0; i < count; ++i) {
    const PortHold port = make_port(driver, options(2, 16));
    Member member(*port);
    REQUIRE(port->post(1, i));
    REQUIRE(member.next().kind == PacketKind::kPosted);
    if (i % 8 != 0) continue;
    const Connection c = connection(*port, member, listener(member, true));
    member.receive(c.handle);
    member.send(c.handle, "hello");
  }
}

PORT_TEST("T2 two thousand ports leave no memory behind") {
  NEEDS_DRIVER();
  const std::size_t ports = Port::count(), pools = BufferPool::count();
  open_and_close_ports(D::name, 100);  // what the process keeps for the next ones
  const std::size_t before = allocated_bytes();
  constexpr int kPorts = 2000;
  open_and_close_ports(D::name, kPorts);
  CHECK(Port::count() == ports);
  CHECK(BufferPool::count() == pools);
  // The numbers of chunks never come back: a few bytes for each.
  CHECK(allocated_bytes() < before + std::size_t{kPorts} * 64);
}

PORT_TEST("T1 threads that come and go leave no more behind than there were at one time") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(4));
  Member stays(*port);
  for (int round = 0; round < 300; ++round) {
    std::thread other([&] {
      Member member(*port);
      CHECK(port->post(2, round));
    });
    other.join();
    REQUIRE(stays.next().kind == PacketKind::kPosted);
  }
  CHECK(port->members().size() == 2);
}

PORT_TEST("T1 a thread is remembered as long as something that it has sent is under way") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(4));
  Member stays(*port);
  const HandleId listening = listener(stays, true);
  Connection c = connection(*port, stays, listening);
  const auto in_a_thread = [&](auto work) {
    std::thread other([&] {
      Member member(*port);
      work(member);
    });
    while (other.joinable()) {
      stays.next(kMillisecond);
      if (port->threads() == 1) other.join();
    }
  };
  std::atomic<bool> came{false};
  in_a_thread([&](Member& member) {
    for (int i = 0; i < 64; ++i) member.send(c.handle, std::string(65536, 'x'));
    came = true;
  });
  REQUIRE(came);
  const std::size_t objects = port->members().size();
  CHECK(objects == 2);
  in_a_thread([](Member&) {});
  CHECK(port->members().size() == 3);
  { const Peer gone = std::move(c.peer); }
  CHECK(eventually([&] {
    stays.next(kMillisecond);
    return Port::look_up(c.handle).in_flight == 0;
  }));
  for (int i = 0; i < 3; ++i) in_a_thread([](Member&) {});
  CHECK(port->members().size() == 3);
}

PORT_TEST("T2 the last thread that leaves closes everything") {
  NEEDS_DRIVER();
  std::thread([] {}).join();  // with the first thread a sanitizer starts one of its own
  eventually([] { return threads_of_process() <= 2; });
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  const std::size_t threads = threads_of_process();
  const PortHold port = make_port(D::name, options(2));
  const std::uint32_t number = port->id();
  {
    Member member(*port);
    const HandleId listening = listener(member, true);
    std::vector<Peer> peers;
    for (int i = 0; i < 5; ++i) {
      Connection c = connection(*port, member, listening);
      member.receive(c.handle);
      member.send(c.handle, "hello");
      peers.push_back(std::move(c.peer));
    }
    member.accept(listening);
    peers.emplace_back(address_of(*port, listening));
    Thread::Association association;
    association.keyed = true;
    member.timer(static_cast<HandleId>(member.thread->timer(association)), 100'000);
    association.token = 5;
    const std::string folder = temporary_directory();
    const std::int64_t file =
        member.thread->open(folder.c_str(), driver::kOpenRead, 0, association);
    REQUIRE(file > 0);
    for (int i = 0; i < 100; ++i) REQUIRE(port->post(1, i));
    member.leave(true);
    for (Peer& peer : peers) {
      peer.read(100);
      // The last one may still have been in the backlog: the kernel resets those.
      CHECK((peer.ended || &peer == &peers.back()));
    }
  }
  CHECK(!Port::find(number));
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
  CHECK(eventually([&] { return threads_of_process() <= threads; }));
  CHECK(port->stats().threads == 0);
}

PORT_TEST("D10 closing wakes threads in get") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(2));
  std::atomic<int> attached{0}, ended{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      Member member(*port);
      ++attached;
      while (member.thread->get(10, driver::kNever) != kErrorPortClosed) {
      }
      ++ended;
    });
  }
  REQUIRE(eventually([&] { return attached == 3; }));
  port->close();
  CHECK(eventually([&] { return ended == 3; }));
  for (auto& thread : threads) thread.join();
}

PORT_TEST("D5 a wake-up meant for a get that just ended goes to another thread") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(1));
  std::atomic<std::uint64_t> got{0};
  std::thread waiter([&] {
    Member member(*port);
    while (member.next().kind == PacketKind::kPosted) ++got;
  });
  {
    Member member(*port);
    REQUIRE(eventually([&] { return port->stats().waiting == 1; }));
    const auto interrupted = [](void* port) { return static_cast<Port*>(port)->post(1, 0); };
    const std::int64_t count = member.thread->get(1, driver::kNever, interrupted, port.get());
    std::uint64_t mine = count > 0 ? 1 : 0;
    CHECK(eventually([&] { return got + mine == 1; }));
    if (mine == 0) CHECK(got == 1);
    port->close();
  }
  waiter.join();
}

/// Longer than any of this takes: what ends it is the news.
constexpr std::uint32_t kLongSpin = 1'000'000;

PORT_TEST("D5 a thread that spins in get hears of messages, without a wake-up") {
  NEEDS_DRIVER();
  PortOptions made = options(2);
  made.spin = kLongSpin;
  const PortHold there = make_port(D::name, made);
  const PortHold back = make_port(D::name, made);
  constexpr int kRounds = 300;
  std::atomic<bool> attached{false};
  std::thread partner([&] {
    Member member(*there);
    attached = true;
    for (int i = 0; i < kRounds; ++i) back->post(1, member.next().result + 1);
  });
  Member member(*back);
  REQUIRE(eventually([&] { return attached.load(); }));
  for (int i = 0; i < kRounds; ++i) {
    there->post(1, i);
    REQUIRE(member.next().result == i + 1);
  }
  partner.join();
}

PORT_TEST("O4 D10 a thread that spins in get hears of what others ask of it, and of the end") {
  NEEDS_DRIVER();
  PortOptions made = options(2);
  made.spin = kLongSpin;
  const PortHold port = make_port(D::name, made);
  std::atomic<HandleId> handle{0};
  std::atomic<bool> cancelled{false}, closed{false};
  std::thread owner([&] {
    Member member(*port);
    Connection c = connection(*port, member, listener(member, true));
    member.receive(c.handle);
    handle = c.handle;
    for (;;) {
      const Packet packet = member.next();
      if (packet.error == -ECANCELED) cancelled = true;
      if (packet.kind != PacketKind::kNone) continue;
      closed = port->dispatcher().closed();
      return;
    }
  });
  {
    Member member(*port);
    REQUIRE(eventually([&] { return handle != 0; }));
    member.thread->cancel_handle(handle);
    CHECK(eventually([&] {
      // The answer may come to either thread.
      if (member.next(0).error == -ECANCELED) cancelled = true;
      return cancelled.load();
    }));
    port->close();
  }
  owner.join();
  CHECK(closed);
}

PORT_TEST("O1 a thread that spins in get hears of its own completions and timers") {
  NEEDS_DRIVER();
  PortOptions made = options(2);
  made.spin = 20'000;
  const PortHold port = make_port(D::name, made);
  Member member(*port);
  Connection c = connection(*port, member, listener(member, true));
  member.receive(c.handle);
  for (int i = 0; i < 5; ++i) {
    REQUIRE(c.peer.write("x"));
    const Packet packet = member.next();
    CHECK(contents(packet) == "x");
  }
  Thread::Association association;
  association.keyed = true;
  member.timer(static_cast<HandleId>(member.thread->timer(association)), 5);
  CHECK(member.next().kind == PacketKind::kTimer);
}

PORT_TEST("Q1 any thread can post, also one that is not attached") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(3));
  constexpr int kEach = 2000;
  std::atomic<int> attached{0}, got{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      Member member(*port);
      ++attached;
      while (member.next().kind == PacketKind::kPosted) ++got;
    });
  }
  REQUIRE(eventually([&] { return attached == 3; }));
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) port->post(static_cast<std::uint32_t>(t * 10 + i % 5), i);
    });
  }
  CHECK(eventually([&] { return got == 2 * kEach; }));
  port->close();
  for (auto& thread : threads) thread.join();
}

// ---- memory -----------------------------------------------------------------------------------

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

// ---- sharing handles --------------------------------------------------------------------------

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

// ---- leaving ----------------------------------------------------------------------------------

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
          const std::int64_t mine = member.thread->connect(address, association);
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

// ---- sends of threads that die ----------------------------------------------------------------

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
    while (!over) {
      Member member(*ports_[port]);
      if (stays) ++stayers;
      while (!over && take(member, port, random, stays)) {
      }
    }
  }

  std::vector<std::unique_ptr<Relay>>& relays() { return relays_; }
  std::atomic<bool> over{false};
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
      Member closer(*ports[0]);
      for (const auto& relay : race.relays()) {
        if (!relay->closing.exchange(true)) closer.close(relay->handle);
      }
    }
    const auto is_closed = [](const auto& relay) { return relay->closed.load(); };
    CHECK(eventually(
        [&] { return std::all_of(race.relays().begin(), race.relays().end(), is_closed); }));
    race.over = true;
    for (auto& thread : threads) thread.join();
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
        connects ? member.thread->connect(address_of(*port, listening), association)
                 : member.thread->open(readable_file(), driver::kOpenRead, 0, association);
    REQUIRE(opened > 0);
    REQUIRE(member.refill());
    member.leave(true);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

// ---- what is awaited while threads die ---------------------------------------------------------

/// Awaits many things of connections that wander between two ports, cancels some, and counts.
class Waiter {
 public:
  Waiter(Port& port, std::vector<HandleId> handles, Verdict& verdict, std::uint64_t number)
      : member_(port), handles_(std::move(handles)), verdict_(verdict), random_(number) {}

  void step() {
    const HandleId handle = handles_[random_(static_cast<std::uint32_t>(handles_.size()))];
    switch (random_(8)) {
      case 0:
        return look(true);
      case 1:
        return member_.thread->cancel_token(1 + random_(kTokens));
      case 2:
        if (random_.one_in(10)) member_.thread->cancel_handle(handle);
        return;
      case 3:
        return member_.receive(handle, false, begin(), timeout());
      default:
        send(handle);
    }
    look(false);
  }
  void look(bool waits) {
    const Packet packet = member_.next(waits ? kMillisecond : 0);
    if (packet.kind == PacketKind::kReceive) contents(packet);
    if (packet.token == 0) return;
    verdict_.expect(awaited_[packet.token], "O1 an answer more");
    awaited_[packet.token] = false;
    --count_;
  }
  std::size_t count() const { return count_; }
  Member& member() { return member_; }

 private:
  static constexpr std::uint32_t kTokens = 64;

  /// 0, which awaits nothing, when everything is taken.
  std::uint32_t begin() {
    const std::uint32_t token = 1 + random_(kTokens);
    if (awaited_[token]) return 0;
    awaited_[token] = true;
    ++count_;
    return token;
  }
  std::uint32_t timeout() { return random_.one_in(3) ? 1 + random_(20) : 0; }
  void send(HandleId handle) {
    Request* head = request(PacketKind::kSend, begin());
    head->timeout = timeout();
    const std::string bytes(1 + random_(random_.one_in(4) ? 400'000 : 2000), 'x');
    member_.allocate(bytes.data(), bytes.size(), *head);
    if (random_.one_in(4)) {
      head->chain = request(PacketKind::kSend, begin());
      head->chain->timeout = timeout();
      member_.allocate(bytes.data(), 1, *head->chain);
    }
    member_.thread->submit(head, handle);
  }

  Member member_;
  const std::vector<HandleId> handles_;
  Verdict& verdict_;
  Random random_;
  bool awaited_[kTokens + 1] = {};
  std::size_t count_ = 0;
};

PORT_TEST("T1 O1 whatever is awaited is answered once while threads die and handles wander") {
  NEEDS_DRIVER();
  const std::uint64_t number = seed("awaited");
  INFO("CP_SEED=", number);
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  {
    const PortHold ports[3] = {make_port(D::name, options(2)), make_port(D::name, options(2)),
                               make_port(D::name, options(2))};
    REQUIRE(ports[1]->enter());  // has threads that die, and now and then none
    Verdict verdict;
    std::vector<Peer> peers;
    std::vector<HandleId> names;
    Member stayer(*ports[0]);
    const HandleId listening = listener(stayer, true);
    for (int i = 0; i < 4; ++i) {
      Connection c = connection(*ports[0], stayer, listening);
      peers.push_back(std::move(c.peer));
      names.push_back(c.handle);
    }
    std::atomic<bool> over{false}, still{false};
    std::atomic<int> done{0};
    std::vector<std::thread> threads, readers;
    for (Peer& peer : peers) {
      readers.emplace_back([&peer] {
        while (peer.read(50'000).size() > 0) {
        }
      });
    }
    for (const std::uint32_t at : {0u, 2u}) {
      threads.emplace_back([&, at] {
        Waiter waiter(*ports[at], names, verdict, number * 10 + at);
        while (!over) waiter.step();
        ++done;
        while (!still) waiter.look(true);
        const auto end = driver::now() + kPatience;
        while (waiter.count() > 0 && driver::now() < end) waiter.look(true);
        verdict.expect(waiter.count() == 0, "O1 never answered: " + std::to_string(waiter.count()));
        ++done;
        while (done < 4) waiter.look(true);
      });
    }
    std::vector<std::thread> dying;
    for (std::uint32_t t = 0; t < 3; ++t) {
      dying.emplace_back([&, t] {
        Random random(number * 10 + 5 + t);
        while (!over) {
          const std::uint32_t at = t == 0 ? 0 : 1;
          Waiter waiter(*ports[at], names, verdict, number + random(1000));
          for (std::uint32_t i = random(40); i-- > 0;) waiter.step();
          const HandleId name = names[random(4)];
          if (random.one_in(2)) ports[at]->hand_off(name, *ports[1 - at], 70 + random(4));
          waiter.member().leave(true);
          if (t > 0) std::this_thread::sleep_for(std::chrono::microseconds(random(500)));
        }
      });
    }
    const auto end = driver::now() + 1500 * kMillisecond;
    while (driver::now() < end && verdict.good()) {
      const Packet packet = stayer.next(kMillisecond);
      if (packet.kind == PacketKind::kReceive) contents(packet);
    }
    over = true;
    for (auto& thread : dying) thread.join();
    while (done < 2) stayer.next(kMillisecond);
    ports[1]->leave();
    for (const HandleId name : names) stayer.close(name);
    still = true;
    while (done < 4) stayer.next(kMillisecond);
    for (auto& thread : threads) thread.join();
    for (auto& reader : readers) reader.join();
    CHECK(verdict.first() == "");
    stayer.leave(true);
    for (const PortHold& port : ports) CHECK(port->pool().allocated_bytes() == 0);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

// ---- files to sockets -------------------------------------------------------------------------

/// A handle for a file of `length` bytes of stream `stream` that has no name.
HandleId file_of(Member& member, std::size_t stream, std::size_t length,
                 driver::FileKind kind = driver::FileKind::kRegular) {
  const driver::Result fd =
      member.thread->port().driver().temporary_file(temporary_directory().c_str());
  REQUIRE(fd >= 0);
  const std::string bytes = part(stream, 0, length);
  REQUIRE(write_at(fd, bytes.data(), length, 0) == static_cast<std::int64_t>(length));
  Thread::Association association;
  association.keyed = true;
  association.key = 77;
  const std::int64_t handle = member.thread->adopt_file(fd, kind, association);
  REQUIRE(handle > 0);
  return static_cast<HandleId>(handle);
}

Request* send_file(HandleId file, std::int64_t offset, std::uint64_t length,
                   std::uint32_t token = 0) {
  Request* made = request(PacketKind::kSendFile, token);
  made->source = file;
  made->offset = offset;
  made->length = length;
  return made;
}

/// The next packet of that kind; others are left out.
Packet next_of(Member& member, PacketKind kind) {
  for (;;) {
    const Packet packet = member.next();
    if (packet.kind == kind || packet.kind == PacketKind::kNone) return packet;
  }
}

PORT_TEST("O7 files go out among the sends, in the order submitted, and tell what was sent") {
  NEEDS_DRIVER();
  constexpr std::size_t kLength = 1'500'000;
  Member member(*make_port(D::name, options(1)));
  Connection c = connection(member.thread->port(), member, listener(member, true));
  const HandleId file = file_of(member, 3, kLength);
  std::string expected, got;
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i < 4; ++i) {
    member.send(c.handle, part(i, 0, 1000));
    expected += part(i, 0, 1000);
    lengths.push_back(1000);
    member.thread->submit(send_file(file, 0, i == 0 ? kLength : UINT64_MAX), c.handle);
    expected += part(3, 0, kLength);
    lengths.push_back(kLength);
    // More than there is, and nothing at all.
    member.thread->submit(send_file(file, kLength - 10, 1'000'000), c.handle);
    expected += part(3, kLength - 10, 10);
    lengths.push_back(10);
    member.thread->submit(send_file(file, kLength, 10), c.handle);
    lengths.push_back(0);
  }
  std::thread reader([&] { got = c.peer.read(expected.size()); });
  for (const std::size_t length : lengths) {
    const Packet packet = member.next();
    CHECK(packet.error == 0);
    CHECK(packet.result == static_cast<double>(length));
    CHECK(packet.handle == c.handle);
  }
  reader.join();
  const bool same = got == expected;
  CHECK(same);
}

PORT_TEST("O5 a file can be closed while it is sent: its descriptor goes back with the last byte") {
  NEEDS_DRIVER();
  constexpr std::size_t kLength = 30'000'000;
  Member member(*make_port(D::name, options(1)));
  Connection c = connection(member.thread->port(), member, listener(member, true));
  const HandleId file = file_of(member, 4, kLength);
  const std::size_t descriptors = open_descriptors();
  member.thread->submit(send_file(file, 0, kLength), c.handle);
  member.thread->submit(send_file(file, 0, 1000), c.handle);
  member.close(file);
  CHECK(next_of(member, PacketKind::kClose).error == 0);
  CHECK(Port::look_up(file).id == 0);
  CHECK(open_descriptors() == descriptors);
  member.thread->submit(send_file(file, 0, 10), c.handle);  // too late
  CHECK(next_of(member, PacketKind::kSendFile).error == kErrorHandleClosed);
  std::string got;
  std::thread reader([&] { got = c.peer.read(kLength + 1000); });
  CHECK(next_of(member, PacketKind::kSendFile).result == kLength);
  CHECK(next_of(member, PacketKind::kSendFile).result == 1000);
  reader.join();
  const bool same = got == part(4, 0, kLength) + part(4, 0, 1000);
  CHECK(same);
  if (!descriptors_are_counted()) return;
  while (open_descriptors() == descriptors) member.next(kMillisecond);
  CHECK(open_descriptors() == descriptors - 1);
}

PORT_TEST(
    "O5 O4 O6 a socket's end, a cancel and a timeout end what is sent from files, once each") {
  NEEDS_DRIVER();
  constexpr std::size_t kLength = 30'000'000;
  Member member(*make_port(D::name, options(1)));
  const HandleId listening = listener(member, true);
  const std::size_t before = open_descriptors();
  for (const int way : {0, 1, 2, 3}) {
    Connection c = connection(member.thread->port(), member, listening);
    const HandleId file = file_of(member, 4, kLength);
    Request* first = send_file(file, 0, kLength);
    if (way == 2) first->timeout = 50;
    member.thread->submit(first, c.handle);
    Request* second = send_file(file, 0, kLength);
    second->chain = send_file(file, 0, 10);
    member.thread->submit(second, c.handle);
    member.close(file);
    while (member.next().kind != PacketKind::kClose) {
    }
    if (way == 1) member.thread->cancel_handle(c.handle);
    if (way == 3) c.peer.reset();
    if (way == 2) CHECK(next_of(member, PacketKind::kSendFile).error == kErrorTimedOut);
    if (way == 3) {
      const std::int32_t error = next_of(member, PacketKind::kSendFile).error;
      // Windows may see only that there is no connection any more.
      CHECK((error == -ECONNRESET || error == -EPIPE));
    }
    member.close(c.handle);
    std::size_t answers = way >= 2 ? 1 : 0;
    for (Packet packet = member.next(); packet.kind != PacketKind::kClose; packet = member.next()) {
      REQUIRE(packet.kind == PacketKind::kSendFile);
      CHECK(packet.error < 0);
      ++answers;
    }
    CHECK(answers == 3);
    c.peer.shut();
    while (open_descriptors() > before) member.next(kMillisecond);
  }
  CHECK(open_descriptors() == before);
}

PORT_TEST("only what is an open regular file can be sent from, and only to a socket") {
  NEEDS_DRIVER();
  Member member(*make_port(D::name, options(1)));
  const HandleId listening = listener(member, true);
  Connection c = connection(member.thread->port(), member, listening);
  const HandleId file = file_of(member, 5, 10);
  const HandleId device = file_of(member, 5, 10, driver::FileKind::kDevice);
  struct Case {
    HandleId file, socket;
    std::int32_t error;
  };
  for (const Case& it :
       {Case{listening, c.handle, kErrorNotSupported}, Case{c.handle, c.handle, kErrorNotSupported},
        Case{device, c.handle, kErrorNotSupported}, Case{0, c.handle, kErrorHandleClosed},
        Case{file + (1u << 20), c.handle, kErrorHandleClosed}, Case{file, file, kErrorNotSupported},
        Case{file, 0, kErrorHandleClosed}}) {
    Request* made = send_file(it.file, 0, 10, 9);
    made->chain = send_file(file, 0, 10, 10);
    member.thread->submit(made, it.socket);
    const Packet refused = member.next(), chained = member.next();
    CHECK(refused.token == 9);
    CHECK(refused.error == it.error);
    CHECK(chained.error == -ECANCELED);
  }
  const std::size_t descriptors = open_descriptors();
  member.close(file);
  CHECK(member.next().kind == PacketKind::kClose);
  if (descriptors_are_counted()) CHECK(open_descriptors() == descriptors - 1);
}

PORT_TEST("T1 O7 files that a dead thread was sending go on in another, whole and in order") {
  NEEDS_DRIVER();
  constexpr std::size_t kLength = 20'000'000;
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  for (int round = 0; round < 4; ++round) {
    const PortHold port = make_port(D::name, options(2));
    REQUIRE(port->enter());
    Member first(*port);
    Connection c = connection(*port, first, listener(first, true));
    std::atomic<bool> go{false}, over{false};
    std::thread next([&] {
      if (round % 2 == 0) {
        while (!go) std::this_thread::yield();  // nobody is there when the thread dies
      }
      Member member(*port);
      go = true;
      while (!over) member.next(kMillisecond);
    });
    if (round % 2 == 1) {
      while (!go) std::this_thread::yield();
    }
    const HandleId file = file_of(first, 6, kLength);
    first.thread->submit(send_file(file, 0, kLength), c.handle);
    first.send(c.handle, "between");
    first.thread->submit(send_file(file, 5, UINT64_MAX), c.handle);
    first.close(file);
    for (int i = 0; i < round; ++i) first.next(kMillisecond);
    first.leave(true);
    go = true;
    const std::string expected = part(6, 0, kLength) + "between" + part(6, 5, kLength - 5);
    const bool same = c.peer.read(expected.size()) == expected;
    CHECK(same);
    over = true;
    next.join();
    port->leave();
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

PORT_TEST("T2 files that a port's last thread leaves behind end with the port") {
  NEEDS_DRIVER();
  const std::size_t descriptors = open_descriptors(), handles = open_handles();
  const PortHold port = make_port(D::name, options(1));
  {
    REQUIRE(port->enter());
    Member member(*port);
    Connection c = connection(*port, member, listener(member, true));
    const HandleId file = file_of(member, 7, 30'000'000);
    const HandleId other = file_of(member, 7, 1000);
    member.thread->submit(send_file(file, 0, 30'000'000), c.handle);
    member.thread->submit(send_file(other, 0, 1000), c.handle);
    member.close(other);
    member.next(kMillisecond);
    member.leave(true);
    port->leave();
    const std::string got = c.peer.read(30'001'000);
    CHECK(got.size() < 30'000'000);
    const bool same = got == part(7, 0, got.size());
    CHECK(same);
  }
  CHECK(open_handles() == handles);
  CHECK(eventually([&] { return open_descriptors() == descriptors; }));
}

PORT_TEST("A3 a file goes on while its socket is handed off, and is answered at the new port") {
  NEEDS_DRIVER();
  constexpr std::size_t kLength = 20'000'000;
  const PortHold port = make_port(D::name, options(1));
  const PortHold target = make_port(D::name, options(1));
  Member first(*port);
  Member elsewhere(*target);
  Connection c = connection(*port, first, listener(first, true));
  const HandleId file = file_of(first, 8, kLength);
  first.thread->submit(send_file(file, 0, kLength), c.handle);
  first.send(c.handle, "behind");
  first.next(kMillisecond);
  REQUIRE(port->hand_off(c.handle, *target, 5) == 0);
  std::string got;
  std::atomic<bool> over{false};
  std::thread reader([&] {
    got = c.peer.read(kLength + 6);
    over = true;
  });
  CHECK(elsewhere.next().kind == PacketKind::kHandOff);
  while (!over) first.next(kMillisecond);
  // They stay with the lane they were submitted on, which on Windows nobody else looks after.
  const auto answer = [&] {
    Packet packet;
    CHECK(eventually([&] {
      first.next(kMillisecond);
      packet = elsewhere.next(kMillisecond);
      return packet.kind != PacketKind::kNone;
    }));
    return packet;
  };
  const Packet sent = answer();
  CHECK(sent.kind == PacketKind::kSendFile);
  CHECK(sent.key == 5);
  CHECK(sent.error == 0);
  CHECK(sent.result == kLength);
  CHECK(answer().kind == PacketKind::kSend);
  reader.join();
  const bool same = got == part(8, 0, kLength) + "behind";
  CHECK(same);
}

// ---- hand-off ---------------------------------------------------------------------------------

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
