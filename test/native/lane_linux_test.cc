// What lanes on Linux do beside what all lanes do: FIFOs and pipes, their notifiers, descriptors
// whose numbers are used again, and what is one driver's own.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "support/lane.h"

namespace {

using namespace cp::test;

std::string fifo(TemporaryFiles& files) {
  const std::string path = files.name();
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  return path;
}

bool closes_on_exec(Descriptor fd) {
  return (::fcntl(static_cast<int>(fd), F_GETFD) & FD_CLOEXEC) != 0;
}

// ---- files -----------------------------------------------------------------------------------

LANE_TEST("what is opened is closed on exec, and gone when it was closed") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = files.name();
  const Handle file =
      open_or_fail(lane, opening(path, kOpenWrite | kOpenCreate), FileKind::kRegular);
  CHECK(closes_on_exec(file.fd));
  close_all(lane, {file}, false);
  CHECK(::fcntl(static_cast<int>(file.fd), F_GETFD) == -1);
}

LANE_TEST("a directory does not open for writing") {
  LANE(lane);
  const std::string path = temporary_directory();
  Operation writing = opening(path, kOpenWrite);
  CHECK(lane.run(writing) == -EISDIR);
}

LANE_TEST("a directory opens and does not read") {
  LANE(lane);
  const std::string path = temporary_directory();
  const Handle opened = open_or_fail(lane, opening(path, kOpenRead), FileKind::kDirectory);
  Bytes back(8);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(opened, Opcode::kRead, in);
  CHECK(lane.run(read) == -EISDIR);
  close_all(lane, {opened}, false);
}

LANE_TEST("/dev/zero is a device and reads zeros") {
  LANE(lane);
  const std::string path = "/dev/zero";
  const Handle zero = open_or_fail(lane, opening(path, kOpenRead), FileKind::kDevice);
  Bytes back(1000, 1);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(zero, Opcode::kRead, in, 12'345);
  CHECK(lane.run(read) == 1000);
  CHECK(back == Bytes(1000, 0));
  close_all(lane, {zero}, false);
}

// ---- FIFOs and pipes -------------------------------------------------------------------------

LANE_TEST("a FIFO's reader waits for its first writer, and ends with its last") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = fifo(files);
  const Handle reader = open_or_fail(lane, opening(path, kOpenRead), FileKind::kStream);
  Bytes back(64);
  std::vector<Slice> in{slice(back)};
  Operation read = streaming(reader, Opcode::kRead, in);
  lane.submit(read);
  lane.expect_silence();
  CHECK(lane.cancel(read) == -ECANCELED);
  lane.submit(read);
  lane.expect_silence();

  const Handle writer = open_or_fail(lane, opening(path, kOpenWrite), FileKind::kStream);
  std::string text = "through the pipe";
  std::vector<Slice> out{slice(text)};
  Operation write = streaming(writer, Opcode::kWrite, out);
  CHECK(lane.run(write) == 16);
  CHECK(lane.next(read).result == 16);
  CHECK(std::memcmp(back.data(), text.data(), 16) == 0);

  lane.submit(read);
  lane.expect_silence();
  close_all(lane, {writer});
  CHECK(lane.next(read).result == 0);
  close_all(lane, {reader});
}

LANE_TEST("a FIFO's writer opens when a reader comes") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = fifo(files);
  Operation writing = opening(path, kOpenWrite);
  lane.submit(writing);
  lane.expect_silence();
  const Handle reader = open_or_fail(lane, opening(path, kOpenRead), FileKind::kStream);
  const Result fd = lane.next(writing).result;
  REQUIRE(fd >= 0);
  CHECK(writing.file_kind == FileKind::kStream);
  close_all(lane, {handle(fd), reader});
}

LANE_TEST("FIFOs waiting for a reader neither hold up other files nor resist a cancel") {
  LANE(lane);
  TemporaryFiles files;
  const std::string path = fifo(files);
  std::vector<Operation> writing(32, opening(path, kOpenWrite));
  for (auto& operation : writing) lane.submit(operation);
  lane.poll();
  for (int i = 0; i < 50; ++i) {
    const std::string zero = "/dev/zero";
    const Handle file = open_or_fail(lane, opening(zero, kOpenRead), FileKind::kDevice);
    close_all(lane, {file}, false);
  }
  for (auto& operation : writing) CHECK(lane.cancel(operation) == -ECANCELED);
  lane.expect_silence();
}

