// What every Linux lane does, driver by driver. Nothing here asserts a time: a test waits for what
// has to come, and gives up only after kPatience.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "driver/driver.h"

namespace {

using namespace cp::driver;
using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kPatience = 60'000 * kMillisecond;

struct Epoll {
  static constexpr const char* name = "epoll";
};
struct IoUring {
  static constexpr const char* name = "io_uring";
};

#define LANE_TEST(title) TEST_CASE_TEMPLATE(title, D, Epoll, IoUring)
/// Makes the lane `name`, or leaves the test where the driver can't be had.
#define LANE(name, ...)                 \
  if (!Harness<D>::available()) return; \
  Harness<D> name { __VA_ARGS__ }

/// Node ignores SIGPIPE; so does this program.
const bool sigpipe_ignored = ::signal(SIGPIPE, SIG_IGN) != SIG_ERR;

class TestBuffers final : public BufferSource {
 public:
  TestBuffers(std::uint32_t count, std::uint32_t size) : size_(size), memory_(count * size) {
    for (std::uint32_t i = 0; i < count; ++i) free_.push_back(i);
  }

  bool available() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return !free_.empty();
  }

  bool take(Buffer& out) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return false;
    const std::uint32_t index = free_.back();
    free_.pop_back();
    out = {0, index * size_, memory_.data() + index * size_, size_};
    return true;
  }

  void give_back(const Buffer& buffer) override {
    std::lock_guard<std::mutex> lock(mutex_);
    REQUIRE(buffer.chunk == 0);
    free_.push_back(buffer.offset / size_);
    REQUIRE(free_.size() * size_ <= memory_.size());
  }

  std::uint32_t allowance(std::uint32_t held) override {
    return held + static_cast<std::uint32_t>(available());
  }
  std::uint32_t buffer_size() const override { return size_; }
  bool chunk(std::uint32_t index, Slice& out) const override {
    if (index != 0) return false;
    out = {const_cast<std::uint8_t*>(memory_.data()), memory_.size()};
    return true;
  }

  std::size_t available() {
    std::lock_guard<std::mutex> lock(mutex_);
    return free_.size();
  }
  std::size_t total() const { return memory_.size() / size_; }

 private:
  mutable std::mutex mutex_;
  const std::uint32_t size_;
  Bytes memory_;
  std::vector<std::uint32_t> free_;
};

std::unique_ptr<Driver> make(const char* name, Result& error, std::string& reason) {
  error = 0;
  return make_driver(name, 2, error, reason);
}

/// A lane of a driver of its own, and the patience to wait for what it owes.
template <typename D>
class Harness {
 public:
  explicit Harness(std::uint32_t count = 64, std::uint32_t size = 4096)
      : own_buffers_(new TestBuffers(count, size)), buffers(*own_buffers_) {
    Result error = 0;
    std::string reason;
    own_driver_ = make(D::name, error, reason);
    driver = own_driver_.get();
    REQUIRE(driver != nullptr);
    lane = driver->make_lane(buffers, error);
    REQUIRE(error == 0);
    REQUIRE(lane != nullptr);
  }

  /// Another lane on the driver and the buffers of `other`.
  explicit Harness(Harness* other) : driver(other->driver), buffers(other->buffers) {
    Result error = 0;
    lane = driver->make_lane(buffers, error);
    REQUIRE(lane != nullptr);
  }

  static bool available() {
    static const bool found = [] {
      Result error = 0;
      std::string reason;
      if (make(D::name, error, reason) != nullptr) return true;
      MESSAGE("skipping ", std::string(D::name), ", which can't be had here: ", reason);
      return false;
    }();
    return found;
  }

  Operation& submit(Operation& operation) {
    lane->submit(&operation);
    return operation;
  }

  /// The next completion of `operation`, others kept for later.
  Completion next(const Operation& operation) {
    const Deadline end = now() + kPatience;
    for (;;) {
      for (auto it = kept_.begin(); it != kept_.end(); ++it) {
        if (it->operation != &operation) continue;
        const Completion found = *it;
        kept_.erase(it);
        return found;
      }
      REQUIRE_MESSAGE(now() < end, "a completion is missing");
      if (!poll()) lane->wait(end);
    }
  }

  /// Goes to sleep on the notifier, once there is nothing left to reap.
  int sleep(Deadline deadline = kNever) {
    const Deadline end = now() + kPatience;
    while (!lane->sleep_on_notifier(deadline) && now() < end) poll();
    REQUIRE(now() < end);
    return lane->notifier();
  }

  bool has(const Operation& operation) const {
    return std::any_of(kept_.begin(), kept_.end(),
                       [&](const Completion& it) { return it.operation == &operation; });
  }

  Result run(Operation& operation) {
    const Completion completion = next(submit(operation));
    CHECK_FALSE(completion.more);
    return completion.result;
  }

  /// Whether anything came.
  bool poll(std::size_t limit = 16) {
    Completion out[16];
    const std::size_t count = lane->reap(std::span(out, limit));
    kept_.insert(kept_.end(), out, out + count);
    return count > 0;
  }

  /// Gives the lane every occasion to complete something, and checks that it doesn't.
  void expect_silence() {
    for (int i = 0; i < 20; ++i) {
      lane->wait(now() + kMillisecond);
      CHECK_FALSE(poll());
    }
  }

  Result cancel(Operation& operation) {
    lane->cancel(&operation);
    return next(operation).result;
  }

 private:
  std::unique_ptr<TestBuffers> own_buffers_;
  std::unique_ptr<Driver> own_driver_;
  std::deque<Completion> kept_;

