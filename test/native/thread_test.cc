// A port, its threads and real descriptors, driver by driver: what one operation does. Threads that
// come, go and share are in port_test.cc.
#include <doctest/doctest.h>
#ifndef _WIN32
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "port/unique_keys.h"
#include "support/member.h"

namespace {

using namespace cp;
using namespace cp::test;

constexpr std::int64_t kMillisecond = 1'000'000;

Packet until(Member& member, PacketKind kind) {
  for (;;) {
    const Packet packet = member.next();
    if (packet.kind == kind || packet.kind == PacketKind::kNone) return packet;
    if (packet.chunk != driver::kNoChunk) BufferPool::release({packet.chunk, packet.offset});
  }
}

HandleId open_file(Member& member, const char* path, std::uint32_t flags) {
  Thread::Association association;
  association.keyed = true;
  association.key = 7;
  association.token = 900;
  const std::int64_t id = member.thread->open(path, flags, 0600, association);
  REQUIRE(id > 0);
  const Packet packet = member.next();
  REQUIRE(packet.kind == PacketKind::kOpen);
  REQUIRE(packet.error == 0);
  return static_cast<HandleId>(id);
}

PORT_TEST("M6 small copies share a block, which goes back when no operation uses it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  BufferPool& pool = port->pool();
  Member member(*port);
  Place first, same, second;
  REQUIRE(member.thread->next_copy_block(false, false, first));
  CHECK(pool.allocated_bytes() == 0);
  REQUIRE(member.thread->next_copy_block(false, false, same));
  CHECK((same.chunk == first.chunk && same.offset == first.offset));
  REQUIRE(BufferPool::use({first.chunk, first.offset + 8}, 8) != nullptr);
  REQUIRE(member.thread->next_copy_block(false, false, second));
  CHECK((second.chunk != first.chunk || second.offset != first.offset));
  CHECK(pool.allocated_bytes() == Thread::kCopyBlock);
  REQUIRE(BufferPool::release(first));
  CHECK(pool.allocated_bytes() == Thread::kCopyBlock);
  BufferPool::unuse({first.chunk, first.offset + 8});
  CHECK(pool.allocated_bytes() == 0);
  Place third;
  REQUIRE(member.thread->next_copy_block(true, false, third));
  CHECK(pool.allocated_bytes() == Thread::kCopyBlock);
  member.thread->detach(true);
  CHECK(pool.allocated_bytes() == 0);
}

// ---- sockets ----------------------------------------------------------------------------------

PORT_TEST("O1 every operation has exactly one final packet") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  member.receive(c.handle);
  REQUIRE(c.peer.write("one"));
  Packet packet = member.next();
  CHECK(packet.kind == PacketKind::kReceive);
  CHECK((packet.flags & kPacketMore) != 0);
  CHECK(contents(packet) == "one");
  c.peer.end_writing();
  packet = member.next();
  CHECK(packet.kind == PacketKind::kReceive);
  CHECK((packet.flags & kPacketMore) == 0);
  CHECK(packet.error == 0);
  CHECK(packet.result == 0);
  CHECK(member.next(0).kind == PacketKind::kNone);
}

PORT_TEST("O8 a reset is ECONNRESET, never an end") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  member.receive(c.handle);
  c.peer.reset();
  CHECK(until(member, PacketKind::kReceive).error == -ECONNRESET);
}

PORT_TEST("O8 reading at the end of a file is a result of 0") {
  NEEDS_DRIVER();
  TemporaryFile file;
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId id = open_file(member, file.path(), driver::kOpenRead);
  Request* read = request(PacketKind::kRead);
  member.allocate(nullptr, 100, *read);
  member.thread->submit(read, id);
  const Packet packet = member.next();
  CHECK(packet.error == 0);
  CHECK(packet.result == 0);
}