LANE_TEST("a write to a pipe without reader fails with EPIPE") {
  LANE(lane);
  int ends[2];
  REQUIRE(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  ::close(ends[0]);
  const Handle writer = handle(ends[1]);
  std::string text = "x";
  std::vector<Slice> out{slice(text)};
  Operation write = streaming(writer, Opcode::kWrite, out);
  CHECK(lane.run(write) == -EPIPE);
  close_all(lane, {writer});
}

template <typename D>
void pump_through_pipe(Harness<D>& lane, bool pollable) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC | (pollable ? O_NONBLOCK : 0)) == 0);
  const Handle reader = handle(ends[0]), writer = handle(ends[1]);
  Bytes content = random_bytes(1'000'000, 2), back(content.size()), chunk(10'000);
  std::vector<Slice> out{slice(content)}, in{slice(chunk)};
  std::size_t sent = 0, got = 0;
  Operation write = streaming(writer, Opcode::kWrite, out, pollable);
  Operation read = streaming(reader, Opcode::kRead, in, pollable);
  lane.submit(write);
  while (got < content.size()) {
    const Result count = lane.run(read);
    REQUIRE(count > 0);
    std::memcpy(back.data() + got, chunk.data(), static_cast<std::size_t>(count));
    got += static_cast<std::size_t>(count);
    while (sent < got) {  // the write has moved on
      const Result moved = lane.next(write).result;
      REQUIRE(moved > 0);
      sent += static_cast<std::size_t>(moved);
      if (sent == content.size()) break;
      out[0] = {content.data() + sent, content.size() - sent};
      lane.submit(write);
    }
  }
  CHECK(sent == content.size());
  CHECK(back == content);
  lane.submit(read);
  lane.expect_silence();
  CHECK(lane.cancel(read) == -ECANCELED);
  close_all(lane, {reader, writer});
}

LANE_TEST("a pipe carries more than it holds") {
  LANE(lane);
  pump_through_pipe(lane, true);
}

LANE_TEST("a blocking pipe of the process carries more than it holds, and can be cancelled") {
  LANE(lane);
  pump_through_pipe(lane, false);
}

LANE_TEST("a duplicate says what it is") {
  LANE(lane);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  FileKind kind = FileKind::kRegular;
  const Result copy = lane.driver->duplicate(ends[0], kind);
  REQUIRE(copy >= 0);
  CHECK(copy != ends[0]);
  CHECK(kind == FileKind::kStream);
  CHECK(closes_on_exec(copy));
  lane.driver->discard(copy);
  ::close(ends[0]);
  ::close(ends[1]);
  CHECK(lane.driver->duplicate(ends[0], kind) == -EBADF);
}

// ---- receiving and sending -------------------------------------------------------------------

TEST_CASE("M3: on epoll a connection that is open and idle holds no buffer") {
  Harness<Epoll> lane(8, 100);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.expect_silence();
  CHECK(lane.buffers.available() == lane.buffers.total());
  put(pair.peer, "x");
  Bytes got;
  append(lane.buffers, lane.next(receive), got);
  lane.expect_silence();
  CHECK(lane.buffers.available() == lane.buffers.total());
  shut(pair.peer);
  CHECK(lane.next(receive).result == 0);
  CHECK(lane.buffers.available() == lane.buffers.total());
  close_all(lane, {pair.ours});
}