 public:
  Driver* driver = nullptr;
  TestBuffers& buffers;
  std::unique_ptr<Lane> lane;
};

// ---- operations ---------------------------------------------------------------------------------

struct Handle {
  Descriptor fd = kNoDescriptor;
  std::uint64_t id = 0;
};

Handle handle(Descriptor fd) {
  static std::atomic<std::uint64_t> last{0};
  return {fd, ++last};
}

Operation on(const Handle& target, Opcode code) {
  Operation operation;
  operation.code = code;
  operation.descriptor = target.fd;
  operation.descriptor_id = target.id;
  return operation;
}

Operation opening(const std::string& path, std::uint32_t flags) {
  Operation operation;
  operation.code = Opcode::kOpen;
  operation.path = path.c_str();
  operation.flags = flags;
  operation.mode = 0600;
  return operation;
}

Operation moving(const Handle& target, Opcode code, std::vector<Slice>& slices,
                 std::int64_t offset = 0) {
  Operation operation = on(target, code);
  operation.slices = slices.data();
  operation.slice_count = static_cast<std::uint32_t>(slices.size());
  operation.offset = offset;
  return operation;
}

Operation streaming(const Handle& target, Opcode code, std::vector<Slice>& slices,
                    bool pollable = true) {
  Operation operation = moving(target, code, slices);
  operation.stream = true;
  operation.pollable = pollable;
  return operation;
}

Operation closing(const Handle& target, bool stream) {
  Operation operation = on(target, Opcode::kClose);
  operation.stream = operation.pollable = stream;
  return operation;
}

Operation receiving(const Handle& target, bool multishot = false) {
  Operation operation = on(target, Opcode::kReceive);
  operation.multishot = multishot;
  return operation;
}

Slice slice(Bytes& bytes) { return {bytes.data(), bytes.size()}; }
Slice slice(std::string& text) { return {text.data(), text.size()}; }

Bytes random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// ---- the world around ---------------------------------------------------------------------------

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* base = ::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/lane-test-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryDirectory() {
    for (const auto& name : names_) ::unlink(name.c_str());
    ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) {
    names_.push_back(path_ + "/" + name);
    return names_.back();
  }
  std::string fifo(const std::string& name) {
    const std::string path = file(name);
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    return path;
  }

 private:
  std::string path_;
  std::vector<std::string> names_;
};

SocketAddress loopback(std::uint16_t port = 0) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  SocketAddress out;
  std::memcpy(out.bytes, &address, sizeof address);
  out.length = sizeof address;
  return out;
}

const sockaddr* raw(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(address.bytes);
}

struct Listener {
  Handle handle;
  SocketAddress address;
};

Listener listen(Driver& driver, int backlog = 511) {
  ListenOptions options;
  options.address = loopback();
  options.backlog = backlog;
  const Result fd = driver.listen(options);
  REQUIRE(fd >= 0);
  Listener listener{handle(fd), {}};
  REQUIRE(driver.address(fd, false, listener.address) == 0);
  return listener;
}

/// A blocking socket of the test's own, connected to `address`.
int peer_of(const SocketAddress& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  REQUIRE(::connect(fd, raw(address), address.length) == 0);
  return fd;
}

struct Pair {
  Handle ours;
  int peer = -1;
};

