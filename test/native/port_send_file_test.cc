// Files that a port sends to sockets, among other sends.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "support/streams.h"

namespace {

using namespace cp;
using namespace cp::test;

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

}  // namespace