PORT_TEST("O3 what is wrong with an operation arrives as its packet") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true, 77);
  member.submit(PacketKind::kSync, listening);
  Packet packet = member.next();
  CHECK(packet.kind == PacketKind::kSync);
  CHECK(packet.error == kErrorNotSupported);
  CHECK(packet.key == 77);
  member.close(listening);
  CHECK(until(member, PacketKind::kClose).error == 0);
  member.accept(listening, true, 5);
  packet = member.next();
  CHECK(packet.error == kErrorHandleClosed);
  CHECK(packet.token == 5);
}

PORT_TEST("O1 a close can't be part of a chain, and all of it is answered") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Request* first = request(PacketKind::kClose, 1);
  Request* second = request(PacketKind::kAccept, 2);
  SUBCASE("close first") {}
  SUBCASE("close last") { std::swap(first, second); }
  first->chain = second;
  member.thread->submit(first, listening);
  const std::uint32_t tokens[] = {member.next().token, member.next(kPatience / 8).token};
  CHECK(tokens[0] + tokens[1] == 3);
  member.close(listening, 3);
  CHECK(member.next().token == 3);
}

PORT_TEST("O7 sends of one thread go out in order and complete when every byte is out") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  std::string expected;
  std::vector<std::size_t> sizes;
  for (int i = 0; i < 12; ++i) {
    const std::size_t size = i % 3 == 0 ? 1'500'000 : 10 + static_cast<std::size_t>(i);
    const std::string bytes(size, static_cast<char>('a' + i));
    sizes.push_back(size);
    expected += bytes;
    member.send(c.handle, bytes);
  }
  std::string got;
  std::thread reader([&] { got = c.peer.read(expected.size()); });
  for (const std::size_t size : sizes) {
    const Packet packet = member.next();
    CHECK(packet.kind == PacketKind::kSend);
    CHECK(packet.error == 0);
    CHECK(packet.result == size);
  }
  reader.join();
  const bool same = got == expected;
  CHECK(same);
}

PORT_TEST("O7 sends queued from several threads never interleave") {
  NEEDS_DRIVER();
  constexpr int kThreads = 4, kSends = 30;
  const PortHold port = make_port(D::name, options());
  Verdict verdict;
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  std::atomic<int> completed{0};
  const auto size_of = [](int thread, int i) {
    return static_cast<std::size_t>(100 + (thread * 37 + i * 991) % 60'000);
  };
  std::size_t total = 0;
  for (int t = 0; t < kThreads; ++t) {
    for (int i = 0; i < kSends; ++i) total += size_of(t, i);
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Member sender(*port);
      for (int i = 0; i < kSends; ++i) {
        std::string bytes(size_of(t, i), static_cast<char>('a' + t));
        bytes.front() = '<';
        bytes.back() = '>';
        bytes[1] = static_cast<char>('0' + t);
        bytes[2] = static_cast<char>('A' + i);
        sender.send(c.handle, bytes);
      }
      while (completed < kThreads * kSends) {
        const Packet packet = sender.next(5 * kMillisecond);
        if (packet.kind == PacketKind::kNone) continue;
        verdict.expect(packet.kind == PacketKind::kSend, "not a send");
        verdict.expect(packet.error == 0, "a send failed: " + std::to_string(packet.error));
        ++completed;
      }
    });
  }
  const std::string got = c.peer.read(total);
  for (auto& thread : threads) thread.join();
  REQUIRE(verdict.first() == "");
  REQUIRE(got.size() == total);
  std::map<char, char> next;
  std::size_t at = 0;
  int messages = 0;
  for (; at + 3 < got.size() && verdict.good(); ++messages) {
    const char thread = got[at + 1];
    const char expected = next.count(thread) != 0 ? next[thread] : 'A';
    if (!verdict.expect(got[at] == '<' && got[at + 2] == expected, "a send out of order")) break;
    next[thread] = static_cast<char>(expected + 1);
    const std::size_t size = size_of(thread - '0', got[at + 2] - 'A');
    const char fill = static_cast<char>('a' + (thread - '0'));
    const bool whole = std::all_of(got.begin() + static_cast<std::ptrdiff_t>(at + 3),
                                   got.begin() + static_cast<std::ptrdiff_t>(at + size - 1),
                                   [&](char byte) { return byte == fill; });
    verdict.expect(whole && got[at + size - 1] == '>', "a send was interleaved");
    at += size;
  }
  CHECK(verdict.first() == "");
  CHECK(messages == kThreads * kSends);
}

