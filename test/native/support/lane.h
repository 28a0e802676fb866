// A lane of each driver, the operations it is given, and what stands around it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "driver/choose.h"
#include "driver/driver.h"
#include "driver/errno.h"
#include "sockets.h"
#include "system.h"
#include "verdict.h"

namespace cp::test {

using namespace cp::driver;
using Bytes = std::vector<std::uint8_t>;

inline constexpr std::int64_t kMillisecond = 1'000'000;

#define LANE_TEST(title) PORT_TEST(title)
/// Makes the lane `name`, or leaves the test where the driver can't be had.
#define LANE(name, ...)                 \
  if (!Harness<D>::available()) return; \
  Harness<D> name { __VA_ARGS__ }

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

inline std::unique_ptr<Driver> make(const char* name, Result& error, std::string& reason) {
  error = 0;
  return driver::make_driver(name, 2, error, reason);
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

inline Handle handle(Descriptor fd) {
  static std::atomic<std::uint64_t> last{0};
  return {fd, ++last};
}

inline Operation on(const Handle& target, Opcode code) {
  Operation operation;
  operation.code = code;
  operation.descriptor = target.fd;
  operation.descriptor_id = target.id;
  return operation;
}

inline Operation opening(const std::string& path, std::uint32_t flags) {
  Operation operation;
  operation.code = Opcode::kOpen;
  operation.path = path.c_str();
  operation.flags = flags;
  operation.mode = 0600;
  return operation;
}

inline Operation moving(const Handle& target, Opcode code, std::vector<Slice>& slices,
                        std::int64_t offset = 0) {
  Operation operation = on(target, code);
  operation.slices = slices.data();
  operation.slice_count = static_cast<std::uint32_t>(slices.size());
  operation.offset = offset;
  return operation;
}

inline Operation streaming(const Handle& target, Opcode code, std::vector<Slice>& slices,
                           bool pollable = true) {
  Operation operation = moving(target, code, slices);
  operation.stream = true;
  operation.pollable = pollable;
  return operation;
}

inline Operation closing(const Handle& target, bool stream) {
  Operation operation = on(target, Opcode::kClose);
  operation.stream = operation.pollable = stream;
  return operation;
}

inline Operation receiving(const Handle& target, bool multishot = false) {
  Operation operation = on(target, Opcode::kReceive);
  operation.multishot = multishot;
  return operation;
}

inline Slice slice(Bytes& bytes) { return {bytes.data(), bytes.size()}; }
inline Slice slice(std::string& text) { return {text.data(), text.size()}; }

inline Bytes random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// ---- the world around -------------------------------------------------------------------------

struct Listener {
  Handle handle;
  SocketAddress address;
};

inline Listener listen(Driver& driver, int backlog = 511) {
  ListenOptions options;
  options.address = any_loopback();
  options.backlog = backlog;
  const Result fd = driver.listen(options);
  REQUIRE(fd >= 0);
  Listener listener{handle(fd), {}};
  REQUIRE(driver.address(fd, false, listener.address) == 0);
  return listener;
}

struct Pair {
  Handle ours;
  Socket peer = -1;
};

/// The connection of a listener that has one to give, as a port would have it: on Windows it is
/// bound to the kernel's port.
inline Descriptor accepted(Driver& driver, const Listener& listener) {
  TestBuffers none(1, 1);
  Result error = 0;
  const std::unique_ptr<Lane> lane = driver.make_lane(none, error);
  REQUIRE(lane != nullptr);
  Operation accept = on(listener.handle, Opcode::kAccept);
  lane->submit(&accept);
  Completion out[1];
  const Deadline end = now() + kPatience;
  while (lane->reap(out) == 0) {
    REQUIRE(now() < end);
    lane->wait(end);
  }
  REQUIRE(out[0].result >= 0);
  return out[0].result;
}

inline Pair connected(Driver& driver) {
  const Listener listener = listen(driver);
  Pair pair;
  pair.peer = socket_to(listener.address);
  REQUIRE(pair.peer >= 0);
  pair.ours = handle(accepted(driver, listener));
  driver.discard(listener.handle.fd);
  return pair;
}

/// Takes the bytes of a completion, and gives its buffer back.
inline void append(TestBuffers& buffers, const Completion& completion, Bytes& out) {
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
inline Handle open_or_fail(Harness<D>& lane, Operation operation, FileKind kind) {
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

/// Files that are not there yet, and go with the test.
class TemporaryFiles {
 public:
  ~TemporaryFiles() {
    for (const auto& name : names_) std::remove(name.c_str());
  }
  std::string name() { return names_.emplace_back(base_.path() + std::to_string(names_.size())); }

 private:
  TemporaryFile base_;
  std::vector<std::string> names_;
};

}  // namespace cp::test