Pair connected(Driver& driver) {
  const Listener listener = listen(driver);
  Pair pair;
  pair.peer = peer_of(listener.address);
  pollfd ready = {static_cast<int>(listener.handle.fd), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 60'000) == 1);
  pair.ours = handle(::accept4(ready.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  REQUIRE(pair.ours.fd >= 0);
  driver.discard(listener.handle.fd);
  return pair;
}

void put(int fd, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  while (size > 0) {
    const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0) return;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

void put(int fd, const std::string& text) { put(fd, text.data(), text.size()); }

/// Closes so that the peer sees a reset.
void reset(int fd) {
  const linger now_and_hard = {1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_and_hard, sizeof now_and_hard);
  ::close(fd);
}

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) != -1;
  return count;
}

bool readable(int fd, int milliseconds = 0) {
  pollfd ready = {fd, POLLIN, 0};
  return ::poll(&ready, 1, milliseconds) == 1;
}

/// Takes the bytes of a completion, and gives its buffer back.
void append(TestBuffers& buffers, const Completion& completion, Bytes& out) {
  if (completion.result <= 0) return;
  REQUIRE(completion.buffer.data != nullptr);
  REQUIRE(completion.result <= static_cast<Result>(completion.buffer.size));
  out.insert(out.end(), completion.buffer.data, completion.buffer.data + completion.result);
  buffers.give_back(completion.buffer);
}

/// Receives, re-arming after ENOBUFS, until the end of the stream: 0 or the error.
template <typename D>
Result receive_all(Harness<D>& lane, const Handle& from, bool multishot, Bytes& out) {
  for (;;) {
    Operation operation = receiving(from, multishot);
    lane.submit(operation);
    Completion completion;
    do {
      completion = lane.next(operation);
      append(lane.buffers, completion, out);
    } while (completion.more);
    const bool again = completion.result > 0 || completion.result == -ENOBUFS;
    if (!again) return completion.result;
    if (completion.result == -ENOBUFS) lane.lane->refill();
  }
}

template <typename D>
Handle open_or_fail(Harness<D>& lane, Operation operation, FileKind kind) {
  const Result fd = lane.run(operation);
  REQUIRE(fd >= 0);
  CHECK(operation.file_kind == kind);
  return handle(fd);
}

template <typename D>
void close_all(Harness<D>& lane, std::initializer_list<Handle> handles, bool stream = true) {
  for (const Handle& it : handles) {
    Operation operation = closing(it, stream);
    CHECK(lane.run(operation) == 0);
  }
}

}  // namespace

TEST_SUITE_BEGIN("lane");

// ---- files --------------------------------------------------------------------------------------

LANE_TEST("a file is written, synced, read, truncated, changed, allocated, described and closed") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.file("file");
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate | kOpenExclusive),
                   FileKind::kRegular);
  CHECK((::fcntl(static_cast<int>(file.fd), F_GETFD) & FD_CLOEXEC) != 0);

  std::string text = "completion";
  std::vector<Slice> out{slice(text)};
  Operation write = moving(file, Opcode::kWrite, out, 5);
  CHECK(lane.run(write) == 10);
  for (const Opcode code : {Opcode::kSync, Opcode::kDataSync}) {
    Operation sync = on(file, code);
    CHECK(lane.run(sync) == 0);
  }
  Bytes back(32);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in, 5);
  CHECK(lane.run(read) == 10);
  CHECK(std::memcmp(back.data(), text.data(), 10) == 0);

  Operation truncate = on(file, Opcode::kTruncate);
  truncate.offset = 7;
  CHECK(lane.run(truncate) == 0);
  FileStatus status;
  Operation stat = on(file, Opcode::kStat);
  stat.status = &status;
  CHECK(lane.run(stat) == 0);
  CHECK(status.size == 7);
  CHECK(status.links == 1);
  CHECK(S_ISREG(status.mode));
  CHECK(status.modified > 1'000'000'000'000'000'000);

  Operation mode = on(file, Opcode::kSetMode);
  mode.offset = 0400;
  CHECK(lane.run(mode) == 0);
  Operation owner = on(file, Opcode::kSetOwner);
  owner.offset = owner.length = UINT32_MAX;
  CHECK(lane.run(owner) == 0);
  Operation times = on(file, Opcode::kSetTimes);
  times.offset = 1'000'002;
  times.length = static_cast<std::uint64_t>(std::int64_t{-3});
  CHECK(lane.run(times) == 0);
  CHECK(lane.run(stat) == 0);
  CHECK((status.mode & 0777) == 0400);
  CHECK(status.accessed == 1'000'002'000);
  CHECK(status.modified == -3000);

  Operation allocate = on(file, Opcode::kAllocate);
  allocate.offset = 0;
  allocate.length = 10'000;
  const Result allocated = lane.run(allocate);
  if (allocated != -EOPNOTSUPP) {
    CHECK(allocated == 0);
    CHECK(lane.run(stat) == 0);
    CHECK(status.size == 10'000);
  }
  close_all(lane, {file}, false);
  CHECK(::fcntl(static_cast<int>(file.fd), F_GETFD) == -1);
}

LANE_TEST("vectored transfers go through the slices in order") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.file("file");
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  std::string a = "one", b = "", c = "three";
  std::vector<Slice> out{slice(a), slice(b), slice(c)};
  Operation write = moving(file, Opcode::kWrite, out);
  CHECK(lane.run(write) == 8);
  std::string x(2, '.'), y(6, '.');
  std::vector<Slice> in{slice(x), slice(y)};
  Operation read = moving(file, Opcode::kRead, in);
  CHECK(lane.run(read) == 8);
  CHECK(x + y == "onethree");
  close_all(lane, {file}, false);
}

LANE_TEST("O8: reading at the end of a file is a result of 0") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.file("file");
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  Bytes back(8);
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in, 100);
  CHECK(lane.run(read) == 0);
  close_all(lane, {file}, false);
}

LANE_TEST("opening fails as open(2) does") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string missing = directory.file("missing");
  Operation absent = opening(missing, kOpenRead);
  CHECK(lane.run(absent) == -ENOENT);
  Operation writing = opening(directory.path(), kOpenWrite);
  CHECK(lane.run(writing) == -EISDIR);
  Operation twice = opening(missing, kOpenWrite | kOpenCreate | kOpenExclusive);
  const Result fd = lane.run(twice);
  CHECK(fd >= 0);
  CHECK(lane.run(twice) == -EEXIST);
  close_all(lane, {handle(fd)}, false);
}

LANE_TEST("a directory opens and does not read") {
  LANE(lane);
  TemporaryDirectory directory;
  const Handle opened =
      open_or_fail(lane, opening(directory.path(), kOpenRead), FileKind::kDirectory);
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

LANE_TEST("many file operations at once complete once each") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.file("file");
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  constexpr std::size_t kCount = 200, kSize = 100;
  Bytes content = random_bytes(kCount * kSize, 1);
  std::vector<std::vector<Slice>> slices;
  std::vector<Operation> writes;
  for (std::size_t i = 0; i < kCount; ++i) {
    slices.push_back({{content.data() + i * kSize, kSize}});
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    writes.push_back(moving(file, Opcode::kWrite, slices[i], static_cast<Result>(i * kSize)));
  }
  for (auto& write : writes) lane.submit(write);
  for (auto& write : writes) CHECK(lane.next(write).result == kSize);
  Bytes back(content.size());
  std::vector<Slice> in{slice(back)};
  Operation read = moving(file, Opcode::kRead, in);
  CHECK(lane.run(read) == static_cast<Result>(content.size()));
  CHECK(back == content);
  close_all(lane, {file}, false);
}