/// As a thread waits that blocks, or one in its event loop, until every buffer is back.
void wait_for_rest(Harness<IoUring>& lane, bool on_notifier) {
  const Deadline end = now() + kPatience;
  while (lane.buffers.available() < lane.buffers.total()) {
    REQUIRE(now() < end);
    if (on_notifier) {
      const int notifier = lane.sleep();  // which reaps
      if (lane.buffers.available() == lane.buffers.total()) return;
      CHECK(readable(notifier, 60'000));
      lane.lane->clear_notifier();
    } else {
      lane.lane->wait(end);
    }
    lane.poll();
  }
}

TEST_CASE("M3: on io_uring a lane that does not receive holds no buffer, and loses no byte") {
  if (!Harness<IoUring>::available()) return;
  Harness<IoUring> lane(64, 100);
  CHECK(lane.buffers.available() == lane.buffers.total());
  const Pair pair = connected(*lane.driver);
  for (const bool multishot : {false, true}) {
    for (const bool on_notifier : {false, true}) {
      CAPTURE(multishot);
      CAPTURE(on_notifier);
      Operation receive = receiving(pair.ours, multishot);
      lane.submit(receive);
      put(pair.peer, "first");
      Completion completion = lane.next(receive);
      Bytes got;
      append(lane.buffers, completion, got);
      if (!completion.more) lane.submit(receive);
      wait_for_rest(lane, on_notifier);
      CHECK_FALSE(lane.has(receive));
      put(pair.peer, "second");
      completion = lane.next(receive);
      CHECK(completion.result == -ENOBUFS);
      CHECK_FALSE(completion.more);
      CHECK(lane.lane->refill());
      lane.submit(receive);
      completion = lane.next(receive);
      append(lane.buffers, completion, got);
      CHECK(std::string(got.begin(), got.end()) == "firstsecond");
      if (completion.more) CHECK(lane.cancel(receive) == -ECANCELED);
      wait_for_rest(lane, on_notifier);
    }
  }
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

TEST_CASE("M3: on io_uring a lane that rested has a buffer for the next receive") {
  if (!Harness<IoUring>::available()) return;
  Harness<IoUring> lane(64, 100);
  const Pair pair = connected(*lane.driver);
  for (int round = 0; round < 2; ++round) {
    Operation receive = receiving(pair.ours);
    put(pair.peer, "x");
    const Completion completion = lane.next(lane.submit(receive));
    CHECK(completion.result == 1);
    Bytes got;
    append(lane.buffers, completion, got);
    wait_for_rest(lane, false);
  }
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

TEST_CASE("on epoll a message costs one wait and one receive") {
  Harness<Epoll> lane;
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.expect_silence();
  Bytes got;
  const std::uint64_t before = lane.lane->system_calls();
  for (int i = 0; i < 100; ++i) {
    put(pair.peer, "x");
    // Nothing of the lane's comes between: reap follows wait.
    lane.lane->wait(now() + kPatience);
    append(lane.buffers, lane.next(receive), got);
  }
  CHECK(lane.lane->system_calls() - before == 200);
  CHECK(lane.cancel(receive) == -ECANCELED);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("what follows urgent data arrives, though no further byte announces it") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.poll();
  put(pair.peer, "abc");
  put_urgent(pair.peer);
  put(pair.peer, "def");
  Bytes got;
  while (got.size() < 6) append(lane.buffers, lane.next(receive), got);
  CHECK(std::string(got.begin(), got.end()) == "abcdef");
  CHECK(lane.cancel(receive) == -ECANCELED);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

// ---- waking and sleeping ---------------------------------------------------------------------

LANE_TEST("the notifier tells of a deadline, and is quiet after a drain") {
  LANE(lane);
  REQUIRE(lane.lane->notifier() >= 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(readable(lane.sleep(now() + 10 * kMillisecond), 60'000));
    lane.lane->clear_notifier();
    CHECK_FALSE(lane.poll());
    CHECK_FALSE(readable(lane.sleep()));
  }
  // One that has passed already rings every time.
  const Deadline past = now();
  for (int i = 0; i < 3; ++i) {
    if (lane.lane->sleep_on_notifier(past)) CHECK(readable(lane.lane->notifier(), 60'000));
    lane.lane->clear_notifier();
    CHECK_FALSE(lane.poll());
  }
}

TEST_CASE("on epoll a deadline that was given up does not ring") {
  Harness<Epoll> lane;
  lane.sleep(now() + 30 * kMillisecond);
  CHECK_FALSE(readable(lane.sleep(), 100));
}

LANE_TEST("the notifier tells of completions and wakes, and is quiet after a drain") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  while (lane.poll()) continue;
  CHECK_FALSE(readable(lane.sleep()));
  Bytes got;
  for (std::size_t i = 1; i <= 20; ++i) {
    if (i % 4 == 0) {
      const int notifier = lane.sleep();
      lane.lane->wake();
      REQUIRE(readable(notifier, 60'000));
      lane.lane->clear_notifier();
      lane.poll();
      CHECK_FALSE(readable(lane.sleep()));
    }
    const int notifier = lane.sleep();
    put(pair.peer, "x");
    REQUIRE(readable(notifier, 60'000));
    lane.lane->clear_notifier();
    append(lane.buffers, lane.next(receive), got);
    CHECK(got.size() == i);
    while (lane.poll()) continue;
    CHECK_FALSE(readable(lane.sleep()));
  }
  CHECK(lane.cancel(receive) == -ECANCELED);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("the notifier tells of file operations") {
  LANE(lane);
  const std::string path = "/dev/zero";
  for (int i = 0; i < 20; ++i) {
    Operation open = opening(path, kOpenRead);
    lane.submit(open);
    while (lane.lane->sleep_on_notifier(kNever)) {
      if (!readable(lane.lane->notifier(), 60'000)) break;
      lane.lane->clear_notifier();
      if (lane.poll()) break;
    }
    const Result fd = lane.next(open).result;
    CHECK(fd >= 0);
    ::close(static_cast<int>(fd));
  }
}

LANE_TEST("sleep_on_notifier says no while there is something to reap") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  put(pair.peer, "abc");
  REQUIRE(readable(pair.ours.fd, 60'000));
  Operation receive = receiving(pair.ours);
  lane.submit(receive);
  const Deadline end = now() + kPatience;
  while (lane.lane->sleep_on_notifier(kNever) && now() < end) {
    CHECK(readable(lane.lane->notifier(), 60'000));
    lane.lane->clear_notifier();
  }
  CHECK(lane.poll());
  Bytes got;
  append(lane.buffers, lane.next(receive), got);
  CHECK(got.size() == 3);
  shut(pair.peer);
  close_all(lane, {pair.ours});
}

// ---- descriptors that change hands -----------------------------------------------------------

LANE_TEST("O5: a reused descriptor number is a new descriptor to a lane that knew the old one") {
  LANE(first);
  Harness<D> second(&first);
  Descriptor number = kNoDescriptor;
  for (int round = 0; round < 50; ++round) {
    Pair pair = connected(*first.driver);
    if (number == kNoDescriptor) number = pair.ours.fd;
    if (pair.ours.fd != number) {  // the same number each time
      REQUIRE(::dup2(static_cast<int>(pair.ours.fd), static_cast<int>(number)) == number);
      ::close(static_cast<int>(pair.ours.fd));
      pair.ours.fd = number;
    }
    Operation receive = receiving(pair.ours, round % 2 == 0);
    first.submit(receive);
    first.poll();
    put(pair.peer, std::to_string(round));
    Bytes got;
    append(first.buffers, first.next(receive), got);
    CHECK(std::string(got.begin(), got.end()) == std::to_string(round));
    // The first lane ends having waited, having been ready, or with the end of the stream seen.
    if (round % 3 == 0) end_writing(pair.peer);
    if (receive.multishot) {
      first.poll();
      const Result result = first.cancel(receive);
      CHECK((result == -ECANCELED || result == 0));
    }
    close_all(second, {pair.ours});
    shut(pair.peer);
  }
}

/// Sends to each as much as there is room for.
void fill(const std::vector<Pair>& pairs) {
  const Bytes much(1 << 20);
  for (const Pair& pair : pairs) {
    const int socket = static_cast<int>(pair.peer);
    while (::send(socket, much.data(), much.size(), MSG_DONTWAIT) > 0) continue;
  }
}

/// Bytes that come before `message` does.
template <typename D>
std::size_t bytes_before(Harness<D>& lane, const Operation& message) {
  std::size_t before = 0;
  const Deadline end = now() + kPatience;
  for (bool came = false; !came;) {
    REQUIRE(now() < end);
    Completion out[256];
    const std::size_t count = lane.lane->reap(out);
    for (std::size_t i = 0; i < count; ++i) {
      if (!out[i].more) lane.submit(*out[i].operation);
      if (out[i].result == -ENOBUFS) continue;
      REQUIRE(out[i].result > 0);
      came = came || out[i].operation == &message;
      if (!came) before += static_cast<std::size_t>(out[i].result);
      lane.buffers.give_back(out[i].buffer);
    }
  }
  return before;
}

LANE_TEST("a message does not wait for the megabytes that others have sent") {
  constexpr std::size_t kOthers = 8;
  constexpr std::size_t kTurn = 128 * 1024;
  LANE(lane, 1024, 32 * 1024);
  std::vector<Pair> others;
  std::vector<Operation> receives(kOthers);
  for (Operation& receive : receives) {
    others.push_back(connected(*lane.driver));
    lane.submit(receive = receiving(others.back().ours, true));
  }
  const Pair modest = connected(*lane.driver);
  Operation message = receiving(modest.ours, true);
  lane.submit(message);
  for (int round = 0; round < 30; ++round) {
    fill(others);
    put(modest.peer, "x");
    const std::size_t before = bytes_before(lane, message);
    // What each brings is not known at first.
    if (round >= 10) CHECK(before <= kOthers * kTurn);
  }
  for (const Pair& other : others) shut(other.peer);
  shut(modest.peer);
  const Deadline end = now() + kPatience;
  for (std::size_t ended = 0; ended <= kOthers;) {
    REQUIRE(now() < end);
    Completion out[256];
    const std::size_t count = lane.lane->reap(out);
    for (std::size_t i = 0; i < count; ++i) {
      if (out[i].result > 0) lane.buffers.give_back(out[i].buffer);
      if (out[i].more) continue;
      if (out[i].result > 0) {
        lane.submit(*out[i].operation);
      } else {
        ++ended;
      }
    }
  }
  for (const Pair& other : others) close_all(lane, {other.ours});
  close_all(lane, {modest.ours});
}

}  // namespace