PORT_TEST("O5 close ends what is in flight, its packet is the last, the peer sees the end") {
  NEEDS_DRIVER();
  const std::size_t handles = open_handles();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  const std::uint32_t key = c.key;
  member.receive(c.handle);
  member.receive(c.handle, false);
  member.receive(c.handle, false);
  for (int i = 0; i < 20; ++i) member.send(c.handle, std::string(1'000'000, 'x'));
  member.close(c.handle);
  member.receive(c.handle);
  std::map<PacketKind, int> finals;
  int refused = 0;
  for (;;) {
    const Packet packet = member.next();
    REQUIRE(packet.kind != PacketKind::kNone);
    if (packet.error == kErrorHandleClosed) {
      ++refused;
      continue;
    }
    CHECK(packet.key == key);
    CHECK(packet.handle == c.handle);
    if ((packet.flags & kPacketMore) == 0) ++finals[packet.kind];
    if (packet.kind == PacketKind::kClose) break;
  }
  if (refused == 0) refused += member.next().error == kErrorHandleClosed;
  CHECK(refused == 1);
  CHECK(finals[PacketKind::kReceive] == 3);
  CHECK(finals[PacketKind::kSend] == 20);
  CHECK(member.next(0).kind == PacketKind::kNone);
  while (c.peer.read(100'000).size() == 100'000) {
  }
  CHECK(c.peer.ended);
  CHECK(Port::look_up(c.handle).id == 0);
  CHECK(open_handles() == handles + 1);
}

PORT_TEST("O5 a descriptor that is used again gets none of its predecessor's operations") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  for (int i = 0; i < 60; ++i) {
    Connection c = connection(*port, member, listening);
    const std::string greeting = "round " + std::to_string(i);
    member.receive(c.handle);
    REQUIRE(c.peer.write(greeting));
    const Packet packet = member.next();
    REQUIRE(packet.kind == PacketKind::kReceive);
    CHECK(packet.handle == c.handle);
    CHECK(contents(packet) == greeting);
    member.close(c.handle);
    const Packet ended = member.next();
    CHECK(ended.kind == PacketKind::kReceive);
    CHECK(ended.error == -ECANCELED);
    CHECK(member.next().kind == PacketKind::kClose);
  }
}

PORT_TEST("O6 an operation with a timeout ends with ETIMEDOUT") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  SUBCASE("a receive") {
    member.receive(c.handle, true, 0, 20);
    const Packet packet = member.next();
    CHECK(packet.kind == PacketKind::kReceive);
    CHECK(packet.error == kErrorTimedOut);
  }
  SUBCASE("one that waits behind another") {
    member.receive(c.handle, false);
    member.receive(c.handle, false, 3, 20);
    Packet packet = member.next();
    CHECK(packet.token == 3);
    CHECK(packet.error == kErrorTimedOut);
    REQUIRE(c.peer.write("x"));
    packet = member.next();
    CHECK(packet.error == 0);
    CHECK(contents(packet) == "x");
  }
  SUBCASE("a send, after a part of it") {
    member.send(c.handle, std::string(30'000'000, 'x'), 0, 50);
    const Packet packet = member.next();
    CHECK(packet.kind == PacketKind::kSend);
    CHECK(packet.error == kErrorTimedOut);
    CHECK(packet.result < 30'000'000);
  }
  SUBCASE("but not when it was in time") {
    REQUIRE(c.peer.write("x"));
    member.receive(c.handle, false, 0, 20'000);
    CHECK(contents(member.next()) == "x");
    CHECK(member.next(0).kind == PacketKind::kNone);
  }
}

