// Files that lanes of each driver send to sockets.
#include <doctest/doctest.h>
#ifdef __linux__
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>
#endif

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "driver/source_file.h"
#include "support/lane.h"

namespace {

using namespace cp::test;

/// A file of its own that goes with the test.
class Content {
 public:
  template <typename D>
  Content(Harness<D>& lane, Bytes bytes, std::uint32_t flags = kOpenRead | kOpenWrite) {
    Operation open = opening(path_, flags | kOpenCreate);
    fd = lane.run(open);
    REQUIRE(fd >= 0);
    source_ = std::make_unique<SourceFile>(fd);
    std::vector<Slice> slices{slice(bytes)};
    Operation write = moving({fd, 1}, Opcode::kWrite, slices);
    REQUIRE(lane.run(write) == static_cast<Result>(bytes.size()));
  }
  ~Content() { close_file(fd); }

  /// Takes the pages out of the cache, as far as the file system lets it.
  void forget() const {
#ifdef __linux__
    REQUIRE(::fdatasync(static_cast<int>(fd)) == 0);
    ::posix_fadvise(static_cast<int>(fd), 0, 0, POSIX_FADV_DONTNEED);
#endif
  }

  SourceFile& source() const { return *source_; }

 private:
  Descriptor fd = kNoDescriptor;
  std::unique_ptr<SourceFile> source_;
  TemporaryFiles files_;
  std::string path_ = files_.name();
};

Operation sending_file(const Handle& socket, SourceFile& file, std::int64_t offset,
                       std::uint64_t length) {
  Operation operation = on(socket, Opcode::kSendFile);
  operation.file = &file;
  operation.offset = offset;
  operation.length = length;
  return operation;
}

/// Goes on after each part, as the port does, until everything is sent, the file ends or it fails.
template <typename D>
Result send_all(Harness<D>& lane, Operation operation) {
  Result sent = 0;
  while (operation.length > 0) {
    const Result part = lane.run(operation);
    if (part <= 0) return part < 0 ? part : sent;
    REQUIRE(part <= static_cast<Result>(operation.length));
    sent += part;
    operation.offset += part;
    operation.length -= static_cast<std::uint64_t>(part);
  }
  return sent;
}

/// Reads `count` bytes from a blocking socket on a thread of its own, once `go` is set.
class Reader {
 public:
  Reader(Socket socket, std::size_t count, bool at_once = true) : bytes(count), go(at_once) {
    thread_ = std::thread([this, socket] {
      while (!go.load()) std::this_thread::yield();
      std::size_t at = 0;
      while (at < bytes.size()) {
        const std::ptrdiff_t got = take(socket, bytes.data() + at, bytes.size() - at);
        if (got <= 0) break;
        at += static_cast<std::size_t>(got);
      }
      bytes.resize(at);
    });
  }
  ~Reader() { join(); }
  const Bytes& join() {
    go = true;
    if (thread_.joinable()) thread_.join();
    return bytes;
  }

  Bytes bytes;
  std::atomic<bool> go;

 private:
  std::thread thread_;
};

LANE_TEST("a file is sent from any position, cached or not, and the end of it is a result of 0") {
  LANE(lane);
  const Bytes bytes = random_bytes(3'000'001, 7);
  const Content content(lane, bytes);
  const auto size = static_cast<std::int64_t>(bytes.size());
  for (const bool cached : {true, false}) {
    for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{4095}, size - 3, size}) {
      const Pair pair = connected(*lane.driver);
      if (!cached) content.forget();
      Reader reader(pair.peer, bytes.size() + 1);
      CHECK(send_all(lane, sending_file(pair.ours, content.source(), offset, 1u << 30)) ==
            size - offset);
      close_all(lane, {pair.ours});
      CHECK(reader.join() == Bytes(bytes.begin() + offset, bytes.end()));
      shut(pair.peer);
    }
  }
}