LANE_TEST("O4: cancelled file operations complete once, either way") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.file("file");
  const Handle file =
      open_or_fail(lane, opening(path, kOpenRead | kOpenWrite | kOpenCreate), FileKind::kRegular);
  std::vector<Operation> syncs(100, on(file, Opcode::kSync));
  for (auto& sync : syncs) lane.submit(sync);
  lane.poll();
  for (auto& sync : syncs) lane.lane->cancel(&sync);
  for (auto& sync : syncs) {
    const Result result = lane.next(sync).result;
    CHECK((result == 0 || result == -ECANCELED));
  }
  lane.expect_silence();
  close_all(lane, {file}, false);
}

// ---- FIFOs and pipes ----------------------------------------------------------------------------

LANE_TEST("a FIFO's reader waits for its first writer, and ends with its last") {
  LANE(lane);
  TemporaryDirectory directory;
  const std::string path = directory.fifo("fifo");
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
  TemporaryDirectory directory;
  const std::string path = directory.fifo("fifo");
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
  TemporaryDirectory directory;
  const std::string path = directory.fifo("fifo");
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
  CHECK((::fcntl(static_cast<int>(copy), F_GETFD) & FD_CLOEXEC) != 0);
  lane.driver->discard(copy);
  ::close(ends[0]);
  ::close(ends[1]);
  CHECK(lane.driver->duplicate(ends[0], kind) == -EBADF);
}

// ---- connections --------------------------------------------------------------------------------

LANE_TEST("a connection is made, accepted, used and closed") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  Operation accept = on(listener.handle, Opcode::kAccept);
  lane.submit(accept);
  lane.expect_silence();

  SocketAddress target = listener.address;
  Operation connect = on({}, Opcode::kConnect);
  connect.address = &target;
  lane.submit(connect);
  const Handle client = handle(lane.next(connect).result);
  const Handle server = handle(lane.next(accept).result);
  REQUIRE(client.fd >= 0);
  REQUIRE(server.fd >= 0);
  SocketAddress local, remote;
  CHECK(lane.driver->address(client.fd, false, local) == 0);
  CHECK(lane.driver->address(server.fd, true, remote) == 0);
  CHECK(std::memcmp(local.bytes, remote.bytes, local.length) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kNoDelay, 1) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kKeepAlive, 30) == 0);
  CHECK(lane.driver->set_option(client.fd, SocketOption::kKeepAlive, 0) == 0);

  std::string hello = "hello, ", world = "world";
  std::vector<Slice> out{slice(hello), slice(world)};
  Operation receive = receiving(server);
  lane.submit(receive);
  Operation send = moving(client, Opcode::kSend, out);
  CHECK(lane.run(send) == 12);
  const Completion got = lane.next(receive);
  CHECK(got.result == 12);
  Bytes bytes;
  append(lane.buffers, got, bytes);
  CHECK(std::string(bytes.begin(), bytes.end()) == "hello, world");
  close_all(lane, {client, server, listener.handle});
}

LANE_TEST("one multishot accept takes every connection, however small the batches") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  Operation accept = on(listener.handle, Opcode::kAccept);
  accept.multishot = true;
  lane.submit(accept);
  std::vector<int> peers;
  for (int i = 0; i < 50; ++i) peers.push_back(peer_of(listener.address));
  for (int i = 0; i < 50; ++i) {
    lane.poll(1);
    const Completion completion = lane.next(accept);
    REQUIRE(completion.result >= 0);
    CHECK(completion.more);
    ::close(static_cast<int>(completion.result));
  }
  CHECK(lane.cancel(accept) == -ECANCELED);
  for (const int peer : peers) ::close(peer);
  close_all(lane, {listener.handle});
}

LANE_TEST("a refused connection says so") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  close_all(lane, {listener.handle});
  SocketAddress target = listener.address;
  Operation connect = on({}, Opcode::kConnect);
  connect.address = &target;
  const int before = open_descriptors();
  CHECK(lane.run(connect) == -ECONNREFUSED);
  CHECK(lane.run(connect) == -ECONNREFUSED);
  CHECK(open_descriptors() == before);
}

LANE_TEST("O4: what waits can be cancelled, and completes once") {
  LANE(lane);
  const Listener listener = listen(*lane.driver);
  for (const bool multishot : {false, true}) {
    Operation accept = on(listener.handle, Opcode::kAccept);
    accept.multishot = multishot;
    lane.submit(accept);
    CHECK(lane.cancel(accept) == -ECANCELED);  // before it was started
    lane.submit(accept);
    lane.expect_silence();
    CHECK(lane.cancel(accept) == -ECANCELED);
  }
  const Pair pair = connected(*lane.driver);
  for (const bool multishot : {false, true}) {
    Operation receive = receiving(pair.ours, multishot);
    lane.submit(receive);
    lane.expect_silence();
    CHECK(lane.cancel(receive) == -ECANCELED);
  }
  lane.expect_silence();
  ::close(pair.peer);
  close_all(lane, {pair.ours, listener.handle});
}

LANE_TEST("a connection that is never answered can be cancelled") {
  LANE(lane);
  // Connections beyond the backlog get no answer.
  const Listener listener = listen(*lane.driver, 0);
  SocketAddress target = listener.address;
  const int before = open_descriptors();
  std::vector<Operation> connects(4, on({}, Opcode::kConnect));
  for (auto& connect : connects) {
    connect.address = &target;
    lane.submit(connect);
  }
  for (int i = 0; i < 20; ++i) {
    lane.lane->wait(now() + kMillisecond);
    lane.poll();
  }
  int cancelled = 0;
  for (auto& connect : connects) {
    lane.lane->cancel(&connect);
    const Result result = lane.next(connect).result;
    if (result == -ECANCELED) ++cancelled;
    if (result >= 0) ::close(static_cast<int>(result));
  }
  CHECK(cancelled >= 2);
  CHECK(open_descriptors() == before);
  close_all(lane, {listener.handle});
}