PORT_TEST("O6 a timer that fires as its timeout passes ends once") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  Thread::Association association;
  association.keyed = true;
  for (const double delay : {2.0, 3.5}) {
    CAPTURE(delay);
    const auto id = static_cast<HandleId>(member.thread->timer(association));
    Request* made = request(PacketKind::kTimer);
    made->offset = static_cast<std::int64_t>(delay * 1e6);
    made->timeout = 3;
    member.thread->submit(made, id);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Packet packet = member.next();
    CHECK(packet.kind == PacketKind::kTimer);
    CHECK((packet.error == 0 || packet.error == kErrorTimedOut));
    CHECK(member.next(0).kind == PacketKind::kNone);
    CHECK(Port::look_up(id).in_flight == 0);
    member.close(id);
    CHECK(member.next().kind == PacketKind::kClose);
  }
}

PORT_TEST("O9 linked operations run in order, a failure cancels the rest") {
  NEEDS_DRIVER();
  TemporaryFile file;
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const auto chain = [&](HandleId id) {
    Request* write = request(PacketKind::kWrite, 1);
    member.allocate("linked", 6, *write);
    write->chain = request(PacketKind::kSync, 2);
    write->chain->chain = request(PacketKind::kStat, 3);
    member.allocate(nullptr, 13 * sizeof(std::int64_t), *write->chain->chain);
    std::int64_t* status = static_cast<std::int64_t*>(write->chain->chain->memory[0].base);
    member.thread->submit(write, id);
    return status;
  };
  SUBCASE("success") {
    const std::int64_t* status = chain(open_file(member, file.path(), driver::kOpenWrite));
    for (const std::uint32_t token : {1u, 2u, 3u}) {
      const Packet packet = member.next();
      CHECK(packet.token == token);
      CHECK(packet.error == 0);
    }
    CHECK(status[0] == 6);
  }
  SUBCASE("failure") {
    chain(open_file(member, file.path(), driver::kOpenRead));
    CHECK(member.next().error == -EBADF);
    CHECK(member.next().error == -ECANCELED);
    CHECK(member.next().error == -ECANCELED);
  }
}

PORT_TEST("O9 a send that ended early cancels the shutdown linked to it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  Request* send = request(PacketKind::kSend, 1);
  const std::string bytes(30'000'000, 'x');
  member.allocate(bytes.data(), bytes.size(), *send);
  send->timeout = 50;
  send->chain = request(PacketKind::kShutdown, 2);
  member.thread->submit(send, c.handle);
  CHECK(member.next().error == kErrorTimedOut);
  const Packet packet = member.next();
  CHECK(packet.token == 2);
  CHECK(packet.error == -ECANCELED);
}

PORT_TEST("O7 O9 linked sends keep their place before what is sent after them") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  Connection c = connection(*port, member, listener(member, true));
  std::string all;
  const auto send = [&](std::uint32_t token) {
    const std::string bytes(3'000'000, static_cast<char>('0' + token));
    Request* made = request(PacketKind::kSend, token);
    member.allocate(bytes.data(), bytes.size(), *made);
    all += bytes;
    return made;
  };
  Request* head = send(1);
  head->chain = send(2);
  head->chain->chain = send(3);
  member.thread->submit(head, c.handle);
  member.thread->submit(send(4), c.handle);
  bool whole = false;
  std::thread reader([&] { whole = c.peer.read(all.size()) == all; });
  for (std::uint32_t token = 1; token <= 4; ++token) {
    const Packet packet = member.next();
    CHECK(packet.token == token);
    CHECK(packet.error == 0);
  }
  reader.join();
  CHECK(whole);
}

