// What a port leaves behind, and how it wakes those who wait.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

using namespace cp;
using namespace cp::test;

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

PORT_TEST("a connection that another thread was faster to take is none") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options(1));
  Member member(*port);
  CHECK(member.thread->own_connection(driver::kNoDescriptor, {}) == -EBADF);
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
    // More than any system keeps for a reader.
    for (int i = 0; i < 1024; ++i) member.send(c.handle, std::string(65536, 'x'));
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

}  // namespace