// ---- receiving and sending ----------------------------------------------------------------------

LANE_TEST("D9: a multishot receive yields the stream byte for byte, and O8: tells how it ended") {
  for (std::uint32_t seed = 1; seed <= 12; ++seed) {
    LANE(lane, 8, 1000);
    const bool resets = seed % 3 == 0;
    const bool multishot = seed % 4 != 0;
    const Pair pair = connected(*lane.driver);
    const Bytes content = random_bytes(300'000, seed);
    std::thread sender([&] {
      std::mt19937 random(seed);
      for (std::size_t at = 0; at < content.size();) {
        const std::size_t size = std::min<std::size_t>(1 + random() % 5000, content.size() - at);
        put(pair.peer, content.data() + at, size);
        at += size;
        if (random() % 4 == 0) std::this_thread::yield();
      }
      resets ? reset(pair.peer) : static_cast<void>(::close(pair.peer));
    });
    Bytes got;
    const Result end = receive_all(lane, pair.ours, multishot, got);
    sender.join();
    CHECK(end == (resets ? -ECONNRESET : 0));
    // A reset throws away what was still under way.
    REQUIRE(got.size() <= content.size());
    if (!resets) CHECK(got.size() == content.size());
    CHECK(std::memcmp(got.data(), content.data(), got.size()) == 0);
    close_all(lane, {pair.ours});
  }
}

LANE_TEST("a receive into memory of one's own takes no buffer") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Bytes back(5);
  std::vector<Slice> in{slice(back)};
  Operation receive = moving(pair.ours, Opcode::kReceive, in);
  lane.submit(receive);
  lane.expect_silence();
  put(pair.peer, "12345678");
  Completion first = lane.next(receive);
  CHECK(first.result == 5);
  CHECK(first.buffer.data == nullptr);
  CHECK(std::memcmp(back.data(), "12345", 5) == 0);
  CHECK(lane.run(receive) == 3);
  CHECK(std::memcmp(back.data(), "678", 3) == 0);
  ::close(pair.peer);
  CHECK(lane.run(receive) == 0);
  close_all(lane, {pair.ours});
}

LANE_TEST("M1: a receive without a free buffer fails with ENOBUFS, loses nothing, and can retry") {
  LANE(lane, 4, 100);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(1500, 3);
  put(pair.peer, content.data(), content.size());
  for (const bool multishot : {true, false}) {
    Bytes got;
    std::vector<Completion> held;
    Operation receive = receiving(pair.ours, multishot);
    Completion last;
    do {
      lane.submit(receive);
      do {
        last = lane.next(receive);
        if (last.result > 0) held.push_back(last);
      } while (last.more);
    } while (last.result > 0);
    CHECK(last.result == -ENOBUFS);
    CHECK(last.buffer.data == nullptr);
    CHECK(held.size() == 4);
    for (const Completion& it : held) append(lane.buffers, it, got);
    CHECK(lane.lane->refill());
    const std::size_t start = multishot ? 0 : 400;
    REQUIRE(got.size() == 400);
    CHECK(std::memcmp(got.data(), content.data() + start, 400) == 0);
  }
  ::close(pair.peer);
  Bytes rest;
  CHECK(receive_all(lane, pair.ours, true, rest) == 0);
  REQUIRE(rest.size() == 700);
  CHECK(std::memcmp(rest.data(), content.data() + 800, 700) == 0);
  close_all(lane, {pair.ours});
}

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
  ::close(pair.peer);
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
  ::close(pair.peer);
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
  ::close(pair.peer);
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
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("O8: a reset is ECONNRESET, not an orderly end") {
  LANE(lane);
  for (const bool multishot : {false, true}) {
    const Pair waiting = connected(*lane.driver);
    Operation receive = receiving(waiting.ours, multishot);
    lane.submit(receive);
    lane.expect_silence();
    reset(waiting.peer);
    CHECK(lane.next(receive).result == -ECONNRESET);

    const Pair late = connected(*lane.driver);
    reset(late.peer);
    Operation after = receiving(late.ours, multishot);
    CHECK(lane.run(after) == -ECONNRESET);
    close_all(lane, {waiting.ours, late.ours});
  }
}