PORT_TEST("O4 bytes that arrived before a cancel are not lost") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  Connection c = connection(*port, member, listening);
  Random random(seed("O4 bytes"));
  std::string sent, got;
  int finals = 0;
  constexpr int kRounds = 300;
  const auto look = [&](const Packet& packet) {
    if (packet.kind != PacketKind::kReceive) return;
    if ((packet.flags & kPacketMore) == 0) ++finals;
    CHECK((packet.error == 0 || packet.error == -ECANCELED));
    got += contents(packet);
  };
  for (int i = 0; i < kRounds; ++i) {
    const std::uint32_t token = 1 + static_cast<std::uint32_t>(i);
    member.receive(c.handle, random.one_in(2), token);
    if (random.one_in(2)) {
      const std::string bytes = std::to_string(i) + " ";
      REQUIRE(c.peer.write(bytes));
      sent += bytes;
    }
    if (random.one_in(2)) look(member.next(0));
    member.thread->cancel_token(token);
    member.thread->cancel_token(token);
    while (finals <= i) {
      const Packet packet = member.next();
      REQUIRE(packet.kind == PacketKind::kReceive);
      look(packet);
    }
  }
  c.peer.end_writing();
  while (got.size() < sent.size()) {
    member.receive(c.handle, false);
    const Packet packet = member.next();
    REQUIRE(packet.kind == PacketKind::kReceive);
    REQUIRE(packet.result > 0);
    look(packet);
  }
  CHECK(got == sent);
}

PORT_TEST("O1 a multishot accept delivers every connection") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  member.accept(listening);
  std::vector<Peer> peers;
  std::set<HandleId> accepted;
  std::set<std::uint32_t> keys;
  for (int i = 0; i < 40; ++i) {
    peers.emplace_back(address_of(*port, listening));
    REQUIRE(peers.back().connected);
  }
  while (accepted.size() < 40) {
    const Packet packet = member.next();
    REQUIRE(packet.kind == PacketKind::kAccept);
    REQUIRE(packet.error == 0);
    CHECK((packet.flags & kPacketMore) != 0);
    accepted.insert(packet.accepted);
    keys.insert(packet.accepted_key);
  }
  CHECK(keys.size() == 40);
  member.close(listening);
  const Packet ended = member.next();
  CHECK(ended.kind == PacketKind::kAccept);
  CHECK(ended.error == -ECANCELED);
  CHECK(member.next().kind == PacketKind::kClose);
}

#ifndef _WIN32  // where handles have no such limit

/// While it lives the process can open no more descriptors than it is given.
class FewDescriptors {
 public:
  FewDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) < 1000;) filling_.push_back(fd);
    ::close(filling_.back() + 1);
    rlimit now = before_;
    now.rlim_cur = 1000;
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~FewDescriptors() {
    ::setrlimit(RLIMIT_NOFILE, &before_);
    while (give_one()) {
    }
  }
  bool give_one() {
    if (filling_.empty()) return false;
    ::close(filling_.back());
    filling_.pop_back();
    return true;
  }

 private:
  rlimit before_{};
  std::vector<int> filling_;
};

PORT_TEST("O1 an accept without descriptors pauses and goes on when there are some") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  const driver::SocketAddress address = address_of(*port, listening);
  // io_uring notes the limit when the accept is submitted.
  FewDescriptors few;
  member.accept(listening);
  REQUIRE(member.next(kMillisecond).kind == PacketKind::kNone);
  std::vector<Peer> peers;
  for (int i = 0; i < 4; ++i) few.give_one();
  for (int i = 0; i < 4; ++i) peers.emplace_back(address);
  for (const Peer& peer : peers) REQUIRE(peer.connected);
  CHECK(member.next(50 * kMillisecond).kind == PacketKind::kNone);
  const std::uint64_t calls = member.thread->system_calls();
  CHECK(member.next(500 * kMillisecond).kind == PacketKind::kNone);
  CHECK(member.thread->system_calls() - calls < 200);
  for (int i = 0; i < 4; ++i) few.give_one();
  for (int i = 0; i < 4; ++i) {
    const Packet packet = member.next();
    CHECK(packet.kind == PacketKind::kAccept);
    CHECK(packet.error == 0);
  }
}