LANE_TEST("of a file no more is sent than was asked for") {
  LANE(lane);
  const Bytes bytes = random_bytes(1'000'000, 8);
  const Content content(lane, bytes);
  const Pair pair = connected(*lane.driver);
  Reader reader(pair.peer, bytes.size());
  CHECK(send_all(lane, sending_file(pair.ours, content.source(), 100, 700'000)) == 700'000);
  CHECK(send_all(lane, sending_file(pair.ours, content.source(), 100, 0)) == 0);
  Operation beyond = sending_file(pair.ours, content.source(), 2'000'000, 10);
  CHECK(lane.run(beyond) == 0);
  close_all(lane, {pair.ours});
  CHECK(reader.join() == Bytes(bytes.begin() + 100, bytes.begin() + 700'100));
  shut(pair.peer);
}

LANE_TEST("a file waits for a slow reader, cached or not, while the same socket receives") {
  LANE(lane);
  const Bytes bytes = random_bytes(4'000'000, 9);
  const Content content(lane, bytes);
  for (const bool cached : {true, false}) {
    const Pair pair = connected(*lane.driver);
    CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
    if (!cached) content.forget();
    Reader reader(pair.peer, bytes.size(), false);
    Operation receive = receiving(pair.ours, true);
    lane.submit(receive);
    Operation send = sending_file(pair.ours, content.source(), 0, bytes.size());
    for (;;) {
      lane.submit(send);
      for (int i = 0; i < 20 && !lane.has(send); ++i) {
        lane.lane->wait(now() + kMillisecond);
        lane.poll();
      }
      if (!lane.has(send)) break;  // the socket is full
      const Result part = lane.next(send).result;
      REQUIRE(part > 0);
      send.offset += part;
      send.length -= static_cast<std::uint64_t>(part);
      REQUIRE(send.length > 0);
    }
    put(pair.peer, "hello");
    Bytes hello;
    while (hello.size() < 5) append(lane.buffers, lane.next(receive), hello);
    reader.go = true;
    const Result part = lane.next(send).result;
    REQUIRE(part > 0);
    send.offset += part;
    send.length -= static_cast<std::uint64_t>(part);
    CHECK(send_all(lane, send) >= 0);
    CHECK(reader.join() == bytes);
    lane.cancel(receive);
    close_all(lane, {pair.ours});
    shut(pair.peer);
  }
}

LANE_TEST(
    "O4: a file that is being sent can be cancelled anywhere, and what it tells is what went") {
  LANE(lane);
  const Bytes bytes = random_bytes(2'000'000, 10);
  const Content content(lane, bytes);
  std::mt19937 random(10);
  for (int round = 0; round < 60; ++round) {
    const Pair pair = connected(*lane.driver);
    CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
    if (round % 3 == 0) content.forget();
    Reader reader(pair.peer, bytes.size(), round % 2 == 0);
    Operation send = sending_file(pair.ours, content.source(), 0, bytes.size());
    std::size_t sent = 0;
    for (unsigned parts = random() % 6;; --parts) {
      lane.submit(send);
      for (unsigned i = random() % 4; i > 0; --i) {
        lane.lane->wait(now() + kMillisecond / 10);
        lane.poll();
      }
      const bool last = parts == 0 || !lane.has(send);
      if (last) lane.lane->cancel(&send);
      const Result part = lane.next(send).result;
      if (part != -ECANCELED) REQUIRE(part >= 0);
      if (part > 0) sent += static_cast<std::size_t>(part);
      if (part > 0) send.offset += part;
      if (part > 0) send.length -= static_cast<std::uint64_t>(part);
      if (last || send.length == 0) break;
    }
    close_all(lane, {pair.ours});
    CHECK(reader.join() == Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(sent)));
    shut(pair.peer);
  }
}

LANE_TEST("a send goes on where a file ended, and the other way round") {
  LANE(lane);
  const Bytes bytes = random_bytes(600'000, 11);
  const Content content(lane, bytes);
  const Pair pair = connected(*lane.driver);
  Reader reader(pair.peer, 3 * (bytes.size() + 4));
  Bytes expected;
  for (int round = 0; round < 3; ++round) {
    content.forget();
    CHECK(send_all(lane, sending_file(pair.ours, content.source(), 0, bytes.size())) == 600'000);
    std::string text = "next";
    std::vector<Slice> out{slice(text)};
    Operation send = moving(pair.ours, Opcode::kSend, out);
    CHECK(lane.run(send) == 4);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    expected.insert(expected.end(), text.begin(), text.end());
  }
  CHECK(reader.join() == expected);
  close_all(lane, {pair.ours});
  shut(pair.peer);
}

#ifdef __linux__
/// Bytes that TCP has taken and not sent.
int unsent(const Pair& pair) {
  int bytes = -1;
  REQUIRE(::ioctl(static_cast<int>(pair.ours.fd), SIOCOUTQNSD, &bytes) == 0);
  return bytes;
}

/// What may be sent is sent: nothing waits for an acknowledgement (Nagle), or for a moment that a
/// congestion control chooses (bbr).
void send_at_once(const Pair& pair) {
  const int fd = static_cast<int>(pair.ours.fd);
  const int yes = 1;
  REQUIRE(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
  REQUIRE(::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
}

LANE_TEST("a header waits for its file, and goes out alone where the file has nothing") {
  LANE(lane);
  const Bytes bytes = random_bytes(3000, 14);
  const Content content(lane, bytes);
  const Pair pair = connected(*lane.driver);
  send_at_once(pair);
  std::string header = "header";
  std::vector<Slice> out{slice(header)};
  int waited = 0;
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; ++round) {
    const bool empty = round % 2 == 0;
    const std::int64_t offset = empty ? 3000 : 0;
    Operation send = moving(pair.ours, Opcode::kSend, out);
    send.more_follows = true;
    REQUIRE(lane.run(send) == 6);
    // After 200 ms, should this thread stand so long, the kernel lets it go.
    if (unsent(pair) == 6) ++waited;
    CHECK(send_all(lane, sending_file(pair.ours, content.source(), offset, 1u << 30)) ==
          3000 - offset);
    CHECK(unsent(pair) == 0);
    Bytes expected(header.begin(), header.end());
    expected.insert(expected.end(), bytes.begin() + offset, bytes.end());
    CHECK(Reader(pair.peer, expected.size()).join() == expected);
  }
  CHECK(waited > 0);
  close_all(lane, {pair.ours});
  shut(pair.peer);
}

LANE_TEST("sending a file fails as a send does, and for a file that can't be read") {
  LANE(lane);
  const Content content(lane, random_bytes(100'000, 12));
  const Pair pair = connected(*lane.driver);
  reset(pair.peer);
  REQUIRE(readable(pair.ours.fd, 60'000));
  Operation first = sending_file(pair.ours, content.source(), 0, 100'000);
  CHECK(lane.run(first) == -ECONNRESET);
  Operation second = sending_file(pair.ours, content.source(), 0, 100'000);
  CHECK(lane.run(second) == -EPIPE);
  close_all(lane, {pair.ours});

  const Pair other = connected(*lane.driver);
  const Content unreadable(lane, random_bytes(5, 13), kOpenWrite);
  Operation forbidden = sending_file(other.ours, unreadable.source(), 0, 5);
  CHECK(lane.run(forbidden) == -EBADF);
  shut(other.peer);
  close_all(lane, {other.ours});
}
#endif

}  // namespace