LANE_TEST("O8: a half-closed connection ends with 0 and still sends") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.expect_silence();
  put(pair.peer, "last words");
  ::shutdown(pair.peer, SHUT_WR);
  Bytes got;
  Completion completion;
  while ((completion = lane.next(receive)).more) append(lane.buffers, completion, got);
  CHECK(completion.result == 0);
  CHECK(got.size() == 10);

  std::string answer = "answer";
  std::vector<Slice> out{slice(answer)};
  Operation send = moving(pair.ours, Opcode::kSend, out);
  CHECK(lane.run(send) == 6);
  Operation shutdown = on(pair.ours, Opcode::kShutdown);
  shutdown.flags = SHUT_WR;
  CHECK(lane.run(shutdown) == 0);
  char back[16];
  CHECK(::recv(pair.peer, back, sizeof back, MSG_WAITALL) == 6);
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("what follows urgent data arrives, though no further byte announces it") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.poll();
  put(pair.peer, "abc");
  REQUIRE(::send(pair.peer, "!", 1, MSG_OOB) == 1);
  put(pair.peer, "def");
  Bytes got;
  while (got.size() < 6) append(lane.buffers, lane.next(receive), got);
  CHECK(std::string(got.begin(), got.end()) == "abcdef");
  CHECK(lane.cancel(receive) == -ECANCELED);
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a send waits for a slow reader, while the same socket receives") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  Bytes content = random_bytes(4'000'000, 4), back(content.size());
  std::atomic<bool> go{false};
  std::thread reader([&] {
    while (!go.load()) std::this_thread::yield();
    std::size_t at = 0;
    while (at < back.size()) {
      const ssize_t got = ::recv(pair.peer, back.data() + at, back.size() - at, 0);
      if (got <= 0) break;
      at += static_cast<std::size_t>(got);
      put(pair.peer, "k");
    }
    ::shutdown(pair.peer, SHUT_WR);
  });
  std::vector<Slice> out(1);
  Operation send = moving(pair.ours, Opcode::kSend, out);
  for (std::size_t sent = 0; sent < content.size();) {
    out[0] = {content.data() + sent, content.size() - sent};
    lane.submit(send);
    // The reader starts when the socket has long been full.
    for (int i = 0; i < 20 && !go.load(); ++i) {
      lane.lane->wait(now() + kMillisecond);
      lane.poll();
    }
    if (!lane.has(send)) go.store(true);
    const Result count = lane.next(send).result;
    REQUIRE(count > 0);
    sent += static_cast<std::size_t>(count);
  }
  Bytes acknowledged;
  Completion completion;
  do {
    completion = lane.next(receive);
    append(lane.buffers, completion, acknowledged);
    if (completion.result != -ENOBUFS) continue;
    CHECK(lane.lane->refill());
    lane.submit(receive);
  } while (completion.more || completion.result == -ENOBUFS);
  CHECK(completion.result == 0);
  reader.join();
  CHECK(back == content);
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a send that waits can be cancelled") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Bytes content(1'000'000);
  std::vector<Slice> out{slice(content)};
  std::deque<Operation> sends;
  // Until one of them has to wait.
  for (;;) {
    Operation& send = sends.emplace_back(moving(pair.ours, Opcode::kSend, out));
    lane.submit(send);
    bool completed = false;
    for (int i = 0; i < 20 && !completed; ++i) {
      lane.lane->wait(now() + kMillisecond);
      completed = lane.poll();
    }
    if (!completed) break;
    CHECK(lane.next(send).result > 0);
  }
  const Result result = lane.cancel(sends.back());
  CHECK((result == -ECANCELED || result > 0));
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("O4: bytes that arrived before a cancel are not lost") {
  LANE(lane, 64, 64);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(20'000, 5);
  std::mt19937 random(5);
  Bytes got;
  for (std::size_t at = 0; at < content.size(); at += 100) {
    Operation receive = receiving(pair.ours, random() % 2 == 0);
    lane.submit(receive);
    if (random() % 2 == 0) lane.lane->wait(now());
    put(pair.peer, content.data() + at, 100);
    if (random() % 2 == 0) lane.lane->wait(now() + kMillisecond);
    lane.lane->cancel(&receive);
    Completion completion;
    do {
      completion = lane.next(receive);
      append(lane.buffers, completion, got);
    } while (completion.more);
    CHECK((completion.result == -ECANCELED || completion.result > 0));
    lane.lane->refill();
  }
  ::shutdown(pair.peer, SHUT_WR);
  CHECK(receive_all(lane, pair.ours, true, got) == 0);
  CHECK(got == content);
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

// ---- files to sockets ---------------------------------------------------------------------------

/// A file of its own that goes with the test.
class Content {
 public:
  explicit Content(const Bytes& bytes) {
    fd = ::open(directory_.file("content").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    REQUIRE(::write(static_cast<int>(fd), bytes.data(), bytes.size()) ==
            static_cast<ssize_t>(bytes.size()));
  }
  ~Content() { ::close(static_cast<int>(fd)); }

  /// Takes the pages out of the cache, as far as the file system lets it.
  void forget() const {
    REQUIRE(::fdatasync(static_cast<int>(fd)) == 0);
    ::posix_fadvise(static_cast<int>(fd), 0, 0, POSIX_FADV_DONTNEED);
  }

  Descriptor fd = kNoDescriptor;

 private:
  TemporaryDirectory directory_;
};

Operation sending_file(const Handle& socket, Descriptor file, std::int64_t offset,
                       std::uint64_t length) {
  Operation operation = on(socket, Opcode::kSendFile);
  operation.file = file;
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
  Reader(int fd, std::size_t count, bool at_once = true) : bytes(count), go(at_once) {
    thread_ = std::thread([this, fd] {
      while (!go.load()) std::this_thread::yield();
      std::size_t at = 0;
      while (at < bytes.size()) {
        const ssize_t got = ::recv(fd, bytes.data() + at, bytes.size() - at, 0);
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
  const Content content(bytes);
  const auto size = static_cast<std::int64_t>(bytes.size());
  for (const bool cached : {true, false}) {
    for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{4095}, size - 3, size}) {
      const Pair pair = connected(*lane.driver);
      if (!cached) content.forget();
      Reader reader(pair.peer, bytes.size() + 1);
      CHECK(send_all(lane, sending_file(pair.ours, content.fd, offset, 1u << 30)) == size - offset);
      close_all(lane, {pair.ours});
      CHECK(reader.join() == Bytes(bytes.begin() + offset, bytes.end()));
      ::close(pair.peer);
    }
  }
}

LANE_TEST("of a file no more is sent than was asked for") {
  LANE(lane);
  const Bytes bytes = random_bytes(1'000'000, 8);
  const Content content(bytes);
  const Pair pair = connected(*lane.driver);
  Reader reader(pair.peer, bytes.size());
  CHECK(send_all(lane, sending_file(pair.ours, content.fd, 100, 700'000)) == 700'000);
  CHECK(send_all(lane, sending_file(pair.ours, content.fd, 100, 0)) == 0);
  Operation beyond = sending_file(pair.ours, content.fd, 2'000'000, 10);
  CHECK(lane.run(beyond) == 0);
  close_all(lane, {pair.ours});
  CHECK(reader.join() == Bytes(bytes.begin() + 100, bytes.begin() + 700'100));
  ::close(pair.peer);
}

LANE_TEST("a file waits for a slow reader, cached or not, while the same socket receives") {
  LANE(lane);
  const Bytes bytes = random_bytes(4'000'000, 9);
  const Content content(bytes);
  for (const bool cached : {true, false}) {
    const Pair pair = connected(*lane.driver);
    CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
    if (!cached) content.forget();
    Reader reader(pair.peer, bytes.size(), false);
    Operation receive = receiving(pair.ours, true);
    lane.submit(receive);
    Operation send = sending_file(pair.ours, content.fd, 0, bytes.size());
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
    ::close(pair.peer);
  }
}

LANE_TEST(
    "O4: a file that is being sent can be cancelled anywhere, and what it tells is what went") {
  LANE(lane);
  const Bytes bytes = random_bytes(2'000'000, 10);
  const Content content(bytes);
  std::mt19937 random(10);
  for (int round = 0; round < 60; ++round) {
    const Pair pair = connected(*lane.driver);
    CHECK(lane.driver->set_option(pair.ours.fd, SocketOption::kSendBuffer, 20'000) == 0);
    if (round % 3 == 0) content.forget();
    Reader reader(pair.peer, bytes.size(), round % 2 == 0);
    Operation send = sending_file(pair.ours, content.fd, 0, bytes.size());
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
    ::close(pair.peer);
  }
}

LANE_TEST("a send goes on where a file ended, and the other way round") {
  LANE(lane);
  const Bytes bytes = random_bytes(600'000, 11);
  const Content content(bytes);
  const Pair pair = connected(*lane.driver);
  Reader reader(pair.peer, 3 * (bytes.size() + 4));
  Bytes expected;
  for (int round = 0; round < 3; ++round) {
    content.forget();
    CHECK(send_all(lane, sending_file(pair.ours, content.fd, 0, bytes.size())) == 600'000);
    std::string text = "next";
    std::vector<Slice> out{slice(text)};
    Operation send = moving(pair.ours, Opcode::kSend, out);
    CHECK(lane.run(send) == 4);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    expected.insert(expected.end(), text.begin(), text.end());
  }
  CHECK(reader.join() == expected);
  close_all(lane, {pair.ours});
  ::close(pair.peer);
}

LANE_TEST("sending a file fails as a send does, and for a file that can't be read") {
  LANE(lane);
  const Content content(random_bytes(100'000, 12));
  const Pair pair = connected(*lane.driver);
  reset(pair.peer);
  REQUIRE(readable(static_cast<int>(pair.ours.fd), 60'000));
  Operation first = sending_file(pair.ours, content.fd, 0, 100'000);
  CHECK(lane.run(first) == -ECONNRESET);
  Operation second = sending_file(pair.ours, content.fd, 0, 100'000);
  CHECK(lane.run(second) == -EPIPE);
  close_all(lane, {pair.ours});

  const Pair other = connected(*lane.driver);
  TemporaryDirectory directory;
  const int write_only = ::open(directory.file("w").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(::write(write_only, "bytes", 5) == 5);
  Operation forbidden = sending_file(other.ours, write_only, 0, 5);
  CHECK(lane.run(forbidden) == -EBADF);
  ::close(write_only);
  ::close(other.peer);
  close_all(lane, {other.ours});
}

// ---- waking and sleeping ------------------------------------------------------------------------

LANE_TEST("a wake from another thread ends the wait, each of 100,000 times") {
  LANE(lane);
  constexpr int kRounds = 100'000;
  std::atomic<int> asked{0}, answered{0};
  std::atomic<bool> failed{false};
  std::thread other([&] {
    for (int round = 1; round <= kRounds; ++round) {
      asked.store(round, std::memory_order_relaxed);
      lane.lane->wake();
      while (answered.load(std::memory_order_acquire) < round) {
        if (failed.load()) return;
        if (round % 64 == 0) std::this_thread::yield();
      }
    }
  });
  for (int round = 1; round <= kRounds; ++round) {
    const Deadline end = now() + kPatience;
    do {  // waits first: each round has a wake of its own, which no earlier wait can have used up
      lane.lane->wait(end);
      lane.poll();
    } while (asked.load(std::memory_order_relaxed) < round && now() < end);
    if (asked.load(std::memory_order_relaxed) < round) break;
    answered.store(round, std::memory_order_release);
  }
  failed.store(true);
  other.join();
  CHECK(answered.load() == kRounds);
}

LANE_TEST("wakes from many threads are neither lost nor owed") {
  LANE(lane);
  constexpr int kThreads = 3, kEach = 20'000;
  std::atomic<int> posted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        posted.fetch_add(1, std::memory_order_relaxed);
        lane.lane->wake();
      }
    });
  }
  const Deadline end = now() + kPatience;
  while (posted.load(std::memory_order_relaxed) < kThreads * kEach && now() < end) {
    lane.lane->wait(end);
    lane.poll();
  }
  CHECK(posted.load() == kThreads * kEach);
  for (auto& thread : threads) thread.join();
  lane.poll();
  lane.expect_silence();
}

LANE_TEST("a wake before the wait ends it too") {
  LANE(lane);
  lane.lane->wake();
  lane.lane->wait(kNever);
  CHECK_FALSE(lane.poll());
}

LANE_TEST("a wait ends with its deadline") {
  LANE(lane);
  const Deadline deadline = now() + 20 * kMillisecond;
  while (now() < deadline) lane.lane->wait(deadline);
  lane.lane->wait(deadline);
  lane.lane->wait(0);
  CHECK_FALSE(lane.poll());
}

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
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("a loop that only reaps gets on") {
  LANE(lane);
  const Pair pair = connected(*lane.driver);
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  const Deadline end = now() + kPatience;
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(lane.poll());
    put(pair.peer, "x");
    while (!lane.poll() && now() < end) continue;
    Bytes got;
    append(lane.buffers, lane.next(receive), got);
    CHECK(got.size() == 1);
  }
  CHECK(lane.cancel(receive) == -ECANCELED);
  ::close(pair.peer);
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
  REQUIRE(readable(static_cast<int>(pair.ours.fd), 60'000));
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
  ::close(pair.peer);
  close_all(lane, {pair.ours});
}

LANE_TEST("what wait has started is handed out by reaps of one, in order, cancelled or not") {
  LANE(lane, 64, 16);
  const Pair pair = connected(*lane.driver);
  const Bytes content = random_bytes(200, 6);
  put(pair.peer, content.data(), content.size());
  REQUIRE(readable(static_cast<int>(pair.ours.fd), 60'000));
  Operation receive = receiving(pair.ours, true);
  lane.submit(receive);
  lane.lane->wait(now() + kPatience);
  lane.lane->cancel(&receive);
  Bytes got;
  Completion completion;
  do {
    lane.poll(1);
    completion = lane.next(receive);
    append(lane.buffers, completion, got);
  } while (completion.more);
  lane.expect_silence();
  CHECK(std::memcmp(got.data(), content.data(), got.size()) == 0);
  ::close(pair.peer);
  receive_all(lane, pair.ours, true, got);
  CHECK(got == content);
  close_all(lane, {pair.ours});
}

// ---- descriptors that change hands --------------------------------------------------------------

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
    if (round % 3 == 0) ::shutdown(pair.peer, SHUT_WR);
    if (receive.multishot) {
      first.poll();
      const Result result = first.cancel(receive);
      CHECK((result == -ECANCELED || result == 0));
    }
    close_all(second, {pair.ours});
    ::close(pair.peer);
  }
}

LANE_TEST("a lane that lost a socket to another one, and its events, can have it back") {
  LANE(first);
  Harness<D> second(&first);
  const Pair pair = connected(*first.driver);
  for (int round = 0; round < 5; ++round) {
    for (Harness<D>* lane : {&first, &second}) {
      for (int i = 0; i < 20; ++i) {
        Operation receive = receiving(pair.ours);
        lane->submit(receive);
        lane->poll();
        put(pair.peer, "x");
        Bytes got;
        append(lane->buffers, lane->next(receive), got);
        CHECK(got.size() == 1);
        first.poll();
        second.poll();
      }
    }
  }
  ::close(pair.peer);
  Operation receive = receiving(pair.ours);
  CHECK(first.run(receive) == 0);
  close_all(second, {pair.ours});
}

LANE_TEST("one socket roams between the lanes of two threads") {
  if (!Harness<D>::available()) return;
  TestBuffers buffers(16, 512);
  Result error = 0;
  std::string reason;
  const std::unique_ptr<Driver> driver = make(D::name, error, reason);
  const Pair pair = connected(*driver);
  const Bytes content = random_bytes(400'000, 7);
  Bytes got;
  std::atomic<int> turn{0};
  std::atomic<bool> done{false};
  const auto owner = [&](int self) {
    Result failure = 0;
    const std::unique_ptr<Lane> lane = driver->make_lane(buffers, failure);
    std::mt19937 random(static_cast<std::uint32_t>(self));
    const Deadline end = now() + kPatience;
    while (!done.load() && now() < end) {
      Completion out[4];
      if (turn.load(std::memory_order_acquire) != self) {
        lane->wait(now() + kMillisecond);
        lane->reap(out);
        continue;
      }
      Operation receive = receiving(pair.ours, random() % 2 == 0);
      lane->submit(&receive);
      bool more = true, ended = false;
      for (int packets = 0; more && now() < end;) {
        const std::size_t count = lane->reap(out);
        for (std::size_t i = 0; i < count; ++i) {
          append(buffers, out[i], got);
          more = out[i].more;
          ended = out[i].result == 0;
          if (++packets == 5 && more) lane->cancel(&receive);
        }
        if (count == 0) lane->wait(end);
      }
      lane->refill();
      if (ended) done.store(true);
      turn.store(random() % 2 == 0 ? self : 1 - self, std::memory_order_release);
    }
  };
  std::thread sender([&] {
    std::mt19937 random(7);
    for (std::size_t at = 0; at < content.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 3000, content.size() - at);
      put(pair.peer, content.data() + at, size);
      at += size;
      if (random() % 16 == 0) ::usleep(100);
    }
    ::shutdown(pair.peer, SHUT_WR);
  });
  std::thread one(owner, 0), two(owner, 1);
  one.join();
  two.join();
  if (!done.load()) ::shutdown(pair.peer, SHUT_RDWR);
  sender.join();
  reset(pair.peer);
  CHECK(done.load());
  CHECK(got == content);
  driver->discard(pair.ours.fd);
}

TEST_SUITE_END();