PORT_TEST("O4 an accept that pauses can be cancelled, and nothing spins after it") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId listening = listener(member, true);
  const driver::SocketAddress address = address_of(*port, listening);
  FewDescriptors few;
  member.accept(listening, true, 9);
  REQUIRE(member.next(kMillisecond).kind == PacketKind::kNone);
  few.give_one();
  Peer peer(address);
  REQUIRE(peer.connected);
  REQUIRE(member.next(50 * kMillisecond).kind == PacketKind::kNone);
  member.thread->cancel_token(9);
  const Packet packet = member.next();
  CHECK(packet.token == 9);
  CHECK(packet.error == -ECANCELED);
  const std::uint64_t calls = member.thread->system_calls();
  CHECK(member.next(400 * kMillisecond).kind == PacketKind::kNone);
  CHECK(member.thread->system_calls() - calls < 100);
}

#endif

// ---- timers -----------------------------------------------------------------------------------

HandleId timer_handle(Member& member) {
  Thread::Association association;
  association.keyed = true;
  association.key = 3;
  const std::int64_t id = member.thread->timer(association);
  REQUIRE(id > 0);
  return static_cast<HandleId>(id);
}

PORT_TEST(
    "A1 what is asked of a closed handle is answered under its key, and `closed` comes once") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name);
  Member member(*port);
  const HandleId id = timer_handle(member);
  const std::uint32_t key = Port::look_up(id).key;
  const auto ask = [&](PacketKind kind, bool keyed) {
    Request* request = new_request();
    request->kind = kind;
    request->keyed = keyed;
    if (keyed) request->key = key;
    member.thread->submit(request, id);
  };
  ask(PacketKind::kClose, true);
  const Packet closed = member.next();
  CHECK(closed.kind == PacketKind::kClose);
  CHECK(closed.key == key);
  CHECK(closed.error == 0);
  ask(PacketKind::kClose, true);   // as a second thread would
  ask(PacketKind::kTimer, false);  // nobody can say whom to tell
  ask(PacketKind::kTimer, true);
  const Packet refused = member.next();
  CHECK(refused.kind == PacketKind::kTimer);
  CHECK(refused.key == key);
  CHECK(refused.error == kErrorHandleClosed);
  member.thread->post(9, 1);
  CHECK(member.next().kind == PacketKind::kPosted);  // and nothing before it
}

PORT_TEST(
    "A3 what is asked of a handle where it was before is answered under the key it had there") {
  NEEDS_DRIVER();
  const PortHold here = make_port(D::name);
  const PortHold there = make_port(D::name);
  Member member(*here);
  Member other(*there);
  const HandleId id = timer_handle(member);
  const std::uint32_t key = Port::look_up(id).key;
  REQUIRE(here->hand_off(id, *there, key + 1) == 0);
  Request* request = new_request();
  request->kind = PacketKind::kReceive;  // no timer can do that
  request->keyed = true;
  request->key = key;
  member.thread->submit(request, id);
  const Packet refused = member.next();
  CHECK(refused.key == key);
  CHECK(refused.error == kErrorNotSupported);
}

TEST_CASE(
    "A2 unique keys are unlike those of all ports, and none comes back while a handle has it") {
  const PortHold first = make_port("");
  const PortHold second = make_port("");
  Member member(*first);
  Member other(*second);
  Thread::Association association;
  association.keyed = true;
  std::set<std::uint32_t> keys;
  std::thread([&] {
    for (int i = 0; i < 1000; ++i) keys.insert(unique_key());
  }).join();
  const auto begin = [&](Member& at) {
    association.key = unique_key();
    CHECK(association.key >= 1u << 31);
    CHECK(keys.insert(association.key).second);
    REQUIRE(at.thread->timer(association) > 0);
  };
  skip_key_ranges(0);  // a range of its own
  for (int i = 0; i < 300; ++i) begin(i % 2 == 0 ? member : other);
  // All the way round: those that handles have are left out.
  skip_key_ranges(kKeyRanges - 1);
  std::set<std::uint32_t> again;
  for (std::uint32_t i = 0; i < kKeysInRange - 300; ++i) {
    const std::uint32_t key = unique_key();
    CHECK(again.insert(key).second);
    bool taken = false;
    HandleTable::instance().for_each(
        [&](Handle& handle) { taken |= handle.port.load() != nullptr && handle.key == key; });
    CHECK(!taken);
  }
}

PORT_TEST("the name of a handle does not come back, however often its place is used") {
  NEEDS_DRIVER();
  constexpr std::size_t kHandles = 20'000;
  const PortHold port = make_port(D::name);
  Member member(*port);
  std::set<HandleId> names;
  for (std::size_t i = 0; i < kHandles; ++i) {
    const HandleId id = timer_handle(member);
    CHECK(id < HandleId{1} << 53);
    names.insert(id);
    member.close(id);
    CHECK(member.next().kind == PacketKind::kClose);
  }
  CHECK(names.size() == kHandles);
  CHECK(Port::look_up(*names.begin()).id == 0);
}

PORT_TEST("a port counts and names its own handles, however many another has") {
  NEEDS_DRIVER();
  const PortHold crowded = make_port(D::name);
  Member many(*crowded);
  std::vector<HandleId> names;
  for (int i = 0; i < 3000; ++i) names.push_back(timer_handle(many));
  const PortHold empty = make_port(D::name);
  Member none(*empty);
  CHECK(empty->stats().handles == 0);
  CHECK(empty->handles().empty());
  CHECK(crowded->stats().handles == names.size());
  std::vector<HandleId> listed = crowded->handles();
  std::sort(listed.begin(), listed.end());
  std::sort(names.begin(), names.end());
  CHECK(listed == names);
  REQUIRE(crowded->hand_off(names[7], *empty, 9) == 0);
  CHECK(empty->handles() == std::vector<HandleId>{names[7]});
  CHECK(crowded->stats().handles == names.size() - 1);
}

PORT_TEST("O1 timers fire once, or again and again until cancelled") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId id = timer_handle(member);
  member.timer(id, 5, 0, 1);
  Packet packet = member.next();
  CHECK(packet.kind == PacketKind::kTimer);
  CHECK(packet.error == 0);
  CHECK((packet.flags & kPacketMore) == 0);
  member.timer(id, 1, 2, 2);
  for (int i = 0; i < 5; ++i) {
    packet = member.next();
    CHECK(packet.token == 2);
    CHECK((packet.flags & kPacketMore) != 0);
    CHECK(packet.result >= 1);
  }
  member.thread->cancel_token(2);
  do {
    packet = member.next();
  } while ((packet.flags & kPacketMore) != 0);
  CHECK(packet.error == -ECANCELED);
  member.timer(id, 100'000);
  member.close(id);
  CHECK(member.next().error == -ECANCELED);
  CHECK(member.next().kind == PacketKind::kClose);
}

PORT_TEST("O4 timers can be cancelled and closed from another thread") {
  NEEDS_DRIVER();
  const PortHold port = make_port(D::name, options());
  Member member(*port);
  const HandleId id = timer_handle(member);
  for (int i = 0; i < 30; ++i) {
    member.timer(id, i % 2 == 0 ? 100'000 : 1, i % 3 == 0 ? 1 : 0);
    std::thread other([&] {
      Member canceller(*port);
      canceller.thread->cancel_handle(id);
    });
    other.join();
    Packet packet;
    do {
      packet = member.next();
    } while ((packet.flags & kPacketMore) != 0);
    REQUIRE(packet.kind == PacketKind::kTimer);
    CHECK((packet.error == -ECANCELED || packet.error == 0));
  }
  member.timer(id, 100'000, 5);
  std::thread other([&] {
    Member closer(*port);
    closer.close(id);
  });
  other.join();
  CHECK(until(member, PacketKind::kClose).kind == PacketKind::kClose);
}

}  // namespace
